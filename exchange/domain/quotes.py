"""What a workload would cost: walking the public book, and spreading requests over the hours of a window. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from billing.domain.price_books import Use
from core.money import LOT_TOKENS, MICRO_PER_TOKEN, cost_micro, round_half_up
from core.periods import Period

MOST_HOURS = 31 * 24
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Workload:
    """Alike requests: tokens of one request by what they are, and how many requests there are."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    requests: int = 1

    @property
    def classes(self) -> tuple[tuple[str, int], ...]:
        """The tokens of one request by class of the price book, without zeros."""
        fresh = self.input_tokens - self.cached_tokens
        named = (
            ("input.text", fresh), ("input.text.cache_read", self.cached_tokens), ("output.text", self.output_tokens),
        )  # fmt: skip
        return tuple((name, tokens) for name, tokens in named if tokens)


class Taken(NamedTuple):
    """Standard tokens taken at one price of the book, nano-yuan a token."""

    price_nano: int
    quantity_tokens: int


class Walk(NamedTuple):
    """What buying a quantity now would take of the book; `missing_tokens` is what the book has not got."""

    taken: tuple[Taken, ...]
    missing_tokens: int

    @property
    def amount_micro(self) -> int:
        """What it costs; exact, for quantities are whole lots."""
        return sum(cost_micro(tokens=one.quantity_tokens, price_nano=one.price_nano) for one in self.taken)


def tokens_to_buy(work_micro_st: int, min_order_tokens: int) -> int:
    """Return the standard tokens to buy for some work: whole lots, and at least the smallest order."""
    lots = -(-work_micro_st // (MICRO_PER_TOKEN * LOT_TOKENS))
    return max(lots * LOT_TOKENS, min_order_tokens)


def walk(asks: Iterable[Taken], quantity_tokens: int) -> Walk:
    """Take a quantity off the asks, the best price first, as they come."""
    taken: list[Taken] = []
    for price_nano, available in asks:
        part = min(available, quantity_tokens)
        if part:
            taken.append(Taken(price_nano, part))
            quantity_tokens -= part
        if not quantity_tokens:
            break
    return Walk(tuple(taken), quantity_tokens)


def uses_of(load: Workload, *, about: Use, band: int, hours: Sequence[datetime]) -> list[Use]:
    """Return a workload as a price book sees it, its requests spread evenly over hours. `about` names the rest."""
    uses: list[Use] = []
    given = 0
    for number, hour in enumerate(hours, start=1):
        upto = load.requests * number // len(hours)
        if upto > given:
            uses += [
                about._replace(token_class=name, hour=hour, band=band, tokens=tokens * (upto - given))
                for name, tokens in load.classes
            ]
        given = upto
    return uses


def hours_of(window: Period) -> list[datetime]:
    """Return the beginnings of the clock hours that a window touches, at most a month of them."""
    hour = window.start.replace(minute=0, second=0, microsecond=0)
    found: list[datetime] = []
    while hour < window.end and len(found) < MOST_HOURS:
        found.append(hour)
        hour += _HOUR
    return found


def price_of(amount_micro: int, work_micro_st: int) -> int:
    """Return what a standard token costs on average, nano-yuan, rounded half up; 0 where there is no work."""
    return round_half_up(amount_micro * 1_000 * MICRO_PER_TOKEN, work_micro_st) if work_micro_st else 0
