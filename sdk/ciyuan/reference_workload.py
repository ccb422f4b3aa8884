"""
The reference workload that certificates measure (version CW-2026.1): published here so that everyone measures the same.

Four parts, each repeated three times: `short` and `long` requests with prompts of their own, `cached` ones that share
a beginning, and a `batch` of many at once. A grade's limits cut them down. A large deployment may be given `times` as
many requests, as many more of them at once, so that it has enough to do.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "CW-2026.1"
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """
    :param requests: of one repeat. :param at_once: how many of them at a time.
    :param input_tokens: of each, `shared_tokens` of them the same for all. :param output_tokens: asked for.
    """

    name: str
    requests: int
    at_once: int
    input_tokens: int
    shared_tokens: int
    output_tokens: int


_PARTS = (
    Part("short", 64, 16, 256, 0, 128),
    Part("long", 16, 4, 16_384, 0, 256),
    Part("cached", 64, 16, 2_304, 2_048, 128),
    Part("batch", 192, 64, 512, 0, 256),
)


def reference_workload(*, max_context_tokens: int, max_output_tokens: int, times: int = 1) -> tuple[Part, ...]:
    """The parts for a grade: no request exceeds its longest output, or three quarters of its context with its input."""
    parts = []
    for part in _PARTS:
        output = min(part.output_tokens, max_output_tokens, max_context_tokens // 4)
        inputs = min(part.input_tokens, max_context_tokens * 3 // 4)
        shared = min(part.shared_tokens, inputs * 8 // 9)
        parts.append(Part(part.name, part.requests * times, part.at_once * times, inputs, shared, output))
    return tuple(parts)
