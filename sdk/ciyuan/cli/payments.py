"""`ciyuan bank … | payout …`: money from and to the outside."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import click

from ciyuan.cli.base import (
    DECIMAL,
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
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def text_of_file(path: Path) -> str:
    """A bank's file: UTF-8, or GB 18030 as Chinese banks write it."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030")


@cli.group("bank", cls=Group)
def bank() -> None:
    """Bank transfers and accounts."""


@bank.command("reference")
@json_option
def reference(as_json: bool) -> None:
    """Show what to write into a transfer, and where to send it."""
    show_one(open_client().bank.reference(), as_json=as_json)


@bank.command("accounts")
@_limit_option
@json_option
def accounts(limit: int, as_json: bool) -> None:
    """List bank accounts to be paid to."""
    shown = columns("id", "holder", "number", "bank", "verified_at", "closed_at")
    show_list(open_client().bank.accounts(), shown, as_json=as_json, limit=limit)


@bank.command("add-account")
@click.option("--holder", required=True)
@click.option("--number", required=True)
@click.option("--bank", "bank_name", required=True)
@key_option
@json_option
def add_account(holder: str, number: str, bank_name: str, idempotency_key: str | None, as_json: bool) -> None:
    """Name an account to be paid to; the operator verifies it."""
    made = open_client().bank.add_account(holder=holder, number=number, bank=bank_name, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@bank.command("verify-account")
@click.argument("account", type=int)
@key_option
@json_option
def verify_account(account: int, idempotency_key: str | None, as_json: bool) -> None:
    """Say that an account is its organization's (operator)."""
    show_one(open_client().bank.verify_account(account, idempotency_key=idempotency_key), as_json=as_json)


@bank.command("import")
@click.argument("file", type=FILE)
@key_option
@json_option
def import_(file: Path, idempotency_key: str | None, as_json: bool) -> None:
    """Import a bank statement (operator). The same file again changes nothing."""
    done = open_client().bank.import_statement(text_of_file(file), name=file.name, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@bank.command("lines")
@click.option("--state", help="For example suspense: the work list.")
@_limit_option
@json_option
def lines(state: str | None, limit: int, as_json: bool) -> None:
    """List movements at the bank (operator)."""
    shown = columns("id", "booked_at", "amount", "payer", "purpose", "state", "reason", "suggestion", "organization")
    show_list(open_client().bank.lines(state=state), shown, as_json=as_json, limit=limit)


@bank.command("resolve")
@click.argument("line", type=int)
@click.option("--organization", type=int, required=True, metavar="ID")
@key_option
@json_option
def resolve(line: int, organization: int, idempotency_key: str | None, as_json: bool) -> None:
    """Say whose money a line in suspense is (operator)."""
    done = open_client().bank.resolve(line, organization=organization, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@bank.command("return")
@click.argument("line", type=int)
@key_option
@json_option
def return_(line: int, idempotency_key: str | None, as_json: bool) -> None:
    """Send the money of a line in suspense back to its payer (operator)."""
    show_one(open_client().bank.send_back(line, idempotency_key=idempotency_key), as_json=as_json)


@cli.command("pay")
@click.option("--amount", type=DECIMAL, metavar="YUAN")
@click.option("--invoice", type=int, metavar="ID", help="What is owed on it.")
@key_option
@json_option
def pay(amount: Decimal | None, invoice: int | None, idempotency_key: str | None, as_json: bool) -> None:
    """Pay by card, Alipay or WeChat Pay: shows the page's address."""
    made = open_client().card_payments.start(amount=amount, invoice=invoice, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@cli.group("payout", cls=Group)
def payout() -> None:
    """Money that goes out."""


@payout.command("list")
@click.option("--state", help="For example waiting: what somebody has to approve.")
@_limit_option
@json_option
def list_(state: str | None, limit: int, as_json: bool) -> None:
    """List payouts and refunds, the newest first."""
    shown = columns("id", "reference", "kind", "method", "amount", "state", "approvals", "requested_at", "reason")
    show_list(open_client().payouts.list(state=state), shown, as_json=as_json, limit=limit)


@payout.command("request")
@click.option("--method", type=click.Choice(["bank", "stripe"]), default="bank", show_default=True)
@click.option("--organization", type=int, metavar="ID", help="For another organization (operator).")
@key_option
@json_option
def request(method: str, organization: int | None, idempotency_key: str | None, as_json: bool) -> None:
    """Ask for what settled statements come to."""
    made = open_client().payouts.request(organization=organization, method=method, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@payout.command("refund")
@click.argument("deposit", type=int)
@click.option("--amount", type=DECIMAL, required=True, metavar="YUAN")
@key_option
@json_option
def refund(deposit: int, amount: Decimal, idempotency_key: str | None, as_json: bool) -> None:
    """Send (part of) a deposit back to where it came from (operator)."""
    made = open_client().payouts.refund(deposit, amount=amount, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@payout.command("approve")
@click.argument("payout_id", type=int, metavar="PAYOUT")
@key_option
@json_option
def approve(payout_id: int, idempotency_key: str | None, as_json: bool) -> None:
    """Let a payout go (operator)."""
    show_one(open_client().payouts.approve(payout_id, idempotency_key=idempotency_key), as_json=as_json)


@payout.command("cancel")
@click.argument("payout_id", type=int, metavar="PAYOUT")
@click.option("--reason", default="")
@key_option
@json_option
def cancel(payout_id: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """Take back a payout that has not been sent (operator)."""
    done = open_client().payouts.cancel(payout_id, reason=reason, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@payout.command("batch")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; - for stdout.")
@key_option
def batch(output: Path | None, idempotency_key: str | None) -> None:
    """Take every approved payout into a file for the bank (operator)."""
    client = open_client()
    made = client.payouts.make_batch(idempotency_key=idempotency_key)
    content = client.payouts.batch_file(made.id)
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(content)
        return
    path = output or Path(f"payouts-{made.id}.csv")
    path.write_bytes(content)
    click.echo(f"{path}: {made.payouts} payouts, ¥{made.total}")


@payout.command("results")
@click.argument("file", type=FILE)
@key_option
@json_option
def results(file: Path, idempotency_key: str | None, as_json: bool) -> None:
    """Import what the bank says of payouts (operator)."""
    show_one(open_client().payouts.import_results(text_of_file(file), idempotency_key=idempotency_key), as_json=as_json)
