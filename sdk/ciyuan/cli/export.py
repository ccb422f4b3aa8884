"""`ciyuan export FOLDER`: documents and monthly files in a folder, once or on a schedule."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, cast

import click

from ciyuan.cli.base import cli, fail, open_client
from ciyuan.errors import CiyuanError
from ciyuan.export import FORMATS, DocumentFormat, Export


class MonthType(click.ParamType[date]):
    """A month such as 2026-10."""

    name = "YYYY-MM"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(f"{value}-01")
        except ValueError:
            self.fail(f"{value!r} is no month such as 2026-10", param, ctx)


@cli.command("export")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, default=("pdf", "csv"),
              show_default=True, help="Of each document; may be given several times.")  # fmt: skip
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", show_default=True, help="Of PDFs.")
@click.option("--since", type=MonthType(), default="2020-01", help="Leave out documents issued before this month.")
@click.option("--every", type=click.FloatRange(60), metavar="SECONDS", help="Go on, and look again so often.")
def export(
    folder: Path, formats: tuple[str, ...], language: Literal["zh", "en"], since: date, every: float | None
) -> None:
    """
    Copy new invoices, statements and months' files into FOLDER.

    What is there already is left alone, so it can be run as often as one likes: from a timer, or by itself with
    --every, until it is told to end.
    """
    job = Export(open_client(), folder, cast("tuple[DocumentFormat, ...]", formats), language, since)
    stop = threading.Event()
    if every is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    while True:
        written = 0
        try:
            for path in job.run(datetime.now(UTC)):
                click.echo(str(path))
                written += 1
        except CiyuanError as error:
            if every is None:
                raise
            click.echo(f"the exchange does not give its documents now: {error}", err=True)
        except OSError as error:
            fail(f"{error.filename or folder}: {(error.strerror or str(error)).lower()}")
        if every is None:
            click.echo(f"{written} new files in {folder}")
            return
        if stop.wait(every):
            return
