"""
What an app tells /readyz and /metrics about itself: a list of probes.

An app that has something to say offers `probes(now) -> Iterable[Probe]` in `<app>/health.py`: backlogs, lags, overdue
work. A probe only reads, quickly, by index.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """
    One measured value.

    :param name: snake case with its unit, such as `undrained_commands` or `oldest_unsettled_market_seconds`.
    :param ready: whether the service does its duty at this value; a probe that is not ready makes /readyz answer 503.
    """

    name: str
    value: float
    ready: bool = True
    text: str = ""
