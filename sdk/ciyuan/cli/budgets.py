"""`ciyuan budget …` and `ciyuan authorize`: limits on what is used, and asking them before a call."""

from __future__ import annotations

import click

from ciyuan.cli.base import Group, cli, columns, fail, json_option, key_option, open_client, show_list, show_one


@cli.group("budget", cls=Group)
def budget() -> None:
    """Limits per organization, key or tag; per day, month or contract."""


@budget.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List budgets with what is used of them."""
    show_list(
        (row for row in open_client().budgets.list() if row.closed_at is None or as_json),
        columns("id", "subject", "key", "tag", "value", "period", "limit", "unit", "hard"), as_json=as_json,
    )  # fmt: skip


@budget.command("show")
@click.argument("number", type=int, metavar="BUDGET")
@json_option
def show(number: int, as_json: bool) -> None:
    """Show one with its running period."""
    show_one(open_client().budgets.get(number), as_json=as_json)


@budget.command("set")
@click.option("--period", type=click.Choice(["day", "month", "contract"]), required=True)
@click.option("--tokens", type=int, help="Standard tokens.")
@click.option("--yuan", help="Or yuan.")
@click.option("--key", help="Of one key only, as the gateway names it.")
@click.option("--tag", metavar="NAME:VALUE", help="Of one tag only.")
@click.option("--hard", is_flag=True, help="Refuse authorizations beyond it.")
@click.option("--alert", "alerts", type=int, multiple=True, metavar="THOUSANDTHS", help="By default 800 and 1,000.")
@key_option
@json_option
def set_(
    period: str, tokens: int | None, yuan: str | None, key: str | None, tag: str | None, hard: bool,
    alerts: tuple[int, ...], idempotency_key: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Limit what is used in a period."""
    name, colon, value = (tag or "").partition(":")
    if tag is not None and not (name and colon):
        fail("--tag is NAME:VALUE")
    row = open_client().budgets.set(
        period=period, standard_tokens=tokens, yuan=yuan, key=key, tag=(name, value) if tag else None, hard=hard,
        alert_thousandths=alerts or None, idempotency_key=idempotency_key,
    )  # fmt: skip
    show_one(row, as_json=as_json)


@budget.command("close")
@click.argument("number", type=int, metavar="BUDGET")
@key_option
@json_option
def close(number: int, idempotency_key: str | None, as_json: bool) -> None:
    """End one."""
    show_one(open_client().budgets.close(number, idempotency_key=idempotency_key), as_json=as_json)


@cli.group("authorization", cls=Group)
def authorization() -> None:
    """Ask before a call, settle after it."""


@authorization.command("ask")
@click.option("--tokens", type=int, required=True, help="The most standard tokens that the call may use.")
@click.option("--key", help="Who calls.")
@click.option("--contract", type=int)
@click.option("--lifetime", type=int, metavar="SECONDS", help="How long it is reserved; 600 by default.")
@key_option
@json_option
def ask(
    tokens: int, key: str | None, contract: int | None, lifetime: int | None, idempotency_key: str | None, as_json: bool
) -> None:
    """Reserve in every budget that the call falls under, or say what is left."""
    row = open_client().authorizations.ask(
        standard_tokens=tokens, key=key, contract=contract, lifetime_seconds=lifetime, idempotency_key=idempotency_key
    )
    show_one(row, as_json=as_json)


@authorization.command("settle")
@click.argument("number", metavar="AUTHORIZATION")
@click.option("--tokens", required=True, help="What it used; 0 gives it back.")
@key_option
@json_option
def settle(number: str, tokens: str, idempotency_key: str | None, as_json: bool) -> None:
    """Put what was used in the place of what was reserved."""
    row = open_client().authorizations.settle(number, standard_tokens=tokens, idempotency_key=idempotency_key)
    show_one(row, as_json=as_json)
