"""`manage.py rerate [--first DAY --last DAY]`: rate settled periods again and compare, byte for byte."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core.periods import Period, shanghai_day
from metering_ingest.management.commands.audit import one_moment
from metering_ingest.rerating import latest, rerate


class Command(BaseCommand):
    """Exit status 1 at any difference; nothing is changed."""

    help = (
        "Rate the settlements of periods that begin between two days (Asia/Shanghai) again; compare with what stands."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--first")
        parser.add_argument("--last")

    def handle(self, *args: Any, **options: Any) -> None:
        period = None
        if options["first"] or options["last"]:
            try:
                first, last = (date.fromisoformat(options[name] or "") for name in ("first", "last"))
                period = Period(shanghai_day(first).start, shanghai_day(last).end)
            except ValueError as error:
                raise CommandError(f"--first and --last are dates such as 2026-11-20, in order: {error}") from None
        with one_moment():
            done = rerate(latest(period).iterator(chunk_size=500))
        for finding in done.findings:
            self.stdout.write(str(finding))
        if done.findings:
            raise CommandError(f"{len(done.findings)} of {done.settlements} settlements rate differently now")
        self.stdout.write(
            f"rated {done.settlements} settlements again, {done.lines} lines: the same bytes (sha256 {done.sha256})"
        )
