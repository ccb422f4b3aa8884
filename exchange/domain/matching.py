"""
How orders meet: the part of the book that matches, queues and lets go. `exchange.domain.book` says by what rules.

Everything here works on an order that a command has already found sound.
"""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush
from itertools import chain
from typing import Final

from exchange.domain import orders as o
from exchange.domain.book_parts import (
    AGE,
    ASIDE,
    CONDITIONAL,
    EXTRA,
    FLAGS,
    LEVEL,
    LIMIT,
    MARKETS,
    NOWHERE,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    QUEUED,
    SIDE,
    STOPPED,
    BookSide,
    Level,
    Order,
    group_of,
    key_of,
    kind_of,
    needs,
    shown_of,
)
from exchange.domain.orders import (
    ALL_OR_NONE,
    AUCTION_ONLY,
    BUY,
    CONTINUOUS_ONLY,
    FOK,
    IOC,
    MINIMUM,
    POST_ONLY,
    SELL,
    STP,
    STP_DECREMENT,
    STP_NEWEST,
    STP_OLDEST,
    TIME_IN_FORCE,
    EventRow,
    Kind,
    MarketTerms,
    Phase,
    Reason,
)

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
NEEDY: Final = ALL_OR_NONE | MINIMUM | FOK  # FOK's bit is GTD's too: a first look only



class Matching:
    """The state of one market's book, and what can happen to an order in it."""

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
        self._cap, self._least, self._most = terms.cap, terms.minimum_lots, terms.maximum_lots
        self._low = self._high = 0
        self._set_collars()

    def _place(self, order: Order, events: list[EventRow]) -> None:
        """Bring an order with open lots, which is nowhere yet, to where it belongs in the present phase."""
        extra, flags = order[EXTRA], order[FLAGS]
        if extra is not None and extra.kind in (STOP, STOP_LIMIT):
            self.orders[order[NUMBER]] = order
            extra.place = STOPPED
            key = extra.stop if order[SIDE] == BUY else -extra.stop
            heappush(self.sides[order[SIDE]].stops, (key, order[AGE], order[NUMBER]))
        elif self.phase == CONTINUOUS:
            if flags & AUCTION_ONLY:
                self._put_aside(order)
            else:
                self._take(order, events)
        elif flags & CONTINUOUS_ONLY:
            self._put_aside(order)
        elif flags & TIME_IN_FORCE in (IOC, FOK):
            self._end(order, UNFILLED, events)
        else:
            self._rest(order)

    def _take(self, order: Order, events: list[EventRow]) -> None:
        """Continuous trading: let the order take what it may, then rest or end with what is left."""
        need = needs(order) if order[FLAGS] & NEEDY else 0
        if not need or self._reach(order, need) >= need:
            self._sweep(order, events)
        if not order[OPEN]:
            self.orders.pop(order[NUMBER], None)
        elif self.phase != CONTINUOUS:
            self._place(order, events)
        elif order[FLAGS] & TIME_IN_FORCE in (IOC, FOK) or kind_of(order) == MARKET:
            self._end(order, UNFILLED, events)
        else:
            self._rest(order)

    def _sweep(self, taker: Order, events: list[EventRow]) -> None:
        """Trade the taker against the other side until it is filled, ended, out of its limit or stopped by a collar."""
        side = taker[SIDE]
        number, open_lots = taker[NUMBER], taker[OPEN]
        other = self.sides[1 - side]
        conditional = other.conditional
        passed = 0  # conditional orders that need more than the taker has; it only gets smaller
        limit = self._limit_key(taker)
        stp = taker[FLAGS] & STP
        group = group_of(taker) if stp else 0
        while open_lots:
            key = other.best()
            lone = None
            if passed < len(conditional) and key_of(conditional[passed]) < key:
                lone = conditional[passed]
                key = key_of(lone)
            if key > limit:
                break
            if lone and needs(lone) > open_lots and not (stp and group_of(lone) == group):
                passed += 1
                continue
            price = abs(key)
            if not self._low <= price <= self._high:
                taker[OPEN] = open_lots
                self._begin_volatility_call(price, events)
                return
            if lone:
                taker[OPEN] = open_lots
                self._meet(taker, lone, price, events)
                open_lots = taker[OPEN]
                continue
            level = other.levels[key]
            queue = level.queue
            while open_lots and level.lots:
                maker = queue[0]
                lots = maker[OPEN]
                if maker[EXTRA] is not None or (stp and maker[OWNER] == group):
                    if lots:
                        taker[OPEN] = open_lots
                        self._meet(taker, maker, price, events)
                        open_lots = taker[OPEN]
                        continue
                elif lots > open_lots:
                    maker[OPEN] = lots - open_lots
                    level.lots -= open_lots
                    self.last = price
                    if side:
                        events.append((FILL, maker[NUMBER], number, price, open_lots, BUY))
                    else:
                        events.append((FILL, number, maker[NUMBER], price, open_lots, SELL))
                    open_lots = 0
                    break
                elif lots:
                    maker[OPEN] = 0
                    level.lots -= lots
                    open_lots -= lots
                    self.last = price
                    del self.orders[maker[NUMBER]]
                    queue.popleft()
                    if side:
                        events.append((FILL, maker[NUMBER], number, price, lots, BUY))
                    else:
                        events.append((FILL, number, maker[NUMBER], price, lots, SELL))
                    continue
                queue.popleft()
                level.dead -= 1
        taker[OPEN] = open_lots

    def _meet(self, taker: Order, maker: Order, price: int, events: list[EventRow]) -> None:
        """Trade two orders, or keep them from it: all cases that `_sweep` does not do in line."""
        mode = taker[FLAGS] & STP
        if mode and group_of(taker) == group_of(maker):
            if mode == STP_DECREMENT:
                lots = min(taker[OPEN], maker[OPEN])
                for order in (maker, taker):
                    events.append((REDUCED, order[NUMBER], order[OWNER], order[PRICE], lots, SELF_TRADE))
                    self._shrink(order, lots)
                return
            if mode != STP_NEWEST:
                self._end(maker, SELF_TRADE, events)
            if mode != STP_OLDEST:
                self._end(taker, SELF_TRADE, events)
            return
        lots = min(taker[OPEN], shown_of(maker))
        buy, sell = (maker, taker) if taker[SIDE] else (taker, maker)
        events.append((FILL, buy[NUMBER], sell[NUMBER], price, lots, maker[SIDE]))
        self.last = price
        taker[OPEN] -= lots
        self._fill(maker, lots, events)

    def _reach(self, taker: Order, enough: int) -> int:
        """
        Return how many lots the taker could trade at once, or any number from `enough` on. Changes nothing: it walks as
        `_sweep` does, so that an order which must have a quantity starts only if it will get it.
        """
        other, limit = self.sides[1 - taker[SIDE]], self._limit_key(taker)
        mode = taker[FLAGS] & STP
        group = group_of(taker) if mode else 0
        got, left = 0, taker[OPEN]
        for key, queue in other.walk():
            if key > limit or not self._low <= abs(key) <= self._high:
                break
            tips: list[tuple[Order, int]] = []  # icebergs that went to the end of the queue, and what they then hold
            for maker, held in chain(((maker, maker[OPEN]) for maker in queue if maker[OPEN]), tips):
                own = mode and group_of(maker) == group
                if own and mode == STP_DECREMENT:
                    left -= min(left, held)
                elif own and mode != STP_OLDEST:
                    return got
                elif not own and needs(maker) <= left:
                    extra = maker[EXTRA]
                    tip = held
                    if extra is not None and extra.display:
                        tip = min(held, extra.shown if held == maker[OPEN] else extra.display)
                    lots = min(left, tip)
                    got, left = got + lots, left - lots
                    if held > tip:
                        tips.append((maker, held - tip))
                if got >= enough or not left:
                    return got
        return got

    def _limit_key(self, taker: Order) -> int:
        """Return the worst key of the other side that the taker accepts."""
        side = taker[SIDE]
        price: int = taker[PRICE] or self._protection(side)
        return -price if side else price

    def _protection(self, side: int) -> int:
        """Return how far a market order that names no price may go."""
        best = self.sides[1 - side].best()
        if not self.terms.protection or best == NOWHERE:
            return 1 if side else self._cap
        distance = max(1, abs(best) * self.terms.protection // 1000)
        return max(1, abs(best) - distance) if side else min(self._cap, abs(best) + distance)

    def _would_take(self, order: Order, price: int = 0) -> bool:
        """Say whether a post-only order would trade with a firm one. Conditional ones come to it, not it to them."""
        price = price or order[PRICE]
        return self.phase == CONTINUOUS and self.sides[1 - order[SIDE]].best() <= (-price if order[SIDE] else price)

    def _follow_up(self, events: list[EventRow]) -> None:
        """Try conditional orders again and release triggered stops until nothing more follows from the command."""
        while self.phase == CONTINUOUS and not self.halted:
            if self.conditionals and self._try_conditional(events):
                continue
            wave = self._triggered()
            if not wave:
                break
            for order in wave:
                extra = order[EXTRA]
                extra.kind = MARKET if extra.kind == STOP else LIMIT
                extra.stop, order[AGE] = 0, self.sequence
                events.append((TRIGGERED, order[NUMBER], order[OWNER], self.last, order[OPEN], extra.kind))
            for order in wave:
                if order[OPEN]:
                    self._place(order, events)

    def _try_conditional(self, events: list[EventRow]) -> bool:
        """Let the first conditional order that can have what it needs take it; say whether there was one."""
        for own, other in (self.sides, self.sides[::-1]):
            best = other.best()
            if other.conditional:
                best = min(best, key_of(other.conditional[0]))
            for order in own.conditional:
                if -key_of(order) < best:
                    break
                need = needs(order)
                if self._reach(order, need) >= need:
                    self._take(self._detach(order), events)
                    return True
        return False

    def _triggered(self) -> list[Order]:
        """Take out and return the stops that the last price triggers, in the order in which they go."""
        wave: list[Order] = []
        if not self.last:
            return wave
        for side in self.sides:
            reached = -self.last if side is self.asks else self.last
            while side.stops and side.stops[0][0] <= reached:
                _, age, number = heappop(side.stops)
                order = self.orders.get(number)
                if order and order[AGE] == age and order[EXTRA] and order[EXTRA].place == STOPPED:
                    order[EXTRA].place = ASIDE
                    wave.append(order)
        return wave

    def _begin_volatility_call(self, price: int, events: list[EventRow]) -> None:
        events.append((PHASE, CALL, CONTINUOUS, price, 0, int(o.Cause.VOLATILITY)))
        self.phase = CALL
        self._begin_call(events)

    def _begin_call(self, events: list[EventRow]) -> None:
        for order in self._by_age():
            if order[FLAGS] & CONTINUOUS_ONLY and order[EXTRA].place in (QUEUED, CONDITIONAL):
                self._put_aside(self._detach(order))
            elif order[FLAGS] & AUCTION_ONLY and order[EXTRA].place == ASIDE:
                self._come_in(order, events)

    def _come_in(self, order: Order, events: list[EventRow]) -> None:
        if order[FLAGS] & POST_ONLY and self._would_take(order):
            self._end(order, WOULD_TAKE, events)
        else:
            self._place(order, events)

    def _set_collars(self) -> None:
        """Set the prices between which the next command may trade."""
        low, high = 0, NOWHERE
        terms = self.terms
        for reference, thousandths in ((self.reference, terms.static_collar), (self.last, terms.dynamic_collar)):
            if reference and thousandths:
                distance = max(1, reference * thousandths // 1000)
                low, high = max(low, reference - distance), min(high, reference + distance)
        self._low, self._high = low, high

    # --- where orders are ---------------------------------------------------------------------------------------------

    def _rest(self, order: Order) -> None:
        """Put an order into its side: last in its level's queue, or where orders without a firm price wait."""
        self.orders[order[NUMBER]] = order
        side, extra = self.sides[order[SIDE]], order[EXTRA]
        if extra is not None:
            if order[FLAGS] & (ALL_OR_NONE | MINIMUM):
                extra.place = CONDITIONAL
                insort(side.conditional, order, key=lambda one: (key_of(one), one[AGE]))
                self.conditionals += 1
                return
            if not order[PRICE]:
                extra.place = MARKETS
                side.markets.append(order)
                return
            extra.place = QUEUED
            if extra.display:
                extra.shown = min(extra.display, order[OPEN])
        key = key_of(order)
        level = side.levels.get(key)
        if level is None:
            level = side.levels[key] = Level(order[PRICE])
            heappush(side.heap, key)
        order[LEVEL] = level
        shown = shown_of(order)
        level.queue.append(order)
        level.lots += shown
        level.hidden += order[OPEN] - shown

    def _put_aside(self, order: Order) -> None:
        self.orders[order[NUMBER]] = order
        order[EXTRA].place = ASIDE

    def _detach(self, order: Order) -> Order:
        """
        Take an order out of the part of the book that holds it, and return it, now nowhere but in `orders`.

        What is returned is a copy: the original stays behind dead, as searching a queue for it would take long.
        """
        alive = order.copy()
        alive[LEVEL] = None
        self._shrink(order, order[OPEN])
        self.orders[alive[NUMBER]] = alive
        if alive[EXTRA] is not None:
            alive[EXTRA].place = ASIDE
        return alive

    def _end(self, order: Order, reason: int, events: list[EventRow], event: int = CANCELLED) -> None:
        """End an order, wherever it is or if it is the taker."""
        events.append((event, order[NUMBER], order[OWNER], order[PRICE], order[OPEN], reason))
        self._shrink(order, order[OPEN])

    def _shrink(self, order: Order, lots: int) -> None:
        """Take open lots off an order without a trade, hidden ones first. At zero it leaves the book."""
        level, extra = order[LEVEL], order[EXTRA]
        shown = shown_of(order)
        order[OPEN] -= lots
        if extra is not None and extra.display:
            extra.shown = min(shown, order[OPEN])
        if level is not None:
            level.lots -= shown - shown_of(order)
            level.hidden -= lots - (shown - shown_of(order))
        if not order[OPEN]:
            self._leave(order)

    def _fill(self, order: Order, lots: int, events: list[EventRow]) -> None:
        """Take traded lots off a resting order, shown ones first, and show the next tip when one is used up."""
        level, extra = order[LEVEL], order[EXTRA]
        shown = shown_of(order)
        order[OPEN] -= lots
        if level is not None:
            from_shown = min(lots, shown)
            level.lots -= from_shown
            level.hidden -= lots - from_shown
            if extra is not None and extra.display:
                extra.shown = shown - from_shown
        if not order[OPEN]:
            self._leave(order)
        elif level is not None and not shown_of(order):
            self._rest(self._detach(order))
            events.append((REFRESHED, order[NUMBER], order[OWNER], order[PRICE], extra.shown, 0))

    def _leave(self, order: Order) -> None:
        """Forget an order that has no open lots. In a queue or heap it stays behind, dead, until it is met."""
        self.orders.pop(order[NUMBER], None)
        level, extra = order[LEVEL], order[EXTRA]
        if level is not None:
            level.dead += 1
            level.tidy()
        elif extra is not None and extra.place == CONDITIONAL:
            self._drop_conditional(order)

    def _drop_conditional(self, order: Order) -> None:
        held = self.sides[order[SIDE]].conditional
        held.pop(next(place for place, one in enumerate(held) if one is order))
        self.conditionals -= 1

    def settle_in(self) -> None:
        """Derive what is derived, after the orders were put back from a snapshot."""
        self.conditionals = len(self.bids.conditional) + len(self.asks.conditional)
        self._set_collars()

    def _by_age(self) -> list[Order]:
        """Return all open orders, the oldest first: the order in which anything happens to many at once."""
        return sorted(self.orders.values(), key=lambda order: (order[AGE], order[NUMBER]))
