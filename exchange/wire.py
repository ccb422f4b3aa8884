"""
How market data looks as JSON, over REST and in websocket frames alike. docs/MARKET_DATA.md shows each.

Prices are ¥ per token as text with as many decimals as the market's tick has, quantities standard tokens. Whoever keeps
a book can therefore take the checksum's digits from the texts as they come.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.money import LOT_TOKENS, format_price, format_yuan, round_half_up
from exchange.domain.frames import Frame, Indicative, PublicMarket, Statistics, TradeTick
from exchange.domain.numbering import entry_id
from exchange.domain.orders import BUY, SELL
from exchange.domain.public_book import Level, Row, checksum
from exchange.domain.times import from_ns
from exchange.frame_queries import PHASE_NAMES
from exchange.models import Market

TAKERS = {0: "auction", 1: "buy", 2: "sell"}
SIDES = {BUY: "buy", SELL: "sell"}
CHANNELS = ("quote", "book", "orders", "trades", "phase", "indicative", "statistics")


def time_text(moment: datetime) -> str:
    """Return a time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Units:
    """What a market's ticks are in text."""

    market_id: int
    tick_nano: int
    places: int
    price_unit: int  # a tick in units of the last decimal

    @classmethod
    def of(cls, market: Market) -> "Units":
        """Return the units of a market."""
        places = len(format_price(market.tick_nano).partition(".")[2])
        return cls(market.pk, market.tick_nano, places, market.tick_nano // 10 ** (9 - places))

    def price(self, ticks: int) -> str | None:
        """Return a price; None for 0, which is none."""
        return format_price(ticks * self.tick_nano, places=self.places) if ticks else None

    def level(self, level: Level) -> list[Any]:
        """Return `[price, quantity, orders]`."""
        return [self.price(level.price), level.lots * LOT_TOKENS, level.orders]

    def order(self, row: Row) -> list[Any]:
        """Return `[order, side, price, quantity]`; quantity 0 takes the order out, price null is a market order's."""
        number, side, price, lots = row
        return [number, SIDES[side], self.price(price), lots * LOT_TOKENS]

    def trade(self, trade: TradeTick, at_ns: int) -> dict[str, Any]:
        """Return a public trade."""
        number, price, lots, aggressor = trade
        return {
            "id": entry_id(self.market_id, number),
            "price": self.price(price),
            "quantity": lots * LOT_TOKENS,
            "taker_side": TAKERS[aggressor],
            "created_at": time_text(from_ns(at_ns)),
        }

    def checksum(self, market: PublicMarket) -> int:
        """Return the CRC32 of the best ten levels of each side."""
        return checksum(market.book, price_unit=self.price_unit, lot_tokens=LOT_TOKENS)

    def quote(self, market: PublicMarket) -> dict[str, Any]:
        """Return the best bid and ask, and the last price."""
        bid, ask = market.book.side(BUY, 1), market.book.side(SELL, 1)
        return {
            "bid": self.level(bid[0])[:2] if bid else None,
            "ask": self.level(ask[0])[:2] if ask else None,
            "last": self.price(market.statistics.last),
        }

    def book(self, market: PublicMarket, depth: int | None = None) -> dict[str, Any]:
        """Return the book by level."""
        book = market.book
        return {
            "bids": [self.level(level) for level in book.side(BUY, depth)],
            "asks": [self.level(level) for level in book.side(SELL, depth)],
            "market_bids": book.market_lots(BUY) * LOT_TOKENS,
            "market_asks": book.market_lots(SELL) * LOT_TOKENS,
            "checksum": self.checksum(market),
        }

    def book_changes(self, market: PublicMarket, touched: Iterable[tuple[int, int]]) -> dict[str, Any]:
        """Return the levels that changed, as they are now; quantity 0 takes a level out."""
        changed: dict[str, Any] = {"bids": [], "asks": []}
        for side, price in sorted(touched):
            level = market.book.level(side, price)
            name = "asks" if side else "bids"
            if price:
                changed[name].append(self.level(level))
            else:
                changed[f"market_{name}"] = level.lots * LOT_TOKENS
        return changed | {"checksum": self.checksum(market)}

    def orders(self, market: PublicMarket, depth: int | None = None) -> dict[str, Any]:
        """Return the book order by order, best price first, at a price by priority."""
        rows = [market.book.orders(side) for side in (BUY, SELL)]
        if depth is not None:
            rows = [_best(side, depth) for side in rows]
        return {"rows": [self.order(row) for side in rows for row in side], "checksum": self.checksum(market)}

    def order_changes(self, market: PublicMarket, rows: Sequence[Row]) -> dict[str, Any]:
        """Return rows to apply in their order."""
        return {"rows": [self.order(row) for row in rows], "checksum": self.checksum(market)}

    def indicative(self, found: Indicative | None) -> dict[str, Any] | None:
        """Return what the call would give now; best bid and ask only where it would give nothing."""
        if found is None:
            return None
        return {
            "price": self.price(found.price),
            "volume": found.volume * LOT_TOKENS,
            "surplus": found.surplus * LOT_TOKENS,
            "best_bid": None if found.price else self.price(found.best_bid),
            "best_ask": None if found.price else self.price(found.best_ask),
        }

    def statistics(self, found: Statistics) -> dict[str, Any]:
        """Return a market's trading so far: `volume` in tokens, `amount` in ¥, `vwap` in ¥ per token."""
        return {
            "open": self.price(found.open),
            "high": self.price(found.high),
            "low": self.price(found.low),
            "last": self.price(found.last),
            "volume": found.volume * LOT_TOKENS,
            "amount": format_yuan(found.amount * self.tick_nano * LOT_TOKENS // 1_000),
            "vwap": format_price(round_half_up(found.amount * self.tick_nano, found.volume)) if found.volume else None,
            "trades": found.trades,
        }

    def phase(self, market: PublicMarket, phase: str | None = None) -> dict[str, Any]:
        """Return the phase (`phase` if that is later), whether trading is halted, and what the last auction gave."""
        auction = market.auction
        shown: dict[str, Any] = {"phase": phase or PHASE_NAMES[market.phase], "halted": market.halted, "auction": None}
        if auction is not None:
            shown["auction"] = {
                "price": self.price(auction.price),
                "volume": auction.volume * LOT_TOKENS,
                "surplus": auction.surplus * LOT_TOKENS,
            }
        return shown


def _best(rows: list[Row], depth: int) -> list[Row]:
    """Return the rows of the first `depth` prices."""
    prices = list(dict.fromkeys(price for _, _, price, _ in rows))[:depth]
    last = set(prices)
    return [row for row in rows if row[2] in last]


def is_sealed(market: Market, now: datetime) -> bool:
    """Whether a market's bids are sealed still: in `auction` mode until gate closure."""
    return market.mode == Market.Mode.AUCTION and now < market.gate_closes_at and market.gate_closed_at is None


class Update:
    """What several frames one after the other changed: one message to those who stood where the first one began."""

    def __init__(self, prev_sequence: int) -> None:
        self.prev_sequence = prev_sequence
        self.touched: set[tuple[int, int]] = set()
        self.rows: list[Row] = []
        self.trades: list[tuple[int, list[TradeTick]]] = []
        self.quote = self.phase = self.indicative = False

    def add(self, market: PublicMarket, frame: Frame) -> None:
        """
        Apply a frame to the market and take note of what it changes.

        :raises FrameGap: it is not the next one.
        """
        indicative, halted = market.indicative, market.halted
        self.touched |= market.apply(frame)
        self.rows += frame.rows
        if frame.trades:
            self.trades.append((frame.at_ns, frame.trades))
        self.phase = self.phase or bool(frame.phases) or halted != frame.halted or frame.auction is not None
        self.indicative = self.indicative or indicative != frame.indicative

    def shown(
        self, units: Units, market: PublicMarket, channels: Collection[str], *, phase: str | None = None
    ) -> dict[str, Any]:
        """Return the message for those who read some channels: the parts of them that changed, as they are now."""
        message: dict[str, Any] = {
            "type": "update",
            "market": market.market_id,
            "prev_seq": self.prev_sequence,
            "seq": market.sequence,
            "at": time_text(from_ns(market.at_ns)),
        }
        if "quote" in channels and (self.touched or self.trades):
            message["quote"] = units.quote(market)
        if "book" in channels:
            message["book"] = units.book_changes(market, self.touched)
        if "orders" in channels:
            message["orders"] = units.order_changes(market, self.rows)
        if "trades" in channels and self.trades:
            message["trades"] = [units.trade(one, at_ns) for at_ns, trades in self.trades for one in trades]
        if "phase" in channels and self.phase:
            message["phase"] = units.phase(market, phase)
        if "indicative" in channels and self.indicative:
            message["indicative"] = units.indicative(market.indicative)
        if "statistics" in channels and self.trades:
            message["statistics"] = units.statistics(market.statistics)
        return message


def snapshot(
    units: Units, market: PublicMarket, channels: Collection[str], *, sealed: bool, phase: str | None = None
) -> dict[str, Any]:
    """Return the message that a reader begins with: every channel as it is now. A sealed book has no levels."""
    message: dict[str, Any] = {
        "type": "snapshot",
        "market": market.market_id,
        "seq": market.sequence,
        "at": time_text(from_ns(market.at_ns)) if market.at_ns else None,
        "sealed": sealed,
    }
    if "quote" in channels and not sealed:
        message["quote"] = units.quote(market)
    if "book" in channels and not sealed:
        message["book"] = units.book(market)
    if "orders" in channels and not sealed:
        message["orders"] = units.orders(market)
    if "phase" in channels:
        message["phase"] = units.phase(market, phase)
    if "indicative" in channels:
        message["indicative"] = units.indicative(market.indicative)
    if "statistics" in channels:
        message["statistics"] = units.statistics(market.statistics)
    return message
