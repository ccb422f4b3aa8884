"""`manage.py what_if --book NAME --buyer ID --first DAY --last DAY`: a past period by a price book."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.domain.price_book_terms import read_book
from billing.domain.price_books import Unpriced
from billing.models import PriceBookVersion
from core.money import format_yuan
from core.periods import Period, shanghai_day
from metering_ingest.what_if import what_if


class Command(BaseCommand):
    """Reads only. Without --book-version the latest published version is taken, in force or not."""

    help = "Say what a buyer's usage between two days (Asia/Shanghai) costs by a price book."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--book", required=True)
        parser.add_argument("--book-version", type=int)
        parser.add_argument("--buyer", type=int, required=True)
        parser.add_argument("--first", required=True)
        parser.add_argument("--last", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            first, last = (date.fromisoformat(options[name]) for name in ("first", "last"))
            period = Period(shanghai_day(first).start, shanghai_day(last).end)
        except ValueError as error:
            raise CommandError(f"--first and --last are dates such as 2026-11-20, in order: {error}") from None
        versions = PriceBookVersion.objects.filter(book__name=options["book"]).order_by("-number")
        if options["book_version"]:
            versions = versions.filter(number=options["book_version"])
        version = versions.first()
        if version is None:
            raise CommandError(f"There is no such version of a price book “{options['book']}”.")
        try:
            bill = what_if(read_book(version.terms), buyer_id=options["buyer"], period=period)
        except Unpriced as error:
            raise CommandError(str(error)) from None
        for line in bill.lines:
            about = " ".join(str(part) for part in line.rule.key if part not in (None, ""))
            self.stdout.write(f"{about}: {line.tokens:,} tokens, ¥{format_yuan(line.amount_micro)}")
        if bill.minimum_micro:
            self.stdout.write(f"to the minimum: ¥{format_yuan(bill.minimum_micro)}")
        self.stdout.write(f"total by {options['book']} version {version.number}: ¥{format_yuan(bill.total_micro)}")
