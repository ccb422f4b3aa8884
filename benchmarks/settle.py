"""
How fast an auction is settled: `python -m benchmarks.settle` (FULL=1 adds an auction of a million trades).

`settle_vs_copy` is rows a second of trades and transfers, from the call's end to the commit (price, fills, trades, what
they pay, positions, balances, journal, the published book), ÷ raw COPY of the same rows in the same batch and commit.
`…_1m` is the same with a million trades. The book, its orders and their holds are there before; they are not timed.
"""

import os
import random
import sys
from datetime import UTC, datetime
from typing import Any

from benchmarks import database
from benchmarks.harness import Case, environment, interleave, report, table

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
TICK = 100_000
MEMBERS = 100
FULL = os.environ.get("FULL") == "1"
TABLES = ("exchange_trade", "billing_transfer")


class Calls:
    """Members with money and capacity, and markets whose call has gathered their orders."""

    def __init__(self) -> None:
        from tests.given import given_money, given_organization

        self.random = random.Random(2026)
        self.members = [given_money(given_organization("both"), 10_000_000_000) for _ in range(MEMBERS)]

    def gathered(self, trades: int) -> Any:
        """Return a market whose call holds about as many orders as its auction will make trades."""
        from django.db import transaction

        from exchange.actions.accept import accept
        from exchange.actions.advance import advance
        from exchange.actions.positions import add_capacity
        from exchange.domain.requests import OrderRequest
        from tests.given import given_grade, given_market

        grade = given_grade(mode="exchange", tick_nano=TICK)
        market = given_market(grade, now=NOW, cap_price_nano=10_000 * TICK)
        for number, member in enumerate(self.members):
            buying = number % 2 == 0
            if not buying:
                with transaction.atomic():
                    add_capacity(market_id=market.pk, organization_id=member.pk, tokens=10**12)
            left = trades // MEMBERS
            while left:
                orders = [
                    OrderRequest(
                        market_id=market.pk,
                        side="buy" if buying else "sell",
                        quantity_tokens=self.random.randint(1, 99) * 1_000,
                        price_nano=self.random.randint(5_000, 6_000) * TICK
                        if buying
                        else self.random.randint(4_000, 5_000) * TICK,
                        self_trade="none",
                    )
                    for _ in range(min(left, 1_000))
                ]
                with transaction.atomic():
                    outcomes = accept(organization=member, requests=orders, now=NOW)
                assert all(hasattr(outcome, "id") for outcome in outcomes), outcomes[0]
                left -= len(orders)
        with transaction.atomic():
            advance(market_id=market.pk, now=NOW)
        return market


def settle(market: Any) -> Any:
    """Clear and settle the call of a market, and commit."""
    from django.db import transaction

    from exchange.actions.advance import advance

    with transaction.atomic():
        done = advance(market_id=market.pk, now=market.call_closes_at)
    return done


def stored_rows(market: Any) -> dict[str, list[Any]]:
    """Return the trades of a market and the transfers that its settlement made."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM exchange_trade WHERE id >> 32 = %s", [market.pk])
        trades = cursor.fetchall()
        cursor.execute(
            "SELECT * FROM billing_transfer WHERE booked_at = %s AND"
            " credit_id IN (SELECT id FROM billing_account WHERE scope = %s)",
            [market.call_closes_at, market.scope],
        )
        return {"exchange_trade": trades, "billing_transfer": cursor.fetchall()}


class Copies:
    """Raw COPY of an auction's rows into plain tables, in one commit."""

    def __init__(self) -> None:
        from django.db import connection

        from benchmarks.baselines.raw_copy import RawCopy

        connection.ensure_connection()
        self.tables = {name: RawCopy(connection.connection, name) for name in TABLES}

    def write(self, rows: dict[str, list[Any]]) -> None:
        self.tables["exchange_trade"].write(rows["exchange_trade"], commit=False)
        self.tables["billing_transfer"].write(rows["billing_transfer"])


def measure(calls: Calls, trades: int, repeats: int) -> tuple[float, float]:
    """Return our rows a second and raw COPY's."""
    market = calls.gathered(trades)
    made = settle(market).trades
    rows = stored_rows(market)
    count = sum(map(len, rows.values()))
    assert len(rows["exchange_trade"]) == made > trades * 0.9, (made, trades)
    copies = Copies()
    timings = interleave(
        {
            "raw COPY of trades and transfers": lambda: copies.write(rows),
            "settle": Case(run=settle, prepare=lambda: calls.gathered(trades)),
        },
        repeats=repeats,
        warmups=0,
    )
    print(timings.table(f"{made:,} trades and {count - made:,} transfers"))
    return timings.rate("settle", count), timings.rate("raw COPY of trades and transfers", count)


def main() -> None:
    """Print the figures."""
    print(environment())
    database.start(with_valkey=True)
    calls = Calls()
    figures: dict[str, float] = {}
    rows = []
    for trades, repeats, name in ((1_000, 5, None), (10_000, 5, None), (100_000, 3, "settle_vs_copy"),
                                  *([(1_000_000, 1, "settle_vs_copy_1m")] if FULL else [])):  # fmt: skip
        ours, raw = measure(calls, trades, repeats)
        rows.append((f"{trades:,}", f"{ours:,.0f}", f"{raw:,.0f}", f"{ours / raw:.2f}"))
        if name:
            figures |= {name: ours / raw, name.replace("vs_copy", "rows_per_second"): ours}
    print(table("Rows a second", ("trades", "settled", "raw COPY", "ratio"), rows))
    report(figures)


def profile(trades: int = 50_000) -> None:
    """Print where the time goes: `python -m benchmarks.settle --profile`."""
    import cProfile
    import pstats

    database.start(with_valkey=True)
    market = Calls().gathered(trades)
    with cProfile.Profile() as profiler:
        settle(market)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    profile() if "--profile" in sys.argv else main()
