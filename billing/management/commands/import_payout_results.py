"""`manage.py import_payout_results FILE`: take in what the bank says of payouts."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.actions.payouts import import_results
from core import clock
from core.errors import Problem
from core.transactions import durable


class Command(BaseCommand):
    """The same file again changes nothing."""

    help = "Import a bank's results of a payout batch (CSV)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            content = options["file"].read_bytes()
            done = durable(lambda: import_results(content=content, now=clock.now()))
        except (Problem, OSError) as error:
            raise CommandError(str(error)) from None
        for entry in done["rejected"]:
            self.stderr.write(f"line {entry['number']}: {entry['detail']}")
        self.stdout.write(f"{done['paid']} paid, {done['failed']} failed, {done['repeated']} known already,"
                          f" {len(done['rejected'])} rejected")  # fmt: skip
