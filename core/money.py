"""
The one module that knows units, scales and rounding.

A price is an integer of nano-yuan per standard token, money an integer of micro-yuan, traded quantities are standard
tokens in lots of 1,000, metered work is micro-standard-tokens. Rounding is half up (away from zero for the mirror of
a positive amount, so that a correction cancels what it corrects), once, after summing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

LOT_TOKENS = 1_000
NANO_PER_YUAN = 1_000_000_000
MICRO_PER_YUAN = 1_000_000
NANO_PER_MICRO = NANO_PER_YUAN // MICRO_PER_YUAN
MICRO_PER_FEN = 10_000
MICRO_PER_TOKEN = 1_000_000
MAX_AMOUNT_MICRO = 2**63 - 1
MAX_PRICE_NANO = 2**63 - 1


class BadAmount(ValueError):
    """A text that is no amount, or has more decimals than the unit can carry."""


def round_half_up(numerator: int, denominator: int) -> int:
    """Return numerator ÷ denominator (> 0) rounded half up; the negative of an amount rounds to its mirror."""
    if numerator < 0:
        return -round_half_up(-numerator, denominator)
    return (2 * numerator + denominator) // (2 * denominator)


def cost_micro(*, tokens: int, price_nano: int) -> int:
    """Return what `tokens` standard tokens cost at `price_nano`, in micro-yuan; exact for whole lots."""
    return round_half_up(tokens * price_nano, NANO_PER_MICRO)


def work_cost_micro(*, work_micro_st: int, price_nano: int) -> int:
    """Return what `work_micro_st` micro-standard-tokens cost at `price_nano`, in micro-yuan, rounded once."""
    return round_half_up(work_micro_st * price_nano, MICRO_PER_TOKEN * NANO_PER_MICRO)


def share_micro(amount_micro: int, thousandths: int) -> int:
    """Return `thousandths` of an amount, in micro-yuan, rounded half up."""
    return round_half_up(amount_micro * thousandths, 1_000)


def fen_round(amount_micro: int) -> int:
    """Return the amount rounded half up to whole fen, in micro-yuan."""
    return round_half_up(amount_micro, MICRO_PER_FEN) * MICRO_PER_FEN


@dataclass(frozen=True, slots=True)
class TaxSplit:
    """A gross amount in whole fen and its two parts; `net_micro + tax_micro == gross_micro`."""

    gross_micro: int
    net_micro: int
    tax_micro: int


def vat_of_gross(gross_micro: int, rate_thousandths: int) -> TaxSplit:
    """Split a gross amount (whole fen): tax = gross × rate ÷ (1 + rate), to the fen half up; net is the rest."""
    tax_fen = round_half_up(gross_micro * rate_thousandths, (1_000 + rate_thousandths) * MICRO_PER_FEN)
    tax_micro = tax_fen * MICRO_PER_FEN
    return TaxSplit(gross_micro, gross_micro - tax_micro, tax_micro)


def largest_remainder(weights: Sequence[int], total: int) -> list[int]:
    """
    Split `total` in proportion to `weights` (all ≥ 0), exactly: the parts sum to `total`.

    Each part is first floored; what is left goes one by one to the largest remainders, the earlier first among equals.
    """
    weight_sum = sum(weights)
    if weight_sum == 0:
        if total:
            raise ValueError("nothing to split by: all weights are zero")
        return [0] * len(weights)
    parts = [weight * total // weight_sum for weight in weights]
    remainders = [weight * total % weight_sum for weight in weights]
    for index in sorted(range(len(weights)), key=lambda i: (-remainders[i], i))[: total - sum(parts)]:
        parts[index] += 1
    return parts


def fen_lines(amounts_micro: Sequence[int]) -> list[int]:
    """
    Return each amount in whole fen (micro-yuan) such that they add up to the rounded sum.

    Floors first, then the largest remainders get the missing fen, the earlier first among equals.
    """
    floors = [amount // MICRO_PER_FEN for amount in amounts_micro]
    missing = fen_round(sum(amounts_micro)) // MICRO_PER_FEN - sum(floors)
    by_remainder = sorted(range(len(floors)), key=lambda i: (-(amounts_micro[i] % MICRO_PER_FEN), i))
    for index in by_remainder[:missing]:
        floors[index] += 1
    return [floor * MICRO_PER_FEN for floor in floors]


def _parse(text: str, *, units_per_yuan: int, limit: int, what: str) -> int:
    try:
        number = Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        raise BadAmount(f"“{text}” is not {what}: write plain digits with a decimal point, such as 12.34.") from None
    if not number.is_finite() or len(text) > 40 or abs(number.adjusted()) > 30:
        raise BadAmount(f"“{text[:40]}” is not {what} that can be stored.")
    scaled = number * units_per_yuan
    if scaled != scaled.to_integral_value():
        raise BadAmount(f"“{text}” has more decimals than {what} can carry ({len(str(units_per_yuan)) - 1}).")
    if abs(scaled) > limit:
        raise BadAmount(f"“{text}” is beyond the largest {what.removeprefix('a ').removeprefix('an ')} stored.")
    return int(scaled)


def parse_price_nano(text: str) -> int:
    """
    Return the price written in `text` (¥ per token) in nano-yuan.

    :raises BadAmount: for no number, more than nine decimals, or beyond 64 bits.
    """
    return _parse(text, units_per_yuan=NANO_PER_YUAN, limit=MAX_PRICE_NANO, what="a price in ¥ per token")


def parse_yuan_micro(text: str) -> int:
    """
    Return the amount written in `text` (¥) in micro-yuan.

    :raises BadAmount: for no number, more than six decimals, or beyond 64 bits.
    """
    return _parse(text, units_per_yuan=MICRO_PER_YUAN, limit=MAX_AMOUNT_MICRO, what="an amount in ¥")


def _decimal_text(value: int, *, units: int, digits: int, places: int) -> str:
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), units)
    fraction = f"{rest:0{digits}d}".rstrip("0").ljust(places, "0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"


def format_price(price_nano: int, *, places: int = 0) -> str:
    """Return ¥ per token as a plain decimal, without trailing zeros beyond `places`: 1820 → "0.00000182"."""
    return _decimal_text(price_nano, units=NANO_PER_YUAN, digits=9, places=places)


def format_price_per_million(price_nano: int) -> str:
    """Return ¥ per million tokens with at least two decimals: 1820 → "1.82"."""
    return _decimal_text(price_nano, units=1_000, digits=3, places=2)


def format_yuan(amount_micro: int, *, places: int = 2) -> str:
    """Return ¥ as a plain decimal with at least `places` decimals and all that are there: 12340000 → "12.34"."""
    return _decimal_text(amount_micro, units=MICRO_PER_YUAN, digits=6, places=places)


def format_tokens(work_micro_st: int) -> str:
    """Return standard tokens as a plain decimal: 760354143 → "760.354143"."""
    return _decimal_text(work_micro_st, units=MICRO_PER_TOKEN, digits=6, places=0)


def exact_decimal(numerator: int, power_of_ten: int) -> str:
    """Return numerator ÷ 10ⁿ as a plain decimal with all its digits: (1820, 10⁹) → "0.00000182"."""
    return _decimal_text(numerator, units=power_of_ten, digits=len(str(power_of_ten)) - 1, places=0)
