"""Coordinates of the candle chart: prices above on a true axis, volume below, drawn by a template as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.money import format_price_per_million
from exchange.charts import AxisMark, round_step
from exchange.domain.candles import Candle

WIDTH, HEIGHT = 900, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 880, 12, 200
VOLUME_TOP, VOLUME_BOTTOM = 216, 264
MOST_CANDLES = 80
INTERVALS = tuple(
    timedelta(seconds=seconds) for seconds in (1, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
)


@dataclass(frozen=True, slots=True)
class CandleShape:
    """Where a candle stands: its wick from `high` to `low`, its body from `top` on, its volume's bar."""

    x: float
    left: float
    width: float
    high: float
    low: float
    top: float
    height: float
    volume_top: float
    volume_height: float
    direction: str


@dataclass(frozen=True, slots=True)
class CandleChart:
    """What the template draws."""

    candles: list[CandleShape]
    price_marks: list[AxisMark]
    time_marks: list[tuple[float, datetime]]


def interval_for(span: timedelta) -> timedelta:
    """Return the shortest interval of which the span has no more than a chart shows well."""
    return next((one for one in INTERVALS if span <= one * MOST_CANDLES), INTERVALS[-1])


def candle_chart(candles: Sequence[Candle]) -> CandleChart | None:
    """Return what the template draws; None without candles."""
    if not candles:
        return None
    low, high = min(one.low for one in candles), max(one.high for one in candles)
    margin = max(1, (high - low) // 12, high // 200)
    low, high = max(0, low - margin), high + margin
    most = max(one.volume for one in candles) or 1
    step = (RIGHT - LEFT) / max(len(candles), 12)
    width = round(max(1.0, step * 0.66), 1)

    def y(price: int) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (price - low) / (high - low), 1)

    shapes = []
    for place, one in enumerate(candles):
        x = round(LEFT + step * (place + 0.5), 1)
        top, bottom = y(max(one.open, one.close)), y(min(one.open, one.close))
        bar = round((VOLUME_BOTTOM - VOLUME_TOP) * one.volume / most, 1)
        direction = "up" if one.close > one.open else "down" if one.close < one.open else "flat"
        shapes.append(
            CandleShape(
                x=x, left=round(x - width / 2, 1), width=width, high=y(one.high), low=y(one.low), top=top,
                height=max(1.0, round(bottom - top, 1)), volume_top=VOLUME_BOTTOM - bar, volume_height=bar,
                direction=direction,
            )
        )  # fmt: skip
    price_step = round_step(high - low, 4)
    first = -(-low // price_step) * price_step
    every = max(1, len(candles) // 5)
    return CandleChart(
        candles=shapes,
        price_marks=[AxisMark(y(at), format_price_per_million(at)) for at in range(first, high + 1, price_step)],
        time_marks=[(shapes[place].x, candles[place].start) for place in range(0, len(candles), every)],
    )
