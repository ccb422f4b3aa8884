"""
Coordinates of the usage chart: a bar for each hour or day of a span, stacked by what usage is grouped by.

The largest four groups have a colour each, what is left has the fifth; a template draws it as SVG.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.money import MICRO_PER_TOKEN
from exchange.charts import AxisMark, Units, quantity_axis

LEFT, RIGHT, TOP, BOTTOM = 64, 880, 24, 240
MOST_NAMED = 4
MOST_TIME_MARKS = 8
REST = object()  # stands for the groups without a colour of their own


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a bar: which series it belongs to, from where on and how high."""

    series: int
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """An hour or day: where its bar stands, its pieces, and what it says in figures (micro standard tokens)."""

    left: float
    width: float
    pieces: list[Piece]
    label: str
    values_micro_st: list[int]
    total_micro_st: int


@dataclass(frozen=True, slots=True)
class UsageChart:
    """What the template draws; `series` are the names of the colours, the largest first."""

    series: list[str]
    bars: list[Bar]
    quantity_marks: list[AxisMark]
    time_marks: list[AxisMark]
    unit_label: str


def usage_chart(
    used: Iterable[tuple[datetime, Any, int]],
    *,
    times: Sequence[tuple[datetime, str]],
    name: Callable[[Any], str],
    rest: str,
    units: Units,
) -> UsageChart | None:
    """
    Return what the template draws; None where less than a standard token was used.

    :param used: (time, group, micro standard tokens), each time one of `times`.
    :param times: every hour or day of the span with its label, the first one first.
    :param name: how a group is called; `rest` is how those without a colour are called together.
    """
    by_time: defaultdict[datetime, defaultdict[Any, int]] = defaultdict(lambda: defaultdict(int))
    by_group: defaultdict[Any, int] = defaultdict(int)
    for at, group, work in used:
        by_time[at][group] += work
        by_group[group] += work
    most = max((sum(groups.values()) for groups in by_time.values()), default=0) // MICRO_PER_TOKEN
    if most == 0:
        return None
    largest = sorted((group for group, work in by_group.items() if work), key=lambda group: -by_group[group])
    if len(largest) > MOST_NAMED + 1:
        largest = [*largest[:MOST_NAMED], REST]
    axis = quantity_axis(most, units=units)
    step = (RIGHT - LEFT) / len(times)
    width = round(min(step * 0.7, 48), 1)
    bars = []
    for place, (at, label) in enumerate(times):
        values = [_of(by_time[at], group, largest) for group in largest]
        centre = LEFT + step * (place + 0.5)
        bars.append(
            Bar(round(centre - width / 2, 1), width, _pieces(values, axis.top), label, values, sum(values))
        )
    every = -(-len(times) // MOST_TIME_MARKS)
    return UsageChart(
        series=[rest if group is REST else name(group) for group in largest],
        bars=bars,
        quantity_marks=[AxisMark(_height(quantity * MICRO_PER_TOKEN, axis.top), text) for quantity, text in axis.marks],
        time_marks=[
            AxisMark(round(LEFT + step * (place + 0.5), 1), times[place][1]) for place in range(0, len(times), every)
        ],
        unit_label=axis.unit_label,
    )


def _of(groups: dict[Any, int], group: Any, largest: Sequence[Any]) -> int:
    if group is not REST:
        return groups.get(group, 0)
    return sum(work for one, work in groups.items() if one not in largest)


def _height(work_micro_st: int, top_tokens: int) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * work_micro_st / (top_tokens * MICRO_PER_TOKEN), 1)


def _pieces(values: Sequence[int], top_tokens: int) -> list[Piece]:
    pieces, below = [], 0
    for series, value in enumerate(values):
        low, high = _height(below, top_tokens), _height(below + value, top_tokens)
        if value:
            pieces.append(Piece(series, high, round(max(low - high, 0.5), 1)))
        below += value
    return pieces
