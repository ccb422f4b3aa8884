"""`manage.py account_statement ACCOUNT --first DAY --last DAY [--csv]`: an account from opening to closing."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.documents.ledger_table import STATEMENT_COLUMNS, statement_row
from billing.journal_queries import account_statement, readable_ref
from core.csv_files import as_csv
from core.money import format_yuan


class Command(BaseCommand):
    """ACCOUNT is kind/organization/scope, such as available/7 or escrow/-/market:12."""

    help = "Print an account's movements between two days (Asia/Shanghai)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account")
        parser.add_argument("--first", required=True)
        parser.add_argument("--last", required=True)
        parser.add_argument("--csv", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ref = readable_ref(options["account"])
            first, last = (date.fromisoformat(options[name]) for name in ("first", "last"))
        except ValueError as error:
            raise CommandError(str(error)) from None
        shown = account_statement(ref, first=first, last=last)
        rows = (statement_row(line) for line in shown.lines)
        if options["csv"]:
            self.stdout.write(as_csv(STATEMENT_COLUMNS, rows).removeprefix("\ufeff"), ending="")
            return
        self.stdout.write(f"{shown.ref} {first} to {last}")
        self.stdout.write(f"{'opening':<46} {format_yuan(shown.opening[0]):>18}")
        for row in rows:
            amounts = f"{row['change']:>18} {row['balance']:>18}"
            self.stdout.write(f"{row['booked_on']} {row['kind']:<16} {amounts} {row['key']}")
        self.stdout.write(f"{'closing':<46} {format_yuan(shown.closing[0]):>18}")
