"""
What a call phase hands to the auction, and what the auction's result does to the book.

An auction that concerns one book alone is decided here (`decide`). A session over several books decides elsewhere, from
the same `sealed` sides, and names the fills in its UNCROSS command.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from exchange.domain.sides import MARKET, Side

MODES = tuple(SelfTradeMode(name) for name in ("none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"))


class Trade(NamedTuple):
    """A pair of orders that the auction matched."""

    buy: int
    sell: int
    lots: int


class Sealed(NamedTuple):
    """Both sides of a call as the auction sees them; `bid_orders[i]` is the number of the order at place i."""

    bids: Side
    asks: Side
    bid_orders: list[int]
    ask_orders: list[int]


def gathered(side: BookSide) -> Iterator[Order]:
    """Yield the orders of one side that take part in an auction by themselves, in order of priority."""
    yield from (order for order in side.markets if order[OPEN])
    for _, queue in side.in_order():
        yield from (order for order in queue if order[OPEN])


def self_trades(book: Matching) -> dict[int, int]:
    """Return the lots to take out of each order so that no control group can trade with itself."""
    buys: dict[int, int] = {}  # group: best key, of those that have both sides
    sells: dict[int, int] = {}
    careful: set[int] = set()
    members = [*gathered(book.bids), *gathered(book.asks)]
    for order in members:
        group, best = group_of(order), sells if order[SIDE] else buys
        key = _tick(order) if order[SIDE] else -_tick(order)
        best[group] = min(best.get(group, key), key)
        if order[FLAGS] & STP:
            careful.add(group)
    crossing = {group for group in careful if group in buys and group in sells and sells[group] <= -buys[group]}
    if not crossing:
        return {}
    members = sorted((one for one in members if group_of(one) in crossing), key=lambda one: (one[AGE], one[NUMBER]))
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


def sealed(book: Matching, without: dict[int, int]) -> Sealed:
    """Return the sides of the book less what self-trade prevention takes (`without`), and less conditional orders."""
    sides, numbers = [], []
    for own in book.sides:
        members = [(one, one[OPEN] - without.get(one[NUMBER], 0)) for one in gathered(own)]
        members = [(one, lots) for one, lots in members if lots]
        table = np.array([(_tick(one), lots, min(shown_of(one), lots)) for one, lots in members], dtype=np.int64)
        ticks, lots, shown = np.ascontiguousarray(table.reshape(-1, 3).T)
        sides.append(Side(ticks, lots, None if np.array_equal(lots, shown) else shown))
        numbers.append([one[NUMBER] for one, _ in members])
    return Sealed(sides[BUY], sides[SELL], numbers[BUY], numbers[SELL])


def decide(book: Matching, without: dict[int, int], reference: int) -> tuple[Determination, list[Trade]]:
    """Determine price and trades of an auction over this book alone. `reference` 0 is none."""
    bids, asks, bid_orders, ask_orders = sealed(book, without)
    margin = Margin.PRO_RATA if book.terms.pro_rata else Margin.TIME
    clearing = clear(bids, asks, reference or None, margin=margin)
    pairs = pair(bids, asks, clearing.bid_fills, clearing.ask_fills)
    rows = zip(pairs.bid.tolist(), pairs.ask.tolist(), pairs.lots.tolist(), strict=True)
    return clearing.price, [Trade(bid_orders[bid], ask_orders[ask], lots) for bid, ask, lots in rows]


def match_up(
    book: Matching, price: int, fills: tuple[tuple[int, int], ...], without: dict[int, int]
) -> list[Trade] | None:
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
    trades = []
    while buys:
        (buy, buy_lots), (sell, sell_lots) = buys[0], sells[0]
        lots = min(buy_lots, sell_lots)
        trades.append(Trade(buy, sell, lots))
        buys[:1] = [(buy, buy_lots - lots)] if buy_lots > lots else []
        sells[:1] = [(sell, sell_lots - lots)] if sell_lots > lots else []
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


def _takes_part(order: Order) -> bool:
    return order[EXTRA] is None or order[EXTRA].place <= CONDITIONAL
