"""
The standard token, version ST-2026.1: how much computing work a request was.

One standard token (ST) is the work of generating one output token with the reference model (7B dense, 32 layers,
width 4,096, 8 KV heads × 128, bf16) at context 2,048 in a batch of 32. Work is counted in work units: one FLOP is 1,
one byte moved from accelerator memory is 118.

    attention(p)                  =  Σ groups  layers · min(p, span) · (4·width + 118·kv_bytes  [decode only])
    input token at context p      :  2·active_params + attention(p)
    cached input token            :  a share of its input work, in thousandths
    output token at context p     :  2·active_params + attention(p) + 118·active_weight_bytes/32
    1 standard token              =  98,374,125,632 work units

Input token i (from 1) has context i, cached ones first; output token j has context inputs + j. Sums are exact integers
in 1/32,000 of a work unit and are rounded once, half up, per request and class, to micro-standard-tokens.

The module uses nothing but the standard library, and plain integers: exchange, provider and buyer compute with this
same code and get the same number. A published version is frozen; a change is a new version beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

VERSION = "ST-2026.1"

#: The reference model's output token at context 2,048, exactly.
WORK_UNITS_PER_ST = 98_374_125_632
#: Work units per byte moved: achieved compute ÷ bandwidth of the reference accelerator (40% of 989 TFLOP/s over
#: 3.35 TB/s, H100 SXM).
WORK_UNITS_PER_BYTE = 118
#: Every load of the weights is shared by this many tokens.
BATCH = 32
DEFAULT_CACHED_SHARE_THOUSANDTHS = 100
#: Sums are kept in this fraction of a work unit: 32 for the shared weights, 1,000 for the cached share.
FRACTION = 32_000
MICRO = 1_000_000

#: More than any model or request has; a larger number is a mistake in units.
MAX_TOKENS = 1_000_000_000
MAX_CARD_NUMBER = 10**15


class StandardTokenError(ValueError):
    """A card or a count that has no standard tokens. `field` names what is wrong."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


def _whole(field: str, value: object, *, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise StandardTokenError(field, f"{field} must be a whole number, not {value!r}")
    if not low <= value <= high:
        raise StandardTokenError(field, f"{field} must be between {low:,} and {high:,}, not {value:,}")
    return value


@dataclass(frozen=True)
class AttentionGroup:
    """
    Layers that attend alike.

    :param layers: how many.
    :param width: heads × head dimension; for latent attention heads × (qk + v) / 2.
    :param kv_bytes: bytes of keys and values kept per layer and position.
    :param span: most positions read; None for all.
    """

    layers: int
    width: int
    kv_bytes: int
    span: int | None = None

    def __post_init__(self) -> None:
        _whole("attention.layers", self.layers, low=1, high=MAX_CARD_NUMBER)
        _whole("attention.width", self.width, low=1, high=MAX_CARD_NUMBER)
        _whole("attention.kv_bytes", self.kv_bytes, low=0, high=MAX_CARD_NUMBER)
        if self.span is not None:
            _whole("attention.span", self.span, low=1, high=MAX_CARD_NUMBER)


@dataclass(frozen=True)
class ModelCard:
    """
    What the standard token needs to know of a model: its published weights in their native precision.

    :param active_params: weights that one token is multiplied with.
    :param active_weight_bytes: bytes of the weights that one token uses.
    :param attention: groups of layers that attend alike.
    :raises StandardTokenError: for a number that no model has.
    """

    active_params: int
    active_weight_bytes: int
    attention: tuple[AttentionGroup, ...]
    name: str = ""

    def __post_init__(self) -> None:
        _whole("active_params", self.active_params, low=1, high=MAX_CARD_NUMBER)
        _whole("active_weight_bytes", self.active_weight_bytes, low=1, high=MAX_CARD_NUMBER)
        object.__setattr__(self, "attention", tuple(self.attention))

    @classmethod
    def from_dict(cls, data: object, *, name: str = "") -> ModelCard:
        """
        Read a card as it stands in JSON: `active_params`, `active_weight_bytes` and
        `attention: [{layers, width, kv_bytes, span}]`, span null or absent where all positions are read.

        :raises StandardTokenError: for a missing, unknown or impossible field.
        """
        card = _fields("card", data, required=("active_params", "active_weight_bytes", "attention"), optional=("name",))
        if not isinstance(card["attention"], list | tuple):
            raise StandardTokenError("attention", "attention must be a list of {layers, width, kv_bytes, span}")
        groups = []
        for i, item in enumerate(card["attention"]):
            group = _fields(f"attention[{i}]", item, required=("layers", "width", "kv_bytes"), optional=("span",))
            try:
                groups.append(AttentionGroup(**group))
            except StandardTokenError as error:
                field = error.field.replace("attention", f"attention[{i}]")
                raise StandardTokenError(field, error.detail.replace(error.field, field)) from None
        return cls(
            active_params=card["active_params"],
            active_weight_bytes=card["active_weight_bytes"],
            attention=tuple(groups),
            name=str(card.get("name") or name),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "active_params": self.active_params,
            "active_weight_bytes": self.active_weight_bytes,
            "attention": [
                {"layers": g.layers, "width": g.width, "kv_bytes": g.kv_bytes, "span": g.span} for g in self.attention
            ],
        }


def _fields(where: str, data: object, *, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise StandardTokenError(where, f"{where} must be an object with {', '.join(required)}, not {data!r:.60}")
    for key in data:
        if key not in required + optional:
            near = get_close_matches(str(key), required + optional, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(required + optional)}"
            raise StandardTokenError(str(key), f"{where} has an unknown field {key!r}{hint}")
    for key in required:
        if key not in data:
            raise StandardTokenError(key, f"{where} lacks {key!r}")
    return dict(data)


#: The reference model. Its output token at context 2,048 is 1 ST.
REFERENCE_7B = ModelCard(
    name="reference-7b",
    active_params=7_000_000_000,
    active_weight_bytes=14_000_000_000,
    attention=(AttentionGroup(layers=32, width=4_096, kv_bytes=2 * 8 * 128 * 2),),
)


class Work(NamedTuple):
    """The work of one request by class, in micro-standard-tokens, each rounded once."""

    input_micro_st: int
    cached_input_micro_st: int
    output_micro_st: int

    @property
    def total_micro_st(self) -> int:
        return self.input_micro_st + self.cached_input_micro_st + self.output_micro_st


def positions_read(first: int, last: int, span: int | None) -> int:
    """Σ min(p, span) over the contexts p = first … last (none if first > last)."""
    return _positions_to(last, span) - _positions_to(first - 1, span)


def _positions_to(n: int, span: int | None) -> int:
    if span is None or n <= span:
        return n * (n + 1) // 2
    return span * (span + 1) // 2 + (n - span) * span


def work(
    card: ModelCard,
    input_tokens: int,
    cached_input_tokens: int,
    output_tokens: int,
    cached_share_thousandths: int = DEFAULT_CACHED_SHARE_THOUSANDTHS,
) -> Work:
    """
    The work of one request.

    :param input_tokens: all input tokens, the cached ones among them.
    :param cached_input_tokens: how many of them, the first ones, came from a cache.
    :param output_tokens: visible and reasoning tokens; rejected drafts are not counted.
    :param cached_share_thousandths: what a cached token costs of its input work; the grade sets it.
    :raises StandardTokenError: for negative or fractional counts, or more cached tokens than input tokens.
    """
    check_counts(input_tokens, cached_input_tokens, output_tokens)
    return work_function(card, cached_share_thousandths)(input_tokens, cached_input_tokens, output_tokens)


def check_counts(input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
    """:raises StandardTokenError: for counts that no request has."""
    _whole("input_tokens", input_tokens, low=0, high=MAX_TOKENS)
    _whole("cached_input_tokens", cached_input_tokens, low=0, high=MAX_TOKENS)
    _whole("output_tokens", output_tokens, low=0, high=MAX_TOKENS)
    if cached_input_tokens > input_tokens:
        raise StandardTokenError(
            "cached_input_tokens",
            f"cached_input_tokens {cached_input_tokens:,} is more than input_tokens {input_tokens:,}, which include it",
        )


@lru_cache(maxsize=4_096)
def work_function(
    card: ModelCard, cached_share_thousandths: int = DEFAULT_CACHED_SHARE_THOUSANDTHS
) -> Callable[[int, int, int], Work]:
    """
    `work` for one card and share, its constants folded: about a microsecond a request.

    The function takes input, cached input and output tokens that `check_counts` would let pass; a meter that has
    checked them calls it directly.
    """
    share = _whole("cached_share_thousandths", cached_share_thousandths, low=0, high=1_000)
    multiply = 2 * card.active_params
    load = WORK_UNITS_PER_BYTE * card.active_weight_bytes
    # Groups of equal span are one; what is left are the whole context and a few windows.
    prefill: dict[int | None, int] = {}
    decode: dict[int | None, int] = {}
    for g in card.attention:
        flops = g.layers * 4 * g.width
        prefill[g.span] = prefill.get(g.span, 0) + flops
        decode[g.span] = decode.get(g.span, 0) + flops + g.layers * WORK_UNITS_PER_BYTE * g.kv_bytes
    whole_prefill = prefill.pop(None, 0)
    whole_decode = decode.pop(None, 0)
    windows = [(span, flops, decode[span]) for span, flops in prefill.items() if span is not None]

    # round(x · 10⁶ / ST) half up is (2·10⁶·x + ST) // (2·ST); with x in halves (n(n+1) is twice a sum) one 2 cancels.
    # Input in halves of a work unit, cached in 1/2,000, output in 1/64.
    input_unit = 2 * WORK_UNITS_PER_ST
    cached_unit = 2_000 * WORK_UNITS_PER_ST
    output_unit = 2 * BATCH * WORK_UNITS_PER_ST
    input_half, cached_half, output_half = input_unit // 2, cached_unit // 2, output_unit // 2
    multiply_2 = 2 * multiply
    token_64 = 2 * BATCH * multiply + 2 * load
    make = tuple.__new__

    def request(input_tokens: int, cached_input_tokens: int, output_tokens: int) -> Work:
        last = input_tokens + output_tokens
        to_cached = cached_input_tokens * (multiply_2 + whole_prefill * (cached_input_tokens + 1))
        to_input = input_tokens * (multiply_2 + whole_prefill * (input_tokens + 1))
        to_last = whole_decode * (last * (last + 1) - input_tokens * (input_tokens + 1))
        for span, flops, reads in windows:
            at_input = _positions_to(input_tokens, span)
            to_cached += 2 * flops * _positions_to(cached_input_tokens, span)
            to_input += 2 * flops * at_input
            to_last += 2 * reads * (_positions_to(last, span) - at_input)
        return make(
            Work,
            (
                ((to_input - to_cached) * MICRO + input_half) // input_unit,
                (to_cached * share * MICRO + cached_half) // cached_unit,
                ((token_64 * output_tokens + BATCH * to_last) * MICRO + output_half) // output_unit,
            ),
        )

    return request


def work_of_many(
    card: ModelCard,
    requests: Iterable[tuple[int, int, int]],
    cached_share_thousandths: int = DEFAULT_CACHED_SHARE_THOUSANDTHS,
) -> list[Work]:
    """`work` of checked (input, cached input, output) counts of one card, in order."""
    request = work_function(card, cached_share_thousandths)
    return [request(*counts) for counts in requests]


def micro_st(fractions: int) -> int:
    """Round a sum in 1/32,000 of a work unit half up to micro-standard-tokens."""
    unit = WORK_UNITS_PER_ST * FRACTION
    return (2 * fractions * MICRO + unit) // (2 * unit)
