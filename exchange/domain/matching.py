"""
How orders meet: the part of the book that matches. `exchange.domain.book` says by what rules.

Everything here works on an order that a command has already found sound.
"""

from __future__ import annotations

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
    LIMIT,
    NOWHERE,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    QUEUED,
    SIDE,
    STOPPED,
    BookSide,
    Order,
    group_of,
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
)
from exchange.domain.resting import (
    CALL,
    CONTINUOUS,
    FILL,
    MARKET,
    PHASE,
    REDUCED,
    SELF_TRADE,
    STOP,
    STOP_LIMIT,
    TRIGGERED,
    UNFILLED,
    WOULD_TAKE,
    Resting,
)

NEEDY: Final = ALL_OR_NONE | MINIMUM | FOK  # FOK's bit is GTD's too: a first look only


class Matching(Resting):
    """What can happen to an order that trades."""

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
        open_lots, number, _, side, price, flags, _, _, _ = taker
        price = price or self._protection(side)
        limit = -price if side else price
        orders, other = self.orders, self.sides[1 - side]
        keys, levels, conditional = other.keys, other.levels, other.conditional
        stp = flags & STP
        group = group_of(taker) if stp else 0
        passed = 0  # conditional orders that need more than the taker has; it only gets smaller
        while open_lots:
            key = keys[0] if keys else NOWHERE
            lone = None
            if conditional and passed < len(conditional) and conditional[passed][0] < key:
                key, _, _, lone = conditional[passed]
            if key > limit:
                break
            if lone is None:
                queue = levels[key]
                while queue and not queue[0][OPEN]:
                    queue.popleft()
                if not queue:
                    del levels[key], keys[0]
                    continue
            elif needs(lone) > open_lots and not (stp and group_of(lone) == group):
                passed += 1
                continue
            price = abs(key)
            if not self._low <= price <= self._high:
                taker[OPEN] = open_lots
                self._begin_volatility_call(price, events)
                return
            if lone is not None:
                taker[OPEN] = open_lots
                self._meet(taker, lone, price, events)
                open_lots = taker[OPEN]
                continue
            while open_lots and queue:
                maker = queue[0]
                traded = maker[OPEN]
                if not traded:
                    queue.popleft()
                elif maker[EXTRA] is not None or (stp and maker[OWNER] == group):
                    taker[OPEN] = open_lots
                    self._meet(taker, maker, price, events)
                    open_lots = taker[OPEN]
                else:
                    if traded > open_lots:
                        maker[OPEN] = traded - open_lots
                        traded = open_lots
                        open_lots = 0
                    else:
                        maker[OPEN] = 0
                        open_lots -= traded
                        queue.popleft()
                        del orders[maker[NUMBER]]
                    self.last = price
                    if side:
                        events.append((FILL, maker[NUMBER], number, price, traded, BUY))
                    else:
                        events.append((FILL, number, maker[NUMBER], price, traded, SELL))
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
        side = taker[SIDE]
        price = taker[PRICE] or self._protection(side)
        other, limit = self.sides[1 - side], -price if side else price
        mode = taker[FLAGS] & STP
        group = group_of(taker) if mode else 0
        got, left = 0, taker[OPEN]
        for key, queue in other.walk():
            if key > limit:
                break
            outside = not self._low <= abs(key) <= self._high
            tips: list[tuple[Order, int]] = []  # icebergs that went to the end of the queue, and what they then hold
            for maker, held in chain(((maker, maker[OPEN]) for maker in queue if maker[OPEN]), tips):
                own = mode and group_of(maker) == group
                if not own and needs(maker) > left:
                    continue  # it is passed by, and so is the collar that it lies beyond
                if outside:
                    return got
                if own and mode == STP_DECREMENT:
                    left -= min(left, held)
                elif own and mode != STP_OLDEST:
                    return got
                elif not own:
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

    def _may_follow(self) -> bool:
        """Whether a stop is triggered, or a conditional order meets one (perhaps a dead one) within its limit."""
        bids, asks, last = self.bids, self.asks, self.last
        if last and ((bids.stops and bids.stops[0][0] <= last) or (asks.stops and asks.stops[0][0] <= -last)):
            return True
        if bids.conditional:
            nearest = -bids.conditional[0][0]
            if (asks.keys and asks.keys[0] <= nearest) or (asks.conditional and asks.conditional[0][0] <= nearest):
                return True
        return bool(asks.conditional and bids.keys and bids.keys[0] <= -asks.conditional[0][0])

    def _follow_up(self, events: list[EventRow]) -> None:
        """Try conditional orders again and release triggered stops until nothing more follows from the command."""
        bids, asks = self.bids, self.asks
        while self.phase == CONTINUOUS and not self.halted:
            if (bids.conditional and self._try_conditional(bids, asks, events)) or (
                asks.conditional and self._try_conditional(asks, bids, events)
            ):
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

    def _try_conditional(self, own: BookSide, other: BookSide, events: list[EventRow]) -> bool:
        """Let the first conditional order of a side that can have what it needs take it; say whether there was one."""
        nearest = -own.conditional[0][0]
        if not (other.keys and other.keys[0] <= nearest) and not (
            other.conditional and other.conditional[0][0] <= nearest
        ):
            return False  # not even a dead order stands within the limit of the best
        best = other.best_of_all()
        for key, _, _, order in own.conditional:
            if -key < best:
                break
            need = needs(order)
            if self._reach(order, need) >= need:
                self._take(self._detach(order), events)
                return True
        return False

    def _triggered(self) -> list[Order]:
        """Take out and return the stops that the last price triggers, in the order in which they go."""
        wave: list[Order] = []
        if self.last:
            for stops, reached in ((self.bids.stops, self.last), (self.asks.stops, -self.last)):
                while stops and stops[0][0] <= reached:
                    _, age, number = heappop(stops)
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
