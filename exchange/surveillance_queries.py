"""
What the operator should look at in a market whose gate has closed, by three rules, from journal and trades alone.

- *Late withdrawal*: a member took back, in the last tenth of a call, orders of at least a twentieth of what was bought
  or sold in its auction (what was there, if nothing traded).
- *Matched counterparties*: in the last seven days a buyer and a seller have traded with each other in three markets of
  a grade or more, and in each that was at least half of what either of them traded.
- *Around the index window*: the index of a day ends at midnight in Shanghai. A member made, in the ten minutes before,
  at least half of the grade's volume of those minutes, at a price that lies 3% or more from the day's average before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from core.periods import shanghai_date
from exchange.domain.numbering import id_range
from exchange.models import Market
from exchange.queries import STANDS

LATE_SHARE, LATE_VOLUME_SHARE = 10, 20
MATCHED_MARKETS, MATCHED_DAYS = 3, timedelta(days=7)
INDEX_MINUTES, INDEX_DISTANCE_THOUSANDTHS = timedelta(minutes=10), 30


@dataclass(frozen=True, slots=True)
class Found:
    """One finding: the rule, whom it is about, and its figures."""

    rule: str
    organization_id: int
    counterparty_id: int | None
    figures: dict[str, Any]


def findings_of(market: Market) -> Iterator[Found]:
    """Yield what all rules find in a market."""
    yield from late_withdrawals(market)
    yield from matched_counterparties(market)
    yield from around_the_index_window(market)


_LATE = """
SELECT o.organization_id, o.side, sum(o.quantity_tokens)::bigint, count(*), max(j.occurred_at)
FROM exchange_journalentry j
JOIN exchange_command c ON c.id = j.command_id AND c.kind = 10
JOIN exchange_command o ON o.id = c.target
WHERE j.id BETWEEN %(first)s AND %(last)s AND j.kind = 10 AND j.outcome = 0
  AND j.occurred_at >= %(since)s AND j.occurred_at < %(until)s
GROUP BY 1, 2 HAVING sum(o.quantity_tokens) >= %(least)s
"""


def late_withdrawals(market: Market) -> Iterator[Found]:
    """Yield members who took back much just before an auction."""
    first, last = id_range(market.pk)
    opened = market.call_opens_at
    for auction in market.auctions.order_by("sequence"):
        late = max((auction.cleared_at - opened) / LATE_SHARE, timedelta(seconds=1))
        volume = auction.volume_tokens or max(auction.offered_tokens, auction.wanted_tokens)
        least = -(-volume // LATE_VOLUME_SHARE)
        rows = _rows(_LATE, first=first, last=last, since=auction.cleared_at - late, until=auction.cleared_at,
                     least=max(least, 1))  # fmt: skip
        for member, side, tokens, count, at in rows:
            figures = {
                "auction": auction.pk, "side": "sell" if side else "buy", "withdrawn_tokens": tokens, "orders": count,
                "last_at": at.isoformat(), "cleared_at": auction.cleared_at.isoformat(), "auction_tokens": volume,
            }  # fmt: skip
            yield Found("late_withdrawal", member, None, figures)
        opened = auction.cleared_at


_MATCHED = f"""
WITH traded AS (
    SELECT m.id AS market_id, t.buyer_id, t.seller_id, sum(t.quantity_tokens) AS tokens
    FROM exchange_market m JOIN exchange_trade t ON t.id BETWEEN (m.id << 32) AND (m.id << 32) + m.last_trade
    WHERE m.grade_id = %(grade)s AND m.last_trade > 0
      AND m.gate_closes_at > %(since)s AND m.gate_closes_at <= %(until)s
      AND {STANDS}
    GROUP BY 1, 2, 3
), bought AS (SELECT market_id, buyer_id, sum(tokens) AS tokens FROM traded GROUP BY 1, 2
), sold AS (SELECT market_id, seller_id, sum(tokens) AS tokens FROM traded GROUP BY 1, 2
), matched AS (
    SELECT t.* FROM traded t JOIN bought b USING (market_id, buyer_id) JOIN sold s USING (market_id, seller_id)
    WHERE 2 * t.tokens >= b.tokens AND 2 * t.tokens >= s.tokens
)
SELECT buyer_id, seller_id, count(*), sum(tokens)::bigint FROM matched GROUP BY 1, 2
HAVING count(*) >= %(markets)s AND bool_or(market_id = %(market)s)
"""


def matched_counterparties(market: Market) -> Iterator[Found]:
    """Yield pairs that keep finding each other."""
    rows = _rows(
        _MATCHED, grade=market.grade_id, market=market.pk, since=market.gate_closes_at - MATCHED_DAYS,
        until=market.gate_closes_at, markets=MATCHED_MARKETS,
    )  # fmt: skip
    for buyer, seller, markets, tokens in rows:
        figures = {"markets": markets, "days": MATCHED_DAYS.days, "tokens": tokens}
        yield Found("matched_counterparties", buyer, seller, figures)


_INDEX = """
WITH day AS (
    SELECT t.*, t.occurred_at >= %(window)s AS late
    FROM exchange_market m JOIN exchange_trade t ON t.id BETWEEN (m.id << 32) AND (m.id << 32) + m.last_trade
    WHERE m.grade_id = %(grade)s AND m.last_trade > 0 AND t.aggressor <> 3 AND m.gate_closes_at >= %(start)s
      AND t.occurred_at >= %(start)s AND t.occurred_at < %(end)s
), before AS (
    SELECT sum(quantity_tokens::numeric * price_nano) / sum(quantity_tokens) AS price FROM day WHERE NOT late
), late AS (SELECT * FROM day WHERE late
), total AS (SELECT sum(quantity_tokens) AS tokens FROM late
), member AS (
    SELECT id, sum(tokens) AS tokens, sum(amount) / sum(tokens) AS price, bool_or(here) AS here FROM (
        SELECT buyer_id AS id, quantity_tokens AS tokens, quantity_tokens::numeric * price_nano AS amount,
               id >> 32 = %(market)s AS here FROM late
        UNION ALL
        SELECT seller_id, quantity_tokens, quantity_tokens::numeric * price_nano, id >> 32 = %(market)s FROM late
    ) AS sides GROUP BY 1
)
SELECT member.id, member.tokens::bigint, total.tokens::bigint, round(member.price)::bigint, round(before.price)::bigint
FROM member, total, before
WHERE member.here AND 2 * member.tokens >= total.tokens
  AND abs(member.price - before.price) * 1000 >= before.price * %(distance)s
"""


def around_the_index_window(market: Market) -> Iterator[Found]:
    """Yield members whose trades at the end of the index's day lie far from the rest of it."""
    days = {shanghai_date(at) for at in (market.call_opens_at, market.gate_closes_at)}
    for day in sorted(days):
        start = datetime.fromisoformat(f"{day.isoformat()}T00:00:00+08:00")
        end = start + timedelta(days=1)
        rows = _rows(
            _INDEX, grade=market.grade_id, market=market.pk, start=start, end=end, window=end - INDEX_MINUTES,
            distance=INDEX_DISTANCE_THOUSANDTHS,
        )  # fmt: skip
        for member, tokens, total, price_nano, before_nano in rows:
            figures = {
                "day": day.isoformat(), "tokens": tokens, "of_tokens": total, "price_nano": price_nano,
                "before_nano": before_nano,
            }  # fmt: skip
            yield Found("index_window", member, None, figures)


def _rows(sql: str, **params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
