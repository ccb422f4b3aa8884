"""How a person who signed up opens an organization, and how an organization accepts the rulebook."""

from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from core.errors import BadRequest, Conflict
from core.transactions import assert_in_transaction
from identity import rulebook
from identity.access import Actor
from identity.actions import audit
from identity.actions.organizations import add_member, create_organization
from identity.models import Membership, Organization, RulebookAcceptance, User

KINDS = (Organization.Kind.BUYER, Organization.Kind.PROVIDER, Organization.Kind.BOTH)


class BelongsAlready(Conflict):
    """The person acts for an organization already."""

    code = "belongs-already"


class RulesChanged(Conflict):
    """Another version of the rulebook is in force than the one that was shown."""

    code = "rules-changed"


class NotJoinable(BadRequest):
    """Nobody opens an organization of that kind by themselves."""

    code = "bad-organization"


def join(*, user: User, kind: str, name: str, name_zh: str, rules_version: str, now: datetime) -> Organization:
    """
    Open an organization for a person who belongs to none, with the person as its owner and the rulebook accepted.

    Sent twice, the second finds the first one's organization. Where the operator reviews new members
    (`CIYUAN_JOIN_NEEDS_REVIEW`), it is suspended until the operator makes it active.

    :raises BelongsAlready: the person acts for another organization.
    :raises RulesChanged: `rules_version` is not the one in force.
    :raises NotJoinable: an operator, or no kind at all.
    :raises BadOrganization: a name that is not printable ASCII.
    """
    assert_in_transaction()
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    own = Membership.objects.select_related("organization").filter(user=user).order_by("pk").first()
    if own is not None:
        if own.organization.name == name.strip() and own.role == Membership.Role.OWNER:
            return own.organization
        raise BelongsAlready(f"You act for {own.organization} already. Its owner adds further members.")
    if kind not in KINDS:
        raise NotJoinable(f"kind is one of {', '.join(KINDS)}.", field="kind")
    _check_version(rules_version, now)
    organization = create_organization(kind=kind, name=name, name_zh=name_zh, now=now)
    if settings.JOIN_NEEDS_REVIEW:
        organization.status = Organization.Status.SUSPENDED
        organization.save(update_fields=["status"])
    actor = Actor(organization=organization, scopes=frozenset(), user_id=user.pk)
    add_member(organization=organization, user=user, role=Membership.Role.OWNER, now=now, actor=actor)
    accept_rules(actor=actor, rules_version=rules_version, now=now)
    return organization


def accept_rules(*, actor: Actor, rules_version: str, now: datetime) -> None:
    """
    Accept the rulebook in force for the actor's organization. Again, it changes nothing.

    :raises RulesChanged: `rules_version` is not the one in force.
    """
    assert_in_transaction()
    book = _check_version(rules_version, now)
    assert actor.user_id is not None, "a person accepts rules, not a key"
    try:
        with transaction.atomic():
            RulebookAcceptance.objects.create(
                organization_id=actor.organization_id, user_id=actor.user_id, version=book.version,
                digest=book.digest, at=now,
            )  # fmt: skip
    except IntegrityError:
        return
    audit.record(
        actor=actor, verb="rulebook.accept", subject=f"organization:{actor.organization_id}", now=now,
        after={"version": book.version, "sha256": book.digest.hex()},
    )  # fmt: skip


def _check_version(name: str, now: datetime) -> rulebook.Rulebook:
    book = rulebook.in_force(now)
    if book.version != name:
        raise RulesChanged(f"Version {book.version} of the rulebook is in force now. Read it, then accept it.")
    return book
