"""`ciyuan finance …`: closing months, reports, vouchers, and reconciliation statements (对账单)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from ciyuan.cli.base import Group, cli, columns, fail, json_option, key_option, open_client, show_list, show_one
from ciyuan.resources.finance import Program

_month = click.option("--month", required=True, metavar="YYYY-MM")


@cli.group("finance", cls=Group)
def finance() -> None:
    """Closing months, reports, vouchers, reconciliation statements."""


@finance.command("periods")
@json_option
def periods(as_json: bool) -> None:
    """List months that are proposed or closed (operator)."""
    shown = columns("month", "proposed_by", "proposed_at", "closed_by", "closed_at")
    show_list(open_client().finance.periods(), shown, as_json=as_json)


@finance.command("propose-close")
@click.argument("month", metavar="YYYY-MM")
@key_option
@json_option
def propose_close(month: str, idempotency_key: str | None, as_json: bool) -> None:
    """Propose to close a month (operator)."""
    show_one(open_client().finance.propose_close(month, idempotency_key=idempotency_key), as_json=as_json)


@finance.command("close")
@click.argument("month", metavar="YYYY-MM")
@key_option
@json_option
def close(month: str, idempotency_key: str | None, as_json: bool) -> None:
    """Close a month that somebody else proposed (operator)."""
    show_one(open_client().finance.close(month, idempotency_key=idempotency_key), as_json=as_json)


@finance.command("reports")
@click.option("--day", metavar="DAY", help="As of its end; today by default.")
@json_option
def reports(day: str | None, as_json: bool) -> None:
    """Show revenue, contract liabilities, receivables, payables and VAT (operator, auditor)."""
    show_one(open_client().finance.reports(day=day), as_json=as_json)


@finance.command("vouchers")
@_month
@click.option("--program", type=click.Choice(["yonyou", "kingdee"]), default="yonyou", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE")
def vouchers(month: str, program: str, output: Path | None) -> None:
    """Save a month's vouchers for an accounting program (operator, auditor)."""
    content = open_client().finance.vouchers(month=month, program=cast(Program, program))
    path = output or Path(f"vouchers-{program}-{month}.csv")
    path.write_bytes(content)
    click.echo(f"{path} ({len(content):,} bytes)")


@finance.command("statement")
@_month
@click.option("--pdf", type=click.Path(path_type=Path), metavar="FILE", help="Save it as PDF instead, to be stamped.")
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True, help="Of the PDF.")
@json_option
def statement(month: str, pdf: Path | None, language: Literal["zh", "en"], as_json: bool) -> None:
    """Show a month's reconciliation statement."""
    if pdf is None:
        show_one(open_client().finance.statement(month=month), as_json=as_json)
        return
    content = open_client().finance.statement_pdf(month=month, language=language)
    pdf.write_bytes(content)
    click.echo(f"{pdf} ({len(content):,} bytes)")


@finance.command("confirm")
@_month
@click.option("--digest", required=True, help="Of the statement that was read.")
@click.option("--disagree", metavar="WHY", help="Say what is wrong instead.")
@key_option
@json_option
def confirm(month: str, digest: str, disagree: str | None, idempotency_key: str | None, as_json: bool) -> None:
    """Confirm a month's statement, or say what is wrong with it."""
    if disagree is not None and not disagree.strip():
        fail("--disagree needs a reason")
    done = open_client().finance.answer_statement(
        month=month, digest=digest, agrees=disagree is None, comment=disagree or "", idempotency_key=idempotency_key
    )
    show_one(done, as_json=as_json)
