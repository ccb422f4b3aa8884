"""`ciyuan lease | limits | control | surveillance`: what keeps trading safe."""

from __future__ import annotations

from decimal import Decimal

import click

from ciyuan.cli.base import DECIMAL, Group, cli, columns, json_option, key_option, open_client, show_list, show_one

_reason_option = click.option("--reason", required=True, help="Goes into the audit log.")


@cli.group("lease", cls=Group)
def lease() -> None:
    """The lease under which orders with cancel_on_disconnect stand."""


@lease.command("renew")
@click.option("--seconds", type=int, default=30, show_default=True)
@json_option
def renew(seconds: int, as_json: bool) -> None:
    """Begin it, or renew it for so many seconds."""
    show_one(open_client().leases.renew(seconds=seconds), as_json=as_json)


@lease.command("show")
@json_option
def show_lease(as_json: bool) -> None:
    """Show it."""
    show_one(open_client().leases.get(), as_json=as_json)


@lease.command("end")
@json_option
def end(as_json: bool) -> None:
    """End it: the orders under it are cancelled."""
    show_one(open_client().leases.end(), as_json=as_json)


@cli.group("limits", cls=Group)
def limits() -> None:
    """Limits that each order is checked against."""


@limits.command("show")
@click.option("--organization", type=int, metavar="ID", help="Another's (operator).")
@json_option
def show_limits(organization: int | None, as_json: bool) -> None:
    """Show the limits that hold."""
    show_one(open_client().limits.get(organization=organization), as_json=as_json)


@limits.command("set")
@click.option("--organization", type=int, metavar="ID", help="Whose; without it the house's.")
@click.option("--order-quantity", type=int, metavar="TOKENS")
@click.option("--order-value", type=DECIMAL, metavar="¥")
@click.option("--price-distance", type=int, metavar="THOUSANDTHS", help="From the last price.")
@click.option("--orders-per-minute", type=int)
@click.option("--position", type=int, metavar="TOKENS", help="In a market, open orders included.")
@key_option
@json_option
def set_(
    organization: int | None, order_quantity: int | None, order_value: Decimal | None, price_distance: int | None,
    orders_per_minute: int | None, position: int | None, idempotency_key: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Set limits (operator). What is left out is no limit."""
    row = open_client().limits.set(
        organization=organization, order_quantity=order_quantity, order_value=order_value,
        price_distance_thousandths=price_distance, orders_per_minute=orders_per_minute, position_quantity=position,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    show_one(row, as_json=as_json)


@cli.group("control", cls=Group)
def control() -> None:
    """Halts, kill switches and annulments (operator)."""


def _market_command(verb: str, text: str) -> None:
    @control.command(verb, help=text)
    @click.argument("market", type=int)
    @_reason_option
    @key_option
    @json_option
    def act(market: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
        act_on = getattr(open_client().controls, verb)
        show_one(act_on(market, reason=reason, idempotency_key=idempotency_key), as_json=as_json)


_market_command("halt", "Let a market take no orders until it is resumed.")
_market_command("resume", "Let a halted market go on.")
_market_command("kill", "Halt a market and cancel all its orders.")


def _organization_command(verb: str, text: str) -> None:
    @control.command(verb, help=text)
    @click.argument("organization", type=int)
    @click.option("--market", type=int, metavar="ID", help="Only there.")
    @_reason_option
    @key_option
    @json_option
    def act(organization: int, market: int | None, reason: str, idempotency_key: str | None, as_json: bool) -> None:
        act_on = getattr(open_client().controls, verb)
        show_one(act_on(organization, market=market, reason=reason, idempotency_key=idempotency_key), as_json=as_json)


_organization_command("stop", "Cancel a member's orders and refuse new ones.")
_organization_command("allow", "Let a stopped member trade again.")


@control.command("annul")
@click.argument("auction", type=int)
@click.option("--reason", help="Ask for it, and say why.")
@click.option("--confirm", is_flag=True, help="Confirm what another operator has asked for.")
@key_option
@json_option
def annul(auction: int, reason: str | None, confirm: bool, idempotency_key: str | None, as_json: bool) -> None:
    """Reverse an auction's trades before the gate: one operator asks, another confirms."""
    controls = open_client().controls
    if confirm == (reason is not None):
        raise click.UsageError("give --reason to ask for it, or --confirm to confirm what another has asked for")
    if reason is not None:
        row = controls.annul(auction, reason=reason, idempotency_key=idempotency_key)
    else:
        row = controls.confirm_annulment(auction, idempotency_key=idempotency_key)
    show_one(row, as_json=as_json)


@cli.command("surveillance")
@click.option("--rule", help="Only findings of this rule.")
@click.option("--market", type=int, metavar="ID", help="Only in this market.")
@json_option
def surveillance(rule: str | None, market: int | None, as_json: bool) -> None:
    """List what surveillance found (operator)."""
    show_list(
        open_client().controls.findings(rule=rule, market=market),
        columns("found_at", "rule", "market", "organization", "counterparty"), as_json=as_json, limit=100,
    )  # fmt: skip
