"""The command group, and what all commands share: one-line errors with exit code 1, suggestions for typos, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click


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
@click.version_option(package_name="ciyuan", message="%(prog)s %(version)s")
def cli() -> None:
    """Publish capacity, trade, meter and read invoices on a Ciyuan token exchange."""


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
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    for row in [list(columns), *cells]:
        click.echo(
            "  ".join(
                cell.rjust(width) if name in right else cell.ljust(width)
                for cell, width, name in zip(row, widths, columns, strict=True)
            ).rstrip()
        )


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The `ciyuan` program: whatever is wrong is one line on stderr, and exit code 1."""
    from ciyuan.cli import token  # noqa: F401  registers its commands

    try:
        code = cli.main(args, prog_name="ciyuan", standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        click.echo(f"ciyuan: {' '.join(error.format_message().split())}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
