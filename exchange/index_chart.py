"""Coordinates of the index chart: a value a day on a true price axis; days without a value leave a gap."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from core.money import format_price_per_million
from exchange.charts import AxisMark, round_step

LEFT, RIGHT, TOP, BOTTOM = 64, 880, 16, 220


@dataclass(frozen=True, slots=True)
class IndexChart:
    """What the template draws: pieces of line, points, and marks of both axes."""

    paths: list[str]
    points: list[tuple[float, float]]
    price_marks: list[AxisMark]
    day_marks: list[tuple[float, date]]


def index_chart(values: Sequence[tuple[date, int | None]]) -> IndexChart | None:
    """Return what the template draws of (day, nano-yuan or none), the first day first; None without two values."""
    known = [price for _, price in values if price is not None]
    if len(known) < 2:
        return None
    first, last = values[0][0], values[-1][0]
    days = max(1, (last - first).days)
    margin = max(1, (max(known) - min(known)) // 10, max(known) // 100)
    low, high = max(0, min(known) - margin), max(known) + margin

    def x(day: date) -> float:
        return round(LEFT + (RIGHT - LEFT) * (day - first).days / days, 1)

    def y(price: int) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * (price - low) / (high - low), 1)

    paths: list[str] = []
    points: list[tuple[float, float]] = []
    drawing = False
    for day, price in values:
        if price is None:
            drawing = False
            continue
        at = (x(day), y(price))
        points.append(at)
        if drawing:
            paths[-1] += f"L{at[0]} {at[1]}"
        else:
            paths.append(f"M{at[0]} {at[1]}")
        drawing = True
    step = round_step(high - low, 4)
    begin = -(-low // step) * step
    every = max(1, len(values) // 6)
    return IndexChart(
        paths=paths,
        points=points,
        price_marks=[AxisMark(y(at), format_price_per_million(at)) for at in range(begin, high + 1, step)],
        day_marks=[(x(day), day) for day, _ in values[::every]],
    )
