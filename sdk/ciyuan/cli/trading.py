"""`ciyuan market | capacity | order | contract …`: from published capacity to a delivery contract."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from ciyuan.cli.base import (
    DECIMAL,
    TIME,
    Group,
    attribute,
    cli,
    columns,
    fail,
    json_option,
    key_option,
    open_client,
    show_list,
    show_one,
)

_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")


@cli.group("market", cls=Group)
def market() -> None:
    """Markets: a grade and one delivery window."""


@market.command("list")
@click.option("--grade", metavar="SLUG", help="Only this grade.")
@click.option("--phase", help="Only in this phase: scheduled, call, continuous, closed, delivering, settled.")
@_limit_option
@json_option
def market_list(grade: str | None, phase: str | None, limit: int, as_json: bool) -> None:
    """List markets, the newest first."""
    show_list(
        open_client().markets.list(grade=grade, phase=phase),
        columns(
            "id",
            "grade=grade_slug",
            "window_start",
            "window_end",
            "call_closes_at",
            "phase",
            "cap_price",
            "reference_price",
        ),
        as_json=as_json,
        limit=limit,
    )


@market.command("show")
@click.argument("market_id", type=int, metavar="MARKET")
@json_option
def market_show(market_id: int, as_json: bool) -> None:
    """Show a market."""
    show_one(open_client().markets.get(market_id), as_json=as_json)


@cli.group("grade", cls=Group)
def grade() -> None:
    """Grades: what is interchangeable."""


@grade.command("list")
@json_option
def grade_list(as_json: bool) -> None:
    """List grades."""
    show_list(
        open_client().grades.list(),
        columns(
            "id", "slug", "name", "mode", "standard_version", "cached_share_thousandths", "take_or_pay_thousandths"
        ),
        as_json=as_json,
    )


@cli.group("capacity", cls=Group)
def capacity() -> None:
    """Capacity that a provider publishes for sale."""


@capacity.command("publish")
@click.option("--deployment", type=int, required=True, metavar="ID")
@click.option("--market", "market_id", type=int, metavar="ID", help="The market to publish for …")
@click.option("--from", "start", type=TIME, metavar="TIME", help="… or its window: beginning …")
@click.option("--to", "end", type=TIME, metavar="TIME", help="… and end.")
@click.option("--quantity", type=int, required=True, help="Standard tokens in all.")
@click.option("--tokens-per-minute", type=int, required=True, help="Standard tokens per minute.")
@click.option("--reserve", type=DECIMAL, required=True, metavar="¥", help="Lowest price, ¥ per standard token.")
@click.option(
    "--list", "list_price", type=DECIMAL, required=True, metavar="¥", help="List price, ¥ per standard token."
)
@click.option("--wait", is_flag=True, help="Publish without offering it for sale yet.")
@key_option
@json_option
def capacity_publish(
    deployment: int,
    market_id: int | None,
    start: datetime | None,
    end: datetime | None,
    quantity: int,
    tokens_per_minute: int,
    reserve: Decimal,
    list_price: Decimal,
    wait: bool,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Publish capacity and offer it at its reserve price."""
    window = None if start is None or end is None else (start, end)
    if (market_id is None) == (window is None) or (market_id is not None and (start or end)):
        fail("give either --market ID, or --from TIME and --to TIME")
    published = open_client().capacity.publish(
        deployment=deployment,
        market=market_id,
        window=window,
        quantity=quantity,
        tokens_per_minute=tokens_per_minute,
        reserve_price=reserve,
        list_price=list_price,
        wait=wait or None,
        idempotency_key=idempotency_key,
    )
    show_one(published, as_json=as_json)


@capacity.command("list")
@_limit_option
@json_option
def capacity_list(limit: int, as_json: bool) -> None:
    """List published capacity."""
    show_list(
        open_client().capacity.list(),
        columns(
            "id", "deployment", "market", "window_start", "quantity", "reserve_price", "list_price", "state", "reason"
        ),
        as_json=as_json,
        limit=limit,
    )


@capacity.command("withdraw")
@click.argument("capacity_id", type=int, metavar="CAPACITY")
@key_option
@json_option
def capacity_withdraw(capacity_id: int, idempotency_key: str | None, as_json: bool) -> None:
    """Withdraw capacity that is not sold."""
    show_one(open_client().capacity.withdraw(capacity_id, idempotency_key=idempotency_key), as_json=as_json)


@cli.group("order", cls=Group)
def order() -> None:
    """Orders to buy and to sell standard tokens."""


def _place(side: Any) -> Any:
    @click.option("--market", "market_id", type=int, required=True, metavar="ID")
    @click.option("--quantity", type=int, required=True, help="Standard tokens, in lots of 1,000.")
    @click.option("--price", type=DECIMAL, metavar="¥", help="Limit, ¥ per standard token; without it a market order.")
    @click.option(
        "--tif",
        "time_in_force",
        type=click.Choice(["gtc", "gtd", "ioc", "fok"], case_sensitive=False),
        help="How long it stands.",
    )
    @click.option("--client-order-id", metavar="TEXT", help="Your own name for it.")
    @click.option("--field", "fields", multiple=True, metavar="NAME=VALUE", help="A rarer field of the API, as JSON.")
    @key_option
    @json_option
    def place(
        market_id: int,
        quantity: int,
        price: Decimal | None,
        time_in_force: str | None,
        client_order_id: str | None,
        fields: tuple[str, ...],
        idempotency_key: str | None,
        as_json: bool,
    ) -> None:
        placed = open_client().orders.place(
            market=market_id,
            side=side,
            quantity=quantity,
            price=price,
            time_in_force=time_in_force,
            client_order_id=client_order_id,
            idempotency_key=idempotency_key,
            **dict(_field(text) for text in fields),
        )
        show_one(placed, as_json=as_json)

    return place


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(f"--field {text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


order.command("buy", help="Bid: at most the price for each token, or at the market.")(_place("buy"))
order.command("sell", help="Offer: at least the price for each token, or at the market.")(_place("sell"))


@order.command("cancel")
@click.argument("order_id", metavar="ORDER")
@key_option
@json_option
def order_cancel(order_id: str, idempotency_key: str | None, as_json: bool) -> None:
    """Cancel an order."""
    show_one(open_client().orders.cancel(order_id, idempotency_key=idempotency_key), as_json=as_json)


@order.command("list")
@click.option("--market", "market_id", type=int, metavar="ID", help="Only in this market.")
@click.option("--status", help="Only with this status.")
@_limit_option
@json_option
def order_list(market_id: int | None, status: str | None, limit: int, as_json: bool) -> None:
    """List one's orders."""
    show_list(
        open_client().orders.list(market=market_id, status=status),
        columns("id", "market", "side", "type", "price", "quantity", "filled", "average", "status"),
        as_json=as_json,
        limit=limit,
    )


@cli.group("contract", cls=Group)
def contract() -> None:
    """Delivery contracts."""


@contract.command("list")
@click.option("--market", "market_id", type=int, metavar="ID", help="Only of this market.")
@_limit_option
@json_option
def contract_list(market_id: int | None, limit: int, as_json: bool) -> None:
    """List one's contracts, as buyer or provider."""
    show_list(
        open_client().contracts.list(market=market_id),
        columns(
            "id",
            "market",
            "model",
            "quantity",
            "window_start",
            "window_end",
            "status",
            "buyer=buyer_name",
            "provider=provider_name",
        ),
        as_json=as_json,
        limit=limit,
    )


@contract.command("access")
@click.argument("contract_id", type=int, metavar="CONTRACT")
@json_option
def contract_access(contract_id: int, as_json: bool) -> None:
    """Show where a contract is served, and the token that opens it."""
    show_one(open_client().contracts.access(contract_id), as_json=as_json)


@contract.command("substitute")
@click.argument("contract_id", type=int, metavar="CONTRACT")
@click.option("--from", "from_deployment", type=int, required=True, metavar="DEPLOYMENT")
@click.option("--to", "to_deployment", type=int, required=True, metavar="DEPLOYMENT")
@key_option
@json_option
def contract_substitute(
    contract_id: int, from_deployment: int, to_deployment: int, idempotency_key: str | None, as_json: bool
) -> None:
    """Let another deployment of the grade serve a contract (provider); the price stays."""
    served = open_client().contracts.substitute(
        contract_id, from_deployment=from_deployment, to_deployment=to_deployment, idempotency_key=idempotency_key
    )
    show_list(served, columns("deployment", "quantity", "since"), as_json=as_json)


@cli.command("deliveries")
@_limit_option
@json_option
def deliveries(limit: int, as_json: bool) -> None:
    """List whom to serve, what, how much and when (a provider's)."""
    show_list(
        open_client().deliveries.list(),
        columns(
            "contract",
            "subject",
            "quantity",
            "tokens_per_minute",
            "window_start",
            "window_end",
            "status",
            "deployment=deployment_name",
            "buyer=buyer_name",
        ),
        as_json=as_json,
        limit=limit,
    )


@cli.command("trades")
@click.option("--market", "market_id", type=int, metavar="ID", help="Only in this market.")
@_limit_option
@json_option
def trades(market_id: int | None, limit: int, as_json: bool) -> None:
    """List one's trades."""
    shown = columns("id", "market", "side", "price", "quantity", "cost")
    shown.append(("at", attribute("created_at")))
    show_list(open_client().trades.list(market=market_id), shown, as_json=as_json, limit=limit)


@cli.group("auction", cls=Group)
def auction() -> None:
    """Results of auctions."""


@auction.command("list")
@click.option("--market", "market_id", type=int, metavar="ID", help="Only of this market.")
@_limit_option
@json_option
def auction_list(market_id: int | None, limit: int, as_json: bool) -> None:
    """List auctions, the newest first; `ciyuan verify auction ID` computes one again."""
    shown = columns("id", "market", "kind", "price", "volume", "surplus", "rule", "cleared_at")
    show_list(open_client().auctions.list(market=market_id), shown, as_json=as_json, limit=limit)
