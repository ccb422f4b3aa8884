"""The candle chart's coordinates, and the interval that a chart of a market's life takes."""

from datetime import UTC, datetime, timedelta

import pytest

from exchange.candle_chart import BOTTOM, MOST_CANDLES, TOP, VOLUME_BOTTOM, VOLUME_TOP, candle_chart, interval_for
from exchange.domain.candles import Candle

START = datetime(2026, 11, 20, 4, tzinfo=UTC)


def candle(minute, open_, high, low, close, volume):
    return Candle(START + timedelta(minutes=minute), open_, high, low, close, volume, 0, 1)


@pytest.mark.parametrize(
    ("span", "interval"),
    [(timedelta(seconds=1), 1), (timedelta(seconds=80), 1), (timedelta(seconds=81), 5), (timedelta(hours=9), 900),
     (timedelta(days=400), 86_400)],
)  # fmt: skip
def test_the_interval_shows_a_span_in_few_candles(span, interval):
    assert interval_for(span) == timedelta(seconds=interval)
    assert span / interval_for(span) <= MOST_CANDLES or interval == 86_400


def test_a_rise_stands_above_a_fall_and_nothing_leaves_the_axes():
    chart = candle_chart([candle(0, 1_000, 1_500, 900, 1_400, 5_000), candle(1, 1_400, 1_400, 700, 800, 10_000)])
    rise, fall = chart.candles
    assert (rise.direction, fall.direction) == ("up", "down")
    assert rise.high < fall.high < rise.low < fall.low  # y grows downwards
    assert all(TOP <= y <= BOTTOM for one in chart.candles for y in (one.high, one.low, one.top, one.top + one.height))
    assert fall.volume_height == VOLUME_BOTTOM - VOLUME_TOP == 2 * rise.volume_height
    assert chart.price_marks and all(TOP <= mark.at <= BOTTOM for mark in chart.price_marks)


def test_one_price_is_drawn_too():
    chart = candle_chart([candle(0, 1, 1, 1, 1, 0)])
    assert chart.candles[0].direction == "flat" and chart.candles[0].height == 1.0
    assert candle_chart([]) is None
