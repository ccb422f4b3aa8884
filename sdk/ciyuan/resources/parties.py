"""Who is who: organizations and their keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given, time_text


class Organizations(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Organization]]:
        """One's own; all of them for the operator."""
        return read("/v1/organizations", page_of(r.Organization))

    @endpoint
    def get(self, organization: int) -> Call[r.Organization]:
        return read(f"/v1/organizations/{organization}", r.Organization)

    @endpoint
    def create(
        self,
        *,
        kind: Literal["buyer", "provider", "both", "operator"],
        name: str,
        name_zh: str | None = None,
        control_group: str | None = None,
        allows_overage: Money | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Organization]:
        """Operator only."""
        overage = decimal_text("allows_overage", allows_overage)
        body = given(kind=kind, name=name, name_zh=name_zh, control_group=control_group, allows_overage=overage)
        return write("POST", "/v1/organizations", r.Organization, body, idempotency_key=idempotency_key)

    @endpoint
    def invite(
        self,
        organization: int,
        *,
        email: str,
        role: str,
        name: str | None = None,
        password: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Anything]:
        """Let a person act for an organization (its owners, or the operator). A new person may be given a password."""
        path = f"/v1/organizations/{organization}/members"
        body = given(email=email, role=role, name=name, password=password)
        return write("POST", path, r.Anything, body, idempotency_key=idempotency_key)

    @paged
    def members(self, organization: int) -> Call[Page[r.Member]]:
        """The people who may act for an organization."""
        return read(f"/v1/organizations/{organization}/members", page_of(r.Member))

    @endpoint
    def change_role(
        self, organization: int, member: int, *, role: str, idempotency_key: str | None = None
    ) -> Call[r.Member]:
        """Give a member another role (owners, or the operator); the last owner stays one."""
        path = f"/v1/organizations/{organization}/members/{member}"
        return write("PATCH", path, r.Member, {"role": role}, idempotency_key=idempotency_key)

    @endpoint
    def remove_member(self, organization: int, member: int, *, idempotency_key: str | None = None) -> Call[r.Member]:
        """Let a member act for an organization no more (owners, or the operator); the last owner stays."""
        path = f"/v1/organizations/{organization}/members/{member}"
        return write("DELETE", path, r.Member, idempotency_key=idempotency_key)


class Keys(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Key]]:
        return read("/v1/keys", page_of(r.Key))

    @endpoint
    def create(
        self,
        *,
        name: str,
        scopes: Sequence[str],
        expires_at: datetime | str | None = None,
        organization: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.NewKey]:
        """Make a key; its `secret` is in this answer alone. `organization` is for the operator."""
        body = given(
            name=name,
            scopes=[*scopes],
            expires_at=time_text("expires_at", expires_at),
            organization=organization,
        )
        return write("POST", "/v1/keys", r.NewKey, body, idempotency_key=idempotency_key)

    @endpoint
    def rotate(
        self, key: int, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.NewKey]:
        """Make a key's successor; the old one ends after the overlap."""
        body = given(overlap_seconds=overlap_seconds)
        return write("POST", f"/v1/keys/{key}/rotate", r.NewKey, body, idempotency_key=idempotency_key)

    @endpoint
    def revoke(self, key: int, *, idempotency_key: str | None = None) -> Call[r.Key]:
        return write("DELETE", f"/v1/keys/{key}", r.Key, idempotency_key=idempotency_key)
