"""The one gate: who is acting, for which organization, and what they may do and see."""

from dataclasses import dataclass

from django.db.models import QuerySet

from core.errors import Forbidden
from identity.models import Organization

MEANINGS = {
    "trade": "place and cancel orders, publish capacity",
    "meter": "send usage events",
    "billing": "see and settle money matters",
    "read": "read what the organization owns",
    "operate": "run the exchange",
}


class ScopeMissing(Forbidden):
    """The key or role lacks what this needs."""

    code = "scope-missing"


class OrganizationSuspended(Forbidden):
    """The organization may look but not act."""

    code = "organization-suspended"


@dataclass(frozen=True, slots=True)
class Actor:
    """A person or a key acting for an organization."""

    organization: Organization
    scopes: frozenset[str]
    user_id: int | None = None
    api_key_id: int | None = None
    meter_id: int | None = None
    reads_everything: bool = False

    @property
    def organization_id(self) -> int:
        """The organization acted for."""
        return self.organization.pk

    @property
    def is_operator(self) -> bool:
        """Whether this actor runs the exchange."""
        return "operate" in self.scopes and self.organization.operates

    def require(self, scope: str) -> None:
        """
        Pass only with `scope`; whoever only reads passes while suspended too.

        :raises ScopeMissing: without it.
        :raises OrganizationSuspended: for writes of a suspended or closed organization.
        """
        if scope not in self.scopes:
            raise ScopeMissing(f"This needs the scope “{scope}” ({MEANINGS[scope]}); the key or role has not got it.")
        if scope in ("trade", "operate") and self.organization.status != Organization.Status.ACTIVE:
            raise OrganizationSuspended("This organization is suspended: it can read, but not trade. Ask the operator.")

    def require_administration(self) -> None:
        """
        Pass only owners, and keys that may both trade and bill: they make and end keys.

        :raises ScopeMissing: for anybody else.
        """
        self.require("trade")
        self.require("billing")

    def organizations_readable(self) -> "QuerySet[Organization]":
        """Return the organizations whose things this actor may see: its own, or all for operator and auditor."""
        rows = Organization.objects.all()
        return rows if self.is_operator or self.reads_everything else rows.filter(pk=self.organization_id)

    def may_read(self, organization_id: int | None) -> bool:
        """Whether what `organization_id` owns may be shown to this actor."""
        return self.is_operator or self.reads_everything or organization_id == self.organization_id
