"""Candles: trading by intervals of time, without holes."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

INTERVALS = {
    "1s": timedelta(seconds=1),
    "5s": timedelta(seconds=5),
    "15s": timedelta(seconds=15),
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}
ORIGIN = datetime(1999, 12, 31, 16, 0, tzinfo=UTC)
"""Midnight in Shanghai: days begin there, and every shorter interval with them."""


class Candle(NamedTuple):
    """One interval: prices in nano-yuan, volume in tokens, amount in nano-yuan × tokens."""

    start: datetime
    open: int
    high: int
    low: int
    close: int
    volume: int
    amount: int
    trades: int


def floor(moment: datetime, interval: timedelta) -> datetime:
    """Return the beginning of the interval that holds a moment."""
    return moment - (moment - ORIGIN) % interval


def without_holes(
    traded: Iterable[Candle], *, interval: timedelta, since: datetime, until: datetime, close: int | None
) -> Iterator[Candle]:
    """
    Yield a candle for each interval from `since` to `until` (exclusive): those that traded, and flat ones between.

    :param close: the last price before `since`; without one, nothing comes before the first trade.
    """
    start = since
    for candle in traded:
        yield from _flat(start, candle.start, interval, close)
        yield candle
        start, close = candle.start + interval, candle.close
    yield from _flat(start, until, interval, close)


def _flat(start: datetime, until: datetime, interval: timedelta, close: int | None) -> Iterator[Candle]:
    while close is not None and start < until:
        yield Candle(start, close, close, close, close, 0, 0, 0)
        start += interval
