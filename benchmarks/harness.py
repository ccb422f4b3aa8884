"""
What every benchmark shares: interleaved repeats, medians, the machine in a line, how cost grows, figures as JSON.

A claim here is a *ratio* of two things timed in the same run on the same machine, because only ratios travel. The
repeats of all cases are interleaved (a b c, a b c, …) so that a noisy neighbour slows each of them alike, and the
median is taken. A benchmark reads like this::

    def main() -> None:
        print(environment())
        timings = interleave({"sort": lambda: np.sort(prices), "clear": Case(run=clear, prepare=fresh_book)}, repeats=9)
        print(timings.table("one million orders"))
        report({"clear_1m_vs_sort": timings.ratio("sort", "clear")})

    if __name__ == "__main__":
        main()

It is run by `python -m benchmarks.NAME`; its last line is one JSON object of figures.
"""

import gc
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One thing to time. `prepare` runs before each repeat, untimed; what it returns is handed to `run`."""

    run: Callable[..., Any]
    prepare: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Timings:
    """Seconds of each repeat, by case, in the order they ran."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return the median seconds of one case."""
        return statistics.median(self.seconds[name])

    def ratio(self, over: str, under: str) -> float:
        """Return median of `over` ÷ median of `under`: how many times as long the first takes."""
        return self.median(over) / self.median(under)

    def rate(self, name: str, count: int) -> float:
        """Return how many a second, when one repeat handles `count` of them."""
        return count / self.median(name)

    def table(self, title: str) -> str:
        """Return median, fastest and slowest milliseconds of each case as text."""
        rows = [(name, *(f"{1e3 * s:,.2f}" for s in (statistics.median(all_), min(all_), max(all_))), len(all_))
                for name, all_ in self.seconds.items()]
        return table(title, ("case", "median ms", "fastest", "slowest", "repeats"), rows)


def interleave(cases: Mapping[str, Case | Callable[[], Any]], *, repeats: int, warmups: int = 1) -> Timings:
    """Time each case `repeats` times, interleaved, after untimed warm-ups. The collector of garbage rests meanwhile."""
    timings = Timings({name: [] for name in cases})
    for round_ in range(-warmups, repeats):
        for name, given in cases.items():
            case = given if isinstance(given, Case) else Case(run=given)
            arguments = () if case.prepare is None else (case.prepare(),)
            gc.collect()
            gc.disable()
            try:
                start = time.perf_counter()
                case.run(*arguments)
                elapsed = time.perf_counter() - start
            finally:
                gc.enable()
            if round_ >= 0:
                timings.seconds[name].append(elapsed)
    return timings


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as aligned text under a title; the first column to the left, the others to the right."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w)
                      for i, (cell, w) in enumerate(zip(line, widths, strict=True))).rstrip() for line in lines]
    return "\n".join(["", title, text[0], "-" * len(text[0]), *text[1:]])


def scaling(title: str, cases: Mapping[int, Case | Callable[[], Any]], *, repeats: int, unit: str = "order") -> str:
    """
    Return how cost grows with size as a table: milliseconds, nanoseconds a unit, and the exponent from the row above
    (1.0 is linear; above, worse than linear, is to be explained by the benchmark).
    """
    timings = interleave({str(size): case for size, case in cases.items()}, repeats=repeats)
    rows, before = [], None
    for size in cases:
        seconds = timings.median(str(size))
        exponent = "" if before is None else f"{math.log(seconds / before[1]) / math.log(size / before[0]):.2f}"
        rows.append((f"{size:,}", f"{1e3 * seconds:,.3f}", f"{1e9 * seconds / size:,.1f}", exponent))
        before = size, seconds
    return table(title, (f"{unit}s", "median ms", f"ns/{unit}", "exponent"), rows)


def environment() -> str:
    """Return one line on where the figures come from: interpreter, numpy, processors and how busy they are."""
    import numpy

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (f"Python {platform.python_version()} · numpy {numpy.__version__} · {platform.system()} "
            f"{platform.machine()} · {os.cpu_count()} processors · load {load:.1f}")


def report(figures: Mapping[str, float | int | str | None]) -> None:
    """Print the figures as the last line, one JSON object; floats to four significant digits."""
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in figures.items()}
    print(json.dumps(rounded, ensure_ascii=False))
    sys.stdout.flush()
