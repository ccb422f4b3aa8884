"""A guard's own figures in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

#: Upper bounds of the first token's time through the guard, in seconds.
BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Figures:
    """Counters since the start of the process."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.refusals_to_note: Counter[str] = Counter()
        self.engine_errors: Counter[str] = Counter()
        self.disbelieved: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.estimated = 0
        self.running = 0
        self._first = [0] * (len(BUCKETS) + 1)
        self._first_sum = 0.0

    def refused(self, code: str) -> None:
        self.refusals[code] += 1
        self.refusals_to_note[code] += 1

    def take_refusals(self) -> dict[str, int]:
        """Refusals since the last time this was asked."""
        taken, self.refusals_to_note = dict(self.refusals_to_note), Counter()
        return taken

    def first_token(self, seconds: float) -> None:
        self._first[bisect_left(BUCKETS, seconds)] += 1
        self._first_sum += seconds

    def metered(self, event: dict[str, Any]) -> None:
        """An event is on the disk."""
        data = event["data"]
        self.requests[data["status"]] += 1
        self.tokens["input"] += data["input_tokens"]
        self.tokens["cached_input"] += data["cached_input_tokens"]
        self.tokens["output"] += data["output_tokens"]
        self.estimated += "tags" in data

    def exposition(self, gauges: dict[str, float]) -> str:
        """:param gauges: what others know, by name."""
        lines: list[str] = []
        for name, value in {"running": self.running, **gauges}.items():
            lines += [f"# TYPE ciyuan_guard_{name} gauge", f"ciyuan_guard_{name} {value:g}"]
        for name, label, counts in (
            ("requests", "status", self.requests), ("refusals", "code", self.refusals),
            ("engine_errors", "status", self.engine_errors), ("usage_disbelieved", "code", self.disbelieved),
            ("tokens", "class", self.tokens),
        ):  # fmt: skip
            lines.append(f"# TYPE ciyuan_guard_{name}_total counter")
            lines += [f'ciyuan_guard_{name}_total{{{label}="{key}"}} {n}' for key, n in sorted(counts.items())]
        lines += ["# TYPE ciyuan_guard_estimated_total counter", f"ciyuan_guard_estimated_total {self.estimated}"]
        lines.append("# TYPE ciyuan_guard_first_token_seconds histogram")
        total = 0
        for bound, n in zip((*BUCKETS, "+Inf"), self._first, strict=True):
            total += n
            lines.append(f'ciyuan_guard_first_token_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"ciyuan_guard_first_token_seconds_sum {self._first_sum:g}",
                  f"ciyuan_guard_first_token_seconds_count {total}"]  # fmt: skip
        return "\n".join(lines) + "\n"
