"""`ciyuan shortfall | claim | exclusion …`: what is not delivered, and whom a buyer does not want."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from ciyuan.cli.base import (
    TIME,
    Group,
    cli,
    columns,
    json_option,
    key_option,
    open_client,
    show_list,
    show_one,
)

_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
_contract_option = click.option("--contract", type=int, metavar="ID", help="Only of this contract.")
SHORTFALL = columns("id", "contract", "cause", "quantity", "replaced", "penalty_thousandths", "reported_at")
CLAIM = columns("id", "contract", "state", "quantity", "found_quantity", "metered", "made_at")


@cli.group("shortfall", cls=Group)
def shortfall() -> None:
    """What providers did not make available."""


@shortfall.command("list")
@_contract_option
@_limit_option
@json_option
def shortfall_list(contract: int | None, limit: int, as_json: bool) -> None:
    """List shortfalls of one's contracts, the newest first."""
    show_list(open_client().shortfalls.list(contract=contract), SHORTFALL, as_json=as_json, limit=limit)


@shortfall.command("report")
@click.option("--contract", type=int, metavar="ID", help="The contract that is short …")
@click.option("--capacity", type=int, metavar="ID", help="… or the capacity, with all contracts that it serves.")
@click.option("--quantity", type=int, required=True, help="Standard tokens, in lots of 1,000.")
@click.option("--from", "begins_at", type=TIME, metavar="TIME", help="From when on; an hour ahead, half the penalty.")
@click.option("--note", help="Why.")
@key_option
@json_option
def shortfall_report(
    contract: int | None,
    capacity: int | None,
    quantity: int,
    begins_at: datetime | None,
    note: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Withdraw sold tokens after gate closure (provider)."""
    if (contract is None) == (capacity is None):
        raise click.UsageError("give either --contract ID or --capacity ID")
    reported = open_client().shortfalls.report(
        contract=contract, capacity=capacity, quantity=quantity, begins_at=begins_at, note=note,
        idempotency_key=idempotency_key,
    )  # fmt: skip
    show_list(reported, SHORTFALL, as_json=as_json)


@cli.group("claim", cls=Group)
def claim() -> None:
    """Failed requests that buyers claim."""


@claim.command("list")
@_contract_option
@_limit_option
@json_option
def claim_list(contract: int | None, limit: int, as_json: bool) -> None:
    """List claims of either side, the newest first."""
    show_list(open_client().claims.list(contract=contract), CLAIM, as_json=as_json, limit=limit)


@claim.command("make")
@click.option("--contract", type=int, required=True, metavar="ID")
@click.option("--request", "requests", multiple=True, required=True, metavar="REQUEST", help="A failed request's id.")
@click.option("--quantity", type=int, required=True, help="What they would have been, in standard tokens.")
@click.option("--note")
@key_option
@json_option
def claim_make(
    contract: int,
    requests: tuple[str, ...],
    quantity: int,
    note: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Claim that requests of a contract failed (buyer)."""
    made = open_client().claims.make(
        contract=contract, requests=requests, quantity=quantity, note=note, idempotency_key=idempotency_key
    )
    show_one(made, as_json=as_json)


@claim.command("accept")
@click.argument("number", type=int, metavar="CLAIM")
@click.option("--note")
@key_option
@json_option
def claim_accept(number: int, note: str | None, idempotency_key: str | None, as_json: bool) -> None:
    """Accept a claim as its provider."""
    show_one(open_client().claims.accept(number, note=note, idempotency_key=idempotency_key), as_json=as_json)


@claim.command("rule")
@click.argument("number", type=int, metavar="CLAIM")
@click.argument("verdict", type=click.Choice(["upheld", "rejected"]))
@click.option("--quantity", type=int, help="A part of what was claimed, in standard tokens.")
@click.option("--note", required=True, help="Why; both sides read it.")
@key_option
@json_option
def claim_rule(
    number: int, verdict: Any, quantity: int | None, note: str, idempotency_key: str | None, as_json: bool
) -> None:
    """Uphold or reject a claim (operator)."""
    ruled = open_client().claims.rule(
        number, verdict=verdict, quantity=quantity, note=note, idempotency_key=idempotency_key
    )
    show_one(ruled, as_json=as_json)


@cli.group("exclusion", cls=Group)
def exclusion() -> None:
    """Providers that a buyer does not want to be served by, three at most."""


@exclusion.command("list")
@json_option
def exclusion_list(as_json: bool) -> None:
    """List whom one excludes."""
    show_list(open_client().exclusions.list(), columns("provider", "name=provider_name", "since"), as_json=as_json)


@exclusion.command("add")
@click.argument("provider", type=int)
@key_option
@json_option
def exclusion_add(provider: int, idempotency_key: str | None, as_json: bool) -> None:
    """Exclude a provider: gates that close from now on honour it."""
    show_one(open_client().exclusions.add(provider, idempotency_key=idempotency_key), as_json=as_json)


@exclusion.command("remove")
@click.argument("provider", type=int)
@key_option
@json_option
def exclusion_remove(provider: int, idempotency_key: str | None, as_json: bool) -> None:
    """Take an exclusion back."""
    left = open_client().exclusions.remove(provider, idempotency_key=idempotency_key)
    show_list(left, columns("provider", "name=provider_name", "since"), as_json=as_json)
