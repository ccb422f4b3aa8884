"""
What a book is made of: orders, as lists, and the two sides with their queues.

Orders are lists, not objects: to make one costs a tenth, and a million of them fit in about 300 MB. One that ends has
no open lots; it stays in its queue, dead, until it comes to the front or the book is tidied.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from exchange.domain.orders import ALL_OR_NONE, FOK, MINIMUM, TIME_IN_FORCE, Kind

# An order. Plain ones have no EXTRA; whatever is not in the queue of its price has one, which says where it is.
OPEN, NUMBER, OWNER, SIDE, PRICE, FLAGS, TOTAL, AGE, EXTRA = range(9)
Order: TypeAlias = list[Any]

# Where an order is: in the queue of its price; among a call's market orders; with the conditional ones; with the stops;
# outside, until the phase it waits for.
QUEUED, MARKETS, CONDITIONAL, STOPPED, ASIDE = range(5)

# An order that waits until it can have what it needs: key, age, a number that rises with each, and the order.
Conditional: TypeAlias = tuple[int, int, int, Order]

LIMIT: Final = int(Kind.LIMIT)
NOWHERE: Final = 2**62  # a key behind every price


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
    """
    One side. Keys are `-price` for buys and `price` for sells: the least is the best.

    Sorted lists, not heaps: a few thousand prices move in the time of one comparison in Python, and whoever looks
    behind the best need not copy anything.
    """

    __slots__ = ("_arrivals", "conditional", "keys", "levels", "markets", "stops")

    def __init__(self) -> None:
        self.levels: dict[int, deque[Order]] = {}  # the queue of each price, dead orders among them
        self.keys: list[int] = []  # the keys of `levels`, sorted
        self.markets: list[Order] = []  # in time order, dead ones among them; only during a call
        self.conditional: list[Conditional] = []  # sorted by key, then time
        self.stops: list[tuple[int, int, int]] = []  # heap of (key, age, number), stale ones among them
        self._arrivals = 0

    def queue(self, key: int) -> deque[Order]:
        """Return the queue of a key, made if need be."""
        queue = self.levels.get(key)
        if queue is None:
            queue = self.levels[key] = deque()
            insort(self.keys, key)
        return queue

    def best(self) -> int:
        """Return the key of the best firm order, or NOWHERE. Drops dead orders and empty queues on the way to it."""
        keys, levels = self.keys, self.levels
        while keys:
            key = keys[0]
            queue = levels[key]
            while queue:
                if queue[0][OPEN]:
                    return key
                queue.popleft()
            del levels[key], keys[0]
        return NOWHERE

    def best_of_all(self) -> int:
        """Return the key of the best order, firm or conditional, or NOWHERE."""
        best = self.best()
        return min(best, self.conditional[0][0]) if self.conditional else best

    def in_order(self) -> Iterator[tuple[int, deque[Order]]]:
        """Yield key and queue of each price that has an open firm order, best first. The book must stay as it is."""
        levels = self.levels
        for key in self.keys:
            queue = levels[key]
            if queue and (queue[0][OPEN] or any(order[OPEN] for order in queue)):
                yield key, queue

    def walk(self) -> Iterator[tuple[int, Iterable[Order]]]:
        """Yield key and orders by priority: of a price the queue first, then the conditional orders. Dead ones too."""
        conditional = iter(self.conditional)
        waiting = next(conditional, None)
        for key, queue in self.in_order():
            while waiting is not None and waiting[0] < key:
                yield waiting[0], (waiting[3],)
                waiting = next(conditional, None)
            yield key, queue
        while waiting is not None:
            yield waiting[0], (waiting[3],)
            waiting = next(conditional, None)

    def put_conditional(self, order: Order) -> None:
        """Put an order among the conditional ones of its key, behind those that are as old."""
        self._arrivals += 1
        insort(self.conditional, (key_of(order), order[AGE], self._arrivals, order))

    def drop_conditional(self, order: Order) -> None:
        """Take an order out from among the conditional ones."""
        held = self.conditional
        place = bisect_left(held, (key_of(order), order[AGE]))
        while held[place][3] is not order:
            place += 1
        del held[place]

    def tidy(self) -> None:
        """Forget dead orders, and the queues that hold nothing else."""
        for key, queue in list(self.levels.items()):
            alive = [order for order in queue if order[OPEN]]
            queue.clear()
            queue.extend(alive)
            if not alive:
                del self.levels[key]
        self.keys[:] = sorted(self.levels)


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
