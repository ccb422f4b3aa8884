"""
What each kind of command does to the book, but for the plain orders that `exchange.domain.book` does in line.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import repeat
from typing import Final

from exchange.domain import orders as o
from exchange.domain.book_parts import (
    AGE,
    ASIDE,
    EXTRA,
    FLAGS,
    LIMIT,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    QUEUED,
    SIDE,
    TOTAL,
    Extra,
    kind_of,
)
from exchange.domain.matching import Matching
from exchange.domain.orders import (
    AUCTION_ONLY,
    CANCEL_ON_DISCONNECT,
    CONTINUOUS_ONLY,
    FOK,
    ICEBERG,
    IOC,
    NO_RARE,
    POST_ONLY,
    STP,
    TIME_IN_FORCE,
    Command,
    EventRow,
    Kind,
    MarketTerms,
    Phase,
    Reason,
    refusal,
)
from exchange.domain.resting import (
    ACCEPTED,
    CALL,
    CONTINUOUS,
    EXPIRED,
    FILL,
    HALTED,
    MARKET,
    PHASE,
    REDUCED,
    REFUSED,
    REPLACED,
    SELF_TRADE,
    STOP,
    STOP_LIMIT,
    UNCROSSED,
    UNFILLED,
    WOULD_TAKE,
)
from exchange.domain.uncross import Cleared, Trades, decide, gathered, match_up, self_trades

REQUESTED: Final = int(Reason.REQUESTED)
UNCOMMON: Final = ~(STP | CANCEL_ON_DISCONNECT)  # flags that make an order other than plain
NEXT_PHASES: Final = {
    Phase.SCHEDULED: {Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED},
    Phase.CALL: {Phase.CLOSED},
    Phase.UNCROSS: {Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED},
    Phase.CONTINUOUS: {Phase.CALL, Phase.CLOSED},
    Phase.CLOSED: set[Phase](),
}


class Commands(Matching):
    """A handler for each kind of command; an order is submitted. Each appends its events."""

    def __init__(self, terms: MarketTerms = MarketTerms(), phase: int = Phase.SCHEDULED) -> None:  # noqa: B008 (frozen)
        super().__init__(terms, phase)
        self.cleared: Cleared | None = None  # what the last uncross was decided from, until a phase follows it
        self._handlers = {
            int(Kind.CANCEL): self._cancel,
            int(Kind.REPLACE): self._replace,
            int(Kind.MASS_CANCEL): self._mass_cancel,
            int(Kind.LEASE_EXPIRED): self._lease_expired,
            int(Kind.EXPIRE): self._expire,
            int(Kind.PHASE): self._set_phase,
            int(Kind.UNCROSS): self._uncross,
            int(Kind.HALT): self._halt,
            int(Kind.RESUME): self._resume,
            int(Kind.REFERENCE): self._set_reference,
            int(Kind.EXTEND): self._extend,
            int(Kind.ANNUL): self._annul,
        }

    def _perform(self, command: Command) -> list[EventRow]:
        """Do one command of any kind, and what follows from it."""
        events: list[EventRow] = []
        self._handlers.get(command[6], self._submit)(command, events)
        self._conclude(events)
        return events

    def _conclude(self, events: list[EventRow]) -> None:
        """Do what follows from a command, once all that it did itself is done."""
        if self._may_follow():
            self._follow_up(events)
        if self._collared:
            self._set_collars()

    def _submit(self, command: Command, events: list[EventRow]) -> None:
        _, sequence, number, owner, price, lots, kind, side, flags, rare = command
        reason = refusal(self.terms, command) or self._unwelcome(flags, number)
        if reason:
            events.append((REFUSED, number, owner, price, lots, int(reason)))
            return
        more = rare or NO_RARE
        shown = more.display if flags & ICEBERG else lots
        plain = kind == LIMIT and not flags & UNCOMMON & ~(TIME_IN_FORCE | POST_ONLY) and rare is None
        extra = None
        if not plain:
            extra = Extra(kind, more.group, more.display, shown, more.minimum, more.stop, more.expires_ns, QUEUED)
        order = [lots, number, owner, side, price, flags, lots, sequence, extra]
        if flags & POST_ONLY and self._would_take(order):
            events.append((REFUSED, number, owner, price, lots, WOULD_TAKE))
            return
        events.append((ACCEPTED, number, owner, price, lots, kind))
        self._place(order, events)
        if more.expires_ns and number in self.orders:
            heappush(self.expiries, (more.expires_ns, number))

    def _unwelcome(self, flags: int, number: int) -> Reason:
        if number in self.orders:
            return Reason.DUPLICATE_ORDER
        if self.halted:
            return Reason.HALTED
        at_once = flags & TIME_IN_FORCE in (IOC, FOK)
        if self.phase != CONTINUOUS and (self.phase != CALL or at_once):
            return Reason.WRONG_PHASE
        return Reason.NONE

    def _cancel(self, command: Command, events: list[EventRow]) -> None:
        _, _, number, owner, _, _, _, _, _, _ = command
        order = self.orders.get(number)
        if order is None or (owner and order[OWNER] != owner):
            events.append((REFUSED, number, owner, 0, 0, int(Reason.ORDER_NOT_OPEN)))
        else:
            self._end(order, REQUESTED, events)

    def _replace(self, command: Command, events: list[EventRow]) -> None:
        time_ns, sequence, number, owner, price, lots, _, _, _, rare = command
        order = self.orders.get(number)
        if order is None or order[OWNER] != owner:
            events.append((REFUSED, number, owner, price, lots, int(Reason.ORDER_NOT_OPEN)))
            return
        kind, side, flags, extra = kind_of(order), order[SIDE], order[FLAGS], order[EXTRA]
        price, total = price or order[PRICE], lots or order[TOTAL]
        stop = (rare.stop if rare else 0) or (extra.stop if extra else 0)
        open_lots = total - (order[TOTAL] - order[OPEN])
        as_new = NO_RARE
        if extra:
            display, minimum = min(extra.display, total), min(extra.minimum, total)
            waits = stop if kind in (STOP, STOP_LIMIT) else rare.stop if rare else 0
            as_new = o.Rare(waits, display, minimum, extra.expires_ns)
        elif rare:
            as_new = o.Rare(rare.stop)
        reason = refusal(self.terms, (time_ns, sequence, number, owner, price, total, kind, side, flags, as_new))
        reason = reason or (Reason.ALREADY_FILLED if open_lots <= 0 else Reason.NONE)
        reason = reason or (Reason.HALTED if self.halted else Reason.NONE)
        keeps = price == order[PRICE] and open_lots <= order[OPEN] and (not extra or stop == extra.stop)
        if not reason and not keeps and flags & POST_ONLY and self._would_take(order, price):
            reason = Reason.WOULD_TAKE
        if reason or self.phase not in (CALL, CONTINUOUS):
            events.append((REFUSED, number, owner, price, total, int(reason or Reason.WRONG_PHASE)))
            return
        events.append((REPLACED, number, owner, price, open_lots, int(keeps)))
        if keeps:
            self._shrink(order, order[OPEN] - open_lots)
            order[TOTAL] = total
            return
        order = self._detach(order)
        order[OPEN], order[PRICE], order[TOTAL], order[AGE] = open_lots, price, total, sequence
        if extra:
            extra.stop, extra.shown = stop, min(extra.display, open_lots)
        self._place(order, events)

    def _mass_cancel(self, command: Command, events: list[EventRow]) -> None:
        _, _, _, owner, _, _, _, side, _, _ = command
        for order in self._by_age():
            if (not owner or order[OWNER] == owner) and side in (-1, order[SIDE]):
                self._end(order, int(Reason.MASS_CANCEL), events)

    def _lease_expired(self, command: Command, events: list[EventRow]) -> None:
        owner = command[3]
        for order in self._by_age():
            if order[OWNER] == owner and order[FLAGS] & CANCEL_ON_DISCONNECT:
                self._end(order, int(Reason.DISCONNECTED), events)

    def _expire(self, command: Command, events: list[EventRow]) -> None:
        time_ns = command[0]
        while self.expiries and self.expiries[0][0] <= time_ns:
            expires_ns, number = heappop(self.expiries)
            order = self.orders.get(number)
            if order and order[EXTRA] and order[EXTRA].expires_ns == expires_ns:
                self._end(order, int(Reason.DUE), events, EXPIRED)

    def _halt(self, command: Command, events: list[EventRow]) -> None:
        self.halted = True
        events.append((HALTED, 1, 0, 0, 0, 0))

    def _resume(self, command: Command, events: list[EventRow]) -> None:
        self.halted = False
        events.append((HALTED, 0, 0, 0, 0, 0))

    def _set_reference(self, command: Command, events: list[EventRow]) -> None:
        self.reference = command[4]

    def _annul(self, command: Command, events: list[EventRow]) -> None:
        """What is taken back was traded: what is open in the book stays as it is."""

    def _extend(self, command: Command, events: list[EventRow]) -> None:
        if self.phase == CALL:
            events.append((PHASE, CALL, CALL, command[4], 0, int(o.Cause.VOLATILITY)))
        else:
            events.append((REFUSED, 0, 0, command[4], 0, int(Reason.WRONG_PHASE)))

    def _set_phase(self, command: Command, events: list[EventRow]) -> None:
        phase = command[5]
        if phase not in NEXT_PHASES[Phase(self.phase)]:
            events.append((REFUSED, 0, 0, 0, phase, int(Reason.WRONG_PHASE)))
            return
        events.append((PHASE, phase, self.phase, 0, 0, int(o.Cause.SCHEDULE)))
        self.phase, self.cleared = phase, None
        if phase == CALL:
            self._begin_call(events)
        elif phase == CONTINUOUS:
            by_age = self._by_age()
            for order in by_age:
                if order[FLAGS] & AUCTION_ONLY and order[EXTRA].place != ASIDE:
                    self._put_aside(self._detach(order))
            for order in by_age:
                if order[FLAGS] & CONTINUOUS_ONLY and order[EXTRA].place == ASIDE:
                    self._come_in(order, events)
        else:
            for order in self._by_age():
                self._end(order, int(Reason.GATE_CLOSURE), events, EXPIRED)

    def _fill_all(self, trades: Trades, price: int, events: list[EventRow]) -> None:
        """Fill what an auction has matched."""
        orders, neither = self.orders, int(o.Maker.NEITHER)
        fills = zip(repeat(FILL), trades.buys, trades.sells, repeat(price), trades.lots, repeat(neither))
        if trades.tips:
            for fill in fills:  # one by one, and between them icebergs show their next tips
                _, buy, sell, _, lots, _ = fill
                events.append(fill)
                self._fill(orders[buy], lots, events)
                self._fill(orders[sell], lots, events)
            return
        events += fills
        for order, lots in trades.filled:
            order[OPEN] -= lots
            if order[OPEN]:
                continue
            if order[EXTRA] is None:
                del orders[order[NUMBER]]
                self.until_tidy -= 1
            else:
                self._leave(order)

    def _uncross(self, command: Command, events: list[EventRow]) -> None:
        price, rare = command[4], command[9]
        if self.phase != CALL or self.halted:
            events.append((REFUSED, 0, 0, price, 0, int(Reason.HALTED if self.halted else Reason.WRONG_PHASE)))
            return
        taking_part = gathered(self)
        without = self_trades(taking_part)
        surplus = 0
        if rare is None:
            self.cleared = decide(self, taking_part, without, min(price, self._cap))
            determined, trades = self.cleared.determined, self.cleared.trades
            price, surplus = determined.price_tick or 0, determined.surplus_lots
        elif (named := match_up(self, price, rare.fills, without)) is not None:
            trades = named
        else:
            events.append((REFUSED, 0, 0, price, 0, int(Reason.BAD_FILLS)))
            return
        self.phase = int(Phase.UNCROSS)
        events.append((UNCROSSED, 0, 0, price, sum(trades.lots), surplus))
        for number, lots in without.items():
            order = self.orders[number]
            if lots == order[OPEN]:
                self._end(order, SELF_TRADE, events)
            else:
                events.append((REDUCED, number, order[OWNER], order[PRICE], lots, SELF_TRADE))
                self._shrink(order, lots)
        self._fill_all(trades, price, events)
        if trades.lots:
            self.last = self.reference = price
        for order in self._by_age():
            if kind_of(order) == MARKET:
                self._end(order, UNFILLED, events)
        self.bids.markets.clear()
        self.asks.markets.clear()
