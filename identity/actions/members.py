"""Other roles for the people who act for an organization, and their leaving it. One owner always stays."""

from datetime import datetime

from core.errors import Conflict, NotFound
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.actions.organizations import BadOrganization
from identity.models import Membership, Organization


class MemberNotFound(NotFound):
    """Nobody of that id acts for the organization."""

    code = "member-not-found"


class LastOwner(Conflict):
    """Without its last owner nobody could act for the organization any more."""

    code = "last-owner"


def change_role(
    *, organization: Organization, membership_id: int, role: str, now: datetime, actor: Actor | None = None
) -> Membership:
    """
    Give a member another role; what the person is doing at the moment is judged by it from the next request on. The
    role that the person has already: no change.

    :raises BadOrganization: an unknown role.
    :raises MemberNotFound: nobody of that id acts for this organization.
    :raises LastOwner: no other owner would be left.
    """
    assert_in_transaction()
    if role not in Membership.Role.values:
        raise BadOrganization(f"role is one of {', '.join(Membership.Role.values)}.", field="role")
    membership = _locked(organization, membership_id)
    before = membership.role
    if before == role:
        return membership
    _keep_an_owner(organization, membership)
    membership.role = role
    membership.save(update_fields=["role"])
    audit.record(
        actor=actor, verb="membership.change", subject=f"organization:{organization.pk}", now=now,
        before={"user": membership.user.email, "role": before}, after={"user": membership.user.email, "role": role},
    )  # fmt: skip
    return membership


def remove_member(
    *, organization: Organization, membership_id: int, now: datetime, actor: Actor | None = None
) -> Membership:
    """
    Let a person act for the organization no more. Their sign-in and what they did stay; the organization's keys do too.

    :raises MemberNotFound: nobody of that id acts for this organization, or not any more.
    :raises LastOwner: no other owner would be left.
    """
    assert_in_transaction()
    membership = _locked(organization, membership_id)
    _keep_an_owner(organization, membership)
    Membership.objects.filter(pk=membership.pk).delete()
    audit.record(
        actor=actor, verb="membership.remove", subject=f"organization:{organization.pk}", now=now,
        before={"user": membership.user.email, "role": membership.role}, after={},
    )  # fmt: skip
    return membership


def _locked(organization: Organization, membership_id: int) -> Membership:
    """Lock the organization, so that of two owners who end each other's role one stays, and return the membership."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    rows = Membership.objects.select_related("user").filter(organization=organization, pk=membership_id)
    found = rows.first()
    if found is None:
        raise MemberNotFound("Nobody of that id acts for this organization.")
    return found


def _keep_an_owner(organization: Organization, leaving: Membership) -> None:
    """:raises LastOwner: when this one is the only active owner."""
    owners = Membership.objects.filter(organization=organization, role=Membership.Role.OWNER, user__is_active=True)
    if leaving.role == Membership.Role.OWNER and not owners.exclude(pk=leaving.pk).exists():
        raise LastOwner("This is the last owner: make somebody else an owner first.", field="role")
