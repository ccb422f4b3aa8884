"""
A market's book as a reader keeps it: begun by a snapshot, brought forward by updates, checked after each.

Nothing here sends or receives; `ciyuan.market_data` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from zlib import crc32

CHECKED_LEVELS = 10


class OutOfStep(Exception):
    """An update does not begin where the book stands: something between was lost. Nothing has changed."""


class ChecksumMismatch(Exception):
    """The book is not what the exchange says it is; only a snapshot helps."""


class LocalBook:
    """
    :ivar seq: the journal number up to which it holds; None before the first snapshot.
    :ivar sealed: the market is a sealed auction: there is nothing to see before gate closure.
    """

    def __init__(self, market: int) -> None:
        self.market = market
        self.seq: int | None = None
        self.sealed = False
        self.checksum: int | None = None
        self._bids: dict[str, tuple[int, int]] = {}
        self._asks: dict[str, tuple[int, int]] = {}

    @property
    def bids(self) -> list[tuple[Decimal, int, int]]:
        """Price (¥ per token), quantity (tokens) and number of orders, the best first."""
        return _levels(self._bids, highest_first=True)

    @property
    def asks(self) -> list[tuple[Decimal, int, int]]:
        """Likewise, the lowest price first."""
        return _levels(self._asks, highest_first=False)

    def begin(self, message: Mapping[str, Any]) -> None:
        """
        Take a snapshot.

        :raises ChecksumMismatch: it contradicts itself.
        """
        book = message.get("book") or {"bids": [], "asks": []}
        self.sealed = bool(message.get("sealed"))
        self._bids = {row[0]: (row[1], row[2]) for row in book["bids"]}
        self._asks = {row[0]: (row[1], row[2]) for row in book["asks"]}
        self.seq = message["seq"]
        self._check(book.get("checksum"))

    def apply(self, message: Mapping[str, Any]) -> bool:
        """
        Take an update; False for one that is known already.

        :raises OutOfStep: something before it is missing.
        :raises ChecksumMismatch: the book is wrong after it.
        """
        if self.seq is None:
            raise OutOfStep("no snapshot yet")
        if message["seq"] <= self.seq and message["prev_seq"] < self.seq:
            return False
        if message["prev_seq"] != self.seq:
            raise OutOfStep(f"the book stands at {self.seq}, the update begins at {message['prev_seq']}")
        self.seq = message["seq"]
        book = message.get("book")
        if book is not None:
            for side, rows in ((self._bids, book["bids"]), (self._asks, book["asks"])):
                for price, quantity, orders in rows:
                    if quantity:
                        side[price] = (quantity, orders)
                    else:
                        side.pop(price, None)
            self._check(book.get("checksum"))
        return True

    def _check(self, told: int | None) -> None:
        self.checksum = told
        if told is not None and told != (found := checksum(self._asks, self._bids)):
            raise ChecksumMismatch(f"market {self.market} at {self.seq}: {found}, but the exchange says {told}")


def checksum(asks: Mapping[str, tuple[int, int]], bids: Mapping[str, tuple[int, int]]) -> int:
    """
    The CRC32 of the best ten levels of each side, as Kraken's v2 book: asks from low to high, bids from high to low, of
    each price and quantity as text without point and leading zeros.
    """
    best_asks = sorted(asks, key=Decimal)[:CHECKED_LEVELS]
    best_bids = sorted(bids, key=Decimal, reverse=True)[:CHECKED_LEVELS]
    levels = [(price, asks[price][0]) for price in best_asks] + [(price, bids[price][0]) for price in best_bids]
    return crc32("".join(_digits(price) + _digits(str(quantity)) for price, quantity in levels).encode())


def _digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


def _levels(side: Mapping[str, tuple[int, int]], *, highest_first: bool) -> list[tuple[Decimal, int, int]]:
    rows: Iterable[tuple[Decimal, int, int]] = ((Decimal(price), *rest) for price, rest in side.items())
    return sorted(rows, reverse=highest_first)
