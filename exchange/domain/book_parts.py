"""
What a book is made of: orders as lists, the levels that queue them, and the two sides.

Orders are lists, not objects: to make one costs a tenth, and a million of them fit in about 300 MB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop
from typing import Any, Final, TypeAlias

from exchange.domain.orders import ALL_OR_NONE, FOK, MINIMUM, TIME_IN_FORCE, Kind

# An order. Plain ones have no EXTRA; whatever is not in a level's queue has one, which says where it is.
OPEN, NUMBER, OWNER, SIDE, PRICE, FLAGS, TOTAL, AGE, LEVEL, EXTRA = range(10)
Order: TypeAlias = list[Any]

# Where an order is: in a level's queue; among a call's market orders; with the conditional ones; with the stops;
# outside, until the phase it waits for.
QUEUED, MARKETS, CONDITIONAL, STOPPED, ASIDE = range(5)

LIMIT: Final = int(Kind.LIMIT)
NOWHERE: Final = 2**62  # a key behind every price


class Level:
    """The orders of one price. `lots` are shown, `hidden` are icebergs' rest, `dead` counts cancelled ones in queue."""

    __slots__ = ("dead", "hidden", "lots", "price", "queue")

    def __init__(self, price: int) -> None:
        self.price = price
        self.queue: deque[Order] = deque()
        self.lots = 0
        self.hidden = 0
        self.dead = 0

    def tidy(self) -> None:
        """Forget dead orders once they are half of the queue, so that cancelling costs the same however deep it is."""
        queue = self.queue
        if not self.lots:
            queue.clear()
            self.dead = 0
        elif self.dead > 16 and self.dead * 2 > len(queue):
            alive = [order for order in queue if order[OPEN]]
            queue.clear()
            queue.extend(alive)
            self.dead = 0


class Extra:
    """What orders other than plain ones carry. `place` says which of the book's parts holds the order."""

    __slots__ = ("display", "expires_ns", "group", "kind", "minimum", "place", "shown", "stop")

    def __init__(
        self, kind: int, group: int, display: int, shown: int, minimum: int, stop: int, expires_ns: int, place: int
    ) -> None:
        self.kind = kind
        self.group = group
        self.display = display
        self.shown = shown
        self.minimum = minimum
        self.stop = stop
        self.expires_ns = expires_ns
        self.place = place


class BookSide:
    """One side. Keys are `-price` for buys and `price` for sells: the least is the best."""

    __slots__ = ("conditional", "heap", "levels", "markets", "stops")

    def __init__(self) -> None:
        self.levels: dict[int, Level] = {}
        self.heap: list[int] = []
        self.markets: list[Order] = []  # in time order, dead ones among them; only during a call
        self.conditional: list[Order] = []  # by key, then time
        self.stops: list[tuple[int, int, int]] = []  # heap of (key, age, number), stale ones among them

    def best(self) -> int:
        """Return the key of the best level that holds anything, or NOWHERE. Drops emptied levels on the way."""
        heap, levels = self.heap, self.levels
        while heap:
            if levels[heap[0]].lots:
                return heap[0]
            del levels[heappop(heap)]
        return NOWHERE

    def walk(self) -> Iterator[tuple[int, Iterable[Order]]]:
        """Yield key and orders by priority: of a price the queue first, then the conditional orders. Dead ones too."""
        waiting = [(key_of(order), order) for order in self.conditional]
        place = 0
        for level in self.in_order():
            key = key_of(level.queue[0])
            while place < len(waiting) and waiting[place][0] < key:
                yield waiting[place][0], (waiting[place][1],)
                place += 1
            yield key, level.queue
        for key, order in waiting[place:]:
            yield key, (order,)

    def in_order(self) -> Iterator[Level]:
        """Yield the levels that hold anything, the best first."""
        heap = self.heap.copy()
        while heap:
            level = self.levels[heappop(heap)]
            if level.lots:
                yield level


def key_of(order: Order) -> int:
    """Return where the order stands on its side: less is better."""
    price: int = order[PRICE]
    return price if order[SIDE] else -price


def group_of(order: Order) -> int:
    """Return the order's control group: its owner's number, or minus the number of the group that was named."""
    extra: Extra | None = order[EXTRA]
    owner: int = order[OWNER]
    return owner if extra is None else (-extra.group or owner)


def kind_of(order: Order) -> int:
    """Return LIMIT, MARKET, STOP or STOP_LIMIT: the last two only until they are triggered."""
    extra: Extra | None = order[EXTRA]
    return LIMIT if extra is None else extra.kind


def shown_of(order: Order) -> int:
    """Return the lots that stand in the queue."""
    extra: Extra | None = order[EXTRA]
    open_lots: int = order[OPEN]
    return open_lots if extra is None or not extra.display else extra.shown


def needs(order: Order) -> int:
    """Return the fewest lots that the order's next match must have; 0 for firm orders."""
    flags: int = order[FLAGS]
    open_lots: int = order[OPEN]
    if flags & ALL_OR_NONE or flags & TIME_IN_FORCE == FOK:
        return open_lots
    return min(order[EXTRA].minimum, open_lots) if flags & MINIMUM else 0
