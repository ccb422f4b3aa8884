"""
Other vendors' units in standard tokens: a published, versioned table, each entry with its derivation.

Three kinds of unit meet here, and none is "one token is one token":

- a **model's token** in a stated mix of input and output (what "¥ per million tokens" of a price list means): its work
  follows from the model's card and the standard's formula;
- an **accelerator hour** (what clouds rent out): its achieved arithmetic, 40% of the published peak as in the standard;
- **text**: how many UTF-8 bytes one token of a tokenizer covers, counted on a published sample. The same Chinese
  sentence is 43 tokens for one tokenizer and 140 for another: only per byte can their prices be compared.

A version is frozen once published; other figures are another version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ciyuan.named_cards import card_names, named_card
from ciyuan.standard_token import MICRO, WORK_UNITS_PER_ST, work

TABLE_VERSION = "FU-2026.1"
#: The mix by which a model's blended token is defined: one request of so many input and output tokens.
MIX_INPUT, MIX_OUTPUT = 4_000, 1_000
ACHIEVED_PERCENT = 40
#: Dense bf16 operations per second, as their makers publish them.
PEAK_FLOPS: Mapping[str, int] = {
    "h100-sxm": 989 * 10**12,
    "h200-sxm": 989 * 10**12,
    "h20": 148 * 10**12,
    "a100-sxm": 312 * 10**12,
}
#: The texts on which tokenizers are compared.
SAMPLES: Mapping[str, str] = {
    "zh": "词元是模型读写文字的最小单位；同一句中文，不同的分词器切出的词元数可以相差数倍，"
    "所以只看每个词元的价格会误导人。",
    "en": "A token is the piece of text that a model reads or writes; every model cuts text its own way, "
    "so that a price per token alone says little.",
}


#: Tokens of each sample by tokenizer: counted with the vocabulary of that SHA-256; bytes are their own tokenizer.
SAMPLE_TOKENS: Mapping[str, Mapping[str, int]] = {
    "deepseek-v4": {"zh": 36, "en": 32},
    "utf-8-bytes": {"zh": 168, "en": 138},
}


class UnknownUnit(LookupError):
    """No unit of that name; the message names those that look like it."""


@dataclass(frozen=True)
class ForeignUnit:
    """
    One unit. `micro_st` is what one of it is worth, exactly in micro-standard-tokens ÷ `per`; `derivation` says why.

    For instance `micro_st=3_582_623, per=1_300` for a token of a request of 1,300 tokens.
    """

    name: str
    kind: str
    title: str
    micro_st: int
    per: int
    derivation: str

    def to_micro_st(self, quantity: int) -> int:
        """Return so many of it in micro-standard-tokens, rounded half up once."""
        return (2 * quantity * self.micro_st + self.per) // (2 * self.per)

    def price_nano_per_st(self, price_nano: int) -> int:
        """Return a price per unit as a price per standard token, in nano-yuan, rounded half up once."""
        return (2 * price_nano * MICRO * self.per + self.micro_st) // (2 * self.micro_st)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "kind": self.kind, "title": self.title, "version": TABLE_VERSION,
            "micro_st": self.micro_st, "per": self.per, "derivation": self.derivation,
        }  # fmt: skip


def table() -> list[ForeignUnit]:
    """The whole table, in the order of names: cards by name, then accelerator hours."""
    return [_model_token(name) for name in card_names()] + [_accelerator_hour(name) for name in PEAK_FLOPS]


def unit(name: str) -> ForeignUnit:
    """:raises UnknownUnit: with the names that look like it."""
    units = {entry.name: entry for entry in table()}
    if name not in units:
        from difflib import get_close_matches

        near = get_close_matches(name, list(units), n=3, cutoff=0.3)
        raise UnknownUnit(f"there is no unit {name!r}{'; did you mean ' + ' or '.join(near) + '?' if near else ''}")
    return units[name]


def _model_token(name: str) -> ForeignUnit:
    card = named_card(name)
    done = work(card, MIX_INPUT, 0, MIX_OUTPUT)
    tokens = MIX_INPUT + MIX_OUTPUT
    return ForeignUnit(
        f"token:{name}", "model_token", f"one token of {name}, blended", done.total_micro_st, tokens,
        f"a request of {MIX_INPUT:,} input and {MIX_OUTPUT:,} output tokens is {done.input_micro_st:,} + "
        f"{done.output_micro_st:,} = {done.total_micro_st:,} micro-ST by the card of {name}; divided by its "
        f"{tokens:,} tokens",
    )  # fmt: skip


def _accelerator_hour(name: str) -> ForeignUnit:
    units = PEAK_FLOPS[name] * ACHIEVED_PERCENT // 100 * 3_600
    return ForeignUnit(
        f"hour:{name}", "accelerator_hour", f"one hour of one {name.upper()}", units * MICRO // WORK_UNITS_PER_ST, 1,
        f"{PEAK_FLOPS[name]:,} FLOP/s × {ACHIEVED_PERCENT}% achieved × 3,600 s ÷ {WORK_UNITS_PER_ST:,} work units "
        "per ST",
    )  # fmt: skip


@dataclass(frozen=True)
class PriceSides:
    """
    One price, as everybody quotes it. All in nano-yuan; None where what it needs is not known.

    `per_mb` is per 1,000,000 bytes of UTF-8 text.
    """

    per_token: int
    per_thousand: int
    per_million: int
    per_standard_token: int | None
    per_mb: int | None


def price_sides(
    *, price_nano: int, tokens: int, micro_st: int | None = None, utf8_bytes: int | None = None
) -> PriceSides:
    """
    Put the ways to quote a price side by side.

    :param price_nano: of the whole text of `tokens` tokens, in nano-yuan.
    :param micro_st: what the text is in micro-standard-tokens.
    :param utf8_bytes: how long the text is.
    """
    if tokens <= 0:
        raise ValueError("a text has tokens")

    def per(quantity: int, of: int) -> int:
        return (2 * price_nano * quantity + of) // (2 * of)

    return PriceSides(
        per_token=per(1, tokens),
        per_thousand=per(1_000, tokens),
        per_million=per(1_000_000, tokens),
        per_standard_token=per(MICRO, micro_st) if micro_st else None,
        per_mb=per(1_000_000, utf8_bytes) if utf8_bytes else None,
    )
