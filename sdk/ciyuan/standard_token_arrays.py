"""
The standard token of whole batches, for servers that have numpy: the same integers as `standard_token.work`.

Sums are kept in 64-bit integers where the card and the batch's largest request leave room, which is worked out in
plain integers first; a batch that does not fit goes through `standard_token` request by request.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ciyuan.standard_token import (
    BATCH,
    DEFAULT_CACHED_SHARE_THOUSANDTHS,
    MICRO,
    WORK_UNITS_PER_BYTE,
    WORK_UNITS_PER_ST,
    ModelCard,
    work_of_many,
)

Counts = NDArray[np.int64]

_ROOM = 2**63 - 1


def work_arrays(
    card: ModelCard,
    input_tokens: Counts,
    cached_input_tokens: Counts,
    output_tokens: Counts,
    cached_share_thousandths: int = DEFAULT_CACHED_SHARE_THOUSANDTHS,
) -> tuple[Counts, Counts, Counts]:
    """
    Input, cached input and output work of each request, in micro-standard-tokens.

    :param input_tokens: with the other two, int64 arrays of equal length that `standard_token.check_counts` would pass.
    """
    n = len(input_tokens)
    if n == 0:
        return input_tokens, cached_input_tokens, output_tokens
    last = input_tokens + output_tokens
    if not _fits(card, int(last.max()), int(output_tokens.max())):
        requests = zip(input_tokens.tolist(), cached_input_tokens.tolist(), output_tokens.tolist(), strict=True)
        columns = np.array(work_of_many(card, requests, cached_share_thousandths), dtype=np.int64)
        return columns[:, 0], columns[:, 1], columns[:, 2]

    multiply = 2 * card.active_params
    to_cached, to_input, beyond = multiply * cached_input_tokens, multiply * input_tokens, np.zeros(n, dtype=np.int64)
    spans: dict[int | None, tuple[int, int]] = {}
    for g in card.attention:
        flops, reads = spans.get(g.span, (0, 0))
        spans[g.span] = (
            flops + g.layers * 4 * g.width,
            reads + g.layers * (4 * g.width + WORK_UNITS_PER_BYTE * g.kv_bytes),
        )
    for span, (flops, reads) in spans.items():
        at_input = _positions_to(input_tokens, span)
        to_cached += flops * _positions_to(cached_input_tokens, span)
        to_input += flops * at_input
        beyond += reads * (_positions_to(last, span) - at_input)
    # One output token in 1/32 of a work unit: the shared weights are what needs it.
    token = BATCH * multiply + WORK_UNITS_PER_BYTE * card.active_weight_bytes
    return (
        _rounded(to_input - to_cached, unit=WORK_UNITS_PER_ST, scale=MICRO),
        # The share's thousandths cancel against the million.
        _rounded(to_cached * cached_share_thousandths, unit=WORK_UNITS_PER_ST, scale=MICRO // 1_000),
        _rounded(token * output_tokens + BATCH * beyond, unit=BATCH * WORK_UNITS_PER_ST, scale=MICRO),
    )


def _positions_to(n: Counts, span: int | None) -> Counts:
    near: Counts = n if span is None else np.minimum(n, span)
    sums: Counts = near * (near + 1) // 2 + (n - near) * (span or 0)
    return sums


def _rounded(sums: Counts, *, unit: int, scale: int) -> Counts:
    """sums × scale ÷ unit, half up. The remainder is below the unit, so that 2 × scale × remainder fits."""
    whole, rest = np.divmod(sums, unit)
    micro: Counts = whole * scale + (2 * scale * rest + unit) // (2 * unit)
    return micro


def _fits(card: ModelCard, last: int, outputs: int) -> bool:
    """Whether the largest sum of a batch with contexts up to `last` stays within 63 bits, by plain integers."""
    last, outputs = max(last, 1), max(outputs, 1)  # the card's own constants must fit as well
    positions = last * (last + 1) // 2
    reads = sum(g.layers * (4 * g.width + WORK_UNITS_PER_BYTE * g.kv_bytes) for g in card.attention)
    largest_input = 1_000 * (2 * card.active_params * last + reads * positions)
    token = 2 * BATCH * card.active_params + WORK_UNITS_PER_BYTE * card.active_weight_bytes
    largest_output = token * outputs + BATCH * reads * positions
    return max(largest_input, largest_output) <= _ROOM
