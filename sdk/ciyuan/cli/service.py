"""`ciyuan service …`: how contracts were served, what the evidence shows, and disputes about that."""

from __future__ import annotations

from typing import Any

import click

from ciyuan.cli.base import Group, cli, columns, json_option, key_option, open_client, show_list, show_one

_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
_contract_option = click.option("--contract", type=int, metavar="ID", help="Only of this contract.")
FINDING = columns(
    "id", "contract", "deployment", "state", "undelivered_ST=quantity", "minutes=minutes_found",
    "late_hours=hours_late", "stands_from",
)  # fmt: skip
SIDES = ("gateway", "guard", "probe")


@cli.group("service", cls=Group)
def service() -> None:
    """How contracts were served, as gateway, guard and the exchange's own requests saw it."""


@service.command("findings")
@_contract_option
@_limit_option
@json_option
def findings(contract: int | None, limit: int, as_json: bool) -> None:
    """List what the evidence showed of one's contracts, the newest first."""
    rows = open_client().service.findings(contract=contract)
    if as_json:
        show_list(rows, FINDING, as_json=True, limit=limit)
    else:
        show_list((_counted(row) for row in rows), FINDING, as_json=False, limit=limit)


@service.command("show")
@click.argument("number", type=int, metavar="FINDING")
@json_option
def show(number: int, as_json: bool) -> None:
    """Show one with each minute and hour, who saw it fail, and what was said."""
    row = open_client().service.finding(number)
    if as_json:
        show_one(row, as_json=True)
        return
    minutes, hours, objections = row.minutes, row.late_hours, row.objections
    for name in ("minutes", "late_hours", "objections"):
        del row.raw[name]
    show_one(row, as_json=False)
    for one in minutes:
        click.echo(f"{one['minute']} failed: {_seen(one)}")
    for one in hours:
        click.echo(f"{one['hour']} late: {_seen(one)}, {one['work_micro_st'] / 10**6:,.6f} standard tokens")
    for one in objections:
        click.echo(f"{one['made_at']} organization {one['by']} objects: {one['note']}")


@service.command("object")
@click.argument("number", type=int, metavar="FINDING")
@click.option("--note", required=True, help="What is wrong with it; both sides read it.")
@key_option
@json_option
def object_(number: int, note: str, idempotency_key: str | None, as_json: bool) -> None:
    """Dispute a finding as its buyer or provider: the operator decides it then."""
    disputed = open_client().service.object(number, note=note, idempotency_key=idempotency_key)
    show_one(disputed if as_json else _counted(disputed), as_json=as_json)


@service.command("rule")
@click.argument("number", type=int, metavar="FINDING")
@click.argument("verdict", type=click.Choice(["upheld", "rejected"]))
@click.option("--note", required=True, help="Why; both sides read it.")
@key_option
@json_option
def rule(number: int, verdict: Any, note: str, idempotency_key: str | None, as_json: bool) -> None:
    """Uphold or reject a finding (operator)."""
    ruled = open_client().service.rule(number, verdict=verdict, note=note, idempotency_key=idempotency_key)
    show_one(ruled if as_json else _counted(ruled), as_json=as_json)


@service.command("minutes")
@_contract_option
@_limit_option
@json_option
def minutes(contract: int | None, limit: int, as_json: bool) -> None:
    """List what guards and gateways reported, the newest minute first; both sides see both."""
    show_list(
        open_client().service.minutes(contract=contract),
        columns(
            "minute", "side", "contract", "deployment", "served", "failed", "limited", "late",
            "first_ms=first_token_ms", "token_ms", "signed",
        ),
        as_json=as_json, limit=limit,
    )  # fmt: skip


@service.command("probes")
@click.option("--deployment", type=int, metavar="ID", help="Only of this deployment.")
@_limit_option
@json_option
def probes(deployment: int | None, limit: int, as_json: bool) -> None:
    """List the exchange's own requests, the newest first."""
    show_list(
        open_client().service.probes(deployment=deployment),
        columns(
            "at", "deployment", "ok", "reason", "first_ms=first_token_ms", "token_ms", "output=output_tokens",
            "alike=alike_thousandths",
        ),
        as_json=as_json, limit=limit,
    )  # fmt: skip


def _counted(row: Any) -> Any:
    """A finding with the number of its minutes and hours, for a table."""
    row.minutes_found, row.hours_late = len(row.minutes), len(row.late_hours)
    row.raw |= {"minutes": row.minutes_found, "late_hours": row.hours_late, "objections": len(row.objections)}
    return row


def _seen(one: dict[str, Any]) -> str:
    said = {True: "yes", False: "no", None: "nothing seen"}
    return ", ".join(f"{side} {said[one.get(side)]}" for side in SIDES)
