"""`manage.py write_payout_batch FILE`: take approved payouts into a batch and write the bank's file."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from billing import payout_queries
from billing.actions.payouts import make_batch
from billing.domain.bank_files import batch_file
from core import clock
from core.money import format_yuan
from core.transactions import durable


class Command(BaseCommand):
    """Run again, it takes what was approved since."""

    help = "Write a bank file of all approved payouts."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        batch = durable(lambda: make_batch(now=clock.now()))
        if batch is None:
            self.stdout.write("nothing is approved and waiting")
            return
        rows = payout_queries.payouts_of_batch(batch)
        options["file"].write_text(
            batch_file((str(row), row.payee, row.payee_account, row.payee_bank, row.amount_micro) for row in rows)
        )
        self.stdout.write(f"batch {batch.pk}: {len(rows)} payouts, ¥{format_yuan(batch.total_micro)}")
