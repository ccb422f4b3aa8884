"""`manage.py journal DAY`: a day's journal as it is hashed."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.journal_queries import journal_lines


class Command(BaseCommand):
    """`(echo PREVIOUS_HASH; manage.py journal DAY) | sha256sum` gives a sealed day's hash."""

    help = "Print a day's journal (CSV without heading, in the order of transfer ids)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("day", help="Such as 2026-11-20, in Shanghai.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            day = date.fromisoformat(options["day"])
        except ValueError:
            raise CommandError("DAY is a date such as 2026-11-20.") from None
        for line in journal_lines(day):
            self.stdout.write(line.decode(), ending="")
