"""Organizations, members, keys: who is who."""

from datetime import timedelta
from functools import partial
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.errors import NotFound, Unauthenticated
from identity.actions import keys, members, organizations
from identity.api.base import ApiView
from identity.models import ApiKey, Membership, Organization


class OrganizationIn(StrictSerializer):
    kind = serializers.ChoiceField(choices=Organization.Kind.choices)
    name = serializers.CharField(max_length=120)
    name_zh = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    control_group = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    allows_overage = YuanField(required=False, default=0, allow_zero=True)


class OrganizationOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    name = serializers.CharField()
    name_zh = serializers.CharField()
    control_group = serializers.CharField()
    status = serializers.CharField()


class OrganizationPage(serializers.Serializer[Any]):
    items = OrganizationOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class KeyIn(StrictSerializer):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(child=serializers.CharField(max_length=10), max_length=5)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
    organization = serializers.IntegerField(required=False)


class RotateIn(StrictSerializer):
    overlap_seconds = serializers.IntegerField(min_value=0, max_value=30 * 86_400, default=3_600)


class KeyOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField())
    meter = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewKeyOut(KeyOut):
    secret = serializers.CharField(allow_null=True, help_text="Shown once; a repeated request gets null.")


class KeyPage(serializers.Serializer[Any]):
    items = KeyOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class MemberIn(StrictSerializer):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Membership.Role.choices)
    name = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)
    password = serializers.CharField(
        max_length=128, required=False, help_text="For a new person; without it they set one by e-mail."
    )


class RoleIn(StrictSerializer):
    role = serializers.ChoiceField(choices=Membership.Role.choices)


class MemberOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    email = serializers.EmailField()
    name = serializers.CharField()
    role = serializers.CharField()


class MemberPage(serializers.Serializer[Any]):
    items = MemberOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class WhoAmIOut(serializers.Serializer[Any]):
    organization = OrganizationOut()
    scopes = serializers.ListField(child=serializers.CharField())
    meter = serializers.IntegerField(allow_null=True)


def show_organization(row: Organization) -> dict[str, Any]:
    return dict(OrganizationOut(row).data)


def show_key(row: ApiKey) -> dict[str, Any]:
    return {
        "id": row.pk,
        "organization": row.organization_id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "meter": row.meter_id,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
    }


def show_member(row: Membership) -> dict[str, Any]:
    return {
        "id": row.pk,
        "organization": row.organization_id,
        "email": row.user.email,
        "name": row.user.name,
        "role": row.role,
    }


class WhoAmI(ApiView):
    """The organization and scopes of the key in use."""

    scopes = {}
    public = True

    @extend_schema(responses=WhoAmIOut)
    def get(self, request: Request) -> Response:
        """Say whose key this is and what it may do."""
        if not hasattr(self, "actor"):
            raise Unauthenticated("This address needs an API key: “Authorization: Bearer ck_…”.")
        return Response(
            {
                "organization": show_organization(self.actor.organization),
                "scopes": sorted(self.actor.scopes),
                "meter": self.actor.meter_id,
            }
        )


class Organizations(ApiView):
    """Organizations: all of them for the operator, else one's own."""

    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(responses=OrganizationPage, operation_id="organizations_list")
    def get(self, request: Request) -> Response:
        """List the organizations that this key may see."""
        return Response(page(request, self.actor.organizations_readable(), show_organization))

    @extend_schema(request=OrganizationIn, responses={201: OrganizationOut})
    def post(self, request: Request) -> Response:
        """Create an organization (operator)."""
        fields = self.parse(OrganizationIn)
        fields["allows_overage_micro"] = fields.pop("allows_overage")
        return self.once(
            lambda: show_organization(organizations.create_organization(**fields, now=self.now, actor=self.actor))
        )


class OrganizationDetail(ApiView):
    """One organization."""

    scopes = {"GET": "read"}

    @extend_schema(responses=OrganizationOut)
    def get(self, request: Request, organization_id: int) -> Response:
        """Show an organization."""
        row = self.actor.organizations_readable().filter(pk=organization_id).first()
        if row is None:
            raise NotFound("There is no such organization.")
        return Response(show_organization(row))


class Members(ApiView):
    """The people who may act for an organization."""

    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=MemberPage)
    def get(self, request: Request, organization_id: int) -> Response:
        """List the members."""
        organization = self.actor.organizations_readable().filter(pk=organization_id).first()
        if organization is None:
            raise NotFound("There is no such organization.")
        rows = Membership.objects.select_related("user").filter(organization=organization)
        return Response(page(request, rows, show_member))

    @extend_schema(request=MemberIn, responses={201: MemberOut})
    def post(self, request: Request, organization_id: int) -> Response:
        """Let a person act for the organization (its owners, or the operator)."""
        fields = self.parse(MemberIn)
        organization = self.subject(organization_id)
        if not self.actor.is_operator:
            self.actor.require_administration()

        def invite() -> dict[str, Any]:
            return show_member(
                organizations.invite_member(organization=organization, **fields, now=self.now, actor=self.actor)
            )

        return self.once(invite)


class MemberDetail(ApiView):
    """One person who acts for an organization."""

    scopes = {"PATCH": "read", "DELETE": "read"}

    def _administered(self, organization_id: int) -> Organization:
        organization = self.subject(organization_id)
        if not self.actor.is_operator:
            self.actor.require_administration()
        return organization

    @extend_schema(request=RoleIn, responses=MemberOut)
    def patch(self, request: Request, organization_id: int, membership_id: int) -> Response:
        """Give a member another role (its owners, or the operator); the last owner stays one."""
        role, organization = self.parse(RoleIn)["role"], self._administered(organization_id)
        change = partial(
            members.change_role, organization=organization, membership_id=membership_id, role=role, now=self.now,
            actor=self.actor,
        )  # fmt: skip
        return self.once(lambda: show_member(change()), status=200)

    @extend_schema(responses={200: MemberOut})
    def delete(self, request: Request, organization_id: int, membership_id: int) -> Response:
        """Let a member act for the organization no more (its owners, or the operator); the last owner stays."""
        organization = self._administered(organization_id)
        remove = partial(
            members.remove_member, organization=organization, membership_id=membership_id, now=self.now,
            actor=self.actor,
        )  # fmt: skip
        return self.once(lambda: show_member(remove()), status=200)


class Keys(ApiView):
    """API keys of the organization."""

    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=KeyPage)
    def get(self, request: Request) -> Response:
        """List the organization's keys, without their secrets."""
        rows = ApiKey.objects.filter(organization_id=self.actor.organization_id)
        return Response(page(request, rows, show_key))

    @extend_schema(request=KeyIn, responses={201: NewKeyOut})
    def post(self, request: Request) -> Response:
        """Make a key (owners; the operator for any organization). A meter gets its key when it is registered."""
        fields = self.parse(KeyIn)
        organization = self.subject(fields.pop("organization", None))
        if not self.actor.is_operator:
            self.actor.require_administration()

        def make() -> dict[str, Any]:
            new = keys.create_key(organization=organization, **fields, now=self.now, actor=self.actor)
            return show_key(new.key) | {"secret": new.secret}

        return self.once(make, secret_fields=("secret",))


class KeyDetail(ApiView):
    """One key."""

    scopes = {"DELETE": "read"}

    @extend_schema(responses=KeyOut)
    def delete(self, request: Request, key_id: int) -> Response:
        """Revoke a key. It ends within a second."""
        self.actor.require_administration()
        return self.once(
            lambda: show_key(
                keys.revoke_key(
                    organization_id=self.actor.organization_id, key_id=key_id, now=self.now, actor=self.actor
                )
            ),
            status=200,
        )


class KeyRotate(ApiView):
    """A key's successor."""

    scopes = {"POST": "read"}

    @extend_schema(request=RotateIn, responses={201: NewKeyOut})
    def post(self, request: Request, key_id: int) -> Response:
        """Make a key like this one; the old one goes on for `overlap_seconds`."""
        self.actor.require_administration()
        overlap = timedelta(seconds=self.parse(RotateIn)["overlap_seconds"])

        def make() -> dict[str, Any]:
            new = keys.rotate_key(
                organization_id=self.actor.organization_id,
                key_id=key_id,
                overlap=overlap,
                now=self.now,
                actor=self.actor,
            )
            return show_key(new.key) | {"secret": new.secret}

        return self.once(make, secret_fields=("secret",))
