"""The command group, and what all commands share: one-line errors with exit code 1, suggestions for typos, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from itertools import islice
from typing import Any, NoReturn
from unicodedata import east_asian_width
from zoneinfo import ZoneInfo

import click

from ciyuan.client import Client
from ciyuan.errors import CiyuanError
from ciyuan.meter import MeterBehind
from ciyuan.records import Record
from ciyuan.spool import SpoolError

SHANGHAI = ZoneInfo("Asia/Shanghai")


class Group(click.Group):
    """A group that suggests near names for an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self.list_commands(ctx))}"
            raise click.UsageError(f"no such command {args[0]!r}; {hint}", ctx) from error


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--url", metavar="URL", help="The exchange's address; else CIYUAN_URL, else http://localhost:8000.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds to wait for an answer.")
@click.version_option(package_name="ciyuan", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, url: str | None, timeout: float) -> None:
    """
    Publish capacity, trade, meter and read invoices on a Ciyuan token exchange.

    The API key is read from CIYUAN_API_KEY.
    """
    ctx.obj = {"url": url, "timeout": timeout}


def open_client() -> Client:
    """A client for the options of this run."""
    options = click.get_current_context().obj
    client = Client(url=options["url"], timeout=options["timeout"])
    click.get_current_context().call_on_close(client.close)
    return client


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
key_option = click.option(
    "--idempotency-key", metavar="KEY", help="Makes a repetition of this command harmless; a new one by default."
)


class DecimalType(click.ParamType[Decimal]):
    """A price or an amount: digits and a point."""

    name = "decimal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        if isinstance(value, Decimal):
            return value
        try:
            number = Decimal(str(value).strip().removeprefix("¥").replace(",", ""))
        except InvalidOperation:
            self.fail(f"{value!r} is no number such as 0.0035", param, ctx)
        if not number.is_finite():
            self.fail(f"{value!r} is no number such as 0.0035", param, ctx)
        return number


class TimeType(click.ParamType[datetime]):
    """An ISO 8601 time with its zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-20T18:00:00+08:00", param, ctx)
        if moment.tzinfo is None:
            self.fail(f"{value!r} has no time zone; write for example {value}+08:00", param, ctx)
        return moment


DECIMAL = DecimalType()
TIME = TimeType()
Column = tuple[str, Callable[[Any], Any]]


def show_list(rows: Iterable[Record], columns: Sequence[Column], *, as_json: bool, limit: int | None = None) -> None:
    """Print records as a table of columns, or as a JSON array. Numbers stand to the right."""
    some = list(islice(rows, limit))
    if as_json:
        print_json([row.raw for row in some])
        return
    cells = [[text_of(read(row)) for _, read in columns] for row in some]
    names = [name for name, _ in columns]
    right = [
        name
        for i, (name, read) in enumerate(columns)
        if some and all(isinstance(read(row), int | Decimal) or not cells[n][i] for n, row in enumerate(some))
    ]
    print_table(names, cells, right=right)


def show_one(record: Record, *, as_json: bool) -> None:
    """Print a record field by field, or as JSON."""
    if as_json:
        print_json(record.raw)
        return
    width = max((len(name) for name in record.raw), default=0)
    for name, value in record.raw.items():
        click.echo(f"{name:<{width}}  {text_of(value)}")


def text_of(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def attribute(name: str) -> Callable[[Any], Any]:
    return lambda record: getattr(record, name, None)


def columns(*names: str) -> list[Column]:
    """Columns of a record's attributes; `title=attribute` gives one another title."""
    pairs = [name.split("=") if "=" in name else (name, name) for name in names]
    return [(title.replace("_", " "), attribute(of)) for title, of in pairs]


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 1."""
    raise click.ClickException(" ".join(message.split()))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """Columns as wide as their cells; those named in `right` hold numbers."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not cells:
        click.echo("nothing to show", err=True)
        return
    widths = [max(_width(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        click.echo(
            "  ".join(
                _padding(cell, width) + cell if name in right else cell + _padding(cell, width)
                for cell, width, name in zip(row, widths, columns, strict=True)
            ).rstrip()
        )


def _width(text: str) -> int:
    """Columns of a terminal: Chinese characters take two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _padding(text: str, width: int) -> str:
    return " " * (width - _width(text))


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The `ciyuan` program: whatever is wrong is one line on stderr, and exit code 1."""
    from ciyuan.cli import (  # noqa: F401  they register their commands
        blocks,
        budgets,
        certify,
        delivery,
        discrepancies,
        disputes,
        export,
        finance,
        gateway,
        guard,
        market_data,
        metering,
        money,
        payments,
        quotes,
        safeguards,
        service,
        taxes,
        token,
        trading,
        verify,
        webhooks,
    )

    try:
        code = cli.main(args, prog_name="ciyuan", standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"ciyuan: {' '.join(error.format_message().split())}", err=True)
        sys.exit(1)
    except (CiyuanError, SpoolError, MeterBehind) as error:
        click.echo(f"ciyuan: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        sys.exit(141)
    sys.exit(code if isinstance(code, int) else 0)
