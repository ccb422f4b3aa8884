"""
What an accelerator could at most do with a model: a bound from its published numbers, not a forecast.

Nothing is faster than its arithmetic and its memory allow: a token needs at least its floating-point operations, its
share of one load of the weights and its own keys and values. The bound takes peak numbers, perfect overlap of
arithmetic and loading, and as many requests at once as fit into memory, at the standard token's own context of 2,048.
Real engines reach a third to a half of it; a seller that claims more than it claims the impossible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ciyuan.standard_token import BATCH, WORK_UNITS_PER_BYTE, WORK_UNITS_PER_ST, ModelCard

CONTEXT = 2_048
#: Share of peak arithmetic that the reference accelerator is taken to achieve (DESIGN: 40% of 989 TFLOP/s).
ACHIEVED_THOUSANDTHS = 400
CERTIFIED_SHARE_THOUSANDTHS = 900

BITS = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "fp4": 4, "int4": 4}
#: Arithmetic a published figure may exist for, from wide to narrow.
ARITHMETIC = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4", "int4")
_WIDTHS = BITS | {"tf32": 32}


class NoArithmetic(ValueError):
    """The accelerator has no published arithmetic that is wide enough for the precision."""


class DoesNotFit(ValueError):
    """The weights are larger than the memory. `accelerators_needed` would hold them."""

    def __init__(self, accelerators_needed: int) -> None:
        super().__init__(f"the weights need at least {accelerators_needed} of these accelerators")
        self.accelerators_needed = accelerators_needed


@dataclass(frozen=True, slots=True)
class Hardware:
    """
    Published numbers of one accelerator; None where nothing is published, which then bounds nothing.

    :param gflops: dense operations per second in units of 10⁹, by arithmetic.
    """

    gflops: Mapping[str, int]
    memory_bytes: int | None
    bandwidth_bytes_per_second: int | None


@dataclass(frozen=True, slots=True)
class Roofline:
    """
    The most that a deployment could do.

    :param tokens_per_minute: standard tokens a minute.
    :param bound: what limits it: `prefill` (arithmetic on input), `compute` or `memory` (on output).
    :param batch: requests at once that memory holds; None where unbounded.
    :param output_tokens_per_minute: the model's own tokens a minute at that batch and context.
    :param input_tokens_per_minute: the model's own input tokens a minute.
    """

    tokens_per_minute: int
    bound: str
    batch: int | None
    output_tokens_per_minute: int
    input_tokens_per_minute: int


def fastest_gflops(gflops: Mapping[str, int], precision: str) -> int:
    """
    Return the fastest published arithmetic that is at most as wide as a step up allows: weights widen, never narrow.

    :raises NoArithmetic: where every published figure is for narrower numbers.
    """
    usable = [value for name, value in gflops.items() if _WIDTHS[name] >= BITS[precision]]
    if not usable:
        raise NoArithmetic(f"no arithmetic of {BITS[precision]} bits or more is published for this accelerator")
    return max(usable)


def roofline(card: ModelCard, *, total_params: int, hardware: Hardware, count: int, precision: str) -> Roofline:
    """
    Return the bound of `count` accelerators that serve `card` with weights of `precision`.

    :param total_params: all weights, which memory must hold, where the card counts those that one token uses.
    :raises NoArithmetic: the accelerator cannot compute at that precision.
    :raises DoesNotFit: the weights are larger than the memory of all accelerators.
    """
    bits = BITS[precision]
    per_second = fastest_gflops(hardware.gflops, precision) * 10**9 * count
    attention_flops = sum(g.layers * 4 * g.width * _read(g.span) for g in card.attention)
    kv_bytes = sum(g.layers * g.kv_bytes * _read(g.span) for g in card.attention)
    token_flops = 2 * card.active_params + attention_flops

    batch = _batch(hardware.memory_bytes, count, weights_bytes=-(-total_params * bits // 8), kv_bytes=kv_bytes)
    arithmetic_seconds = Fraction(token_flops, per_second)
    loading_seconds = Fraction(0)
    if hardware.bandwidth_bytes_per_second is not None:
        weights_bytes = Fraction(card.active_params * bits, 8 * batch) if batch else Fraction(0)
        loading_seconds = (weights_bytes + kv_bytes) / (hardware.bandwidth_bytes_per_second * count)

    output_per_minute = 60 / max(arithmetic_seconds, loading_seconds)
    input_per_minute = 60 / arithmetic_seconds
    output_work = (
        token_flops + WORK_UNITS_PER_BYTE * kv_bytes + Fraction(WORK_UNITS_PER_BYTE * card.active_weight_bytes, BATCH)
    )
    output_st = output_per_minute * output_work / WORK_UNITS_PER_ST
    input_st = input_per_minute * token_flops / WORK_UNITS_PER_ST
    if input_st >= output_st:
        bound = "prefill"
    else:
        bound = "memory" if loading_seconds > arithmetic_seconds else "compute"
    return Roofline(
        tokens_per_minute=int(max(output_st, input_st)),
        bound=bound,
        batch=batch,
        output_tokens_per_minute=int(output_per_minute),
        input_tokens_per_minute=int(input_per_minute),
    )


def work_units_per_byte_tenths(hardware: Hardware) -> int | None:
    """
    Return the accelerator's own ratio of achieved compute to bandwidth in tenths, as the standard's 118 was made.

    40% of the fastest 16-bit arithmetic over the memory bandwidth; None where one of them is not published. Below 118
    the accelerator generates output relatively faster than the standard counts it; above, it reads input faster.
    """
    sixteen = [hardware.gflops[name] for name in ("bf16", "fp16") if name in hardware.gflops]
    if not sixteen or not hardware.bandwidth_bytes_per_second:
        return None
    achieved = max(sixteen) * 10**9 * ACHIEVED_THOUSANDTHS
    return round(Fraction(achieved * 10, 1_000 * hardware.bandwidth_bytes_per_second))


def rate_limit(*, rated: int, certified: int | None, bound: int | None) -> int:
    """
    Return the most standard tokens a minute that may be published.

    A valid certificate allows 90% of what it measured; without one, what the seller rates, at most the roofline.
    """
    if certified is not None:
        return certified * CERTIFIED_SHARE_THOUSANDTHS // 1_000
    return rated if bound is None else min(rated, bound)


def _read(span: int | None) -> int:
    return CONTEXT if span is None else min(CONTEXT, span)


def _batch(memory_bytes: int | None, count: int, *, weights_bytes: int, kv_bytes: int) -> int | None:
    if memory_bytes is None:
        return None
    free = memory_bytes * count - weights_bytes
    if free <= 0:
        raise DoesNotFit(weights_bytes // memory_bytes + 1)
    return max(1, free // kv_bytes) if kv_bytes else None
