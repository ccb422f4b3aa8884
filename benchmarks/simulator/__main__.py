"""
Simulate a market and compare its flow with real ones: `python -m benchmarks.simulator [seconds] [seed]`.

Prints a table of stylised facts, measured against expected, and writes it with plots to build/simulator. The last line
is one JSON object. Exits 1 where a fact does not hold.
"""

import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import environment, report, table
from benchmarks.simulator.agents import Recorded, Setting, simulate
from benchmarks.simulator.measures import Fact, autocorrelation, excess_kurtosis, facts, returns_of
from benchmarks.simulator.report import Line, plot

TARGET = Path(__file__).resolve().parents[2] / "build" / "simulator"
LAGS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)


def pictures(seen: Recorded) -> dict[str, str]:
    """Return a plot for each kind of fact, by file name."""
    returns = returns_of(seen)
    scaled = (returns - returns.mean()) / returns.std()
    density, edges = np.histogram(scaled, bins=np.arange(-10, 10.5, 0.5), density=True)
    middle = (edges[:-1] + edges[1:]) / 2
    near = middle[np.abs(middle) < 4]
    waits = np.sort(np.diff(seen.taker_times))
    waits = waits[:: max(1, len(waits) // 200)]
    survival = 1 - np.arange(len(waits)) / len(waits)
    minutes = [n / 60 for n in range(0, len(seen.middles), 10)]
    distances = [n for n, lots in enumerate(seen.depth_by_distance) if lots]
    most = max(seen.depth_by_distance)
    return {
        "price.svg": plot("Middle price", [Line("ticks", minutes, seen.middles[::10])], x="minutes", y="ticks"),
        "returns.svg": plot(
            "Returns over 5 s: density",
            [Line("simulated", middle, density),
             Line("normal", near, np.exp(-(near**2) / 2) / np.sqrt(2 * np.pi), dashed=True)],
            x="standard deviations", y="density", log_y=True,
        ),
        "memory.svg": plot(
            "Autocorrelation of returns and of their size",
            [Line("|r|", LAGS, autocorrelation(np.abs(returns), LAGS)),
             Line("r", LAGS, autocorrelation(returns, LAGS))],
            x="lag (5 s)", y="autocorrelation", log_x=True,
        ),
        "arrivals.svg": plot(
            "Waits between takers: share that is longer",
            [Line("simulated", waits, survival),
             Line("Poisson", waits, np.exp(-waits / np.diff(seen.taker_times).mean()), dashed=True)],
            x="seconds", y="share", log_x=True, log_y=True,
        ),
        "signs.svg": plot(
            "Autocorrelation of order signs", [Line("simulated", LAGS, autocorrelation(seen.signs, LAGS))],
            x="lag (takers)", y="autocorrelation", log_x=True, log_y=True,
        ),
        "depth.svg": plot(
            "Mean depth behind the best bid",
            [Line("simulated", distances, [seen.depth_by_distance[n] / most for n in distances])],
            x="ticks", y="share of the largest",
        ),
    }  # fmt: skip


def rows(found: list[Fact]) -> list[tuple[str, str, str, str, str]]:
    return [(f.name, f"{f.measured:.3f}", f.expected, "holds" if f.holds else "MISSED", f.source) for f in found]


def markdown(seen: Recorded, found: list[Fact], files: list[str], setting: Setting, seed: int) -> str:
    """Return the report."""
    spreads = np.array(seen.spreads)
    lines = [
        "# A simulated market against what is known of real ones", "",
        f"{setting.seconds:,.0f} s, seed {seed}: {seen.messages:,} messages, {len(seen.signs):,} takers,"
        f" {seen.trades:,} trades; spread {np.median(spreads):.0f} ticks in the median,"
        f" {np.quantile(spreads, 0.99):.0f} at the 99th percentile.", "",
        "| fact | measured | expected | | known from |", "|---|---:|---:|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(found)), "",
        "| return over | excess kurtosis |", "|---:|---:|",
        *(f"| {n} s | {excess_kurtosis(returns_of(seen, n)):.2f} |" for n in (1, 5, 30, 60, 300)), "",
        *(f"![{name.removesuffix('.svg')}]({name})\n" for name in files),
    ]  # fmt: skip
    return "\n".join(lines)


def main(seconds: float = Setting.seconds, seed: int = 20261122) -> int:
    print(environment())
    setting = Setting(seconds=float(seconds))
    started = time.perf_counter()
    seen = simulate(setting, int(seed))
    took = time.perf_counter() - started
    found = facts(seen)
    TARGET.mkdir(parents=True, exist_ok=True)
    drawn = pictures(seen)
    for name, text in drawn.items():
        (TARGET / name).write_text(text)
    (TARGET / "README.md").write_text(markdown(seen, found, list(drawn), setting, int(seed)))
    print(table("Stylised facts", ("fact", "measured", "expected", "", "known from"), rows(found)))
    print(f"\n{seen.messages:,} messages in {took:.1f} s; the report with plots is in {TARGET}")
    report({fact.name: fact.measured for fact in found} | {"hold": sum(f.holds for f in found), "facts": len(found)})
    return 0 if all(fact.holds for fact in found) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))  # type: ignore[arg-type]
