"""
`manage.py replay MARKET…`: rebuild markets from their journals, from the beginning and from the last snapshot.

Prints one JSON line a market with the state hashes, the digest of the trades and the rate, and ends with status 1 where
the two ways, a recorded hash, or the stored trades differ.
"""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from exchange.actions.replay import replay_market, stored_trades_digest
from exchange.audit import stored_trades
from exchange.models import Market


class Command(BaseCommand):
    """Replay and compare."""

    help = "Rebuild markets from their journals and compare state hashes and trades."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take markets by id."""
        parser.add_argument("markets", nargs="+", type=int, metavar="MARKET")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replay each market both ways."""
        differ = 0
        for market_id in options["markets"]:
            with transaction.atomic():
                line, same = _compare(market_id)
            self.stdout.write(json.dumps(line))
            differ += not same
        if differ:
            raise CommandError(f"{differ} of {len(options['markets'])} markets differ.", returncode=1)


def _compare(market_id: int) -> tuple[dict[str, Any], bool]:
    market = Market.objects.filter(pk=market_id).first()
    if market is None:
        raise CommandError(f"There is no market {market_id}.")
    began = time.perf_counter()
    whole = replay_market(market)
    seconds = time.perf_counter() - began
    short = replay_market(market, from_snapshot=True)
    stored = stored_trades_digest(stored_trades(market_id))
    same = (
        not whole.mismatches
        and not short.mismatches
        and whole.state_hash == short.state_hash
        and whole.trades_digest == stored
        and whole.state.sequence == market.last_sequence
    )
    return {
        "market": market_id,
        "entries": whole.entries,
        "trades": whole.trades,
        "open_orders": len(whole.state.book.orders),
        "state_hash": whole.state_hash,
        "state_hash_from_snapshot": short.state_hash,
        "entries_after_snapshot": short.entries,
        "trades_digest": whole.trades_digest,
        "stored_trades_digest": stored,
        "mismatches": whole.mismatches,
        "entries_per_second": round(whole.entries / seconds) if seconds else None,
        "same": same,
    }, same
