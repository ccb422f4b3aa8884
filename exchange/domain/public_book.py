"""
What the public may see of an order book, order by order and without names, and how it changed.

A *row* is `(order, side, price, lots)`: the order's number within its market, its side, its price in ticks (0: a
market order of a call) and the lots it shows; hidden lots, stops, conditional and waiting orders are no part of it.
Rows are changes, applied in their order: zero lots take the order out; an order that is not there yet goes last at its
price; one that is there keeps its place. An order that lost its place is therefore taken out and put in again.

The same rows give the same book to everybody: the worker finds them (`Published.changes`), others apply them
(`PublicBook.apply`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nlargest, nsmallest
from typing import NamedTuple, TypeAlias
from zlib import crc32

from exchange.domain.book_parts import EXTRA, MARKETS, NUMBER, OPEN, PRICE, QUEUED, SIDE, Order, shown_of
from exchange.domain.matching import Matching
from exchange.domain.orders import BUY, SELL, EventRow
from exchange.domain.resting import ACCEPTED, CANCELLED, FILL, HALTED, REFRESHED, REPLACED, TRIGGERED

Row: TypeAlias = tuple[int, int, int, int]
CHECKED_LEVELS = 10


class Level(NamedTuple):
    """A price level: its price in ticks, the lots shown there, and the number of orders."""

    price: int
    lots: int
    orders: int


def row_of(order: Order) -> Row | None:
    """Return what the public sees of an order that is in the book; None if that is nothing."""
    extra = order[EXTRA]
    if extra is None:
        return order[NUMBER], order[SIDE], order[PRICE], order[OPEN]
    if extra.place == QUEUED:
        return order[NUMBER], order[SIDE], order[PRICE], shown_of(order)
    if extra.place == MARKETS:
        return order[NUMBER], order[SIDE], 0, order[OPEN]
    return None


class Published:
    """What has been published of a book: to find, after some commands, what there is to say."""

    __slots__ = ("rows",)

    def __init__(self, book: Matching) -> None:
        self.rows: dict[int, Row] = {row[0]: row for row in whole(book)}

    def changes(self, book: Matching, events: Iterable[EventRow]) -> tuple[list[Row], dict[int, list[int]]]:
        """
        Return the rows that bring readers from what was published to the book as it is now, and take them as published;
        and by member the numbers of its orders that the events are about, fills apart: those name no owner.

        `events` are those of the commands in between; the work is in proportion to them, not to the book, unless the
        phase has changed.
        """
        touched: dict[int, None] = {}  # in the order of their first event, which is that of arrival
        again: set[int] = set()  # orders that may have come last in a queue later than when they arrived
        owned: defaultdict[int, list[int]] = defaultdict(list)
        phased = False
        for event, number, other, _, _, detail in events:
            if event == FILL:
                touched[number] = touched[other] = None
            elif event in (ACCEPTED, CANCELLED):
                touched[number] = None
                owned[other].append(number)
            elif event <= REFRESHED:
                touched[number] = None
                owned[other].append(number)
                if event in (REFRESHED, TRIGGERED) or (event == REPLACED and not detail):
                    again.add(number)
            elif event != HALTED:
                phased = True
        before, orders = self.rows, book.orders
        if phased:  # orders come in and go out of a phase without an event of their own
            touched |= dict.fromkeys(before)
            touched |= dict.fromkeys(orders)
            again |= orders.keys() - before.keys()
        gone: list[Row] = []
        changed: list[Row] = []
        added: dict[int, Row] = {}
        new: Row | None
        for number in touched:
            order = orders.get(number)
            if order is None:
                old = before.pop(number, None)
                if old is not None:
                    gone.append((number, old[1], old[2], 0))
                continue
            old = before.get(number)
            if order[EXTRA] is None:
                new = (number, order[SIDE], order[PRICE], order[OPEN])
            else:
                new = row_of(order)
            if new is None:
                if old is not None:
                    gone.append((number, old[1], old[2], 0))
                    del before[number]
            elif old is None:
                before[number] = added[number] = new
            elif number in again or old[2] != new[2]:
                gone.append((number, old[1], old[2], 0))
                before[number] = added[number] = new
            elif old[3] != new[3]:
                before[number] = new
                changed.append(new)
        if again:
            _by_place(book, added, again)
        gone += changed
        gone += added.values()
        return gone, owned


def whole(book: Matching) -> list[Row]:
    """Return a row for every order that the public sees, by side, price and place."""
    rows: list[Row] = []
    for side in book.sides:
        rows += [row for one in side.markets if one[OPEN] and (row := row_of(one))]
        for _, queue in side.in_order():
            rows += [row for one in queue if one[OPEN] and (row := row_of(one))]
    return rows


def _by_place(book: Matching, added: dict[int, Row], again: set[int]) -> None:
    """Bring the rows of queues that orders have joined again into the order of their places, which are the last."""
    queues: dict[tuple[int, int], dict[int, Row]] = {added[number][1:3]: {} for number in again if number in added}
    for number, (_, side, price, _) in added.items():
        if (side, price) in queues:
            queues[side, price][number] = added[number]
    for (side, price), rows in queues.items():
        own = book.sides[side]
        queue = own.levels[-price if side == BUY else price] if price else own.markets
        placed: list[Row] = []
        for order in reversed(queue):
            if order[OPEN]:
                row = rows.get(order[NUMBER])
                if row is None:
                    break
                placed.append(row)
        if len(placed) != len(rows):
            raise AssertionError(f"orders that joined the queue at {price} are not its last")
        for number, _, _, _ in placed:
            del added[number]
        added.update((row[0], row) for row in reversed(placed))


class PublicBook:
    """The book that rows make: orders by number, in the order of their places, and the levels they add up to."""

    __slots__ = ("levels", "rows")

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows: dict[int, Row] = {}
        self.levels: tuple[dict[int, Level], dict[int, Level]] = ({}, {})
        self.apply(rows)

    def apply(self, rows: Iterable[Row]) -> set[tuple[int, int]]:
        """Apply rows and return the levels that they touched, as (side, price)."""
        touched: set[tuple[int, int]] = set()
        for row in rows:
            number, side, price, lots = row
            if lots:
                old = self.rows.get(number)
                self.rows[number] = row
                self._move(side, price, lots - (old[3] if old else 0), 0 if old else 1)
            else:
                side, price, lots = self.rows.pop(number)[1:]
                self._move(side, price, -lots, -1)
            touched.add((side, price))
        return touched

    def _move(self, side: int, price: int, lots: int, orders: int) -> None:
        level = self.levels[side].get(price)
        if level is not None:
            lots, orders = level.lots + lots, level.orders + orders
        if orders:
            self.levels[side][price] = Level(price, lots, orders)
        else:
            del self.levels[side][price]

    def level(self, side: int, price: int) -> Level:
        """Return one level, which may be empty."""
        return self.levels[side].get(price, Level(price, 0, 0))

    def side(self, side: int, most: int | None = None) -> list[Level]:
        """Return the levels of a side that have a price, the best first; `most` of them if given."""
        prices = self.levels[side].keys() - {0}
        if most is not None and most < len(prices):
            best = nlargest(most, prices) if side == BUY else nsmallest(most, prices)
        else:
            best = sorted(prices, reverse=side == BUY)
        return [self.levels[side][price] for price in best]

    def orders(self, side: int) -> list[Row]:
        """Return the rows of one side: market orders first, then from the best price; at a price by place."""
        own = [row for row in self.rows.values() if row[1] == side]
        sign = -1 if side == BUY else 1
        return sorted(own, key=lambda row: sign * row[2] if row[2] else -(2**40))

    def market_lots(self, side: int) -> int:
        """Return the lots of a call's market orders."""
        return self.level(side, 0).lots


def checksum(book: PublicBook, *, price_unit: int, lot_tokens: int) -> int:
    """
    Return the CRC32 of the best ten levels of each side as Kraken's v2 book defines it: asks from low to high, then
    bids from high to low, of each the price and the quantity as text without point and leading zeros.

    :param price_unit: a tick in units of the last decimal that the market's prices are written with.
    """
    levels: Sequence[Level] = [*book.side(SELL, CHECKED_LEVELS), *book.side(BUY, CHECKED_LEVELS)]
    return crc32("".join(f"{one.price * price_unit}{one.lots * lot_tokens}" for one in levels).encode())
