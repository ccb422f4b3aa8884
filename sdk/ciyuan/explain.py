"""The sum behind a request's standard tokens, line by line: behind invoice lines and `ciyuan token explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ciyuan.standard_token import (
    BATCH,
    DEFAULT_CACHED_SHARE_THOUSANDTHS,
    FRACTION,
    MICRO,
    VERSION,
    WORK_UNITS_PER_BYTE,
    WORK_UNITS_PER_ST,
    ModelCard,
    Work,
    check_counts,
    micro_st,
    positions_read,
    work,
)


@dataclass(frozen=True)
class Line:
    """One term of a sum. `fractions` is its value in 1/32,000 of a work unit, exactly."""

    label: str
    formula: str
    fractions: int

    @property
    def work_units(self) -> str:
        return work_units(self.fractions)


@dataclass(frozen=True)
class ClassSum:
    """The sum of one class of tokens. `first` and `last` are the contexts of its tokens."""

    token_class: str
    tokens: int
    first: int
    last: int
    lines: tuple[Line, ...]
    share_thousandths: int
    fractions: int
    micro_st: int


@dataclass(frozen=True)
class Explanation:
    card: ModelCard
    version: str
    classes: tuple[ClassSum, ...]
    work: Work

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "card": self.card.to_dict(),
            "work_units_per_st": WORK_UNITS_PER_ST,
            "micro_st": {
                "input": self.work.input_micro_st,
                "cached_input": self.work.cached_input_micro_st,
                "output": self.work.output_micro_st,
            },
            "total_micro_st": self.work.total_micro_st,
            "sums": [
                {
                    "class": c.token_class,
                    "tokens": c.tokens,
                    "contexts": [c.first, c.last] if c.tokens else None,
                    "lines": [{"term": x.label, "formula": x.formula, "work_units": x.work_units} for x in c.lines],
                    "share_thousandths": c.share_thousandths,
                    "work_units": work_units(c.fractions),
                    "micro_st": c.micro_st,
                }
                for c in self.classes
            ],
        }

    def to_text(self) -> str:
        card = self.card
        out = [
            f"Standard token {self.version}: 1 ST = {WORK_UNITS_PER_ST:,} work units"
            f" (1 a FLOP, {WORK_UNITS_PER_BYTE} a byte moved)",
            f"Model card {card.name or '(from file)'}: {card.active_params:,} active parameters,"
            f" {card.active_weight_bytes:,} active weight bytes",
        ]
        for g in card.attention:
            reach = "every position" if g.span is None else f"the last {g.span:,} positions"
            out.append(
                f"  {g.layers} layers of width {g.width:,}, {g.kv_bytes:,} bytes per layer and position,"
                f" reading {reach}"
            )
        for c in self.classes:
            out += ["", f"{c.token_class.replace('_', ' ')}: {_contexts(c)}"]
            if not c.tokens:
                continue
            rows = [(x.label, x.formula, x.work_units) for x in c.lines]
            if c.share_thousandths != 1_000:
                rows.append(("share", f"× {c.share_thousandths}/1,000 of the sum", work_units(c.fractions)))
            rows.append(
                ("sum", f"÷ {WORK_UNITS_PER_ST:,}, rounded half up to 1/1,000,000", f"{format_st(c.micro_st)} ST")
            )
            labels = max(len(r[0]) for r in rows)
            formulas = max(len(r[1]) for r in rows)
            values = max(len(r[2]) for r in rows)
            out += [f"  {a:<{labels}}  {b:<{formulas}}  = {v:>{values}}" for a, b, v in rows]
        w = self.work
        out += [
            "",
            f"total: {w.input_micro_st:,} + {w.cached_input_micro_st:,} + {w.output_micro_st:,}"
            f" = {w.total_micro_st:,} micro-ST = {format_st(w.total_micro_st)} ST",
        ]
        return "\n".join(out)


def explain(
    card: ModelCard,
    input_tokens: int,
    cached_input_tokens: int,
    output_tokens: int,
    cached_share_thousandths: int = DEFAULT_CACHED_SHARE_THOUSANDTHS,
) -> Explanation:
    """
    Show how `work` comes about. The arguments and errors are those of `standard_token.work`.

    The terms are added up here in their own way; that the result is `work`'s is asserted.
    """
    check_counts(input_tokens, cached_input_tokens, output_tokens)
    result = work(card, input_tokens, cached_input_tokens, output_tokens, cached_share_thousandths)
    last = input_tokens + output_tokens
    classes = (
        _class_sum(card, "input", cached_input_tokens + 1, input_tokens, 1_000),
        _class_sum(card, "cached_input", 1, cached_input_tokens, cached_share_thousandths),
        _class_sum(card, "output", input_tokens + 1, last, 1_000),
    )
    assert tuple(c.micro_st for c in classes) == tuple(result)
    return Explanation(card=card, version=VERSION, classes=classes, work=result)


def _class_sum(card: ModelCard, token_class: str, first: int, last: int, share_thousandths: int) -> ClassSum:
    tokens = last - first + 1
    decode = token_class == "output"
    lines = [Line("parameters", f"{tokens:,} × 2 × {card.active_params:,}", tokens * 2 * card.active_params * FRACTION)]
    for g in card.attention:
        positions = positions_read(first, last, g.span)
        read = f"{positions:,} positions" if g.span is None else f"{positions:,} positions within {g.span:,}"
        lines.append(
            Line(
                "attention",
                f"{g.layers} layers × 4 × {g.width:,} × {read}",
                g.layers * 4 * g.width * positions * FRACTION,
            )
        )
        if decode:
            lines.append(
                Line(
                    "KV reads",
                    f"{g.layers} layers × {WORK_UNITS_PER_BYTE} × {g.kv_bytes:,} bytes × {read}",
                    g.layers * WORK_UNITS_PER_BYTE * g.kv_bytes * positions * FRACTION,
                )
            )
    if decode:
        lines.append(
            Line(
                "weight reads",
                f"{tokens:,} × {WORK_UNITS_PER_BYTE} × {card.active_weight_bytes:,} bytes ÷ {BATCH}",
                tokens * WORK_UNITS_PER_BYTE * card.active_weight_bytes * (FRACTION // BATCH),
            )
        )
    # Exact: every prefill term is a multiple of FRACTION, and a share of 1,000 changes nothing.
    fractions = sum(line.fractions for line in lines) * share_thousandths // 1_000
    return ClassSum(token_class, tokens, first, last, tuple(lines), share_thousandths, fractions, micro_st(fractions))


def _contexts(c: ClassSum) -> str:
    if not c.tokens:
        return "none"
    if c.tokens == 1:
        return f"1 token at context {c.first:,}"
    return f"{c.tokens:,} tokens at contexts {c.first:,} to {c.last:,}"


def work_units(fractions: int) -> str:
    """A sum in 1/32,000 of a work unit as an exact decimal."""
    whole, rest = divmod(fractions, FRACTION)
    # 1/32,000 = 0.00003125: eight digits are exact.
    digits = f"{rest * (10**8 // FRACTION):08d}".rstrip("0")
    return f"{whole:,}.{digits}" if digits else f"{whole:,}"


def format_st(micro: int) -> str:
    """Micro-standard-tokens as standard tokens with six decimals."""
    return f"{micro // MICRO:,}.{micro % MICRO:06d}"
