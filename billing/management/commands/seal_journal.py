"""`manage.py seal_journal`: close and seal the days of the ledger that are over."""

from functools import partial
from typing import Any

from django.core.management.base import BaseCommand

from billing.actions.journal import close_day, seal_day
from billing.journal_queries import days_to_seal
from core import clock
from core.transactions import durable


class Command(BaseCommand):
    """What the worker does by itself; for a restored instance, or one without a worker."""

    help = "Close and seal the days of the ledger that are over, in order."

    def handle(self, *args: Any, **options: Any) -> None:
        for day in days_to_seal(clock.now()):
            durable(partial(close_day, day=day, now=clock.now()))
            seal = durable(partial(seal_day, day=day, now=clock.now()))
            self.stdout.write(f"sealed {day}: {seal.transfers} transfers, hash {seal.hash}")
