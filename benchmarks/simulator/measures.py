"""What is known of real order books as numbers, and those of a simulated one beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean as mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulator.agents import Recorded

Floats = NDArray[np.float64]
HORIZON_SAMPLES = 5  # seconds of a return, at a sample a second


@dataclass(frozen=True, slots=True)
class Fact:
    """A stylised fact: what was measured, what is expected (`least` to `most`), and where that is known from."""

    name: str
    measured: float
    least: float
    most: float
    source: str

    @property
    def holds(self) -> bool:
        return self.least <= self.measured <= self.most

    @property
    def expected(self) -> str:
        if math.isinf(self.most):
            return f"> {self.least:g}"
        return f"{self.least:g} … {self.most:g}" if not math.isinf(self.least) else f"< {self.most:g}"


def returns_of(seen: Recorded, samples: int = HORIZON_SAMPLES) -> Floats:
    """Return log returns of the middle price over so many samples, without the first minutes."""
    middles = np.array(seen.middles[300::samples])
    return np.diff(np.log(middles))


def excess_kurtosis(values: Floats) -> float:
    """Return the fourth standardised moment less the normal distribution's 3."""
    centred = values - values.mean()
    return float((centred**4).mean() / (centred**2).mean() ** 2 - 3)


def autocorrelation(values: Sequence[float] | Floats, lags: Sequence[int]) -> list[float]:
    """Return the autocorrelation at each lag."""
    centred = np.asarray(values, float) - np.mean(values)
    variance = float((centred**2).mean())
    return [float((centred[:-lag] * centred[lag:]).mean() / variance) for lag in lags]


def fano(times: Sequence[float], seconds: float) -> float:
    """Return variance ÷ mean of the number of arrivals in intervals; 1 for arrivals that know nothing of each other."""
    counts = np.bincount((np.asarray(times) / seconds).astype(np.int64))
    return float(counts.var() / counts.mean())


def variation(times: Sequence[float]) -> float:
    """Return the coefficient of variation of the waits between arrivals; 1 for a Poisson process."""
    waits = np.diff(times)
    return float(waits.std() / waits.mean())


def slope(lags: Sequence[int], values: Sequence[float]) -> float:
    """Return the exponent of a power law through the values that are above zero."""
    points = [(math.log(lag), math.log(value)) for lag, value in zip(lags, values, strict=True) if value > 0]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 2 else math.nan


def facts(seen: Recorded) -> list[Fact]:
    """Return the stylised facts of a flow."""
    returns, none = returns_of(seen), math.inf
    size = np.abs(returns)
    signs = autocorrelation(seen.signs, (1, 10, 50))
    lags = (1, 2, 4, 8, 16, 32, 64)
    cont, farmer, hawkes = "Cont 2001", "Lillo and Farmer 2004", "Bacry, Mastromatteo and Muzy 2015"
    return [
        Fact("excess kurtosis of returns (5 s)", excess_kurtosis(returns), 3, none, cont),
        Fact("the same over 60 s: less", excess_kurtosis(returns_of(seen, 60)), -none, excess_kurtosis(returns), cont),
        Fact("|r| autocorrelation, lag 1", autocorrelation(size, (1,))[0], 0.1, none, cont),
        Fact("|r| autocorrelation, mean of lags 1–10", mean(autocorrelation(size, range(1, 11))), 0.05, none, cont),
        Fact("r autocorrelation, lag 2, absolute", abs(autocorrelation(returns, (2,))[0]), -none, 0.15, cont),
        Fact("variation of waits between takers", variation(seen.taker_times), 1.3, none, hawkes),
        Fact("variance ÷ mean of takers in 10 s", fano(seen.taker_times, 10), 3, none, hawkes),
        Fact("order sign autocorrelation, lag 1", signs[0], 0.1, none, farmer),
        Fact("order sign autocorrelation, lag 10", signs[1], 0.05, none, farmer),
        Fact("order sign autocorrelation, lag 50", signs[2], 0.01, none, farmer),
        Fact("its decay: exponent", slope(lags, autocorrelation(seen.signs, lags)), -1.0, -0.1, farmer),
    ]
