"""`ciyuan invoice | statement | usage | balance | charges | keys | whoami`: what was used and what it cost."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from ciyuan.calls import Blocking
from ciyuan.cli.base import (
    TIME,
    Group,
    cli,
    columns,
    fail,
    json_option,
    key_option,
    open_client,
    print_json,
    print_table,
    show_list,
    show_one,
    text_of,
)
from ciyuan.resources import Invoices

if TYPE_CHECKING:
    from ciyuan.resources.money import FileFormat

_FORMATS = ["pdf", "csv", "xlsx", "json", "parquet", "xml"]
_limit_option = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")


def _documents(group: click.Group, resource: Literal["invoices", "statements"], word: str) -> None:
    """The same commands for invoices and for settlement statements."""

    def documents() -> Invoices[Blocking]:
        client = open_client()
        return client.invoices if resource == "invoices" else client.statements

    @group.command("list", help=f"List {word}s, the newest first.")
    @_limit_option
    @json_option
    def list_(limit: int, as_json: bool) -> None:
        rows = documents().list()
        show_list(
            rows, columns("id", "number", "kind", "state", "total", "due", "issued_at"), as_json=as_json, limit=limit
        )

    @group.command("show", help=f"Show one {word} with its lines.")
    @click.argument("document", type=int, metavar=word.upper().replace(" ", "_"))
    @json_option
    def show(document: int, as_json: bool) -> None:
        show_one(documents().get(document), as_json=as_json)

    @group.command("download", help=f"Save one {word} as PDF, CSV, spreadsheet or for other programs.")
    @click.argument("document", type=int, metavar=word.upper().replace(" ", "_"))
    @click.option("--format", "kind", type=click.Choice(_FORMATS), default="pdf", show_default=True)
    @click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True, help="Of the PDF.")
    @click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where to; - for stdout.")
    def download(document: int, kind: str, language: Literal["zh", "en"], output: Path | None) -> None:
        if kind == "pdf":
            content = documents().pdf(document, language=language)
        elif kind == "csv":
            content = documents().csv(document)
        else:
            content = documents().file(document, format=cast("FileFormat", kind))
        if output is not None and str(output) == "-":
            sys.stdout.buffer.write(content)
            return
        path = output or Path(f"{resource.removesuffix('s')}-{document}.{kind}")
        try:
            path.write_bytes(content)
        except OSError as error:
            fail(f"{path}: {(error.strerror or str(error)).lower()}")
        click.echo(f"{path} ({len(content):,} bytes)")


@cli.group("invoice", cls=Group)
def invoice() -> None:
    """Invoices to a buyer."""


@cli.group("statement", cls=Group)
def statement() -> None:
    """Settlement statements (结算单) to a provider."""


_documents(invoice, "invoices", "invoice")
_documents(statement, "statements", "statement")


@cli.command("usage")
@click.option("--group-by", metavar="A,B", default="", help="For example contract,class,hour.")
@click.option("--from", "start", type=TIME, metavar="TIME", help="From this time on.")
@click.option("--to", "end", type=TIME, metavar="TIME", help="Before this time.")
@click.option("--filter", "filters", multiple=True, metavar="NAME=VALUE", help="For example contract=42.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Save as CSV instead.")
@click.option("--parquet", "parquet_file", type=click.Path(path_type=Path), metavar="FILE", help="Or as Parquet.")
@json_option
def usage(
    group_by: str,
    start: datetime | None,
    end: datetime | None,
    filters: tuple[str, ...],
    csv_file: Path | None,
    parquet_file: Path | None,
    as_json: bool,
) -> None:
    """Sum up usage by contract, class, model, time and more."""
    by = [name.strip() for name in group_by.split(",") if name.strip()]
    chosen = dict(_pair(text) for text in filters)
    client = open_client()
    file = csv_file or parquet_file
    if file is not None:
        export = client.exports.usage_csv if file is csv_file else client.exports.usage_parquet
        content = export(start=start, end=end, **({"group_by": ",".join(by)} if by else {}), **chosen)
        try:
            file.write_bytes(content)
        except OSError as error:
            fail(f"{file}: {(error.strerror or str(error)).lower()}")
        click.echo(f"{file} ({len(content):,} bytes)")
        return
    rows = client.usage.query(group_by=by, start=start, end=end, **chosen)
    if as_json:
        print_json([row.raw for row in rows])
        return
    sums = ("quantity", "standard_tokens", "events", "cost", "price_per_million")
    groups = list(dict.fromkeys(name for row in rows for name in row.raw if name not in (*sums, *_HIDDEN)))
    cells = [
        [*(text_of(row.raw.get(name)) for name in groups), f"{row.quantity:,}", row.standard_tokens, f"{row.events:,}",
         f"{'~' if row.raw.get('estimate') else ''}{text_of(row.raw.get('cost'))}",
         text_of(row.raw.get("price_per_million"))]
        for row in rows
    ]  # fmt: skip
    print_table([*groups, *sums], cells, right=sums)
    if any(row.raw.get("estimate") for row in rows):
        click.echo("~ an estimate until settlement", err=True)


_HIDDEN = ("price", "estimate", "accelerator_hours", "standard_tokens_per_accelerator_hour")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        fail(f"--filter {text!r} is not NAME=VALUE")
    return name, value


@cli.command("balance")
@json_option
def balance(as_json: bool) -> None:
    """Show what is available and what is held."""
    show_one(open_client().account.balance(), as_json=as_json)


@cli.command("charges")
@_limit_option
@json_option
def charges(limit: int, as_json: bool) -> None:
    """List rated lines, the newest first."""
    rows = open_client().account.charges()
    shown = columns("id", "kind", "scope", "standard_tokens", "price", "amount")
    show_list(rows, shown, as_json=as_json, limit=limit)


@cli.command("whoami")
@json_option
def whoami(as_json: bool) -> None:
    """Show whose key this is and what it may do."""
    answer = open_client().whoami()
    if as_json:
        print_json(answer.raw)
        return
    organization = answer.organization
    click.echo(f"{organization.name} (organization {organization.id}, {organization.kind}): {', '.join(answer.scopes)}")


@cli.group("keys", cls=Group)
def keys() -> None:
    """API keys."""


@keys.command("list")
@_limit_option
@json_option
def keys_list(limit: int, as_json: bool) -> None:
    """List keys, without their secrets."""
    shown = columns("id", "name", "prefix", "scopes", "meter", "created_at", "expires_at", "revoked_at")
    show_list(open_client().keys.list(), shown, as_json=as_json, limit=limit)


@keys.command("create")
@click.option("--name", required=True)
@click.option("--scope", "scopes", multiple=True, required=True, metavar="SCOPE", help="trade, meter, billing, read.")
@click.option("--expires", type=TIME, metavar="TIME")
@click.option("--organization", type=int, metavar="ID", help="For another organization (operator).")
@key_option
@json_option
def keys_create(
    name: str,
    scopes: tuple[str, ...],
    expires: datetime | None,
    organization: int | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Make a key. Its secret is shown this once."""
    made = open_client().keys.create(
        name=name, scopes=scopes, expires_at=expires, organization=organization, idempotency_key=idempotency_key
    )
    _show_secret(made, as_json=as_json)


@keys.command("rotate")
@click.argument("key", type=int)
@click.option("--overlap", type=click.IntRange(0), metavar="SECONDS", help="How long the old one still works.")
@key_option
@json_option
def keys_rotate(key: int, overlap: int | None, idempotency_key: str | None, as_json: bool) -> None:
    """Make a key's successor."""
    made = open_client().keys.rotate(key, overlap_seconds=overlap, idempotency_key=idempotency_key)
    _show_secret(made, as_json=as_json)


@keys.command("revoke")
@click.argument("key", type=int)
@key_option
@json_option
def keys_revoke(key: int, idempotency_key: str | None, as_json: bool) -> None:
    """End a key within a second."""
    show_one(open_client().keys.revoke(key, idempotency_key=idempotency_key), as_json=as_json)


def _show_secret(made: Any, *, as_json: bool) -> None:
    show_one(made, as_json=as_json)
    if not as_json and made.secret:
        click.echo("The secret is shown this once: keep it now.", err=True)
