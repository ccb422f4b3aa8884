"""`manage.py replay_rejected`: events that were set aside go through the pipeline again, once the cause is mended."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from core import clock
from metering_ingest import queries
from metering_ingest.actions.replay import replay
from metering_ingest.ingest_workers import own_connection

BATCH = 1_000


class Command(BaseCommand):
    """Safe to repeat: what is stored already is a duplicate, what is still wrong stays set aside with its reason."""

    help = "Replay events that were set aside, of one meter or code or all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--meter", type=int, help="Of this meter alone.")
        parser.add_argument("--code", help="Set aside for this reason alone, such as unknown-subject.")

    def handle(self, *args: Any, **options: Any) -> None:
        counts: dict[str, int] = {}
        after = None
        while rows := list(queries.set_aside(meter_id=options["meter"], code=options["code"], after=after)[:BATCH]):
            after = rows[-1].kept_id
            for status, count in replay(own_connection(), rows, now=clock.now()).items():
                counts[status] = counts.get(status, 0) + count
        total = ", ".join(f"{count:,} {status}" for status, count in sorted(counts.items()))
        self.stdout.write(f"replayed {sum(counts.values()):,} events{f': {total}' if total else ''}")
