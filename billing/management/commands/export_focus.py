"""`manage.py export_focus --organization ID --first DAY --last DAY --out FILE`: FOCUS 1.2 cost-and-usage data."""

from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.documents.focus import focus_csv, focus_parquet
from core.periods import Period, shanghai_day
from identity.models import Organization


class Command(BaseCommand):
    """The kind of file follows from its name: .parquet, else CSV."""

    help = "Write the documents issued to a buyer between two days (Asia/Shanghai) as FOCUS 1.2."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", type=int, required=True)
        parser.add_argument("--first", required=True)
        parser.add_argument("--last", required=True)
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            first, last = (date.fromisoformat(options[name]) for name in ("first", "last"))
            period = Period(shanghai_day(first).start, shanghai_day(last).end)
        except ValueError as error:
            raise CommandError(f"--first and --last are dates such as 2026-11-20, in order: {error}") from None
        organization, out = options["organization"], options["out"]
        if not Organization.objects.filter(pk=organization).exists():
            raise CommandError(f"There is no organization {organization}.")
        if out.suffix == ".parquet":
            out.write_bytes(focus_parquet(organization, period))
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                file.writelines(focus_csv(organization, period))
        self.stdout.write(f"wrote {out} ({out.stat().st_size:,} bytes)")
