"""
The order book: a deterministic state machine. `apply(command)` changes it and returns what happened, as events.

Commands and events are tuples; `exchange.domain.orders` gives their fields. The same commands in the same order give
the same events and the same `state_hash`, from the beginning or from any snapshot. Nothing here reads a clock.

How it trades
- **Continuous**: an arriving order takes the best price first and, at a price, the order that came first. Trades are at
  the resting order's price. Of an iceberg only the tip stands in the queue; when it is used up, the next tip goes last.
- **Call**: orders gather, crossing freely. UNCROSS trades all of it at one price (`exchange.domain.auction`), ends what
  is left of market orders, and leaves a phase in which nothing can be entered until the next one is set.
- **Conditional** orders (all-or-none; minimum quantity) stand aside from the queues, behind the firm orders of their
  price, and are no part of the best bid and ask. An order smaller than they need passes them by. After each command
  they are tried again, best price first, as takers. They take no part in an uncross unless it names their fills.
- **Stops** wait for the last trade's price. Once an arriving order has finished, all that it triggered leave together:
  buys from the lowest trigger, then sells from the highest, then the older; what these trigger is the next wave.
- **Auction-only** and **continuous-only** orders wait outside during the other phase and join last in their queue.
- **Self-trade prevention** follows the taker's mode where both orders are of one control group.
- **Collars**: before a trade would be outside them, trading stops and a call begins; nothing is rejected for it, except
  that what must trade at once ends unfilled. The dynamic collar is around the last trade before the command.
- **Protection** bounds market orders in continuous trading; one that names its own is a limit order at it in a call.
- **Replace** keeps the priority if the price stays and the quantity does not grow.

How it is built. Each side has a dict of price levels and a heap of their keys (`-price` for buys, so that the least key
is the best); a level is a deque of orders. A cancelled order stays in its deque with zero open lots until it reaches
the front or half of the deque is dead. Orders are lists, not objects: a million of them fit in about 300 MB, and to
make one costs a tenth. `tests/exchange/naive_book.py` is the same machine, written to be obviously right.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from exchange.domain import orders as o
from exchange.domain.book_parts import (
    AGE,
    ASIDE,
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
    TOTAL,
    Extra,
    Order,
    kind_of,
    shown_of,
)
from exchange.domain.book_snapshot import dump, header_of, load_into
from exchange.domain.matching import (
    ACCEPTED,
    CALL,
    CANCELLED,
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
    Matching,
)
from exchange.domain.orders import (
    AUCTION_ONLY,
    BUY,
    CANCEL_ON_DISCONNECT,
    CONTINUOUS_ONLY,
    FOK,
    ICEBERG,
    IOC,
    NO_RARE,
    POST_ONLY,
    SELL,
    STP,
    STP_DECREMENT,
    TIME_IN_FORCE,
    Command,
    EventRow,
    Kind,
    MarketTerms,
    Phase,
    Reason,
    refusal,
)
from exchange.domain.uncross import decide, match_up, self_trades

CANCEL: Final = int(Kind.CANCEL)
REQUESTED: Final = int(Reason.REQUESTED)
UNCOMMON: Final = ~(STP | CANCEL_ON_DISCONNECT)  # flags that make an order other than plain
COMMON: Final = frozenset(flags for flags in range(1 << 12) if not flags & UNCOMMON and flags & STP <= STP_DECREMENT)
NEXT_PHASES: Final = {
    Phase.SCHEDULED: {Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED},
    Phase.CALL: {Phase.CLOSED},
    Phase.UNCROSS: {Phase.CALL, Phase.CONTINUOUS, Phase.CLOSED},
    Phase.CONTINUOUS: {Phase.CALL, Phase.CLOSED},
    Phase.CLOSED: set[Phase](),
}


class Book(Matching):
    """
    The book of one market.

    May be read from outside: `orders` (open orders by number), `phase`, `halted`, `last` (last trade's price),
    `reference` (the static collar's), `sequence` (of the last command).
    """

    def __init__(self, terms: MarketTerms = MarketTerms(), phase: int = Phase.SCHEDULED) -> None:  # noqa: B008 (frozen)
        super().__init__(terms, phase)
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
        }

    # --- the one way in -----------------------------------------------------------------------------------------------

    def apply(self, command: Command) -> list[EventRow]:
        """Apply one command and return its events. A command that cannot be is answered by one REFUSED event."""
        return self.apply_all((command,))[0]

    def apply_all(self, commands: Iterable[Command]) -> list[list[EventRow]]:
        """Apply commands in turn and return the events of each. For batches: the two commonest are done in line."""
        answers: list[list[EventRow]] = []
        answer = answers.append
        orders, bids, asks = self.orders, self.bids, self.asks
        bid_heap, ask_heap, bid_levels, ask_levels = bids.heap, asks.heap, bids.levels, asks.levels
        cap, least, most = self._cap, self._least, self._most
        plain, bid_reach, ask_reach = self._circumstances()
        sequence, died = self.sequence, 0
        for command in commands:
            _, sequence, number, owner, price, lots, kind, side, flags, rare = command
            if not plain:
                pass
            elif kind == CANCEL:  # a plain order leaves, and no conditional one waits for that
                order = orders.get(number)
                if (
                    order is not None
                    and order[EXTRA] is None
                    and order[OWNER] == owner
                    and bid_reach < order[PRICE] < ask_reach
                ):
                    del orders[number]
                    answer([(CANCELLED, number, owner, order[PRICE], order[OPEN], REQUESTED)])
                    order[OPEN] = 0
                    died += 1
                    continue
            elif (
                kind == LIMIT
                and rare is None
                and (not flags or flags in COMMON)
                and 0 < price <= cap
                and least <= lots <= most
                and number not in orders
            ):  # a plain order joins its queue, if it crosses nothing
                if side == BUY:
                    if (not ask_heap or ask_heap[0] > price or self.phase == CALL) and price < ask_reach:
                        queue = bid_levels.get(-price)
                        if queue is None:
                            queue = bids.queue(-price)
                        orders[number] = order = [lots, number, owner, BUY, price, flags, lots, sequence, None]
                        queue.append(order)
                        answer([(ACCEPTED, number, owner, price, lots, LIMIT)])
                        continue
                elif (
                    side == SELL
                    and (not bid_heap or bid_heap[0] > -price or self.phase == CALL)
                    and price > bid_reach
                ):
                    queue = ask_levels.get(price)
                    if queue is None:
                        queue = asks.queue(price)
                    orders[number] = order = [lots, number, owner, SELL, price, flags, lots, sequence, None]
                    queue.append(order)
                    answer([(ACCEPTED, number, owner, price, lots, LIMIT)])
                    continue
                if side in (BUY, SELL) and not self.conditionals:  # or takes
                    self.sequence = sequence
                    events = [(ACCEPTED, number, owner, price, lots, LIMIT)]
                    order = [lots, number, owner, side, price, flags, lots, sequence, None]
                    self._sweep(order, events)
                    if order[OPEN]:
                        self._rest(order)  # in a call too, should a collar have begun one
                    if self._collared or bids.stops or asks.stops:
                        self._conclude(events)
                        plain, bid_reach, ask_reach = self._circumstances()
                    answer(events)
                    continue
            self.sequence = sequence
            events = []
            self._handlers.get(kind, self._submit)(command, events)
            self._conclude(events)
            plain, bid_reach, ask_reach = self._circumstances()
            answer(events)
        self.sequence = sequence
        self.until_tidy -= died
        if self.until_tidy <= 0:
            self.tidy()
        return answers

    def _circumstances(self) -> tuple[bool, int, int]:
        """
        Return whether plain orders may come and go, and the highest buy and lowest sell price of a conditional order,
        which would have to be asked first.
        """
        plain = not self.halted and (self.phase == CONTINUOUS or self.phase == CALL)
        if not self.conditionals or self.phase != CONTINUOUS:
            return plain, 0, NOWHERE
        bids, asks = self.bids.conditional, self.asks.conditional
        return plain, bids[0][PRICE] if bids else 0, asks[0][PRICE] if asks else NOWHERE

    def _conclude(self, events: list[EventRow]) -> None:
        """Do what follows from a command, once all that it did itself is done."""
        if self.conditionals or self.bids.stops or self.asks.stops:
            self._follow_up(events)
        if self._collared:
            self._set_collars()

    # --- commands -----------------------------------------------------------------------------------------------------

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

    def _set_phase(self, command: Command, events: list[EventRow]) -> None:
        phase = command[5]
        if phase not in NEXT_PHASES[Phase(self.phase)]:
            events.append((REFUSED, 0, 0, 0, phase, int(Reason.WRONG_PHASE)))
            return
        events.append((PHASE, phase, self.phase, 0, 0, int(o.Cause.SCHEDULE)))
        self.phase = phase
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

    def _uncross(self, command: Command, events: list[EventRow]) -> None:
        price, rare = command[4], command[9]
        if self.phase != CALL or self.halted:
            events.append((REFUSED, 0, 0, price, 0, int(Reason.HALTED if self.halted else Reason.WRONG_PHASE)))
            return
        without = self_trades(self)
        surplus = 0
        if rare is None:
            determined, trades = decide(self, without, min(price, self._cap))
            price, surplus = determined.price_tick or 0, determined.surplus_lots
        elif (named := match_up(self, price, rare.fills, without)) is not None:
            trades = named
        else:
            events.append((REFUSED, 0, 0, price, 0, int(Reason.BAD_FILLS)))
            return
        self.phase = int(Phase.UNCROSS)
        events.append((UNCROSSED, 0, 0, price, sum(trade.lots for trade in trades), surplus))
        for number, lots in without.items():
            order = self.orders[number]
            if lots == order[OPEN]:
                self._end(order, SELF_TRADE, events)
            else:
                events.append((REDUCED, number, order[OWNER], order[PRICE], lots, SELF_TRADE))
                self._shrink(order, lots)
        for buy, sell, lots in trades:
            events.append((FILL, buy, sell, price, lots, int(o.Maker.NEITHER)))
            self._fill(self.orders[buy], lots, events)
            self._fill(self.orders[sell], lots, events)
        if trades:
            self.last = self.reference = price
        for order in self._by_age():
            if kind_of(order) == MARKET:
                self._end(order, UNFILLED, events)
        self.bids.markets.clear()
        self.asks.markets.clear()

    # --- as bytes -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the state as bytes; the same state always gives the same bytes."""
        return dump(self)

    @classmethod
    def restore(cls, snapshot: bytes) -> Book:
        """
        Return the book that a snapshot holds.

        :raises ValueError: if it cannot be read.
        """
        header, terms, body = header_of(snapshot)
        book = cls(terms, header["phase"])
        load_into(book, header, body)
        return book

    def state_hash(self) -> str:
        """
        Return the BLAKE2b of the state, hidden lots, stops and phase included: 32 hexadecimal digits.

        Costs about as much as applying one command for each open order; take it every few thousand entries.
        """
        return blake2b(dump(self), digest_size=16).hexdigest()

    # --- views --------------------------------------------------------------------------------------------------------

    @property
    def best_bid(self) -> int:
        """The highest firm buy price in ticks; 0: none."""
        key = self.bids.best()
        return 0 if key == NOWHERE else -key

    @property
    def best_ask(self) -> int:
        """The lowest firm sell price in ticks; 0: none."""
        key = self.asks.best()
        return 0 if key == NOWHERE else key

    def depth(self, levels: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Return the best levels of bids and of asks, best first: price, lots shown, number of orders."""
        bids, asks = ([_level(key, queue) for key, queue in islice(side.in_order(), levels)] for side in self.sides)
        return bids, asks

    def each_order(self, levels: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Return the firm orders of the best levels, by priority: number, price, lots shown."""
        bids, asks = (
            [
                (order[NUMBER], abs(key), shown_of(order))
                for key, queue in islice(side.in_order(), levels)
                for order in queue
                if order[OPEN]
            ]
            for side in self.sides
        )
        return bids, asks


def _level(key: int, queue: Iterable[Order]) -> tuple[int, int, int]:
    shown = [shown_of(order) for order in queue if order[OPEN]]
    return abs(key), sum(shown), len(shown)
