"""
Flows of order-book messages to time books with, each made with a seed so that every book gets the same.

A message is a command as `exchange.domain.orders` describes it. Prices are around 10,000 ticks.
"""

import random
from collections.abc import Callable
from typing import TypeAlias

from exchange.domain import orders as o
from exchange.domain.book import Book
from exchange.domain.book_parts import NUMBER, OPEN, TOTAL
from exchange.domain.orders import BUY, Command, Kind, MarketTerms, Phase, Rare

Maker: TypeAlias = Callable[[random.Random, int, int, int, int], tuple[int, int, int, Rare | None]]

LIMIT, CANCEL = int(Kind.LIMIT), int(Kind.CANCEL)
MID, TOUCH = 10_000, 4


def limit_flow(count: int, seed: int = 1) -> list[Command]:
    """
    Return `count` messages: half add a limit order that rests, 40% cancel one, 10% are marketable limit orders.

    The four prices next to the middle are what trades, the prices behind them are what is cancelled. That is because of
    one peer: matching that passes a cancelled order corrupts a level of nanobook 0.19.2, which then never returns.
    """
    return _flow(count, seed, _plain, replaces=0.0)


def all_types_flow(count: int, seed: int = 1) -> list[Command]:
    """Return the same mix, with every fourth order of another type and every eighth cancel a replace."""
    return _flow(count, seed, _any_type, replaces=0.125)


def _flow(count: int, seed: int, terms: Maker, *, replaces: float) -> list[Command]:
    rng = random.Random(seed)
    book = Book(MarketTerms(), Phase.CONTINUOUS)
    flow: list[Command] = []
    behind: list[int] = []  # the orders that may be cancelled
    number = 0
    for sequence in range(1, count + 1):
        dice = rng.random()
        order = _pick(rng, book, behind) if dice < 0.4 else 0
        if order:
            kind, lots = (int(Kind.REPLACE), rng.randint(1, 100)) if rng.random() < replaces else (CANCEL, 0)
            command = (sequence, sequence, order, order % 1000 + 1, 0, lots, kind, 0, 0, None)
        else:
            number += 1
            side, lots = rng.getrandbits(1), rng.randint(1, 100)
            near = _near(book, side) if dice >= 0.9 else 0
            if near:
                distance, lots = -TOUCH, min(near, lots * 2)
            elif rng.random() < 0.2:
                distance = rng.randint(1, TOUCH)
            else:
                distance = TOUCH + 1 + min(int(rng.expovariate(0.02)), 400)
                behind.append(number)
            kind, price, flags, rare = terms(rng, number, side, MID - distance if side == BUY else MID + distance, lots)
            command = (sequence, sequence, number, number % 1000 + 1, price, lots, kind, side, flags, rare)
        book.apply(command)
        flow.append(command)
    return flow


def _near(book: Book, side: int) -> int:
    """Return the lots that an order of this side may take: those next to the middle."""
    return sum(lots for price, lots, _ in book.depth(TOUCH)[1 - side] if abs(price - MID) <= TOUCH)


def _pick(rng: random.Random, book: Book, behind: list[int]) -> int:
    """Return the number of an open order that has not traded and forget it, or 0 if there is none."""
    while behind:
        place = rng.randrange(len(behind))
        behind[place], behind[-1] = behind[-1], behind[place]
        order = book.orders.get(behind.pop())
        if order is not None and order[OPEN] == order[TOTAL]:
            return int(order[NUMBER])
    return 0


def _plain(rng: random.Random, number: int, side: int, price: int, lots: int) -> tuple[int, int, int, Rare | None]:
    return LIMIT, price, 0, None


def _any_type(rng: random.Random, number: int, side: int, price: int, lots: int) -> tuple[int, int, int, Rare | None]:
    if number % 4:
        return LIMIT, price, o.STP_NEWEST if number % 8 == 1 else 0, None
    beyond = 30 if side == BUY else -30
    match number // 4 % 10:
        case 0:
            return int(Kind.MARKET), 0, 0, None
        case 1:
            return LIMIT, price, o.IOC, None
        case 2:
            return LIMIT, price, o.FOK, None
        case 3:
            return LIMIT, price, o.POST_ONLY, None
        case 4 | 5:
            return LIMIT, price, o.ICEBERG, Rare(display=max(1, lots // 5))
        case 6:
            return int(Kind.STOP), 0, 0, Rare(stop=price + beyond)
        case 7:
            return int(Kind.STOP_LIMIT), price + beyond, 0, Rare(stop=price + beyond)
        case 8:
            return LIMIT, price, o.GTD, Rare(expires_ns=2**62)
        case _ if number % 3:
            return LIMIT, price, o.MINIMUM, Rare(minimum=max(1, lots // 4))
        case _:
            return LIMIT, price, o.ALL_OR_NONE, None
