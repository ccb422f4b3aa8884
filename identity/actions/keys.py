"""API keys: made, rotated, revoked. A secret is shown once and only its SHA-256 is kept."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.auth import PREFIX, digest_of, forget_cached_keys
from identity.domain.scopes import METER, OPERATE, unknown_scopes
from identity.models import ApiKey, Organization


class BadKey(BadRequest):
    """A key cannot be made so."""

    code = "bad-key"


class KeyNotFound(NotFound):
    """No such key in this organization."""

    code = "key-not-found"


class KeyEnded(Conflict):
    """The key was revoked."""

    code = "key-revoked"


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its secret, to be shown once."""

    key: ApiKey
    secret: str


def create_key(
    *,
    organization: Organization,
    name: str,
    scopes: Collection[str],
    now: datetime,
    expires_at: datetime | None = None,
    meter_id: int | None = None,
    replaces: ApiKey | None = None,
    actor: Actor | None = None,
) -> NewKey:
    """
    Make a key with 256 random bits.

    :raises BadKey: no or unknown scopes, an expiry in the past, `operate` outside the operator, or a meter scope
        without its meter or beside other scopes.
    """
    assert_in_transaction()
    wanted = sorted(set(scopes))
    if not name.strip():
        raise BadKey("A key needs a name, so that you recognise it later.", field="name")
    if not wanted or unknown_scopes(wanted):
        raise BadKey("scopes is a list of trade, billing, read, meter or operate.", field="scopes")
    if OPERATE in wanted and not organization.operates:
        raise BadKey("The scope “operate” belongs to keys of the operator.", field="scopes")
    if (METER in wanted) != (meter_id is not None) or (METER in wanted and len(wanted) > 1):
        raise BadKey("A meter's key has the scope “meter” alone and names its meter.", field="meter")
    if expires_at is not None and expires_at <= now:
        raise BadKey("expires_at lies in the past.", field="expires_at")
    secret = PREFIX + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        organization=organization,
        name=name.strip(),
        prefix=secret[:10],
        digest=digest_of(secret),
        scopes=wanted,
        meter_id=meter_id,
        created_at=now,
        expires_at=expires_at,
        replaces=replaces,
    )
    audit.record(
        actor=actor,
        verb="key.create",
        subject=f"key:{key.pk}",
        now=now,
        after={"organization": organization.pk, "name": key.name, "scopes": wanted, "meter": meter_id},
    )
    transaction.on_commit(forget_cached_keys)
    return NewKey(key, secret)


def rotate_key(*, organization_id: int, key_id: int, overlap: timedelta, now: datetime, actor: Actor) -> NewKey:
    """
    Make a key like this one; the old one goes on for `overlap`, so that programs can be changed over.

    :raises KeyNotFound: no such key in this organization.
    :raises KeyEnded: it was revoked, or has expired.
    """
    assert_in_transaction()
    old = _lock(organization_id, key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise KeyEnded("This key has ended; make a new one.")
    new = create_key(
        organization=old.organization,
        name=old.name,
        scopes=old.scopes,
        meter_id=old.meter_id,
        expires_at=old.expires_at,
        replaces=old,
        now=now,
        actor=actor,
    )
    ends = now + overlap
    if old.expires_at is None or ends < old.expires_at:
        ApiKey.objects.filter(pk=old.pk).update(expires_at=ends)
    return new


def revoke_key(*, organization_id: int, key_id: int, now: datetime, actor: Actor) -> ApiKey:
    """
    End a key at once (within a second on every process). Revoking again changes nothing.

    :raises KeyNotFound: no such key in this organization.
    """
    assert_in_transaction()
    key = _lock(organization_id, key_id)
    if key.revoked_at is None:
        key.revoked_at = now
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=now)
        audit.record(
            actor=actor, verb="key.revoke", subject=f"key:{key.pk}", now=now, after={"revoked_at": now.isoformat()}
        )
        transaction.on_commit(forget_cached_keys)
    return key


def _lock(organization_id: int, key_id: int) -> ApiKey:
    key = (
        ApiKey.objects.select_for_update(no_key=True, of=("self",))
        .select_related("organization")
        .filter(pk=key_id, organization_id=organization_id)
        .first()
    )
    if key is None:
        raise KeyNotFound("This organization has no key with that id.")
    return key
