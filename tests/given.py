"""Builders for tests: `given_…()` makes one thing with sensible defaults; name only what the test is about."""

import itertools
from datetime import UTC, datetime
from uuid import uuid4

from django.db import transaction
from rest_framework.test import APIClient

from identity.access import Actor
from identity.actions.keys import create_key
from identity.actions.organizations import add_member, create_organization
from identity.models import Membership, Organization, User

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
_numbers = itertools.count(1)


class Api(APIClient):
    """An API client with a key; every write gets a fresh Idempotency-Key unless one is given as `key=`."""

    def __init__(self, secret: str | None = None) -> None:
        super().__init__()
        self.secret = secret
        if secret:
            self.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def _write(self, method, path, data, key, **extra):
        headers = {"Idempotency-Key": key if key is not None else str(uuid4())}
        return getattr(super(), method)(path, data, format="json", headers=headers, **extra)

    def post(self, path, data=None, key=None, **extra):
        return self._write("post", path, data if data is not None else {}, key, **extra)

    def patch(self, path, data=None, key=None, **extra):
        return self._write("patch", path, data if data is not None else {}, key, **extra)

    def delete(self, path, data=None, key=None, **extra):
        return self._write("delete", path, data, key, **extra)


def given_organization(kind: str = "buyer", name: str | None = None, **fields) -> Organization:
    with transaction.atomic():
        return create_organization(kind=kind, name=name or f"{kind.title()} {next(_numbers)}", now=NOW, **fields)


DEFAULT_SCOPES = {
    "buyer": ["trade", "billing", "read"],
    "provider": ["trade", "billing", "read"],
    "both": ["trade", "billing", "read"],
    "operator": ["trade", "billing", "read", "operate"],
}


def given_api(organization: Organization, scopes: list[str] | None = None, **fields) -> Api:
    """An API client acting for `organization`."""
    with transaction.atomic():
        new = create_key(
            organization=organization,
            name="test",
            scopes=scopes or DEFAULT_SCOPES[organization.kind],
            now=fields.pop("now", NOW),
            **fields,
        )
    return Api(new.secret)


def given_user(organization: Organization | None = None, role: str = "owner", **fields) -> User:
    user = User.objects.create_user(fields.pop("email", f"user{next(_numbers)}@example.com"), "correct horse", **fields)
    if organization is not None:
        with transaction.atomic():
            add_member(organization=organization, user=user, role=role, now=NOW)
    return user


def given_actor(organization: Organization, role: str = "owner") -> Actor:
    from identity.domain.scopes import scopes_of_role

    return Actor(organization=organization, scopes=scopes_of_role(role, operates=organization.operates))


__all__ = ["NOW", "Api", "Membership", "given_actor", "given_api", "given_organization", "given_user"]
