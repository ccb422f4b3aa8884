"""
What can be said to an order book, and what it answers: commands, flags, events and reason codes.

A **command** is a tuple of ten, in the order of the journal's 32-byte record:

    (time_ns, sequence, order, owner, price, lots, kind, side, flags, rare)

Prices are whole ticks and quantities whole lots, so 0 never means a price: it means "none". `rare` is None for most
orders and a `Rare` for those that need more. `sequence` rises by one per command; `order` is the order's number
within its market; `owner` 0 is the exchange itself.

    kind            order  owner  price            lots        side        flags, rare
    LIMIT           yes    yes    limit            quantity    yes         any below
    MARKET          yes    yes    protection or 0  quantity    yes         protection: the worst price it may trade at
    STOP            yes    yes    protection or 0  quantity    yes         rare.stop: the trigger; then as MARKET
    STOP_LIMIT      yes    yes    limit            quantity    yes         rare.stop: the trigger; then as LIMIT
    CANCEL          yes    yes
    REPLACE         yes    yes    new or 0 = same  new total or 0 = same   rare.stop: a new trigger; filled lots count
    MASS_CANCEL            0=all                               -1 = both
    LEASE_EXPIRED          yes                                             ends the orders flagged CANCEL_ON_DISCONNECT
    EXPIRE                                                                 ends orders with rare.expires_ns <= time_ns
    PHASE                                  lots: the phase to enter
    UNCROSS                       reference or 0                           rare.fills: as decided elsewhere, at `price`
    HALT, RESUME
    REFERENCE                     static reference price
    EXTEND                        the price that left its collar: the call goes on
    ANNUL                                  lots: the sequence of the UNCROSS whose trades are reversed; no order changes

An **event** is a tuple of six integers, so a list of events is an (n, 6) int64 array:

    (event, order, other, price, lots, detail)

    ACCEPTED   order, owner, price, lots, kind              lots are open from here on
    REFUSED    order, owner, price, lots, Reason            nothing changed
    FILL       buy order, sell order, price, lots, Maker    both orders' open lots fall by lots
    CANCELLED  order, owner, price, lots, Reason            the open lots that are left: none remain
    EXPIRED    order, owner, price, lots, Reason            likewise, for time or gate closure
    REDUCED    order, owner, price, lots, Reason            open lots fall by lots (self-trade prevention)
    REPLACED   order, owner, price, open lots, 1 if the priority is kept
    TRIGGERED  order, owner, trade price, lots, kind        a stop becomes an ordinary order
    REFRESHED  order, owner, price, shown lots, 0           an iceberg shows its next tip, last in its queue
    PHASE      phase, phase before, price, 0, Cause         price: the auction's, or the one a collar kept from trading
    UNCROSSED  0, 0, price, volume, surplus                 price 0: nothing was executable; surplus: bid positive
    HALTED     1 or 0, 0, 0, 0, 0

`fold` derives every order's open lots from events alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

BUY, SELL = 0, 1


class Kind(IntEnum):
    """The `kind` of a command; values are stored."""

    LIMIT = 1
    MARKET = 2
    STOP = 3
    STOP_LIMIT = 4
    CANCEL = 10
    REPLACE = 11
    MASS_CANCEL = 12
    LEASE_EXPIRED = 13
    EXPIRE = 20
    PHASE = 21
    UNCROSS = 22
    HALT = 23
    RESUME = 24
    REFERENCE = 25
    EXTEND = 26
    ANNUL = 27


class Phase(IntEnum):
    SCHEDULED = 0
    CALL = 1
    UNCROSS = 2
    CONTINUOUS = 3
    CLOSED = 4


# Flags, 16 bits. The lowest two bits are the time in force; bits 8 to 10 the mode of self-trade prevention.
GTC, IOC, FOK, GTD = 0, 1, 2, 3
TIME_IN_FORCE = 3
POST_ONLY = 1 << 2
AUCTION_ONLY = 1 << 3
CONTINUOUS_ONLY = 1 << 4
ALL_OR_NONE = 1 << 5
ICEBERG = 1 << 6
MINIMUM = 1 << 7
STP_NEWEST, STP_OLDEST, STP_BOTH, STP_DECREMENT = 1 << 8, 2 << 8, 3 << 8, 4 << 8
STP = 7 << 8
CANCEL_ON_DISCONNECT = 1 << 11


class Event(IntEnum):
    """The first field of an event; values are stored."""

    ACCEPTED = 1
    REFUSED = 2
    FILL = 3
    CANCELLED = 4
    EXPIRED = 5
    REDUCED = 6
    REPLACED = 7
    TRIGGERED = 8
    REFRESHED = 9
    PHASE = 10
    UNCROSSED = 11
    HALTED = 12


class Maker(IntEnum):
    """Which side of a fill was resting."""

    BUY = 0
    SELL = 1
    NEITHER = 2  # a fill of an auction


class Cause(IntEnum):
    """Why a phase began."""

    SCHEDULE = 0
    VOLATILITY = 1


class Reason(IntEnum):
    """Why a command was refused or an order ended; `code` is what the API shows."""

    NONE = 0
    # the command itself
    BAD_KIND = 1
    BAD_SIDE = 2
    BAD_QUANTITY = 3
    BAD_PRICE = 4
    OFF_TICK = 5
    OFF_LOT = 6
    BELOW_MINIMUM = 7
    ABOVE_MAXIMUM = 8
    ABOVE_CAP = 9
    CONTRADICTORY_FLAGS = 10
    BAD_DISPLAY = 11
    BAD_MINIMUM = 12
    BAD_STOP = 13
    BAD_EXPIRY = 14
    BAD_FILLS = 15  # of an UNCROSS
    # the state it met
    WRONG_PHASE = 20
    HALTED = 21
    ORDER_NOT_OPEN = 22
    DUPLICATE_ORDER = 23
    WOULD_TAKE = 24
    ALREADY_FILLED = 25
    # why an order ended
    REQUESTED = 40
    MASS_CANCEL = 41
    DISCONNECTED = 42
    UNFILLED = 43
    SELF_TRADE = 44
    DUE = 45
    GATE_CLOSURE = 46
    ANNULLED = 47

    @property
    def code(self) -> str:
        return self.name.lower()


class Rare(NamedTuple):
    """What few commands need; 0 means "not given". The journal keeps these in continuation records."""

    stop: int = 0  # trigger price in ticks
    display: int = 0  # lots an iceberg shows at a time
    minimum: int = 0  # least lots of one match
    expires_ns: int = 0  # for GTD
    group: int = 0  # control group for self-trade prevention; 0: the owner alone
    fills: tuple[tuple[int, int], ...] = ()  # UNCROSS: (order, lots), as an auction session decided


NO_RARE = Rare()

Command: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, Rare | None]
EventRow: TypeAlias = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class MarketTerms:
    """
    What a market admits. One tick is `tick_nano` of price, one lot is `lot_tokens` standard tokens.

    Collars are in thousandths of the reference on either side; 0 switches one off. The static collar is around the
    last auction price, the dynamic one around the last trade before the command. `protection` bounds a market order
    that names no price of its own, around the best opposite price.
    """

    tick_nano: int = 1
    lot_tokens: int = 1000
    cap: int = 2**31 - 1  # ticks
    minimum_lots: int = 1
    maximum_lots: int = 2**32 - 1
    static_collar: int = 0
    dynamic_collar: int = 0
    protection: int = 0
    pro_rata: bool = False  # how an auction shares the margin; else by time

    def ticks(self, price_nano: int) -> int | None:
        """Return the price in ticks, or None if it is off the tick."""
        ticks, rest = divmod(price_nano, self.tick_nano)
        return None if rest else ticks

    def lots(self, tokens: int) -> int | None:
        """Return the quantity in lots, or None if it is no whole number of them."""
        lots, rest = divmod(tokens, self.lot_tokens)
        return None if rest else lots


# Plain names: reaching for an enum's member takes longer than the comparison it is for.
_LIMIT, _STOP, _STOP_LIMIT, _NONE = int(Kind.LIMIT), int(Kind.STOP), int(Kind.STOP_LIMIT), Reason.NONE


def refusal(terms: MarketTerms, command: Command) -> Reason:
    """
    Say why an order's own terms are refused, whatever the state of the book; `Reason.NONE` if they are sound.

    The same check stands at the door and in the book, so that an order that was accepted is never surprised.
    """
    time_ns, _, _, _, price, lots, kind, side, flags, rare = command
    if not _LIMIT <= kind <= _STOP_LIMIT:
        return Reason.BAD_KIND
    if side not in (BUY, SELL):
        return Reason.BAD_SIDE
    if lots <= 0:
        return Reason.BAD_QUANTITY
    if lots < terms.minimum_lots:
        return Reason.BELOW_MINIMUM
    if lots > terms.maximum_lots:
        return Reason.ABOVE_MAXIMUM
    if price < 0 or (price == 0 and kind in (_LIMIT, _STOP_LIMIT)):
        return Reason.BAD_PRICE
    if price > terms.cap:
        return Reason.ABOVE_CAP
    if contradicts(kind, flags):
        return Reason.CONTRADICTORY_FLAGS
    stop, display, minimum, expires_ns, _, _ = rare or NO_RARE
    if not (0 < display <= lots if flags & ICEBERG else display == 0):
        return Reason.BAD_DISPLAY
    if not (0 < minimum <= lots if flags & MINIMUM else minimum == 0):
        return Reason.BAD_MINIMUM
    if not (0 < stop <= terms.cap if kind >= _STOP else stop == 0):
        return Reason.BAD_STOP
    if not (time_ns < expires_ns if flags & TIME_IN_FORCE == GTD else expires_ns == 0):
        return Reason.BAD_EXPIRY
    return _NONE


@lru_cache(maxsize=4096)
def contradicts(kind: int, flags: int) -> bool:
    """Whether an order's flags exclude each other, or do not go with its kind."""
    in_force = flags & TIME_IN_FORCE
    at_once = in_force in (IOC, FOK) or kind in (Kind.MARKET, Kind.STOP)
    waits = kind in (Kind.STOP, Kind.STOP_LIMIT)
    return bool(
        flags < 0
        or flags >> 12
        or flags & STP > STP_DECREMENT
        or (flags & AUCTION_ONLY and (flags & (CONTINUOUS_ONLY | POST_ONLY) or in_force in (IOC, FOK) or waits))
        or (flags & POST_ONLY and (at_once or waits or flags & (ALL_OR_NONE | MINIMUM)))
        or (flags & ALL_OR_NONE and (at_once or flags & (ICEBERG | MINIMUM)))
        or (flags & MINIMUM and (flags & ICEBERG or in_force == FOK))
        or (flags & ICEBERG and at_once)
        or (kind == Kind.MARKET and in_force == GTD)
    )


def fold(events: Iterable[EventRow], open_lots: dict[int, int]) -> dict[int, int]:
    """
    Apply events to `open_lots` (order number to open lots, in place) and return it. Orders at zero are left out.

    This is the definition of an order's state: the book, the database and a client's own copy all agree with it.
    """
    for event, order, other, _, lots, _ in events:
        if event == Event.ACCEPTED or event == Event.REPLACED:
            open_lots[order] = lots
        elif event == Event.FILL:
            for number in (order, other):
                open_lots[number] -= lots
                if not open_lots[number]:
                    del open_lots[number]
        elif event == Event.CANCELLED or event == Event.EXPIRED:
            del open_lots[order]
        elif event == Event.REDUCED:
            open_lots[order] -= lots
            if not open_lots[order]:
                del open_lots[order]
    return open_lots
