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
from exchange.domain.sides import INT64_MAX, Bool, Int64, InvalidBook, Side, refuse_overflow


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
    Return the lots filled of each bid and of each ask, in the order given; each side adds up to the volume.

    :raises InvalidBook: if a side cannot fill the volume at this price.
    """
    if price.price_tick is None:
        return np.zeros(len(bids), dtype=np.int64), np.zeros(len(asks), dtype=np.int64)
    refuse_overflow(bids.lots)
    refuse_overflow(asks.lots)
    tick, volume = price.price_tick, price.volume_lots
    return (
        _fill(bids, bids.ticks > tick, bids.ticks == tick, volume, buying=True, margin=margin),
        _fill(asks, asks.ticks < tick, asks.ticks == tick, volume, buying=False, margin=margin),
    )


def _fill(side: Side, better: Bool, level: Bool, volume: int, *, buying: bool, margin: Margin) -> Int64:
    """Deal `volume` lots to the orders `better` than the price, then to those exactly at it."""
    fills: Int64 = side.lots * better  # four times as fast as `np.where`
    rest = volume - int(fills.sum())
    if rest > 0:
        places = np.flatnonzero(level)
        fills[places] = _share(side, places, rest, margin)
    elif rest < 0:  # the margin lies among the better orders: there are more market orders than volume, say
        fills[:] = 0
        rest = volume
        key = side.ticks if buying else -side.ticks
        for limit in np.unique(key[better])[::-1]:
            places = np.flatnonzero(key == limit)
            at_limit = int(side.lots[places].sum())
            if at_limit >= rest:
                fills[places] = _share(side, places, rest, margin)
                break
            fills[places] = side.lots[places]
            rest -= at_limit
    return fills


def _share(side: Side, places: npt.NDArray[np.intp], rest: int, margin: Margin) -> Int64:
    """Return what each of the orders at `places`, all of one price, gets of `rest` lots."""
    lots = side.lots[places]
    available = int(lots.sum())
    if available == rest:
        return lots
    if available < rest:
        raise InvalidBook("The book cannot fill the volume at this price.")
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
    if rest <= shown:
        return split(displayed, rest)[by_time]
    return (displayed + split(hidden, rest - shown))[by_time]


def in_time_order(lots: Int64, rest: int) -> Int64:
    """Return `rest` lots dealt to the first until it is full, then to the next; `rest` is at most the sum of `lots`."""
    before = np.cumsum(lots) - lots
    return np.minimum(np.maximum(rest - before, 0), lots)


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
