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

How it is built. Each side has a dict of price levels and a sorted list of their keys (`-price` for buys, so that the
least key is the best); a level is a deque of orders. A cancelled order stays in its deque with zero open lots until it
reaches the front or the book is tidied. Orders are lists, not objects: a million of them fit in about 300 MB, and to
make one costs a tenth. `tests/exchange/naive_book.py` is the same machine, written to be obviously right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final

from exchange.domain.book_commands import REQUESTED, Commands
from exchange.domain.book_parts import (
    CONDITIONAL,
    EXTRA,
    FLAGS,
    LIMIT,
    NOWHERE,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    SIDE,
    TOTAL,
    Order,
    shown_of,
)
from exchange.domain.book_snapshot import dump, header_of, load_into
from exchange.domain.orders import (
    BUY,
    CANCEL_ON_DISCONNECT,
    FOK,
    IOC,
    POST_ONLY,
    SELL,
    STP_DECREMENT,
    Command,
    EventRow,
    Kind,
)
from exchange.domain.resting import ACCEPTED, CALL, CANCELLED, CONTINUOUS, REPLACED

CANCEL: Final = int(Kind.CANCEL)
REPLACE: Final = int(Kind.REPLACE)
# How a limit order without rarer fields behaves where it meets nobody and where it could trade, by its flags.
RESTS, RESTS_OR_TAKES, ENDS_OR_TAKES = range(3)
MANNERS: Final = {
    flags | modes: manner
    for modes in range(0, CANCEL_ON_DISCONNECT << 1, 1 << 8)
    if modes & ~CANCEL_ON_DISCONNECT <= STP_DECREMENT
    for flags, manner in ((0, RESTS_OR_TAKES), (POST_ONLY, RESTS), (IOC, ENDS_OR_TAKES), (FOK, ENDS_OR_TAKES))
}


class Book(Commands):
    """
    The book of one market.

    May be read from outside: `orders` (open orders by number), `phase`, `halted`, `last` (last trade's price),
    `reference` (the static collar's), `sequence` (of the last command), `cleared` (what an uncross was decided from).
    """

    # --- the one way in -----------------------------------------------------------------------------------------------

    def apply(self, command: Command) -> list[EventRow]:
        """Apply one command and return its events. A command that cannot be is answered by one REFUSED event."""
        [events] = self.apply_each((command,))
        return events

    def apply_all(self, commands: Iterable[Command]) -> list[list[EventRow]]:
        """Apply commands in turn and return the events of each."""
        return [*self.apply_each(commands)]

    def apply_each(self, commands: Iterable[Command]) -> Iterator[list[EventRow]]:
        """
        Yield the events of each command, which is asked for when those of the one before have been seen to. The book
        may be read again when all is done. For batches: plain orders come, change and go in line.

        An order may do so as long as no conditional order waits for its price (`bid_reach`, `ask_reach`), for that one
        would have to be asked first. Whatever is not plain is done by its handler.
        """
        orders, bids, asks = self.orders, self.bids, self.asks
        bid_keys, ask_keys, bid_levels, ask_levels = bids.keys, asks.keys, bids.levels, asks.levels
        cap, least, most, manner_of = self._cap, self._least, self._most, MANNERS.get
        plain, call, bid_reach, ask_reach = self._circumstances()
        sequence, died = self.sequence, 0
        for command in commands:
            _, sequence, number, owner, price, lots, kind, side, flags, rare = command
            order = None
            if not plain:
                pass
            elif kind == CANCEL:
                gone = orders.get(number)
                if (
                    gone is not None
                    and gone[OWNER] == owner
                    and (gone[PRICE] > bid_reach if gone[SIDE] else gone[PRICE] < ask_reach)
                    and (gone[EXTRA] is None or gone[EXTRA].place != CONDITIONAL)
                ):
                    del orders[number]
                    lots, gone[OPEN] = gone[OPEN], 0
                    died += 1
                    yield [(CANCELLED, number, owner, gone[PRICE], lots, REQUESTED)]
                    continue
            elif kind == LIMIT:
                if rare is None and 0 < price <= cap and least <= lots <= most and number not in orders:
                    manner = manner_of(flags) if flags else RESTS_OR_TAKES
                    if manner is not None and BUY <= side <= SELL:
                        order = [lots, number, owner, side, price, flags, lots, sequence, None]
                        said = (ACCEPTED, number, owner, price, lots, LIMIT)
            elif kind == REPLACE and rare is None:
                old = orders.get(number)
                if old is not None and old[EXTRA] is None and old[OWNER] == owner:
                    side, price, total = old[SIDE], price or old[PRICE], lots or old[TOTAL]
                    lots = total - old[TOTAL] + old[OPEN]
                    reached = old[PRICE] <= bid_reach if side else old[PRICE] >= ask_reach
                    if not reached and lots > 0 and 0 < price <= cap and least <= total <= most:
                        if price == old[PRICE] and lots <= old[OPEN]:
                            old[OPEN], old[TOTAL] = lots, total
                            yield [(REPLACED, number, owner, price, lots, 1)]
                            continue
                        manner = manner_of(old[FLAGS])
                        order = [lots, number, owner, side, price, old[FLAGS], total, sequence, None]
                        said = (REPLACED, number, owner, price, lots, 0)
            if order is not None:
                if side:
                    key, levels = price, ask_levels
                    meets = price <= bid_reach or (bid_keys and bid_keys[0] <= -price)
                else:
                    key, levels = -price, bid_levels
                    meets = price >= ask_reach or (ask_keys and ask_keys[0] <= price)
                if (call or not meets) and manner != ENDS_OR_TAKES:  # joins its queue
                    if kind == REPLACE:
                        orders[number][OPEN] = 0
                        died += 1
                    queue = levels.get(key)
                    if queue is None:
                        queue = (asks if side else bids).queue(key)
                    orders[number] = order
                    queue.append(order)
                    yield [said]
                    continue
                if manner != RESTS and not call:  # takes what it may
                    if kind == REPLACE:
                        orders.pop(number)[OPEN] = 0
                        died += 1
                    self.sequence, waiting = sequence, self.conditionals
                    events = [said]
                    self._take(order, events)
                    if self._collared or self.conditionals != waiting or self._may_follow():
                        self._conclude(events)
                        plain, call, bid_reach, ask_reach = self._circumstances()
                    yield events
                    continue
            self.sequence = sequence
            events = self._perform(command)
            plain, call, bid_reach, ask_reach = self._circumstances()
            yield events
        self.sequence = sequence
        self.until_tidy -= died
        if self.until_tidy <= 0:
            self.tidy()

    def _circumstances(self) -> tuple[bool, bool, int, int]:
        """
        Return whether plain orders may come and go, whether it is a call, and the highest buy price and lowest sell
        price of conditional orders.
        """
        call = self.phase == CALL
        plain = not self.halted and (call or self.phase == CONTINUOUS)
        if call or not self.conditionals:
            return plain, call, 0, NOWHERE
        if self._collared and (self._moved or self.terms.dynamic_collar):
            plain = False  # what a collar kept from trading may do so after any command, now that it has moved
        bids, asks = self.bids.conditional, self.asks.conditional
        return plain, call, -bids[0][0] if bids else 0, asks[0][0] if asks else NOWHERE

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
