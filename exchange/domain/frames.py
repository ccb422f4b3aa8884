"""
A frame: what one drain of a market changed that the public may see. It goes from one journal number to another, so that
frames one after the other cover the journal without a gap, and a reader who misses one knows it.

Prices are ticks, quantities lots, times nanoseconds since 1970. Everything but the book's rows and the trades is given
as it is after the frame, not as a change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import mul
from typing import TypeAlias

import msgspec
import zstandard

from exchange.domain.orders import Phase
from exchange.domain.public_book import PublicBook, Row

TradeTick: TypeAlias = tuple[int, int, int, int]
"""A trade: its number within the market, price, lots, aggressor (0 both, 1 buyer, 2 seller)."""


class Statistics(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A market's trading so far. Prices are 0 before the first trade; `amount` is the sum of price × lots."""

    open: int = 0
    high: int = 0
    low: int = 0
    last: int = 0
    volume: int = 0
    amount: int = 0
    trades: int = 0

    def after(self, trades: Sequence[TradeTick]) -> Statistics:
        """Return the statistics with more trades."""
        if not trades:
            return self
        prices = [price for _, price, _, _ in trades]
        lots = [lots for _, _, lots, _ in trades]
        return Statistics(
            self.open or prices[0],
            max(self.high, max(prices)),
            min(self.low or prices[0], min(prices)),
            prices[-1],
            self.volume + sum(lots),
            self.amount + sum(map(mul, prices, lots)),
            self.trades + len(trades),
        )


class Indicative(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a call's auction would give now. Price 0: nothing is executable; then best bid and ask are of interest."""

    price: int
    volume: int
    surplus: int
    best_bid: int
    best_ask: int


class Uncrossed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an auction gave: its price (0: none), volume and surplus (bids positive)."""

    price: int
    volume: int
    surplus: int


class Frame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What changed between two journal numbers, exclusive and inclusive."""

    prev_sequence: int
    sequence: int
    at_ns: int
    phase: int
    halted: bool
    rows: list[Row]
    trades: list[TradeTick]
    statistics: Statistics
    phases: list[tuple[int, int]] = []  # phases entered, with the cause
    indicative: Indicative | None = None
    auction: Uncrossed | None = None


SMALL_BYTES = 2_000  # Postgres keeps these in the row, as they are
COMPRESSED, QUICKLY = b"\x28\xb5\x2f\xfd", 1  # how zstd's output begins, and no array does; its quickest level

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)
_rows_decoder = msgspec.msgpack.Decoder(list[Row])


def pack(frame: Frame) -> bytes:
    """Return a frame as it is sent."""
    return _encoder.encode(frame)


def pack_rows(rows: Sequence[Row]) -> bytes:
    """Return a whole book, as it is stored with every so many frames."""
    return stored(_encoder.encode(rows))


def stored(packed: bytes) -> bytes:
    """Return what was packed as it is stored: compressed if it is large, which Postgres would do worse and slower."""
    return zstandard.compress(packed, QUICKLY) if len(packed) > SMALL_BYTES else packed


def unpack(content: bytes) -> Frame:
    """Return the frame that `pack` wrote, be it as sent or as stored."""
    return _decoder.decode(_packed(content))


def unpack_rows(content: bytes) -> list[Row]:
    """Return the whole book that `pack_rows` wrote."""
    return _rows_decoder.decode(_packed(content))


def _packed(content: bytes) -> bytes:
    return zstandard.decompress(content) if content.startswith(COMPRESSED) else content


class FrameGap(ValueError):
    """A frame does not begin where the reader stands."""


class PublicMarket:
    """A market as the frames up to `sequence` tell it."""

    __slots__ = ("at_ns", "auction", "book", "halted", "indicative", "market_id", "phase", "sequence", "statistics")

    def __init__(self, market_id: int) -> None:
        self.market_id = market_id
        self.sequence = 0
        self.at_ns = 0
        self.phase = int(Phase.SCHEDULED)
        self.halted = False
        self.book = PublicBook()
        self.statistics = Statistics()
        self.indicative: Indicative | None = None
        self.auction: Uncrossed | None = None

    def begin(self, frame: Frame, book: Iterable[Row]) -> None:
        """Start over at a frame with which the whole book is stored."""
        self.book = PublicBook(book)
        self._take(frame)

    def apply(self, frame: Frame) -> set[tuple[int, int]]:
        """
        Apply the next frame and return the levels that changed, as (side, price).

        :raises FrameGap: it is not the next one; nothing has changed.
        """
        if frame.prev_sequence != self.sequence:
            raise FrameGap(f"market {self.market_id} is at {self.sequence}, the frame begins at {frame.prev_sequence}")
        touched = self.book.apply(frame.rows)
        self._take(frame)
        return touched

    def _take(self, frame: Frame) -> None:
        self.sequence, self.at_ns = frame.sequence, frame.at_ns
        self.phase, self.halted = frame.phase, frame.halted
        self.statistics, self.indicative = frame.statistics, frame.indicative
        self.auction = frame.auction or self.auction
