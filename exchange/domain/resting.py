"""
The state of one market's book, and where its orders are: how one comes to rest, shrinks, is filled, and leaves.

Nothing here decides who trades; `exchange.domain.matching` does.
"""

from __future__ import annotations

from typing import Final

from exchange.domain import orders as o
from exchange.domain.book_parts import (
    AGE,
    ASIDE,
    CONDITIONAL,
    EXTRA,
    FLAGS,
    MARKETS,
    NOWHERE,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    QUEUED,
    SIDE,
    BookSide,
    Order,
    key_of,
)
from exchange.domain.orders import ALL_OR_NONE, MINIMUM, EventRow, Kind, MarketTerms, Phase, Reason

# Plain integers: on Python 3.11 reaching for an enum's member costs as much as a third of a cancel.
MARKET: Final = int(Kind.MARKET)
STOP: Final = int(Kind.STOP)
STOP_LIMIT: Final = int(Kind.STOP_LIMIT)
ACCEPTED, REFUSED, FILL, CANCELLED, EXPIRED, REDUCED, REPLACED, TRIGGERED, REFRESHED, PHASE, UNCROSSED, HALTED = map(
    int, o.Event
)
CALL: Final = int(Phase.CALL)
CONTINUOUS: Final = int(Phase.CONTINUOUS)
UNFILLED: Final = int(Reason.UNFILLED)
WOULD_TAKE: Final = int(Reason.WOULD_TAKE)
SELF_TRADE: Final = int(Reason.SELF_TRADE)
TIDY_LEAST: Final = 8192
TIDY_PER_LEVEL: Final = 8  # looking at a queue costs as much as this many orders


class Resting:
    """The state of one market's book."""

    def __init__(self, terms: MarketTerms = MarketTerms(), phase: int = Phase.SCHEDULED) -> None:  # noqa: B008 (frozen)
        self.terms = terms
        self.phase = int(phase)
        self.halted = False
        self.last = 0
        self.reference = 0
        self.sequence = 0
        self.orders: dict[int, Order] = {}
        self.bids = BookSide()
        self.asks = BookSide()
        self.sides = (self.bids, self.asks)
        self.expiries: list[tuple[int, int]] = []  # heap of (time, number), stale ones among them
        self.conditionals = 0
        self.until_tidy = TIDY_LEAST
        self._cap, self._least, self._most = terms.cap, terms.minimum_lots, terms.maximum_lots
        self._low = self._high = 0
        self._moved = True  # whether the collars are others than the last command met
        self._collared = bool(terms.static_collar or terms.dynamic_collar)
        self._set_collars()

    def _rest(self, order: Order) -> None:
        """Put an order into its side: last in its level's queue, or where orders without a firm price wait."""
        self.orders[order[NUMBER]] = order
        side, extra = self.sides[order[SIDE]], order[EXTRA]
        if extra is not None:
            if order[FLAGS] & (ALL_OR_NONE | MINIMUM):
                extra.place = CONDITIONAL
                side.put_conditional(order)
                self.conditionals += 1
                return
            if not order[PRICE]:
                extra.place = MARKETS
                side.markets.append(order)
                return
            extra.place = QUEUED
            if extra.display:
                extra.shown = min(extra.display, order[OPEN])
        side.queue(key_of(order)).append(order)

    def _put_aside(self, order: Order) -> None:
        self.orders[order[NUMBER]] = order
        order[EXTRA].place = ASIDE

    def _detach(self, order: Order) -> Order:
        """
        Take an order out of the part of the book that holds it, and return it, now nowhere but in `orders`.

        What is returned is a copy: the original stays behind dead, as searching a queue for it would take long.
        """
        alive = order.copy()
        order[OPEN] = 0
        self._leave(order)
        self.orders[alive[NUMBER]] = alive
        if alive[EXTRA] is not None:
            alive[EXTRA].place = ASIDE
        return alive

    def _end(self, order: Order, reason: int, events: list[EventRow], event: int = CANCELLED) -> None:
        """End an order, wherever it is or if it is the taker."""
        events.append((event, order[NUMBER], order[OWNER], order[PRICE], order[OPEN], reason))
        order[OPEN] = 0
        self._leave(order)

    def _shrink(self, order: Order, lots: int) -> None:
        """Take open lots off an order without a trade, hidden ones first. At zero it leaves the book."""
        order[OPEN] -= lots
        extra = order[EXTRA]
        if extra is not None:
            extra.shown = min(extra.shown, order[OPEN])
        if not order[OPEN]:
            self._leave(order)

    def _fill(self, order: Order, lots: int, events: list[EventRow]) -> None:
        """Take traded lots off a resting order, shown ones first, and show the next tip when one is used up."""
        order[OPEN] -= lots
        extra = order[EXTRA]
        if not order[OPEN]:
            self._leave(order)
        elif extra is not None and extra.display:
            extra.shown = max(0, extra.shown - lots)
            if not extra.shown:
                self._rest(self._detach(order))
                events.append((REFRESHED, order[NUMBER], order[OWNER], order[PRICE], extra.shown, 0))

    def _leave(self, order: Order) -> None:
        """Forget an order that has no open lots. In a queue or heap it stays behind, dead, until it is met."""
        self.orders.pop(order[NUMBER], None)
        extra = order[EXTRA]
        if extra is not None and extra.place == CONDITIONAL:
            self.sides[order[SIDE]].drop_conditional(order)
            self.conditionals -= 1
        self.until_tidy -= 1

    def tidy(self) -> None:
        """Forget dead orders. Done after as many have died as this looks at, so that it costs each of them the same."""
        levels = len(self.bids.levels) + len(self.asks.levels)
        self.until_tidy = len(self.orders) + TIDY_PER_LEVEL * levels + TIDY_LEAST
        self.bids.tidy()
        self.asks.tidy()

    def settle_in(self) -> None:
        """Derive what is derived, after the orders were put back from a snapshot."""
        self.conditionals = len(self.bids.conditional) + len(self.asks.conditional)
        self._set_collars()
        self._moved = True  # for all that is known here

    def _by_age(self) -> list[Order]:
        """Return all open orders, the oldest first: the order in which anything happens to many at once."""
        return sorted(self.orders.values(), key=lambda order: (order[AGE], order[NUMBER]))

    def _set_collars(self) -> None:
        """Set the prices between which the next command may trade."""
        low, high = 0, NOWHERE
        terms = self.terms
        for reference, thousandths in ((self.reference, terms.static_collar), (self.last, terms.dynamic_collar)):
            if reference and thousandths:
                distance = max(1, reference * thousandths // 1000)
                low, high = max(low, reference - distance), min(high, reference + distance)
        self._moved = (low, high) != (self._low, self._high)
        self._low, self._high = low, high
