"""What keeps trading safe: leases, limits, halts and kill switches, annulment, surveillance."""

from __future__ import annotations

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given


class Leases(Resource[Mode]):
    """One's lease: while it is renewed, the orders with `cancel_on_disconnect` stand."""

    @endpoint
    def get(self) -> Call[r.Lease]:
        return read("/v1/leases", r.Lease)

    @endpoint
    def renew(self, *, seconds: int = 30, idempotency_key: str | None = None) -> Call[r.Lease]:
        """Begin the lease, or renew it for so many seconds from now."""
        return write("POST", "/v1/leases", r.Lease, {"seconds": seconds}, idempotency_key=idempotency_key)

    @endpoint
    def end(self, *, idempotency_key: str | None = None) -> Call[r.Lease]:
        """End it now: the orders under it are cancelled."""
        return write("DELETE", "/v1/leases", r.Lease, idempotency_key=idempotency_key)


class Limits(Resource[Mode]):
    """Limits that each order is checked against before it is taken."""

    @endpoint
    def get(self, *, organization: int | None = None) -> Call[r.Limits]:
        """One's own; the operator may name an organization."""
        return read("/v1/limits", r.Limits, organization=organization)

    @endpoint
    def set(
        self,
        *,
        organization: int | None = None,
        order_quantity: int | None = None,
        order_value: Money | None = None,
        price_distance_thousandths: int | None = None,
        orders_per_minute: int | None = None,
        position_quantity: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Limits]:
        """Set an organization's limits, or the house's (operator). What is left out is no limit."""
        body = given(
            organization=organization,
            order_quantity=order_quantity,
            order_value=decimal_text("order_value", order_value),
            price_distance_thousandths=price_distance_thousandths,
            orders_per_minute=orders_per_minute,
            position_quantity=position_quantity,
        )
        return write("POST", "/v1/limits", r.Limits, body, idempotency_key=idempotency_key)


class Controls(Resource[Mode]):
    """The operator's: halting markets, stopping members, annulling auctions."""

    @endpoint
    def market(self, market: int) -> Call[r.MarketControls]:
        """Whether a market is halted, and what has been done to it."""
        return read(f"/v1/markets/{market}/controls", r.MarketControls)

    @endpoint
    def halt(self, market: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.MarketControls]:
        """Let a market take no orders until it is resumed; those that rest stay."""
        return _on_market(market, "halt", reason, idempotency_key)

    @endpoint
    def resume(self, market: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.MarketControls]:
        return _on_market(market, "resume", reason, idempotency_key)

    @endpoint
    def kill(self, market: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.MarketControls]:
        """Halt a market and cancel all its orders."""
        return _on_market(market, "kill", reason, idempotency_key)

    @endpoint
    def organization(self, organization: int) -> Call[r.OrganizationControls]:
        """Where an organization's trading is stopped."""
        return read(f"/v1/organizations/{organization}/controls", r.OrganizationControls)

    @endpoint
    def stop(
        self, organization: int, *, reason: str, market: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.OrganizationControls]:
        """Cancel an organization's orders and refuse new ones, in one market or in all."""
        return _on_organization(organization, "stop", reason, market, idempotency_key)

    @endpoint
    def allow(
        self, organization: int, *, reason: str, market: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.OrganizationControls]:
        """Let a stopped organization trade again."""
        return _on_organization(organization, "allow", reason, market, idempotency_key)

    @endpoint
    def annulment(self, auction: int) -> Call[r.Annulment]:
        """How far an auction's annulment is."""
        return read(f"/v1/auctions/{auction}/annulment", r.Annulment)

    @endpoint
    def annul(self, auction: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.Annulment]:
        """Ask for an auction's trades to be reversed; another operator confirms."""
        body = {"action": "request", "reason": reason}
        return write("POST", f"/v1/auctions/{auction}/annulment", r.Annulment, body, idempotency_key=idempotency_key)

    @endpoint
    def confirm_annulment(self, auction: int, *, idempotency_key: str | None = None) -> Call[r.Annulment]:
        body = {"action": "confirm"}
        return write("POST", f"/v1/auctions/{auction}/annulment", r.Annulment, body, idempotency_key=idempotency_key)

    @paged
    def findings(self, *, rule: str | None = None, market: int | None = None) -> Call[Page[r.Finding]]:
        """What surveillance found, the latest first."""
        return read("/v1/surveillance", page_of(r.Finding), rule=rule, market=market)


def _on_market(market: int, action: str, reason: str, idempotency_key: str | None) -> Call[r.MarketControls]:
    body = {"action": action, "reason": reason}
    return write("POST", f"/v1/markets/{market}/controls", r.MarketControls, body, idempotency_key=idempotency_key)


def _on_organization(
    organization: int, action: str, reason: str, market: int | None, idempotency_key: str | None
) -> Call[r.OrganizationControls]:
    body = given(action=action, reason=reason, market=market)
    path = f"/v1/organizations/{organization}/controls"
    return write("POST", path, r.OrganizationControls, body, idempotency_key=idempotency_key)
