"""Candles of a market, summed by the database."""

from bisect import bisect_left
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from exchange.candle_chart import MOST_CANDLES, interval_for
from exchange.domain.candles import ORIGIN, Candle, floor, without_holes
from exchange.domain.numbering import entry_id
from exchange.models import Market, Trade
from exchange.order_queries import standing_trades
from exchange.queries import STANDS

MOST_TRADES = 20_000  # that a page sums up
_TRADED = f"""
SELECT date_bin(%s, occurred_at, %s), (array_agg(price_nano ORDER BY id))[1], max(price_nano), min(price_nano),
       (array_agg(price_nano ORDER BY id DESC))[1], sum(quantity_tokens)::bigint,
       sum(quantity_tokens::numeric * price_nano), count(*)
FROM exchange_trade t
WHERE id BETWEEN %s AND %s AND occurred_at >= %s AND occurred_at < %s AND {STANDS}
GROUP BY 1 ORDER BY 1
"""


def candles(market: Market, *, interval: timedelta, since: datetime, until: datetime) -> list[Candle]:
    """
    Return the candles that begin in [since, until), by time. Empty intervals are flat at the price before; there is
    none before the market's first trade.
    """
    since, until = floor(since, interval), floor(until - timedelta(microseconds=1), interval) + interval
    first = first_trade_since(market, since)
    last = entry_id(market.pk, market.last_trade)
    with connection.cursor() as cursor:
        values: list[Any] = [interval, ORIGIN, entry_id(market.pk, first), last, since, until]
        cursor.execute(_TRADED, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    traded = [
        Candle(begin, open_, high, low, close, tokens, int(amount), trades)
        for begin, open_, high, low, close, tokens, amount, trades in rows
    ]
    before = None
    if first > 1:
        earlier = standing_trades(market.pk).filter(pk__lt=entry_id(market.pk, first)).order_by("-pk")
        before = earlier.values_list("price_nano", flat=True).first()
    return list(without_holes(traded, interval=interval, since=since, until=until, close=before))


def of_whole_life(market: Market, *, now: datetime) -> tuple[list[Candle], timedelta]:
    """Return as many candles as a chart shows well, of a market's trading or its latest trades; and their interval."""
    since, until = market.call_opens_at, min(now, market.gate_closes_at) + timedelta(microseconds=1)
    if market.last_trade > MOST_TRADES:
        latest = Trade.objects.values_list("occurred_at", flat=True)
        since = latest.get(pk=entry_id(market.pk, market.last_trade - MOST_TRADES))
    interval = interval_for(max(until - since, timedelta(seconds=1)))
    found = candles(market, interval=interval, since=since, until=max(until, since + interval))
    return found[-MOST_CANDLES:], interval


def first_trade_since(market: Market, moment: datetime) -> int:
    """Return the number of the first trade at or after a moment; one more than the last if there is none."""
    if moment <= market.call_opens_at:
        return 1

    def at(number: int) -> datetime:
        return Trade.objects.values_list("occurred_at", flat=True).get(pk=entry_id(market.pk, number))

    # A market's trades are numbered in time, so a few looks by key find it, however many there are.
    return 1 + bisect_left(range(1, market.last_trade + 1), moment, key=at)
