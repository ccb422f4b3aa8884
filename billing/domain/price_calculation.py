"""How a rule of a price book came to its amount, in one line that a reader can check with a calculator. Pure."""

from collections import defaultdict
from collections.abc import Sequence

from billing.domain.price_books import Rule, Scheme, Step, Use, share_at
from core.money import format_price, format_yuan

FULL = 1_000


def calculation(rule: Rule, uses: Sequence[Use]) -> str:
    """
    Return how these uses of one rule add up, in ¥ and tokens: `8,000 × ¥0.000002 + 6,000 × ¥0.000002 × 50%`.

    Windows of graduated, volume and package rules share the whole by its tokens' average: `(…) × 75%`, or a fraction.
    """
    if rule.scheme is Scheme.LENGTH:
        return _by_request(rule, uses)
    tokens = sum(use.tokens for use in uses)
    if not tokens:
        return "0"
    shared = sum(use.tokens * share_at(rule, use.hour) for use in uses)
    parts = _by_total(rule, tokens)
    whole = " + ".join(parts)
    if shared != tokens * FULL:
        whole = (f"({whole})" if len(parts) > 1 else whole or "0") + f" × {_share(shared, tokens * FULL)}"
    if rule.scheme is Scheme.PACKAGE:
        inside = f"¥{format_yuan(rule.package_micro)} for {rule.steps[0].up_to:,}"
        return f"{inside} + {whole}" if parts else inside
    return whole


def _by_request(rule: Rule, uses: Sequence[Use]) -> str:
    at: defaultdict[tuple[int, int], int] = defaultdict(int)
    for use in uses:
        at[_of_band(rule, use.band).price_nano, share_at(rule, use.hour)] += use.tokens
    parts = [
        f"{tokens:,} × ¥{format_price(price)}" + ("" if share == FULL else f" × {_share(share, FULL)}")
        for (price, share), tokens in sorted(at.items())
        if tokens
    ]
    return " + ".join(parts) or "0"


def _by_total(rule: Rule, tokens: int) -> list[str]:
    if rule.scheme is Scheme.VOLUME:
        step = next(step for step in rule.steps if step.up_to is None or tokens <= step.up_to)
        return [f"{tokens:,} × ¥{format_price(step.price_nano)}"]
    parts: list[str] = []
    before = 0
    for number, step in enumerate(rule.steps):
        upto = tokens if step.up_to is None else min(tokens, step.up_to)
        if upto > before and not (rule.scheme is Scheme.PACKAGE and number == 0):
            parts.append(f"{upto - before:,} × ¥{format_price(step.price_nano)}")
        before = max(before, upto)
    return parts


def _of_band(rule: Rule, band: int) -> Step:
    return next(step for step in rule.steps if step.up_to is None or band <= step.up_to)


def _share(part: int, whole: int) -> str:
    """Return a share as percent where that is exact to a tenth, else as a fraction."""
    if part * 1_000 % whole == 0:
        return f"{part * 1_000 // whole / 10:g}%"
    return f"{part:,}/{whole:,}"
