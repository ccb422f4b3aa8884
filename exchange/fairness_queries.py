"""
What buyers of a grade paid, apart from each other: in each auction, and in each hour of continuous trading.

In an auction everybody pays one price, so the lowest and the highest are the same. In the continuous book each trade
has the price of the order that was on offer, whoever takes it: prices move with time. How far single buyers paid off
the hour's average shows whether they also differ by buyer. With fewer than three buyers that is not shown, for it
would tell what one of them paid.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from core.money import round_half_up

LEAST_BUYERS = 3
_TRADES = """
    FROM exchange_market m JOIN exchange_trade t ON t.id BETWEEN (m.id << 32) AND (m.id << 32) + m.last_trade
    WHERE m.grade_id = %(grade)s AND m.last_trade > 0 AND m.gate_closes_at >= %(since)s AND m.call_opens_at < %(until)s
        AND t.occurred_at >= %(since)s AND t.occurred_at < %(until)s
"""
_AUCTIONS = f"""
    SELECT m.id, min(t.occurred_at), count(DISTINCT t.buyer_id), sum(t.quantity_tokens)::bigint,
        sum(t.quantity_tokens::numeric * t.price_nano), min(t.price_nano), max(t.price_nano)
    {_TRADES} AND t.aggressor = 0 GROUP BY m.id, t.sequence ORDER BY min(t.occurred_at) DESC, m.id LIMIT %(most)s
"""
_HOURS = f"""
    WITH bought AS (
        SELECT m.id AS market, date_trunc('hour', t.occurred_at) AS hour, t.buyer_id,
            sum(t.quantity_tokens)::bigint AS tokens, sum(t.quantity_tokens::numeric * t.price_nano) AS amount,
            min(t.price_nano) AS lowest, max(t.price_nano) AS highest
        {_TRADES} AND t.aggressor IN (1, 2) GROUP BY 1, 2, 3
    ), hours AS (
        SELECT market, hour, count(*) AS buyers, sum(tokens)::bigint AS tokens, sum(amount) AS amount,
            min(lowest) AS lowest, max(highest) AS highest
        FROM bought GROUP BY 1, 2
    )
    SELECT h.market, h.hour, h.buyers, h.tokens, h.amount, h.lowest, h.highest,
        array_agg(round((b.amount / b.tokens) / (h.amount / h.tokens) * 1000)::int ORDER BY b.amount / b.tokens)
    FROM hours h JOIN bought b USING (market, hour)
    GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY h.hour DESC, h.market LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class Paid:
    """
    What buyers paid in one auction, or in one market and hour of continuous trading; prices in nano-yuan a token.

    `buyers_thousandths` is what each buyer paid on average against all of them together (1,000: the same), in order
    and without names; empty in an auction and where there are too few.
    """

    kind: str
    market_id: int
    at: datetime
    buyers: int
    tokens: int
    average_nano: int
    lowest_nano: int
    highest_nano: int
    buyers_thousandths: tuple[int, ...] = ()

    @property
    def is_one_price(self) -> bool:
        """Whether all paid the same."""
        return self.lowest_nano == self.highest_nano


def auctions_paid(grade_id: int, *, since: datetime, until: datetime, most: int = 500) -> list[Paid]:
    """Return what was paid in each auction of a grade, the latest first."""
    return [
        Paid("auction", market, at, buyers, tokens, round_half_up(int(amount), tokens), lowest, highest)
        for market, at, buyers, tokens, amount, lowest, highest in _rows(_AUCTIONS, grade_id, since, until, most)
    ]


def hours_paid(grade_id: int, *, since: datetime, until: datetime, most: int = 500) -> list[Paid]:
    """Return what was paid in each market and hour of continuous trading, the latest first."""
    return [
        Paid(
            "continuous", market, hour, buyers, tokens, round_half_up(int(amount), tokens), lowest, highest,
            tuple(each) if buyers >= LEAST_BUYERS else (),
        )
        for market, hour, buyers, tokens, amount, lowest, highest, each in _rows(_HOURS, grade_id, since, until, most)
    ]  # fmt: skip


def distribution(values: Iterable[int], shares: Iterable[int] = (0, 100, 500, 900, 1_000)) -> list[int]:
    """Return the values at shares of the whole in thousandths (500: the median), each one that occurs."""
    ordered = sorted(values)
    return [ordered[min(len(ordered) - 1, share * len(ordered) // 1_000)] for share in shares] if ordered else []


def export_rows(paid: Iterable[Paid]) -> Iterator[dict[str, Any]]:
    """Yield the report's rows for a table; prices stay in nano-yuan a token."""
    for row in paid:
        spread = row.buyers_thousandths
        yield {
            "kind": row.kind, "market": row.market_id, "at": row.at, "buyers": row.buyers,
            "standard_tokens": row.tokens, "average_price_nano": row.average_nano, "lowest_price_nano": row.lowest_nano,
            "highest_price_nano": row.highest_nano, "one_price": row.is_one_price,
            "cheapest_buyer_thousandths": spread[0] if spread else None,
            "dearest_buyer_thousandths": spread[-1] if spread else None,
        }  # fmt: skip


def _rows(sql: str, grade_id: int, since: datetime, until: datetime, most: int) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"grade": grade_id, "since": since, "until": until, "most": most})
        return list(cursor.fetchall())
