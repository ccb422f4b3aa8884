"""`manage.py trial_balance [--day DAY] [--csv]`: what stood on every account at the end of a day."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.documents.ledger_table import trial_csv
from billing.journal_queries import trial_balance
from core import clock
from core.money import format_yuan
from core.periods import shanghai_date


class Command(BaseCommand):
    """Exit status 1 when the columns differ, which the audit would say too."""

    help = "Print the trial balance of a day (Asia/Shanghai)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--day", help="Such as 2026-11-20; today when left out.")
        parser.add_argument("--csv", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            day = date.fromisoformat(options["day"]) if options["day"] else shanghai_date(clock.now())
        except ValueError:
            raise CommandError("--day is a date such as 2026-11-20.") from None
        rows = trial_balance(day)
        debit, credit = (sum(column) for column in zip(*((r.debit_micro, r.credit_micro) for r in rows), strict=True)) \
            if rows else (0, 0)  # fmt: skip
        if options["csv"]:
            self.stdout.write(trial_csv(day, rows).removeprefix("\ufeff"), ending="")
        else:
            width = max([len(str(row.ref)) for row in rows], default=7)
            self.stdout.write(f"{'account':<{width}} {'debit ¥':>24} {'credit ¥':>24}")
            for row in rows:
                self.stdout.write(
                    f"{row.ref!s:<{width}} {format_yuan(row.debit_micro):>24} {format_yuan(row.credit_micro):>24}"
                )
            self.stdout.write(f"{'total':<{width}} {format_yuan(debit):>24} {format_yuan(credit):>24}")
        if debit != credit:
            raise CommandError(f"debits {format_yuan(debit)} are not credits {format_yuan(credit)}")
