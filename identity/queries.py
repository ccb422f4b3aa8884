"""Named reads of organizations and people."""

from identity.access import Actor
from identity.domain.scopes import scopes_of_role
from identity.models import Membership, Organization, User


def actor_for_user(user: User, organization_id: int | None) -> Actor | None:
    """
    Return the actor that `user` is for an organization of theirs; the first joined when none is named.

    None for a person without that membership.
    """
    memberships = Membership.objects.select_related("organization").filter(user=user).order_by("created_at", "id")
    if organization_id is not None:
        memberships = memberships.filter(organization_id=organization_id)
    membership = memberships.first()
    if membership is None:
        return None
    operates = membership.organization.operates
    return Actor(
        organization=membership.organization,
        scopes=scopes_of_role(membership.role, operates=operates),
        user_id=user.pk,
        reads_everything=operates and membership.role == Membership.Role.AUDITOR,
    )


def operator_organization() -> Organization:
    """Return the organization that runs this exchange; made at set-up."""
    return Organization.objects.filter(kind=Organization.Kind.OPERATOR).order_by("id")[0]
