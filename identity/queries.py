"""Named reads of organizations and people."""

from identity.access import Actor
from identity.domain.scopes import scopes_of_role
from identity.models import Membership, Organization, User


def actor_for_user(user: User, organization_id: int | None) -> Actor | None:
    """
    Return the actor that `user` is for an organization of theirs; the first joined when none is named.

    None for a person without that membership.
    """
    return actor_of(memberships_of(user), organization_id)


def memberships_of(user: User) -> list[Membership]:
    """Return a person's memberships with their organizations, the first joined first."""
    rows = Membership.objects.select_related("organization", "user").filter(user=user)
    return list(rows.order_by("created_at", "id"))


def actor_of(memberships: list[Membership], organization_id: int | None) -> Actor | None:
    """Return who these memberships make their person for an organization; for the first one when none is named."""
    membership = next((one for one in memberships if organization_id in (None, one.organization_id)), None)
    if membership is None:
        return None
    operates = membership.organization.operates
    return Actor(
        organization=membership.organization,
        scopes=scopes_of_role(membership.role, operates=operates),
        user_id=membership.user_id,
        reads_everything=operates and membership.role == Membership.Role.AUDITOR,
    )


def operator_organization() -> Organization:
    """Return the organization that runs this exchange; made at set-up."""
    return Organization.objects.filter(kind=Organization.Kind.OPERATOR).order_by("id")[0]
