"""
What a run of the reference workload says of a deployment: pure arithmetic over what each request reported.

The certified rate is the lowest of the four parts, each the median of its repeats: whatever mix a buyer sends, the
deployment has shown that it can do it. Percentiles are of single requests, nearest rank.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ciyuan.reference_workload import REPEATS, Part
from ciyuan.standard_token import StandardTokenError, Work, check_counts

MICRO = 1_000_000
MS_PER_MINUTE = 60_000
NS_PER_MS = 1_000_000
MAX_REQUESTS, MAX_MS = 50_000, 86_400_000
#: Of the tokens that a part asks for, so many thousandths have to be there: tokenizers differ, and models stop early.
LEAST_INPUT_THOUSANDTHS, LEAST_OUTPUT_THOUSANDTHS = 500, 500
MOST_FAILED_THOUSANDTHS = 10


class NotTheWorkload(ValueError):
    """The report is not of the reference workload; the text says what is missing."""


class Served(NamedTuple):
    """One request: tokens by the endpoint's own count, times in milliseconds."""

    inputs: int
    cached: int
    outputs: int
    ttft_ms: int
    total_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of one part."""

    part: str
    duration_ms: int
    failed: int
    served: Sequence[Served]


@dataclass(frozen=True, slots=True)
class Assessment:
    """
    What a certificate says.

    :param tokens_per_minute: standard tokens, of the slowest part.
    :param input_tokens_per_minute: the model's own, over all parts; likewise the output's.
    :param accelerator_ns_per_st: nanoseconds of one accelerator for a standard token: median, fastest and slowest run.
    :param parts: per part its rate, tokens a minute, percentiles and requests.
    """

    tokens_per_minute: int
    input_tokens_per_minute: int
    output_tokens_per_minute: int
    ttft_p50_ms: int
    ttft_p95_ms: int
    token_p50_us: int
    token_p95_us: int
    accelerator_ns_per_st: int
    accelerator_ns_per_st_low: int
    accelerator_ns_per_st_high: int
    requests: int
    failed: int
    parts: Mapping[str, Mapping[str, int]]


def assess(
    runs: Sequence[Run], *, wanted: Sequence[Part], work: Callable[[int, int, int], Work], accelerators: int
) -> Assessment:
    """
    :param wanted: the parts of the grade's reference workload. :param work: the work of a request by its counts.
    :raises NotTheWorkload: for a report that is incomplete, or that no run can have made.
    """
    works: dict[str, list[tuple[Run, int]]] = {part.name: [] for part in wanted}
    for run in runs:
        if run.part not in works:
            raise NotTheWorkload(f"the reference workload has no part {run.part!r}; it has {', '.join(works)}")
        works[run.part].append((run, _work_of(run, work)))
    for part in wanted:
        if len(works[part.name]) < REPEATS:
            raise NotTheWorkload(f"{part.name} has {len(works[part.name])} of {REPEATS} repeats")
        for run, _ in works[part.name]:
            _check(run, part)
    costs = sorted(run.duration_ms * NS_PER_MS * accelerators * MICRO // done for all_ in works.values()
                   for run, done in all_)  # fmt: skip
    every = [one for run in runs for one in run.served]
    duration_ms = sum(run.duration_ms for run in runs)
    ttft, gaps = _times(every)
    parts = {name: _part(all_) for name, all_ in works.items()}
    return Assessment(
        tokens_per_minute=min(part["tokens_per_minute"] for part in parts.values()),
        input_tokens_per_minute=sum(one.inputs for one in every) * MS_PER_MINUTE // duration_ms,
        output_tokens_per_minute=sum(one.outputs for one in every) * MS_PER_MINUTE // duration_ms,
        ttft_p50_ms=percentile(ttft, 50), ttft_p95_ms=percentile(ttft, 95),
        token_p50_us=percentile(gaps, 50), token_p95_us=percentile(gaps, 95),
        accelerator_ns_per_st=percentile(costs, 50), accelerator_ns_per_st_low=costs[0],
        accelerator_ns_per_st_high=costs[-1], requests=len(every), failed=sum(run.failed for run in runs), parts=parts,
    )  # fmt: skip


def percentile(values: Sequence[int], percent: int) -> int:
    """Nearest rank of sorted values; 0 of none."""
    return values[max(0, -(-len(values) * percent // 100) - 1)] if values else 0


def _times(served: Sequence[Served]) -> tuple[list[int], list[int]]:
    """First-token times in milliseconds, and mean times per further token in microseconds, each sorted."""
    gaps = [(one.total_ms - one.ttft_ms) * 1_000 // (one.outputs - 1) for one in served if one.outputs > 1]
    return sorted(one.ttft_ms for one in served), sorted(gaps)


def _work_of(run: Run, work: Callable[[int, int, int], Work]) -> int:
    if not 0 < run.duration_ms <= MAX_MS or len(run.served) > MAX_REQUESTS or run.failed < 0:
        raise NotTheWorkload(f"a repeat of {run.part} has an impossible duration or number of requests")
    try:
        for one in run.served:
            check_counts(one.inputs, one.cached, one.outputs)
        return sum(work(one.inputs, one.cached, one.outputs).total_micro_st for one in run.served)
    except StandardTokenError as error:
        raise NotTheWorkload(f"a request of {run.part} has impossible counts: {error}") from None


def _check(run: Run, part: Part) -> None:
    if len(run.served) + run.failed < part.requests:
        raise NotTheWorkload(f"a repeat of {part.name} has {len(run.served) + run.failed} of {part.requests} requests")
    if run.failed * 1_000 > MOST_FAILED_THOUSANDTHS * (len(run.served) + run.failed):
        raise NotTheWorkload(f"{run.failed} requests of a repeat of {part.name} failed; at most 1% may")
    count = len(run.served)
    for name, least, wanted in (("inputs", LEAST_INPUT_THOUSANDTHS, part.input_tokens),
                                ("outputs", LEAST_OUTPUT_THOUSANDTHS, part.output_tokens)):  # fmt: skip
        found = sum(getattr(one, name) for one in run.served)
        if found * 1_000 < count * wanted * least:
            raise NotTheWorkload(f"{part.name} has {found // count} {name} a request, and {wanted} are asked for")
    for one in run.served:
        if not 0 <= one.ttft_ms <= one.total_ms <= run.duration_ms + 1 or one.outputs < 1:
            raise NotTheWorkload(f"a request of {part.name} took longer than its run, or ended before its first token")


def _part(runs: Sequence[tuple[Run, int]]) -> dict[str, int]:
    every = [one for run, _ in runs for one in run.served]
    duration_ms = sum(run.duration_ms for run, _ in runs)
    ttft, gaps = _times(every)
    return {
        "tokens_per_minute": percentile(
            sorted(done * MS_PER_MINUTE // (run.duration_ms * MICRO) for run, done in runs), 50
        ),
        "input_tokens_per_minute": sum(one.inputs for one in every) * MS_PER_MINUTE // duration_ms,
        "output_tokens_per_minute": sum(one.outputs for one in every) * MS_PER_MINUTE // duration_ms,
        "ttft_p50_ms": percentile(ttft, 50), "ttft_p95_ms": percentile(ttft, 95),
        "token_p50_us": percentile(gaps, 50), "token_p95_us": percentile(gaps, 95), "requests": len(every),
    }  # fmt: skip


def runs_of(rows: Sequence[Mapping[str, Any]]) -> list[Run]:
    """
    Read runs as they are sent: `part`, `duration_ms`, `failed`, and `served` as lists of five whole numbers.

    :raises NotTheWorkload: for anything else.
    """
    runs = []
    for row in rows:
        served = row["served"]
        if not isinstance(served, list) or not all(
            isinstance(one, list) and len(one) == 5 and all(type(n) is int and 0 <= n <= 10**9 for n in one)
            for one in served
        ):
            raise NotTheWorkload(
                "served is a list of [input tokens, cached ones, output tokens, first token ms, total ms]"
            )
        runs.append(Run(row["part"], row["duration_ms"], row["failed"], [Served(*one) for one in served]))
    return runs
