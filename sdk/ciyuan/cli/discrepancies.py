"""`ciyuan discrepancy …`: where meters are too far apart, and what is said and decided about it."""

from __future__ import annotations

import mimetypes
from pathlib import Path

import click

from ciyuan.cli.base import Group, cli, columns, fail, json_option, key_option, open_client, show_list, show_one


@cli.group("discrepancy", cls=Group)
def discrepancy() -> None:
    """Where the meters of provider, buyer and engine are too far apart."""


@discrepancy.command("list")
@click.option("--state", type=click.Choice(["open", "decided", "agreed"]))
@click.option("--contract", type=int)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most rows.")
@json_option
def list_(state: str | None, contract: int | None, limit: int, as_json: bool) -> None:
    """List the discrepancies of one's contracts, the newest first."""
    show_list(
        open_client().discrepancies.list(state=state, contract=contract),
        columns(
            "id", "contract", "hour", "class=token_class", "state", "provider=provider_quantity",
            "buyer=buyer_quantity", "engine=engine_quantity", "held=held_quantity", "held_ST=held_standard_tokens",
        ),
        as_json=as_json, limit=limit,
    )  # fmt: skip


@discrepancy.command("show")
@click.argument("number", type=int, metavar="DISCREPANCY")
@json_option
def show(number: int, as_json: bool) -> None:
    """Show one with its evidence and everything that was said."""
    row = open_client().discrepancies.get(number)
    entries = row.entries or []
    if not as_json:
        del row.raw["entries"]
    show_one(row, as_json=as_json)
    if not as_json:
        for entry in entries:
            file = f" [{entry.attachment['name']}]" if entry.attachment else ""
            click.echo(f"{entry.at:%Y-%m-%d %H:%M} {entry.side or 'exchange'}, {entry.kind}: {entry.text}{file}")


@discrepancy.command("comment")
@click.argument("number", type=int, metavar="DISCREPANCY")
@click.argument("text", default="")
@click.option("--attach", type=click.Path(path_type=Path), metavar="FILE", help="A file of up to 1 MiB.")
@key_option
@json_option
def comment(number: int, text: str, attach: Path | None, idempotency_key: str | None, as_json: bool) -> None:
    """Say something about one, or attach a file."""
    attachment = None
    if attach is not None:
        try:
            content = attach.read_bytes()
        except OSError as error:
            fail(f"{attach}: {(error.strerror or str(error)).lower()}")
        attachment = (attach.name, mimetypes.guess_type(attach.name)[0] or "application/octet-stream", content)
    entry = open_client().discrepancies.comment(number, text, attachment=attachment, idempotency_key=idempotency_key)
    show_one(entry, as_json=as_json)


@discrepancy.command("decide")
@click.argument("number", type=int, metavar="DISCREPANCY")
@click.option("--accepted", type=int, required=True, help="Tokens of the provider's count that are billed.")
@click.option("--reason", required=True)
@key_option
@json_option
def decide(number: int, accepted: int, reason: str, idempotency_key: str | None, as_json: bool) -> None:
    """As the operator: decide one."""
    row = open_client().discrepancies.decide(number, accepted=accepted, reason=reason, idempotency_key=idempotency_key)
    show_one(row, as_json=as_json)


@discrepancy.command("compare")
@click.argument("contract", type=int)
@json_option
def compare(contract: int, as_json: bool) -> None:
    """Show what each meter counted of a contract, hour by hour."""
    show_list(
        open_client().discrepancies.compare(contract),
        columns("hour", "class=token_class", "provider", "buyer", "engine", "agrees"), as_json=as_json,
    )  # fmt: skip
