"""
Numbers as people type and paste them: full-width digits, thousand separators, a ¥, large units.

Pure: what cannot be read raises, nothing is guessed. “1,5” is refused, because it may mean 1.5 or 15.
"""

import re
import unicodedata
from decimal import Decimal, InvalidOperation

from core.money import MAX_PRICE_NANO, MICRO_PER_YUAN

NANO_PER_YUAN_PER_MILLION = 1_000
_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "b": 10**9,
    "t": 10**12,
    "千": 10**3,
    "万": 10**4,
    "百万": 10**6,
    "亿": 10**8,
    "万亿": 10**12,
}
_QUANTITY = re.compile(r"([0-9.]+)([kmbt]|千|百万|万亿|万|亿)?")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+(\.\d+)?")


class Unreadable(ValueError):
    """A text that is no number of this kind; `reason` is one of `number`, `decimals`, `size`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _plain(text: str) -> str:
    """Return the text with ASCII digits and without separators, spaces and currency signs."""
    text = unicodedata.normalize("NFKC", text).strip().lower().removeprefix("¥").removeprefix("元")
    text = re.sub(r"[\s_'’]", "", text).replace("、", ",")
    digits = re.match(r"[\d.,]*", text)
    number = digits.group() if digits else ""
    if "," in number:
        if not _GROUPED.fullmatch(number):
            raise Unreadable("number")
        text = number.replace(",", "") + text[len(number) :]
    return text


def tokens(text: str) -> int:
    """
    Return a number of tokens: “１，５００，０００”, “1.5M”, “150万”, “1.5亿”.

    :raises Unreadable: for anything else, or parts of a token.
    """
    found = _QUANTITY.fullmatch(_plain(text))
    if not found:
        raise Unreadable("number")
    try:
        number = Decimal(found.group(1)) * _UNITS[found.group(2) or ""]
    except InvalidOperation:
        raise Unreadable("number") from None
    if len(text) > 60 or abs(number) >= 2**63:
        raise Unreadable("size")
    if number != number.to_integral_value():
        raise Unreadable("decimals")
    return int(number)


def price_nano_per_million(text: str) -> int:
    """
    Return a price typed in ¥ per million tokens, in nano-yuan per token: “1.90” → 1,900.

    :raises Unreadable: for no number, or finer than a nano-yuan a token.
    """
    try:
        number = Decimal(_plain(text)) * NANO_PER_YUAN_PER_MILLION
    except InvalidOperation:
        raise Unreadable("number") from None
    if not number.is_finite() or len(text) > 60 or abs(number) > MAX_PRICE_NANO:
        raise Unreadable("size")
    if number != number.to_integral_value():
        raise Unreadable("decimals")
    return int(number)


def yuan_micro(text: str) -> int:
    """
    Return an amount typed in ¥, in micro-yuan: “1,234.56” and “￥１２３４．５６” → 1,234,560,000.

    :raises Unreadable: for no number, or finer than a millionth of a yuan.
    """
    try:
        number = Decimal(_plain(text)) * MICRO_PER_YUAN
    except InvalidOperation:
        raise Unreadable("number") from None
    if not number.is_finite() or len(text) > 60 or abs(number) >= 2**63:
        raise Unreadable("size")
    if number != number.to_integral_value():
        raise Unreadable("decimals")
    return int(number)


def nearest_multiples(value: int, step: int) -> tuple[int, int]:
    """Return the multiples of `step` just below and just above `value` (the lower may be 0)."""
    below = value // step * step
    return below, below + step
