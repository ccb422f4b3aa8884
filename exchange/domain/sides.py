"""
The two sides of a sealed book as arrays, and the curves they make.

A side is one array of limits in ticks and one of lots, an order a place. A market order is a limit without a limit:
`MARKET` for a buyer, `-MARKET` for a seller, so that it counts at every price and stands first in priority without a
case of its own. All arithmetic is exact int64: a side whose lots could leave that range is refused, never wrapped.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

INT64_MAX: Final = 2**63 - 1
MARKET: Final = INT64_MAX
"""The limit, in ticks, of a market buy order; a market sell order has its negative."""
LAST_TICK: Final = 2**62
"""No limit lies beyond ±this, so that a difference of two ticks fits 64 bits."""


class InvalidBook(ValueError):
    """A book that cannot be cleared, with a sentence that says why."""


class BookTooLarge(InvalidBook):
    """The lots of one side together do not fit a signed 64-bit integer."""


@dataclass(frozen=True, eq=False, slots=True)
class Side:
    """
    One side of a sealed book: an order a place, in any order.

    - `ticks`: limits in ticks, `MARKET` (bids) or `-MARKET` (asks) for market orders.
    - `lots`: open quantities in lots, at least 1 each.
    - `displayed_lots`: the part of each that is displayed; None where nothing is hidden.
    - `sequence`: time priority, smaller is earlier; None where the order of places is the order of time.
    """

    ticks: Int64
    lots: Int64
    displayed_lots: Int64 | None = None
    sequence: Int64 | None = None

    def __len__(self) -> int:
        return len(self.ticks)


def bids(rows: Iterable[tuple[int | None, int]]) -> Side:
    """Return buy orders from rows of (limit in ticks or None for a market order, lots)."""
    return _side(rows, market=MARKET)


def asks(rows: Iterable[tuple[int | None, int]]) -> Side:
    """Return sell orders from rows of (limit in ticks or None for a market order, lots)."""
    return _side(rows, market=-MARKET)


def _side(rows: Iterable[tuple[int | None, int]], *, market: int) -> Side:
    pairs = [(market if tick is None else tick, lots) for tick, lots in rows]
    try:
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    except OverflowError as error:
        raise InvalidBook("A price or quantity does not fit a signed 64-bit integer.") from error
    return Side(ticks=np.ascontiguousarray(table[:, 0]), lots=np.ascontiguousarray(table[:, 1]))


def refuse_overflow(lots: Int64) -> None:
    """
    Make sure that sums of these lots are exact.

    :raises BookTooLarge: if they do not fit 64 bits together.
    """
    if lots.size == 0 or int(lots.max()) <= INT64_MAX // lots.size:
        return
    total = (int((lots >> 32).sum()) << 32) + int((lots & 0xFFFFFFFF).sum())
    if total > INT64_MAX:
        raise BookTooLarge(f"One side of the book adds up to {total} lots; at most {INT64_MAX} can be cleared.")


class Candidate(NamedTuple):
    """One price at which the book could clear."""

    tick: int
    bid_lots: int
    ask_lots: int

    @property
    def volume_lots(self) -> int:
        """What would trade."""
        return min(self.bid_lots, self.ask_lots)

    @property
    def surplus_lots(self) -> int:
        """What would be left over: buyers' lots above, sellers' below zero."""
        return self.bid_lots - self.ask_lots


@dataclass(frozen=True, eq=False)
class Curves:
    """
    Demand and supply at each limit of the book, from the lowest tick to the highest.

    `bid_lots` are the lots that would buy at that tick, `ask_lots` those that would sell; market orders are in both.
    """

    ticks: Int64
    bid_lots: Int64
    ask_lots: Int64
    market_bid_lots: int
    market_ask_lots: int
    best_bid_tick: int | None
    best_ask_tick: int | None

    @cached_property
    def volume_lots(self) -> Int64:
        """What would trade at each tick."""
        return np.minimum(self.bid_lots, self.ask_lots)

    @cached_property
    def surplus_lots(self) -> Int64:
        """What would be left over at each tick, positive where it is bids. It never rises from one tick to the next."""
        return self.bid_lots - self.ask_lots

    def with_market_lots(self, bid_lots: int, ask_lots: int) -> "Curves":
        """Return the curves with so many lots more that buy and sell at every price."""
        if not bid_lots and not ask_lots:
            return self
        return replace(
            self,
            bid_lots=self.bid_lots + bid_lots,
            ask_lots=self.ask_lots + ask_lots,
            market_bid_lots=self.market_bid_lots + bid_lots,
            market_ask_lots=self.market_ask_lots + ask_lots,
        )

    def candidate(self, place: int) -> Candidate:
        """Return the figures of the limit at `place`."""
        return Candidate(int(self.ticks[place]), int(self.bid_lots[place]), int(self.ask_lots[place]))

    def at(self, tick: int) -> Candidate:
        """Return the figures at any tick, be it a limit of the book or not."""
        above = int(np.searchsorted(self.ticks, tick, side="left"))
        below = int(np.searchsorted(self.ticks, tick, side="right")) - 1
        buying = int(self.bid_lots[above]) if above < self.ticks.size else self.market_bid_lots
        selling = int(self.ask_lots[below]) if below >= 0 else self.market_ask_lots
        return Candidate(tick, buying, selling)


def curves_of(bids: Side, asks: Side, *, also: Sequence[int] = ()) -> Curves:
    """
    Add up both sides at each of their limits, and at the ticks `also` given, exactly.

    :raises InvalidBook: for an order of less than one lot or a limit beyond `LAST_TICK`.
    :raises BookTooLarge: if the lots of a side do not fit 64 bits together.
    """
    bid_range, ask_range = _range(bids, buying=True), _range(asks, buying=False)
    ends = [*also, *(end for of_side in (bid_range, ask_range) if of_side for end in of_side)]
    lowest, highest = (min(ends), max(ends)) if ends else (0, 0)
    if lowest < -LAST_TICK or highest > LAST_TICK:
        raise InvalidBook(f"A limit lies beyond ±{LAST_TICK} ticks.")

    more = np.array(also, dtype=np.int64)
    if highest - lowest < 4 * (len(bids) + len(asks)) + 32_768:
        # One place more at either end, for market orders; places are ticks themselves where those are small numbers.
        first = 0 if 0 < lowest <= highest < 32_768 else lowest - 1
        bids_at = _histogram(bids, first, highest + 1, buying=True)
        asks_at = _histogram(asks, first, highest + 1, buying=False)
        in_book = bids_at | asks_at
        in_book[more - first] = 1
        used = np.flatnonzero(in_book[1:-1]) + 1
        ticks, market_bid_lots, market_ask_lots = used + first, int(bids_at[-1]), int(asks_at[0])
        bids_at, asks_at = bids_at[used], asks_at[used]
    else:  # few orders far apart: only here are limits sorted
        ticks, places = np.unique(np.concatenate((bids.ticks, asks.ticks, more)), return_inverse=True)
        bids_at, asks_at = np.zeros((2, ticks.size), dtype=np.int64)
        np.add.at(bids_at, places[: len(bids)], bids.lots)
        np.add.at(asks_at, places[len(bids) : len(bids) + len(asks)], asks.lots)
        market_bid_lots, market_ask_lots = int(bids_at[ticks == MARKET].sum()), int(asks_at[ticks == -MARKET].sum())
        used = np.flatnonzero((ticks != MARKET) & (ticks != -MARKET))
        ticks, bids_at, asks_at = ticks[used], bids_at[used], asks_at[used]
    return Curves(
        ticks=ticks,
        bid_lots=market_bid_lots + np.cumsum(bids_at[::-1])[::-1],
        ask_lots=market_ask_lots + np.cumsum(asks_at),
        market_bid_lots=market_bid_lots,
        market_ask_lots=market_ask_lots,
        best_bid_tick=bid_range[1] if bid_range else None,
        best_ask_tick=ask_range[0] if ask_range else None,
    )


def _range(side: Side, *, buying: bool) -> tuple[int, int] | None:
    """Check the quantities, and return the lowest and the highest limit; None if there are only market orders."""
    if len(side) == 0:
        return None
    # A market order's limit is the last integer but for this shift, which wraps it around to the far end: so a plain
    # minimum and maximum pass it over, without a pass to pick out the others.
    shift = 1 if buying else -2
    low, high, least, most = MARKET, -MARKET, MARKET, 0
    for piece in _pieces(len(side)):
        ticks, lots = side.ticks[piece], side.lots[piece]
        shifted = ticks + shift
        low = min(low, int(ticks.min()) if buying else int(shifted.min()) - shift)
        high = max(high, int(shifted.max()) - shift if buying else int(ticks.max()))
        least, most = min(least, int(lots.min())), max(most, int(lots.max()))
    if least < 1:
        raise InvalidBook("Every order must be of at least one lot.")
    if most > INT64_MAX // len(side):
        refuse_overflow(side.lots)
    return (low, high) if low <= high else None


def _histogram(side: Side, first: int, last: int, *, buying: bool) -> Int64:
    """
    Return the lots at each tick from `first` to `last`, where market orders count at the end they would pay. Not by
    `np.bincount`: its weights are float64, inexact above 2**53.
    """
    levels = np.zeros(last - first + 1, dtype=np.int64)
    for piece in _pieces(len(side)):
        ticks = np.minimum(side.ticks[piece], last) if buying else np.maximum(side.ticks[piece], first)
        np.add.at(levels, ticks - first if first else ticks, side.lots[piece])
    return levels


def _pieces(length: int) -> Iterator[slice]:
    """Yield slices small enough that what is computed from one stays in the processor's cache."""
    return (slice(start, start + 32_768) for start in range(0, length, 32_768))
