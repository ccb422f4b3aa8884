"""`ciyuan block …`: all-or-none quantities over several windows, and reservations of a rate."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import click

from ciyuan.cli.base import (
    DECIMAL,
    TIME,
    Group,
    cli,
    columns,
    fail,
    json_option,
    key_option,
    open_client,
    show_list,
    show_one,
)  # fmt: skip
from ciyuan.resources import block_body

_COLUMNS = columns("id", "side", "limit", "quantity", "min_quantity", "status", "accepted_quantity", "cost")


@cli.group("block", cls=Group)
def block() -> None:
    """Blocks: a quantity over the markets of one call that is taken whole, or not at all."""


@block.command("place")
@click.argument("side", type=click.Choice(["buy", "sell"]))
@click.option("--limit", type=DECIMAL, required=True, metavar="¥", help="¥ per standard token, on average.")
@click.option("--leg", "legs", multiple=True, required=True, metavar="MARKET:TOKENS", help="Once for each market.")
@click.option("--min-ratio", type=DECIMAL, metavar="SHARE", help="The least share to take; without it all or none.")
@click.option("--linked-to", metavar="BLOCK", help="Only with this block of one's own.")
@click.option("--client-block-id", metavar="TEXT", help="Your own name for it.")
@key_option
@json_option
def place(
    side: Literal["buy", "sell"], limit: Decimal, legs: tuple[str, ...], min_ratio: Decimal | None,
    linked_to: str | None, client_block_id: str | None, idempotency_key: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Place a block."""
    body = block_body(
        side=side, limit=limit, legs=[_leg(text) for text in legs], min_ratio=min_ratio, linked_to=linked_to,
        client_block_id=client_block_id,
    )  # fmt: skip
    show_list(open_client().blocks.place([body], idempotency_key=idempotency_key), _COLUMNS, as_json=as_json)


def _leg(text: str) -> tuple[int, int]:
    market, colon, tokens = text.partition(":")
    if not (colon and market.isdecimal() and tokens.isdecimal()):
        fail(f"--leg {text!r} is not MARKET:TOKENS, such as 7:1000000")
    return int(market), int(tokens)


@block.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List one's blocks, the newest first."""
    show_list(open_client().blocks.list(), _COLUMNS, as_json=as_json, limit=50)


@block.command("show")
@click.argument("number", metavar="BLOCK")
@json_option
def show(number: str, as_json: bool) -> None:
    """Show one and what became of it."""
    show_one(open_client().blocks.get(number), as_json=as_json)


@block.command("withdraw")
@click.argument("number", metavar="BLOCK")
@key_option
@json_option
def withdraw(number: str, idempotency_key: str | None, as_json: bool) -> None:
    """Take one back before its call is cleared."""
    show_one(open_client().blocks.withdraw(number, idempotency_key=idempotency_key), as_json=as_json)


@cli.command("reserve")
@click.option("--grade", required=True, metavar="SLUG")
@click.option("--from", "start", type=TIME, required=True, metavar="TIME", help="The start of a market's window.")
@click.option("--to", "end", type=TIME, required=True, metavar="TIME", help="The end of a market's window.")
@click.option("--per-minute", "tokens_per_minute", type=int, required=True, metavar="TOKENS")
@click.option("--limit", type=DECIMAL, required=True, metavar="¥", help="¥ per standard token, on average.")
@key_option
@json_option
def reserve(
    grade: str, start: datetime, end: datetime, tokens_per_minute: int, limit: Any, idempotency_key: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Reserve standard tokens a minute for a time: all of it or nothing."""
    placed = open_client().reservations.place(
        grade=grade, start=start, end=end, tokens_per_minute=tokens_per_minute, limit=limit,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    show_list(placed, _COLUMNS, as_json=as_json)
