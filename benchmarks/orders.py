"""
How fast orders are accepted and drained: `python -m benchmarks.orders`.

- `accept_10k_vs_copy`: orders a second accepted (checked, held, stored) in batches of 10,000 ÷ raw COPY of the orders.
- `drain_10k_vs_copy`: the same for stored commands becoming journal, trades, transfers, committed.
- `durable_1k_vs_orm`: accepted and drained at 1,000 ÷ one order at a time through the ORM with `select_for_update`.
- `http_p99_vs_floor`: see `benchmarks.latency`, which runs in a process of its own.
"""

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks import database
from benchmarks.harness import Case, environment, interleave, report, table

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
TICK = 100_000


class Trading:
    """A continuous market with one member that buys and one that sells, both with plenty."""

    def __init__(self) -> None:
        from tests.given import advanced, given_grade, given_market, given_money, given_organization, given_seller

        market = given_market(given_grade(mode="exchange", tick_nano=TICK), now=NOW, cap_price_nano=10_000 * TICK)
        self.market = advanced(market, market.call_closes_at)
        self.now = market.call_closes_at + timedelta(seconds=1)
        self.buyer = given_money(given_organization("buyer"), 500_000_000)
        self.seller = given_money(given_seller(market, lots=500_000_000), 500_000_000)
        self.random = random.Random(2026)
        self.placed: dict[Any, list[Any]] = {self.buyer: [], self.seller: []}

    def orders(self, count: int, *, marketable: int = 0) -> dict[Any, list[Any]]:
        """Return limit orders of both members in turn: `marketable` of them meet another at once, the others rest."""
        from exchange.domain.requests import OrderRequest

        made: dict[Any, list[Any]] = {self.buyer: [], self.seller: []}
        taking = set(self.random.sample(range(count), marketable))
        for number in range(count):
            buying = number % 2 == 0
            away = int(self.random.expovariate(1 / 50))
            if number in taking:
                price = 5_100 if buying else 4_900
            else:
                price = 4_999 - away if buying else 5_001 + away
            made[self.buyer if buying else self.seller].append(
                OrderRequest(
                    market_id=self.market.pk,
                    side="buy" if buying else "sell",
                    quantity_tokens=self.random.randint(1, 50) * 1_000,
                    price_nano=price * TICK,
                )
            )
        return made

    def mixed(self, count: int) -> dict[Any, list[Any]]:
        """Return the flow that the book's benchmark has: half adds, two fifths cancels, a tenth marketable."""
        from exchange.domain.requests import CancelRequest

        made = self.orders(count * 6 // 10, marketable=count // 10)
        for organization, requests in made.items():
            placed = self.placed[organization]
            self.random.shuffle(placed)
            cancelled = [CancelRequest(order_id=placed.pop()) for _ in range(min(len(placed), count // 5))]
            requests += cancelled
            self.random.shuffle(requests)
        return made

    def accept(self, requests: dict[Any, list[Any]]) -> None:
        from django.db import transaction

        from exchange.actions.accept import Accepted, accept
        from exchange.domain.orders import Kind

        with transaction.atomic():
            for organization, commands in requests.items():
                outcomes = accept(organization=organization, requests=commands, now=self.now)
                self.placed[organization] += [
                    outcome.id for outcome in outcomes if isinstance(outcome, Accepted) and outcome.kind < Kind.CANCEL
                ]

    def drain(self, _: object = None) -> Any:
        from django.db import transaction

        from exchange.actions.advance import advance

        with transaction.atomic():
            return advance(market_id=self.market.pk, now=self.now)


def main() -> None:
    """Print the figures."""
    print(environment())
    database.start(with_valkey=True)
    from django.db import connection

    from benchmarks.baselines.orm_orders import place_one_by_one
    from benchmarks.baselines.raw_copy import RawCopy

    trading = Trading()
    for _ in range(2):
        trading.accept(trading.orders(10_000))
        trading.drain()
    connection.ensure_connection()
    raw = RawCopy(connection.connection, "exchange_command")
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM exchange_command ORDER BY id LIMIT 10000")
        stored = cursor.fetchall()

    # Each round accepts a batch (timed), then another one that is accepted untimed is drained with it (timed).
    timings = interleave(
        {
            "raw COPY of the orders": lambda: raw.write(stored),
            "accept": Case(run=trading.accept, prepare=lambda: trading.orders(10_000)),
            "(drain those)": trading.drain,
            "drain: 50% add, 40% cancel, 10% take": Case(
                run=trading.drain, prepare=lambda: trading.accept(trading.mixed(10_000))
            ),
            "drain: half of them take": Case(
                run=trading.drain, prepare=lambda: trading.accept(trading.orders(10_000, marketable=5_000))
            ),
        },
        repeats=7,
    )
    print(timings.table("10,000 orders"))
    small = interleave(
        {
            "accept and drain 1,000": Case(
                run=lambda made: (trading.accept(made), trading.drain()),
                prepare=lambda: trading.orders(1_000, marketable=150),
            ),
            "ORM, 50 one at a time": lambda: place_one_by_one(trading, 50),
        },
        repeats=5,
    )
    print(small.table("1,000 orders"))
    per_second = small.rate("accept and drain 1,000", 1_000)
    orm = small.rate("ORM, 50 one at a time", 50)
    rows = [(name, f"{timings.rate(name, 10_000):,.0f}") for name in timings.seconds]
    rows += [("accept and drain 1,000", f"{per_second:,.0f}"), ("ORM", f"{orm:,.0f}")]
    print(table("orders a second", ("what", "orders/s"), rows))
    drained = "drain: 50% add, 40% cancel, 10% take"
    command = [sys.executable, "-m", "benchmarks.latency"]
    over_http = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(over_http.stdout)
    latency = json.loads(over_http.stdout.splitlines()[-1]) if not over_http.returncode else {}
    report(latency | {
        "accept_10k_vs_copy": timings.ratio("raw COPY of the orders", "accept"),
        "drain_10k_vs_copy": timings.ratio("raw COPY of the orders", drained),
        "drain_10k_half_trading_vs_copy": timings.ratio("raw COPY of the orders", "drain: half of them take"),
        "durable_1k_vs_orm": per_second / orm,
    })


def profile() -> None:
    """Print where the time goes (`python -c "from benchmarks.orders import profile; profile()"`)."""
    import cProfile
    import pstats

    database.start(with_valkey=True)
    trading = Trading()
    for _ in range(2):
        trading.accept(trading.orders(10_000))
        trading.drain()
    for name, made in (("accept", trading.orders(10_000)), ("drain", trading.mixed(10_000))):
        if name == "drain":
            trading.drain()
            trading.accept(made)
        with cProfile.Profile() as profiler:
            trading.drain() if name == "drain" else trading.accept(made)
        print(name)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
