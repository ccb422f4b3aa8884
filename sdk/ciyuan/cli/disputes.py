"""`ciyuan dispute …`: objections to lines of invoices, and what is due."""

from __future__ import annotations

from decimal import Decimal

import click

from ciyuan.cli.base import DECIMAL, Group, cli, columns, json_option, key_option, open_client, show_list, show_one


@cli.group("dispute", cls=Group)
def dispute() -> None:
    """Disputes about lines of invoices."""


@dispute.command("list")
@click.option("--state", help="For example open: the work list.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
@json_option
def list_(state: str | None, limit: int, as_json: bool) -> None:
    """List disputes, the newest first."""
    shown = columns("id", "invoice_number", "line", "state", "amount", "held", "credit", "reason", "decision")
    show_list(open_client().disputes.list(state=state), shown, as_json=as_json, limit=limit)


@dispute.command("open")
@click.argument("invoice", type=int)
@click.option("--line", type=int, required=True)
@click.option("--amount", type=DECIMAL, required=True, metavar="YUAN")
@click.option("--reason", required=True)
@key_option
@json_option
def open_(invoice: int, line: int, amount: Decimal, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """Object to (part of) a line: that slice is not due until it is decided."""
    made = open_client().disputes.open(
        invoice, line=line, amount=amount, reason=reason, idempotency_key=idempotency_key
    )
    show_one(made, as_json=as_json)


@dispute.command("withdraw")
@click.argument("id_", type=int, metavar="DISPUTE")
@key_option
@json_option
def withdraw(id_: int, idempotency_key: str | None, as_json: bool) -> None:
    """Take an objection back."""
    show_one(open_client().disputes.withdraw(id_, idempotency_key=idempotency_key), as_json=as_json)


@dispute.command("decide")
@click.argument("id_", type=int, metavar="DISPUTE")
@click.option("--credit", type=DECIMAL, required=True, metavar="YUAN", help="0 rejects it.")
@click.option("--decision", required=True, help="Why; the buyer reads it.")
@key_option
@json_option
def decide(id_: int, credit: Decimal, decision: str, idempotency_key: str | None, as_json: bool) -> None:
    """Credit (part of) a dispute, or reject it (operator)."""
    done = open_client().disputes.decide(id_, credit=credit, decision=decision, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@cli.command("receivables")
@click.option("--organization", type=int, metavar="ID", help="Another organization (operator).")
@json_option
def receivables(organization: int | None, as_json: bool) -> None:
    """Show what is owed by invoice, what is overdue, and whether orders are refused for it."""
    show_one(open_client().disputes.receivables(organization=organization), as_json=as_json)


@cli.command("write-off")
@click.argument("invoice", type=int)
@click.option("--reason", required=True)
@key_option
@json_option
def write_off(invoice: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """Give up what is owed on an invoice (operator)."""
    show_one(open_client().disputes.write_off(invoice, reason=reason, idempotency_key=idempotency_key), as_json=as_json)
