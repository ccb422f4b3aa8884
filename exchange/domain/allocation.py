"""
Who trades at the auction's price, and with whom.

Rule 8: orders are filled by price (market orders first), then displayed before hidden, then time; so at most one order
is partly filled at the margin (of an iceberg, its displayed and its hidden part stand in the queue one by one). A grade
may choose pro-rata instead: everyone at the margin gets their share, what rounding leaves goes lot by lot to the
largest remainders, and the sum is exact to the lot.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from exchange.domain.auction import Determination, determine_price
from exchange.domain.sides import INT64_MAX, Int64, InvalidBook, Side


class Margin(StrEnum):
    """How the lots at the marginal price are shared."""

    TIME = "time"
    PRO_RATA = "pro_rata"


@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Trades as arrays of equal length: place of the buy order, place of the sell order, lots."""

    bid: npt.NDArray[np.intp]
    ask: npt.NDArray[np.intp]
    lots: Int64


@dataclass(frozen=True, eq=False, slots=True)
class Clearing:
    """A cleared auction: its price and why, and the lots filled of each order, in the order they were given."""

    price: Determination
    bid_fills: Int64
    ask_fills: Int64


def clear(bids: Side, asks: Side, reference_tick: int | None, *, margin: Margin = Margin.TIME) -> Clearing:
    """
    Determine the price and allocate the volume.

    :raises InvalidBook: see `exchange.domain.sides.curves_of`.
    """
    price = determine_price(bids, asks, reference_tick)
    bid_fills, ask_fills = allocate(bids, asks, price, margin=margin)
    return Clearing(price, bid_fills, ask_fills)


def allocate(bids: Side, asks: Side, price: Determination, *, margin: Margin = Margin.TIME) -> tuple[Int64, Int64]:
    """
    Return the lots filled of each bid and of each ask, in the order given, for the price determined from these sides.

    Everyone at or better than the price is filled; then the surplus is cut from the side that has one, at its margin.
    So each side adds up to the volume (less what accepted blocks take of it).
    """
    if price.price_tick is None:
        return np.zeros(len(bids), dtype=np.int64), np.zeros(len(asks), dtype=np.int64)
    # One array for both: from 4 MB on numpy gets huge pages, and a million fills take half the time. And a product with
    # the mask is four times as fast as `np.where`.
    fills = np.empty(len(bids) + len(asks), dtype=np.int64)
    bid_fills, ask_fills = fills[: len(bids)], fills[len(bids) :]
    np.multiply(bids.lots, bids.ticks >= price.price_tick, out=bid_fills)
    np.multiply(asks.lots, asks.ticks <= price.price_tick, out=ask_fills)
    if price.surplus_lots > 0:
        _cut(bids, bid_fills, price.price_tick, price.surplus_lots, buying=True, margin=margin)
    elif price.surplus_lots < 0:
        _cut(asks, ask_fills, price.price_tick, -price.surplus_lots, buying=False, margin=margin)
    return bid_fills, ask_fills


def _cut(side: Side, fills: Int64, tick: int, excess: int, *, buying: bool, margin: Margin) -> None:
    """Take `excess` lots out of the fills of a side, from the price towards better limits."""
    at_price = np.flatnonzero(side.ticks == tick)
    if (available := int(side.lots[at_price].sum())) >= excess:
        fills[at_price] = _share(side, at_price, available - excess, margin)
        return
    # Not even without those at the price: more market orders than volume, say.
    limits = np.unique(side.ticks[fills > 0])
    for limit in limits if buying else limits[::-1]:
        places = np.flatnonzero(side.ticks == limit)
        available = int(side.lots[places].sum())
        fills[places] = _share(side, places, max(0, available - excess), margin)
        excess -= available
        if excess <= 0:
            return
    raise InvalidBook("This price was not determined from this book.")


def _share(side: Side, places: npt.NDArray[np.intp], rest: int, margin: Margin) -> Int64:
    """Return what each of the orders at `places`, all of one price, gets of `rest` lots."""
    lots = side.lots[places]
    if side.sequence is not None:
        order = np.argsort(side.sequence[places], kind="stable")
        by_time = np.empty_like(order)
        by_time[order] = np.arange(order.size)
    else:
        order = by_time = np.arange(places.size)
    split = in_time_order if margin is Margin.TIME else pro_rata

    if side.displayed_lots is None:
        return split(lots[order], rest)[by_time]
    displayed = np.minimum(side.displayed_lots[places], lots)[order]
    hidden = lots[order] - displayed
    shown = int(displayed.sum())
    dealt: Int64 = split(displayed, rest) if rest <= shown else displayed + split(hidden, rest - shown)
    return dealt[by_time]


def in_time_order(lots: Int64, rest: int) -> Int64:
    """Return `rest` lots dealt to the first until it is full, then to the next; `rest` is at most the sum of `lots`."""
    before = np.cumsum(lots) - lots
    dealt: Int64 = np.minimum(np.maximum(rest - before, 0), lots)
    return dealt


def pro_rata(lots: Int64, rest: int) -> Int64:
    """
    Return `rest` lots dealt in proportion to `lots`, exact to the lot: each gets the whole part of its share, then the
    largest remainders one lot more each, the earlier first among equals. `rest` is at most the sum of `lots`.
    """
    total = int(lots.sum())
    if total in (0, rest):
        return lots.copy()
    if rest <= INT64_MAX // max(int(lots.max()), 1):
        shares, remainders = np.divmod(lots * rest, total)
    else:  # the products need up to 126 bits
        parts = [divmod(quantity * rest, total) for quantity in lots.tolist()]
        shares = np.array([share for share, _ in parts], dtype=np.int64)
        remainders = np.array([remainder for _, remainder in parts], dtype=np.int64)
    left = rest - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:left]] += 1
    return shares


def pair(bids: Side, asks: Side, bid_fills: Int64, ask_fills: Int64) -> Pairs:
    """
    Return the trades: filled buys and filled sells, each in order of priority (price, then time), walked with two
    pointers. Every trade is against the exchange; the pairing only says which two orders stand on its row.
    """
    bid_places, ask_places = _by_priority(bids, bid_fills, buying=True), _by_priority(asks, ask_fills, buying=False)
    bid_ends, ask_ends = np.cumsum(bid_fills[bid_places]), np.cumsum(ask_fills[ask_places])
    both = np.concatenate((bid_ends, ask_ends))
    both.sort()
    ends = both[np.flatnonzero(np.diff(both, prepend=0))]  # a trade ends where a buy or a sell is exhausted
    return Pairs(
        bid=bid_places[np.searchsorted(bid_ends, ends)],
        ask=ask_places[np.searchsorted(ask_ends, ends)],
        lots=np.diff(ends, prepend=0),
    )


def _by_priority(side: Side, fills: Int64, *, buying: bool) -> npt.NDArray[np.intp]:
    places = np.flatnonzero(fills)
    if side.sequence is not None:
        places = places[np.argsort(side.sequence[places], kind="stable")]
    limits = side.ticks[places]
    return places[np.argsort(-limits if buying else limits, kind="stable")]
