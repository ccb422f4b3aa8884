"""Organizations and the people in them."""

from datetime import datetime

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.models import Membership, Organization, User


class BadOrganization(BadRequest):
    """The organization's particulars cannot be stored so."""

    code = "bad-organization"


class MembershipExists(Conflict):
    """The person belongs to the organization already."""

    code = "membership-exists"


def create_organization(
    *,
    kind: str,
    name: str,
    now: datetime,
    name_zh: str = "",
    control_group: str = "",
    allows_overage_micro: int = 0,
    actor: Actor | None = None,
) -> Organization:
    """
    Create an organization. Its ASCII name goes into files for abroad, the Chinese one on invoices here.

    :raises BadOrganization: an unknown kind, or a name that is not printable ASCII.
    """
    assert_in_transaction()
    if kind not in Organization.Kind.values:
        raise BadOrganization(f"kind is one of {', '.join(Organization.Kind.values)}.", field="kind")
    if not name.strip() or not (name.isascii() and name.isprintable()):
        raise BadOrganization("name is printable ASCII; put the Chinese name into name_zh.", field="name")
    organization = Organization.objects.create(
        kind=kind,
        name=name.strip(),
        name_zh=name_zh.strip(),
        control_group=control_group.strip(),
        allows_overage_micro=allows_overage_micro,
        created_at=now,
    )
    audit.record(
        actor=actor,
        verb="organization.create",
        subject=f"organization:{organization.pk}",
        now=now,
        after={"kind": kind, "name": name, "name_zh": name_zh, "control_group": control_group},
    )
    return organization


def invite_member(
    *,
    organization: Organization,
    email: str,
    role: str,
    now: datetime,
    name: str = "",
    password: str | None = None,
    actor: Actor | None = None,
) -> Membership:
    """
    Let the person with this address act for an organization; make their user when there is none.

    Without a password a new person sets one by "forgotten password". An existing person's password is left alone.

    :raises BadOrganization: a password that is too weak, or an unknown role.
    :raises MembershipExists: the person belongs to it already.
    """
    assert_in_transaction()
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        if password is not None:
            try:
                validate_password(password, User(email=email, name=name))
            except ValidationError as error:
                raise BadOrganization(" ".join(error.messages), field="password") from None
        user = User.objects.create_user(email, password, name=name)
    return add_member(organization=organization, user=user, role=role, now=now, actor=actor)


def add_member(
    *, organization: Organization, user: User, role: str, now: datetime, actor: Actor | None = None
) -> Membership:
    """
    Let a person act for an organization.

    :raises BadOrganization: an unknown role.
    :raises MembershipExists: the person belongs to it already.
    """
    assert_in_transaction()
    if role not in Membership.Role.values:
        raise BadOrganization(f"role is one of {', '.join(Membership.Role.values)}.", field="role")
    membership, created = Membership.objects.get_or_create(
        organization=organization, user=user, defaults={"role": role, "created_at": now}
    )
    if not created:
        raise MembershipExists(f"{user.email} belongs to {organization.name} already, as {membership.role}.")
    audit.record(
        actor=actor,
        verb="membership.create",
        subject=f"organization:{organization.pk}",
        now=now,
        after={"user": user.email, "role": role},
    )
    return membership
