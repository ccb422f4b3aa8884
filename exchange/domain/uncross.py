"""
What a call phase hands to the auction, and what the auction's result does to the book.

An auction that concerns one book alone is decided here (`decide`). A session over several books decides elsewhere, from
the same `sealed` sides, and names the fills in its UNCROSS command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from exchange.domain.allocation import Margin, clear, pair
from exchange.domain.auction import Determination, determine_price
from exchange.domain.book_parts import (
    AGE,
    CONDITIONAL,
    EXTRA,
    FLAGS,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    SIDE,
    BookSide,
    Order,
    group_of,
    key_of,
    shown_of,
)
from exchange.domain.matching import Matching
from exchange.domain.orders import BUY, SELL, STP
from exchange.domain.self_trades import GroupOrder, SelfTradeMode, prevent_self_trades
from exchange.domain.sides import MARKET, Int64, Side

MODES = tuple(SelfTradeMode(name) for name in ("none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"))
SEEN = itemgetter(OPEN, NUMBER, OWNER, PRICE, EXTRA)  # what an auction looks at: taken at once, for memory is slow
NOTHING: tuple[tuple[()], ...] = ((),) * 5


class Trades(NamedTuple):
    """
    What an auction matched, in columns: of each trade the buy order, the sell order and the lots; and each order that
    trades with the lots of all its trades. `tips`: whether one of them may be an iceberg, and show its next tip.
    """

    buys: list[int]
    sells: list[int]
    lots: list[int]
    filled: list[tuple[Order, int]]
    tips: bool


class Gathered(NamedTuple):
    """The orders that take part in an auction by themselves, each side's in order of priority."""

    bids: list[Order]
    asks: list[Order]


class Sealed(NamedTuple):
    """
    Both sides of a call as the auction sees them; `bid_orders[i]` is the number of the order at place i of the bids,
    `bid_owners[i]` its owner's.
    """

    bids: Side
    asks: Side
    bid_orders: list[int]
    ask_orders: list[int]
    bid_owners: Int64
    ask_owners: Int64


class Cleared(NamedTuple):
    """What an auction over one book was decided from, and what came of it."""

    sealed: Sealed
    determined: Determination
    trades: Trades


def gathered(book: Matching) -> Gathered:
    """Return the orders that take part in an auction by themselves."""
    return Gathered(*([order for queue in _queues(side) for order in queue if order[OPEN]] for side in book.sides))


def _queues(side: BookSide) -> Iterator[Iterable[Order]]:
    """Yield the queues of one side in order of priority, dead orders in them."""
    yield side.markets
    for _, queue in side.in_order():
        yield queue


def self_trades(orders: Gathered) -> dict[int, int]:
    """Return the lots to take out of each order so that no control group can trade with itself."""
    bids, asks = orders
    if _groups(bids).isdisjoint(_groups(asks)):
        return {}
    best_buys, best_sells = _best_by_group(bids), _best_by_group(asks)
    crossing = {group for group, key in best_buys.items() if group in best_sells and best_sells[group] <= -key}
    if not crossing:
        return {}
    members = [one for one in (*bids, *asks) if group_of(one) in crossing]
    careful = {group_of(one) for one in members if one[FLAGS] & STP}
    members = sorted((one for one in members if group_of(one) in careful), key=lambda one: (one[AGE], one[NUMBER]))
    candidates = [
        GroupOrder(one[NUMBER], group_of(one), one[SIDE] == BUY, _tick(one), one[OPEN], age, mode)
        for age, one, mode in ((age, one, MODES[(one[FLAGS] & STP) >> 8]) for age, one in enumerate(members))
    ]
    prevent_self_trades(candidates)
    return {
        one.order: order[OPEN] - one.lots
        for one, order in zip(candidates, members, strict=True)
        if one.lots < order[OPEN]
    }


def _groups(orders: Sequence[Order]) -> set[int]:
    """Return the control groups of one side's orders."""
    named = {group_of(order) for order in orders if order[EXTRA] is not None}
    return named.union(order[OWNER] for order in orders if order[EXTRA] is None)


def _best_by_group(orders: Sequence[Order]) -> dict[int, int]:
    """Return the best key of each control group of one side: that of its first order by priority."""
    best: dict[int, int] = {}
    for order in orders:
        group = order[OWNER] if order[EXTRA] is None else group_of(order)
        if group not in best:
            best[group] = _tick(order) if order[SIDE] else -_tick(order)
    return best


def is_thin(book: Matching) -> bool:
    """Say whether fewer than two owners buy or fewer than two sell in a call."""
    for side in book.sides:
        first = None
        for order in chain.from_iterable(_queues(side)):
            if not order[OPEN]:
                continue
            if first is None:
                first = order[OWNER]
            elif order[OWNER] != first:
                break
        else:
            return True
    return False


def sealed(orders: Gathered, without: dict[int, int]) -> Sealed:
    """
    Return the sides of a book as its auction sees them.

    :param without: the lots that self-trade prevention takes out of orders, by number.
    """
    sides, numbers, owners = [], [], []
    for members, market in ((orders.bids, MARKET), (orders.asks, -MARKET)):
        open_lots, of_orders, of_owners, prices, extras = zip(*map(SEEN, members), strict=True) if members else NOTHING
        lots, ticks = _column(open_lots), _column(prices)
        if without:
            lots -= _column([without.get(number, 0) for number in of_orders])
        shown = None
        if any(extra is not None and extra.display for extra in extras):
            shown = np.minimum(_column([shown_of(order) for order in members]), lots)
        sides.append(Side(np.where(ticks, ticks, market), lots, shown))
        numbers.append([*of_orders])
        owners.append(_column(of_owners))
    return Sealed(sides[BUY], sides[SELL], numbers[BUY], numbers[SELL], owners[BUY], owners[SELL])


def sealed_book(book: Matching) -> Sealed:
    """Return the sides of a book as its auction sees them now, self-trades prevented."""
    orders = gathered(book)
    without = self_trades(orders)
    return sealed(less(orders, without), without)


def less(orders: Gathered, without: dict[int, int]) -> Gathered:
    """Return the orders of which something is left when self-trade prevention has taken its lots out."""
    if not without:
        return orders
    return Gathered(*([one for one in side if one[OPEN] > without.get(one[NUMBER], 0)] for side in orders))


def decide(book: Matching, orders: Gathered, without: dict[int, int], reference: int) -> Cleared:
    """Determine price and trades of an auction over this book alone. `reference` 0 is none."""
    orders = less(orders, without)
    sides = sealed(orders, without)
    margin = Margin.PRO_RATA if book.terms.pro_rata else Margin.TIME
    clearing = clear(sides.bids, sides.asks, reference or None, margin=margin)
    pairs = pair(sides.bids, sides.asks, clearing.bid_fills, clearing.ask_fills)
    buys, sells = np.array(sides.bid_orders, np.int64), np.array(sides.ask_orders, np.int64)
    filled = [*_filled(orders.bids, clearing.bid_fills), *_filled(orders.asks, clearing.ask_fills)]
    tips = sides.bids.displayed_lots is not None or sides.asks.displayed_lots is not None
    trades = Trades(buys[pairs.bid].tolist(), sells[pairs.ask].tolist(), pairs.lots.tolist(), filled, tips)
    return Cleared(sides, clearing.price, trades)


def _filled(orders: Sequence[Order], fills: Int64) -> Iterable[tuple[Order, int]]:
    """Return each order that is filled, with its lots."""
    places = np.flatnonzero(fills)
    return zip([orders[place] for place in places.tolist()], fills[places].tolist(), strict=True)


def match_up(
    book: Matching, price: int, fills: tuple[tuple[int, int], ...], without: dict[int, int]
) -> Trades | None:
    """
    Return the trades of fills that a session decided, buys and sells each in the order given; None if they cannot be:
    an order that is not open so far, a limit not kept, an order named twice, sides of different size.
    """
    queues: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    if len({number for number, _ in fills}) < len(fills):
        return None
    for number, lots in fills:
        order = book.orders.get(number)
        if order is None or not 0 < lots <= order[OPEN] - without.get(number, 0) or not _takes_part(order):
            return None
        if order[PRICE] and key_of(order) > (price if order[SIDE] else -price):
            return None
        queues[order[SIDE]].append((number, lots))
    buys, sells = queues
    if sum(lots for _, lots in buys) != sum(lots for _, lots in sells):
        return None
    filled = [(book.orders[number], lots) for number, lots in fills]
    tips = any(order[EXTRA] is not None and order[EXTRA].display for order, _ in filled)
    trades = Trades([], [], [], filled, tips)
    waiting = iter(sells)
    sell, sell_lots = 0, 0
    for buy, buy_lots in buys:
        while buy_lots:
            if not sell_lots:
                sell, sell_lots = next(waiting)
            lots = min(buy_lots, sell_lots)
            trades.buys.append(buy)
            trades.sells.append(sell)
            trades.lots.append(lots)
            buy_lots, sell_lots = buy_lots - lots, sell_lots - lots
    return trades


def indicative(book: Matching, reference: int = 0) -> Determination:
    """
    Return what an uncross would determine now, before self-trade prevention. The auction gets levels, not orders.
    """
    sides = []
    for own, market in ((book.bids, MARKET), (book.asks, -MARKET)):
        rows = [(abs(key), sum([order[OPEN] for order in queue])) for key, queue in own.levels.items()]
        rows.append((market, sum([order[OPEN] for order in own.markets])))
        ticks, lots = np.array([row for row in rows if row[1]], dtype=np.int64).reshape(-1, 2).T
        sides.append(Side(np.ascontiguousarray(ticks), np.ascontiguousarray(lots)))
    return determine_price(sides[BUY], sides[SELL], min(reference, book.terms.cap) or None)


def _tick(order: Order) -> int:
    price: int = order[PRICE]
    return price or (-MARKET if order[SIDE] else MARKET)


def _column(numbers: Sequence[int]) -> Int64:
    return np.fromiter(numbers, np.int64, len(numbers))


def _takes_part(order: Order) -> bool:
    return order[EXTRA] is None or order[EXTRA].place <= CONDITIONAL
