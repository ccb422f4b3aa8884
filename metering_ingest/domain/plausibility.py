"""
What no chip could have produced: the least time that an hour's reported tokens take, by the roofline.

Every term errs to the report's favour: arithmetic at the published peak and without attention; of memory only the keys
and values of the shortest context that a request's length band allows, and one load of the weights for as many requests
as memory holds. If even that takes longer than the hour had, the report is not of this deployment.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from ciyuan.standard_token import ModelCard

from metering_ingest.domain.classes import BAND_BOUNDS
from providers.domain.roofline import BITS, Hardware, NoArithmetic, fastest_gflops


class Reported(NamedTuple):
    """Tokens of one hour and length band: input that was computed (not from a cache) and output."""

    fresh: int
    output: int


class Floor(NamedTuple):
    """The least seconds that they take, and which of the two (`compute`, `memory`) sets them."""

    seconds: Fraction
    bound: str


def floor(
    bands: Mapping[int, Reported], *, card: ModelCard, total_params: int, hardware: Hardware, count: int, precision: str
) -> Floor:
    """
    Return the least time that these tokens take on `count` accelerators; 0 seconds where nothing is published.

    :param bands: by length band: all of a band's requests have more input than the band's lower bound.
    """
    tokens = sum(band.fresh + band.output for band in bands.values())
    try:
        per_second = fastest_gflops(hardware.gflops, precision) * 10**9 * count
        computing = Fraction(2 * card.active_params * tokens, per_second)
    except NoArithmetic:
        computing = Fraction(0)
    moving = Fraction(0)
    if hardware.bandwidth_bytes_per_second is not None:
        for band, reported in bands.items():
            context = BAND_BOUNDS[band - 1] + 1 if band else 1
            kept = sum(g.layers * g.kv_bytes * (context if g.span is None else min(context, g.span))
                       for g in card.attention)  # fmt: skip
            moved = Fraction(reported.output * kept)
            if hardware.memory_bytes is not None and kept:
                bits = BITS[precision]
                free = max(kept, hardware.memory_bytes * count - total_params * bits // 8)
                moved += Fraction(reported.output * card.active_params * bits, 8 * max(1, free // kept))
            moving += moved / (hardware.bandwidth_bytes_per_second * count)
    return Floor(computing, "compute") if computing >= moving else Floor(moving, "memory")
