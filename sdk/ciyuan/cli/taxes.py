"""`ciyuan tax-invoice …`: tax invoices (数电发票), their titles and the tax platform's files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

import click

from ciyuan.cli.base import DECIMAL, Group, cli, columns, json_option, key_option, open_client, show_list, show_one
from ciyuan.cli.payments import FILE, payout, text_of_file

_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
_kind = click.Choice(["81", "82"])
_SHOWN = columns("id", "reference", "kind", "state", "total", "tax", "number", "issued_on", "refusal")


@cli.group("tax-invoice", cls=Group)
def tax_invoice() -> None:
    """Tax invoices (数电发票)."""


@tax_invoice.command("titles")
@_limit_option
@json_option
def titles(limit: int, as_json: bool) -> None:
    """List the titles (发票抬头) to make tax invoices out to."""
    shown = columns("id", "name", "tax_number", "bank_name", "monthly_kind")
    show_list(open_client().tax_invoices.titles(), shown, as_json=as_json, limit=limit)


@tax_invoice.command("add-title")
@click.option("--name", required=True)
@click.option("--tax-number", default="", help="Without one: a natural person.")
@click.option("--address", default="")
@click.option("--phone", default="")
@click.option("--bank-name", default="")
@click.option("--bank-account", default="")
@click.option("--email", default="")
@click.option("--monthly", "monthly_kind", type=_kind, default=None, help="Ask by itself after each month.")
@key_option
@json_option
def add_title(
    name: str, tax_number: str, address: str, phone: str, bank_name: str, bank_account: str, email: str,
    monthly_kind: str | None, idempotency_key: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Add a title."""
    made = open_client().tax_invoices.add_title(
        name=name, tax_number=tax_number, address=address, phone=phone, bank_name=bank_name,
        bank_account=bank_account, email=email, monthly_kind=monthly_kind or "", idempotency_key=idempotency_key,
    )  # fmt: skip
    show_one(made, as_json=as_json)


@tax_invoice.command("remove-title")
@click.argument("title", type=int)
@key_option
@json_option
def remove_title(title: int, idempotency_key: str | None, as_json: bool) -> None:
    """Use a title no more."""
    show_one(open_client().tax_invoices.remove_title(title, idempotency_key=idempotency_key), as_json=as_json)


@tax_invoice.command("list")
@click.option("--state", help="For example requested.")
@_limit_option
@json_option
def list_(state: str | None, limit: int, as_json: bool) -> None:
    """List tax invoices, the newest first."""
    show_list(open_client().tax_invoices.list(state=state), _SHOWN, as_json=as_json, limit=limit)


@tax_invoice.command("show")
@click.argument("id_", type=int, metavar="TAX_INVOICE")
@json_option
def show(id_: int, as_json: bool) -> None:
    """Show one with its lines and red invoices."""
    show_one(open_client().tax_invoices.get(id_), as_json=as_json)


@tax_invoice.command("request")
@click.argument("invoices", type=int, nargs=-1, required=True, metavar="INVOICE…")
@click.option("--title", type=int, required=True, metavar="ID")
@click.option("--kind", type=_kind, default="81", show_default=True)
@key_option
@json_option
def request(
    invoices: tuple[int, ...], title: int, kind: Literal["81", "82"], idempotency_key: str | None, as_json: bool
) -> None:
    """Ask for one tax invoice over these invoices."""
    made = open_client().tax_invoices.request(
        title=title, kind=kind, invoices=invoices, idempotency_key=idempotency_key
    )
    show_one(made, as_json=as_json)


@tax_invoice.command("cancel")
@click.argument("id_", type=int, metavar="TAX_INVOICE")
@key_option
@json_option
def cancel(id_: int, idempotency_key: str | None, as_json: bool) -> None:
    """Take back a request that is not with the platform yet."""
    show_one(open_client().tax_invoices.cancel(id_, idempotency_key=idempotency_key), as_json=as_json)


@tax_invoice.command("reverse")
@click.argument("id_", type=int, metavar="TAX_INVOICE")
@click.option("--reason", required=True)
@key_option
@json_option
def reverse(id_: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """Ask for a red invoice over all that is left (operator)."""
    made = open_client().tax_invoices.reverse(id_, reason=reason, idempotency_key=idempotency_key)
    show_one(made, as_json=as_json)


@tax_invoice.command("reds")
@click.option("--waiting", is_flag=True, help="Those that have no number yet.")
@_limit_option
@json_option
def reds(waiting: bool, limit: int, as_json: bool) -> None:
    """List red invoices."""
    shown = columns("id", "reference", "corrects", "note", "total", "tax", "number", "reason")
    show_list(open_client().tax_invoices.reds(waiting=waiting or None), shown, as_json=as_json, limit=limit)


@tax_invoice.command("red-number")
@click.argument("red", type=int)
@click.option("--number", required=True)
@click.option("--issued-on", required=True, metavar="DAY")
@key_option
@json_option
def red_number(red: int, number: str, issued_on: str, idempotency_key: str | None, as_json: bool) -> None:
    """Enter the number of a red invoice (operator)."""
    done = open_client().tax_invoices.enter_red_number(
        red, number=number, issued_on=issued_on, idempotency_key=idempotency_key
    )
    show_one(done, as_json=as_json)


@tax_invoice.command("download")
@click.argument("id_", type=int, metavar="TAX_INVOICE")
@click.option("--format", "kind", type=click.Choice(["pdf", "xml"]), default="pdf", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE")
def download(id_: int, kind: Literal["pdf", "xml"], output: Path | None) -> None:
    """Save the issued file."""
    content = open_client().tax_invoices.file(id_, format=kind)
    path = output or Path(f"tax-invoice-{id_}.{kind}")
    path.write_bytes(content)
    click.echo(f"{path} ({len(content):,} bytes)")


@tax_invoice.command("attach")
@click.argument("id_", type=int, metavar="TAX_INVOICE")
@click.argument("file", type=FILE)
@key_option
@json_option
def attach(id_: int, file: Path, idempotency_key: str | None, as_json: bool) -> None:
    """Attach the issued XML or PDF (operator)."""
    form: Literal["xml", "pdf"] = "xml" if file.suffix.lower() == ".xml" else "pdf"
    done = open_client().tax_invoices.attach(id_, file.read_bytes(), format=form, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@tax_invoice.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE")
@key_option
def export(output: Path | None, idempotency_key: str | None) -> None:
    """Take every request that waits into a file for the tax platform (operator)."""
    client = open_client()
    made = client.tax_invoices.make_export(idempotency_key=idempotency_key)
    path = output or Path(f"tax-invoices-{made.id}.xlsx")
    path.write_bytes(client.tax_invoices.export_file(made.id))
    click.echo(f"{path}: {made.tax_invoices} tax invoices, {made.reds} red ones")


@tax_invoice.command("answers")
@click.argument("file", type=FILE)
@key_option
@json_option
def answers(file: Path, idempotency_key: str | None, as_json: bool) -> None:
    """Import what the tax platform answered (operator)."""
    done = open_client().tax_invoices.import_answers(text_of_file(file), idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@tax_invoice.command("withdraw-invoice")
@click.argument("invoice", type=int)
@click.option("--reason", required=True)
@key_option
@json_option
def withdraw_invoice(invoice: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """Withdraw an invoice that has no tax invoice (operator)."""
    done = open_client().tax_invoices.withdraw_invoice(invoice, reason=reason, idempotency_key=idempotency_key)
    show_one(done, as_json=as_json)


@payout.command("upload-tax-invoice")
@click.argument("statement", type=int)
@click.option("--number", required=True, help="20 digits.")
@click.option("--issued-on", type=click.DateTime(["%Y-%m-%d"]), required=True)
@click.option("--seller-name", required=True)
@click.option("--seller-tax-number", required=True)
@click.option("--buyer-name", required=True)
@click.option("--buyer-tax-number", required=True)
@click.option("--total", type=DECIMAL, required=True, metavar="YUAN")
@click.option("--tax", type=DECIMAL, required=True, metavar="YUAN")
@click.option("--file", type=FILE, help="The tax invoice itself.")
@key_option
@json_option
def upload(statement: int, file: Path | None, idempotency_key: str | None, as_json: bool, **fields: object) -> None:
    """Upload a provider's tax invoice for a settlement statement; `matches` says whether it may be paid out."""
    issued_on: date = fields.pop("issued_on").date()  # type: ignore[attr-defined]
    done = open_client().payouts.upload_tax_invoice(
        statement, issued_on=issued_on, document=file.read_bytes() if file else None, idempotency_key=idempotency_key,
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    show_one(done, as_json=as_json)
