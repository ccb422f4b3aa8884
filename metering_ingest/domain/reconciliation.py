"""
Three meters, one truth: what the provider, the buyer's gateway and the engine counted of a contract, hour and class.

Within the grade's tolerance the provider's count stands. Beyond it the slice between the provider's count and the
lowest that disagrees with it is held back, and only that. A gateway's count above the provider's opens a discrepancy
that holds nothing, for nobody is billed more than its provider reported; an engine's says nothing at all, for an engine
may also serve others than the exchange's buyers: it only bounds from above what can have been delivered.

The classes are those that are billed: fresh input, cached input and output (visible and reasoning together, as
engines and most gateways do not tell them apart).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from core.money import round_half_up
from metering_ingest.domain.classes import BILLED_OUTPUT_CLASSES, CACHED_INPUT_CLASSES, CODES, FRESH_INPUT_CLASSES

INPUT, CACHED_INPUT, OUTPUT = "input", "cached_input", "output"
BILLED_CLASSES = (INPUT, CACHED_INPUT, OUTPUT)
#: Which codes of the rollup make up a billed class.
CODES_OF = {
    INPUT: sorted(CODES[name] for name in FRESH_INPUT_CLASSES),
    CACHED_INPUT: sorted(CODES[name] for name in CACHED_INPUT_CLASSES),
    OUTPUT: sorted(CODES[name] for name in BILLED_OUTPUT_CLASSES),
}


class Counts(NamedTuple):
    """What each meter counted; None where it said nothing."""

    provider: int
    buyer: int | None
    engine: int | None

    @property
    def others(self) -> dict[str, int]:
        """The counts that the provider's is compared with, by role."""
        return {role: count for role, count in (("buyer", self.buyer), ("engine", self.engine)) if count is not None}


class Verdict(NamedTuple):
    """Whether the meters agree; tokens held back; what two of three say, where three said something."""

    agrees: bool
    held: int
    median: int | None


def within(one: int, other: int, tolerance_thousandths: int) -> bool:
    """Whether two counts differ by at most that share of the larger."""
    return abs(one - other) * 1_000 <= tolerance_thousandths * max(one, other)


def compare(counts: Counts, *, tolerance_thousandths: int) -> Verdict:
    """Compare the others' counts with the provider's."""
    apart = [
        count
        for role, count in counts.others.items()
        if not within(counts.provider, count, tolerance_thousandths)
        and not (role == "engine" and count > counts.provider)
    ]
    held = max((counts.provider - n for n in apart), default=0)
    three = sorted([counts.provider, *counts.others.values()])
    return Verdict(not apart, max(0, held), three[1] if len(three) == 3 else None)


def work_of(tokens: int, *, of_tokens: int, work_micro_st: int) -> int:
    """Return the part of an hour's work that some of its tokens stand for, in proportion, rounded half up."""
    return round_half_up(work_micro_st * tokens, of_tokens) if of_tokens else 0


def split_by_deployment(amount: int, works: Mapping[int, int]) -> dict[int, int]:
    """Split an amount over deployments in proportion to their work, exactly; never more than a deployment's work."""
    total, given, done = sum(works.values()), 0, 0
    parts: dict[int, int] = {}
    for deployment_id in sorted(works):
        done += works[deployment_id]
        upto = amount * done // total if total else 0
        if upto > given:
            parts[deployment_id] = upto - given
        given = upto
    return parts


def engine_share(engine: int, *, of_contract: int, of_deployment: int) -> int:
    """
    Return what of a deployment's engine count falls on one contract: its share of what the provider reported there.

    An engine knows no buyers. If it counted a tenth less than the provider reported of all, then so of each.
    """
    return round_half_up(engine * of_contract, of_deployment) if of_deployment else 0


#: How long after an hour its late reports are awaited before the sweep compares it, at most.
LAG = timedelta(minutes=5)


def lag_of(grace_seconds: int) -> timedelta:
    """Return how long to wait after an hour: five minutes, or half the grace where that is shorter."""
    return min(LAG, timedelta(seconds=grace_seconds) / 2)


class DuePeriod(NamedTuple):
    """A contract whose usage changed since its period was compared."""

    contract_id: int
    market_id: int | None
    start: datetime
    end: datetime
    grace_seconds: int
    fingerprint: str
