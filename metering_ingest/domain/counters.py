"""
Engine counters: what vLLM and SGLang publish in Prometheus' text format, and how many tokens an hour it makes.

A counter only rises while its process lives and begins at zero with the next one. Readings come when somebody scrapes,
so what was counted up to a moment between two of them is interpolated; whole hours add up to the whole exactly.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

PROMPT, CACHED, OUTPUT, REQUESTS = "prompt", "cached", "output", "requests"
#: What each counter counts, by its name without `_total`. `prompt` includes what came from the prefix cache.
COUNTERS: Mapping[str, str] = {
    "vllm:prompt_tokens": PROMPT,
    "vllm:generation_tokens": OUTPUT,
    "vllm:prefix_cache_hits": CACHED,
    "vllm:gpu_prefix_cache_hits": CACHED,
    "vllm:request_success": REQUESTS,
    "sglang:prompt_tokens": PROMPT,
    "sglang:generation_tokens": OUTPUT,
    "sglang:cached_tokens": CACHED,
    "sglang:num_requests": REQUESTS,
}
#: Ranks of one replica repeat the same tokens; replicas (`dp_rank`, `engine`) do not.
_REPEATING_RANKS = ("tp_rank", "pp_rank", "moe_ep_rank")
MAX_SERIES = 2_000
#: Readings further than this from the ends of an hour say nothing about it.
MAX_GAP_MS = 3_600_000


class BadExposition(ValueError):
    """The text is not Prometheus' exposition format, or has none of the counters that are known."""


class Reading(NamedTuple):
    """One counter's value. `series` is 16 bytes that stand for name, labels and process."""

    series: bytes
    counts: str
    value: int
    started_at: datetime | None


class Point(NamedTuple):
    """A counter's value at a time in milliseconds."""

    at_ms: int
    value: int


def parse_exposition(text: str) -> list[Reading]:
    """
    Return the known counters of a scrape.

    :raises BadExposition: for text that cannot be parsed, without any known counter, or with too many series.
    """
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    started: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.items()))
                if (name := sample.name.removesuffix("_total")) in COUNTERS:
                    values[name, labels] = sample.value
                elif (name := sample.name.removesuffix("_created").removesuffix("_total")) in COUNTERS:
                    started[name, labels] = sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise BadExposition(f"this is not Prometheus' text format: {error}") from None
    readings = []
    for (name, labels), value in values.items():
        if not 0 <= value < 2**53 or any(key in _REPEATING_RANKS and rank not in ("", "0") for key, rank in labels):
            continue
        since = started.get((name, labels))
        text_of_series = "\0".join([name, *(f"{key}={label}" for key, label in labels), repr(since)])
        readings.append(
            Reading(
                blake2b(text_of_series.encode(), digest_size=16).digest(), COUNTERS[name], int(value),
                None if since is None else datetime.fromtimestamp(since, UTC),
            )
        )  # fmt: skip
    if not readings:
        raise BadExposition(f"none of the counters {', '.join(f'{name}_total' for name in COUNTERS)} is in it")
    if len(readings) > MAX_SERIES:
        raise BadExposition(f"one scrape has at most {MAX_SERIES:,} counters")
    return readings


def counted(points: Sequence[Point], start_ms: int, end_ms: int) -> int:
    """
    Return what one counter counted in [start, end), from its readings in order of time.

    A value below the one before means that the process began anew: what it shows then was counted since. Before the
    first and after the last reading nothing is known to have been counted.
    """
    if not points:
        return 0
    times, totals = [points[0].at_ms], [0]
    for before, after in pairwise(points):
        gained = after.value - before.value if after.value >= before.value else after.value
        times.append(after.at_ms)
        totals.append(totals[-1] + gained)
    return _total_at(times, totals, end_ms) - _total_at(times, totals, start_ms)


def _total_at(times: Sequence[int], totals: Sequence[int], moment: int) -> int:
    at = bisect_right(times, moment) - 1
    if at < 0:
        return 0
    if at == len(times) - 1:
        return totals[-1]
    gained, lasted = totals[at + 1] - totals[at], times[at + 1] - times[at]
    return totals[at] + gained * (moment - times[at]) // lasted


def covers(times_ms: Iterable[int], start_ms: int, end_ms: int) -> bool:
    """Whether a meter's readings reach over [start, end): one not long before it and one not long after."""
    times = sorted(times_ms)
    before = [t for t in times if t <= start_ms]
    after = [t for t in times if t >= end_ms]
    return bool(before and after) and start_ms - before[-1] <= MAX_GAP_MS and after[0] - end_ms <= MAX_GAP_MS
