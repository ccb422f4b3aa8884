"""
A book as bytes, and back. The same state gives the same bytes, so their hash is the book's state hash.

Layout: the length of a header (u32, little-endian), the header (JSON, keys sorted), then two record arrays: one row for
each open order in canonical order (buys before sells; of a side the levels from the best with their queues, then
market, conditional, stop and outside orders), and one row for the rarer fields of those that have any. Dead orders,
heaps and other means to an end are not part of the state. 28 bytes an order, 30 more for one that is not plain.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from heapq import heappush

import numpy as np

from exchange.domain.book_parts import (
    AGE,
    ASIDE,
    CONDITIONAL,
    EXTRA,
    FLAGS,
    MARKETS,
    NUMBER,
    OPEN,
    OWNER,
    PRICE,
    QUEUED,
    SIDE,
    STOPPED,
    TOTAL,
    Extra,
    Order,
    key_of,
)
from exchange.domain.matching import Matching
from exchange.domain.orders import BUY, MarketTerms

FORMAT = 1
ORDER_ROW = np.dtype([
    ("open", "<u4"), ("number", "<u4"), ("owner", "<u4"), ("price", "<i4"), ("total", "<u4"), ("age", "<u4"),
    ("flags", "<u2"), ("side", "u1"), ("rare", "u1"),
])  # fmt: skip
RARE_ROW = np.dtype([
    ("expires_ns", "<u8"), ("group", "<u4"), ("display", "<u4"), ("shown", "<u4"), ("minimum", "<u4"), ("stop", "<i4"),
    ("kind", "u1"), ("place", "u1"),
])  # fmt: skip


def in_canonical_order(book: Matching) -> Iterator[Order]:
    """Yield every open order once, in the order of the snapshot."""
    outside: tuple[list[Order], list[Order]] = ([], [])
    stopped: tuple[list[Order], list[Order]] = ([], [])
    for order in book.orders.values():
        if order[EXTRA] is not None and order[EXTRA].place in (STOPPED, ASIDE):
            (stopped if order[EXTRA].place == STOPPED else outside)[order[SIDE]].append(order)
    for number, side in enumerate(book.sides):
        for _, queue in side.in_order():
            yield from (order for order in queue if order[OPEN])
        yield from (order for order in side.markets if order[OPEN])
        yield from (order for _, _, _, order in side.conditional)
        yield from sorted(stopped[number], key=lambda one: (_stop_key(one), one[AGE], one[NUMBER]))
        yield from sorted(outside[number], key=lambda one: (one[AGE], one[NUMBER]))


def dump(book: Matching) -> bytes:
    """Return the book's state as bytes."""
    columns = (OPEN, NUMBER, OWNER, PRICE, TOTAL, AGE, FLAGS, SIDE)
    members = list(in_canonical_order(book))
    rows = np.array([tuple([one[c] for c in columns] + [one[EXTRA] is not None]) for one in members], dtype=ORDER_ROW)
    extras = [one[EXTRA] for one in members if one[EXTRA] is not None]
    names = RARE_ROW.names or ()
    rare = np.array([tuple([getattr(extra, name) for name in names]) for extra in extras], dtype=RARE_ROW)
    header = json.dumps(
        {
            "format": FORMAT, "terms": asdict(book.terms), "phase": book.phase, "halted": book.halted,
            "last": book.last, "reference": book.reference, "sequence": book.sequence, "orders": len(members),
        },
        sort_keys=True, separators=(",", ":"),
    ).encode()  # fmt: skip
    return len(header).to_bytes(4, "little") + header + rows.tobytes() + rare.tobytes()


def load_into(book: Matching, header: dict[str, int], body: memoryview) -> None:
    """Fill an empty book with the orders that `dump` wrote."""
    count = header["orders"]
    rows = np.frombuffer(body, dtype=ORDER_ROW, count=count)
    rare = iter(np.frombuffer(body, dtype=RARE_ROW, offset=count * ORDER_ROW.itemsize).tolist())
    book.halted = bool(header["halted"])
    book.last, book.reference, book.sequence = header["last"], header["reference"], header["sequence"]
    for open_lots, number, owner, price, total, age, flags, side, is_rare in rows.tolist():
        extra = None
        if is_rare:
            expires_ns, group, display, shown, minimum, stop, kind, place = next(rare)
            extra = Extra(kind, group, display, shown, minimum, stop, expires_ns, place)
        order: Order = [open_lots, number, owner, side, price, flags, total, age, extra]
        book.orders[number] = order
        _put_back(book, order)
    book.settle_in()


def _put_back(book: Matching, order: Order) -> None:
    extra, own = order[EXTRA], book.sides[order[SIDE]]
    place = QUEUED if extra is None else extra.place
    if place == QUEUED:
        own.queue(key_of(order)).append(order)
    elif place == MARKETS:
        own.markets.append(order)
    elif place == CONDITIONAL:
        own.put_conditional(order)
    elif place == STOPPED:
        heappush(own.stops, (_stop_key(order), order[AGE], order[NUMBER]))
    if extra is not None and extra.expires_ns:
        heappush(book.expiries, (extra.expires_ns, order[NUMBER]))


def _stop_key(order: Order) -> int:
    stop: int = order[EXTRA].stop
    return stop if order[SIDE] == BUY else -stop


def header_of(snapshot: bytes) -> tuple[dict[str, int], MarketTerms, memoryview]:
    """
    Return header, terms and body of a snapshot.

    :raises ValueError: if it is none, or of a format that this version does not know.
    """
    length = int.from_bytes(snapshot[:4], "little")
    header = json.loads(snapshot[4 : 4 + length])
    if header.get("format") != FORMAT:
        raise ValueError(f"A snapshot of format {header.get('format')} cannot be read; this version knows {FORMAT}.")
    return header, MarketTerms(**header["terms"]), memoryview(snapshot)[4 + length :]
