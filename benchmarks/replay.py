"""
How fast a market is rebuilt from its journal, and what a worker's book weighs: `python -m benchmarks.replay`.

- `entries_per_second`: journal entries read with their commands, applied, and turned into facts again, from the first.
- `resting_orders`, `worker_bytes_an_order`: memory of a worker's process that holds so many resting orders: the book
  and what money knows of them, and nothing of a drain. A million with FULL=1, else a tenth.

The table shows how both grow.
"""

import os
import subprocess
import sys
from typing import Any

from benchmarks import database
from benchmarks.harness import environment, interleave, report, table

FULL = os.environ.get("FULL") == "1"
RESTING = 1_000_000 if FULL else 100_000
ENTRIES = (1_000, 10_000, 100_000, *((1_000_000,) if FULL else ()))
BATCH = 10_000


def resident_bytes(orders: int) -> int:
    """Return what a process grows by when it takes up so many resting orders; run in a process of its own."""
    from benchmarks.orders import TICK
    from exchange.actions.market_state import MarketState
    from exchange.domain.book import Book
    from exchange.domain.commands import QueuedCommand
    from exchange.domain.orders import BUY, SELL, Kind, MarketTerms, Phase
    from exchange.domain.settling import Settling
    from tests.given import NOW

    def command(number: int) -> QueuedCommand:
        side, away = number % 2, number * 7919 % 5_000 + 1
        price = 10_000 + (away if side == SELL else -away)
        id_ = number.to_bytes(16, "big")
        return QueuedCommand(
            id_, int(Kind.LIMIT), number % 1_000 + 1, SELL if side else BUY, price, number % 100 + 1, hold_id=id_,
            hold_micro=1, hold_price_nano=price * TICK, bond_thousandths=200,
        )  # fmt: skip

    state = MarketState(1, Book(MarketTerms()), Settling(market_id=1, tick_nano=TICK))
    state.enter(Kind.PHASE, NOW, lots=Phase.CONTINUOUS)
    before = _resident()
    for first in range(1, orders + 1, BATCH):
        state.take([command(number) for number in range(first, min(first + BATCH, orders + 1))], NOW)
        state.take_facts()
    assert len(state.book.orders) == orders
    return _resident() - before


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def measured_elsewhere(orders: int) -> int:
    """Return `resident_bytes` of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.replay", "--memory", str(orders)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def grow(trading: Any, entries: int) -> None:
    """Trade until the market's journal has so many entries."""
    while (missing := entries - trading.market.last_sequence) > 0:
        trading.accept(trading.mixed(min(BATCH, max(missing, 10))))
        trading.drain()
        trading.market.refresh_from_db()


def replay(trading: Any, entries: int) -> None:
    """Rebuild the market from its first entry to this one."""
    from exchange.actions.replay import replay_market

    replayed = replay_market(trading.market, until=entries)
    assert replayed.entries == entries and not replayed.mismatches


def main() -> None:
    """Print the figures."""
    print(environment())
    database.start(with_valkey=True)
    from benchmarks.orders import Trading

    trading = Trading()
    rows, figures = [], {}
    for entries in ENTRIES:
        grow(trading, entries)
        timings = interleave({"replay": lambda entries=entries: replay(trading, entries)},
                             repeats=1 if entries > 100_000 else 3, warmups=0)  # fmt: skip
        rate = timings.rate("replay", entries)
        rows.append((f"{entries:,}", f"{1e3 * timings.median('replay'):,.0f}", f"{rate:,.0f}"))
        figures = {"entries": entries, "entries_per_second": round(rate)}
    print(table("Replay from the first entry", ("entries", "median ms", "entries/s"), rows))

    weights = {orders: measured_elsewhere(orders) for orders in (10_000, RESTING // 10, RESTING) if orders <= RESTING}
    shown = [(f"{orders:,}", f"{bytes_ / 2**20:,.0f}", f"{bytes_ / orders:,.0f}") for orders, bytes_ in weights.items()]
    print(table("A worker's memory by resting orders", ("orders", "MiB", "bytes/order"), shown))
    figures |= {"resting_orders": RESTING, "worker_mib": round(weights[RESTING] / 2**20),
                "worker_bytes_an_order": round(weights[RESTING] / RESTING)}  # fmt: skip
    report(figures)


if __name__ == "__main__":
    if "--memory" in sys.argv:
        os.environ.setdefault("CIYUAN_ENV", "test")
        os.environ.update(DATABASE_URL="postgresql://127.0.0.1:1/none", REDIS_URL="redis://127.0.0.1:1",
                          DJANGO_SETTINGS_MODULE="config.settings")  # fmt: skip
        import django

        django.setup()
        print(resident_bytes(int(sys.argv[-1])))
    else:
        main()
