"""`manage.py archive_usage`: days that are old enough are moved to Parquet files."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import clock
from metering_ingest.actions.archiving import ChangedMeanwhile, archivable_days, archive_day


class Command(BaseCommand):
    """Safe to repeat and to interrupt: a day is in the table until its files are whole and on disk."""

    help = "Archive old days of usage events to Parquet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=int, metavar="DAYS", help="Instead of CIYUAN_ARCHIVE_AFTER_DAYS; at least 9."
        )
        parser.add_argument("--most", type=int, metavar="N", help="At most so many days.")

    def handle(self, *args: Any, **options: Any) -> None:
        older = options["older_than"] or settings.ARCHIVE_AFTER_DAYS
        if older < 9:
            raise CommandError("Days that are over for less than nine days are never archived.")
        now = clock.now()
        for day in archivable_days(older_than_days=older, now=now)[: options["most"]]:
            try:
                part = archive_day(day=day, now=now)
            except ChangedMeanwhile as error:
                self.stdout.write(f"{day}: {error}; run it again")
                continue
            if part is not None:
                self.stdout.write(f"{day}: {part.events:,} events in {part.parquet}")
        self.stdout.write("archive_usage: done")
