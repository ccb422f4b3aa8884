"""An auction's result: what the book was, which price it gave, which rule decided."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import zstandard

from core.money import LOT_TOKENS, format_price
from exchange import queries
from exchange.actions.market_state import MarketState
from exchange.domain.auction import Determination, determine_price
from exchange.domain.orders import Kind
from exchange.domain.sides import MARKET, Side
from exchange.domain.uncross import Sealed, indicative, is_thin, sealed_book
from exchange.models import AuctionBook, AuctionResult, Market
from identity.actions.events import Event, emit_all

LARGE_SELLER_THOUSANDTHS = 400
THIN_BELOW_RESERVE = "thin_below_reserve"


def price_in_sight(market: Market, state: MarketState) -> int | None:
    """Return the price in ticks at which the call of a market would clear now, before self-trade prevention."""
    return indicative(state.book, (market.reference_price_nano or 0) // market.tick_nano).price_tick


def uncross(*, market: Market, state: MarketState, kind: str, now: datetime) -> AuctionResult:
    """
    Clear the call of a market whose lock is held, enter it into the journal and record the result. A thin auction that
    would trade below the lowest reserve price on offer trades nothing.
    """
    tick = market.tick_nano
    reference = min((market.reference_price_nano or 0) // tick, state.book.terms.cap)
    reserve_tick = _reserve_tick(market) if is_thin(state.book) else None
    withheld = None if reserve_tick is None else _below(reserve_tick, state, reference)
    if withheld is None:
        state.enter(Kind.UNCROSS, now, price=reference)
        cleared = state.book.cleared
        assert cleared is not None, "an auction of one market is decided by its book"
        sides, determined, rule = cleared.sealed, cleared.determined, cleared.determined.rule.value
    else:
        state.enter(Kind.UNCROSS, now, fills=())
        (sides, determined), rule = withheld, THIN_BELOW_RESERVE
    return record(
        market=market, sequence=state.sequence, kind=kind, sides=sides, determined=determined, now=now, rule=rule,
        reserve_tick=reserve_tick,
    )  # fmt: skip


def record(
    *,
    market: Market,
    sequence: int,
    kind: str,
    sides: Sealed,
    determined: Determination,
    now: datetime,
    rule: str | None = None,
    reserve_tick: int | None = None,
    limits: Sequence[int] = (),
    blocks: Sequence[dict[str, Any]] = (),
) -> AuctionResult:
    """
    Write down an auction and the book that anyone can compute it from.

    :param limits: those of blocks that lie in this market alone, which are candidates for the price.
    :param blocks: what is published of each block with a leg here; accepted ones stand among the sides.
    """
    tick, reference = market.tick_nano, determined.reference_tick or 0
    members = _Members.of(sides)
    result = AuctionResult(
        market=market,
        sequence=sequence,
        kind=kind,
        call=market.call,
        price_nano=_nano(determined.price_tick, tick),
        volume_tokens=determined.volume_lots * LOT_TOKENS,
        surplus_tokens=determined.surplus_lots * LOT_TOKENS,
        rule=rule or determined.rule.value,
        reference_price_nano=market.reference_price_nano,
        best_bid_nano=_nano(determined.best_bid_tick, tick),
        best_ask_nano=_nano(determined.best_ask_tick, tick),
        wanted_tokens=int(sides.bids.lots.sum()) * LOT_TOKENS,
        offered_tokens=int(sides.asks.lots.sum()) * LOT_TOKENS,
        buyers=members.buyers,
        sellers=members.sellers,
        largest_seller_thousandths=members.largest_seller_thousandths,
        thin=members.thin,
        reserve_price_nano=_nano(reserve_tick, tick),
        figures=_figures(determined),
        cleared_at=now,
    )
    result.save()
    content = _book(sides, reference, reserve_tick, market.margin, limits, blocks)
    AuctionBook.objects.create(auction=result, content=content)
    emit_all([_cleared(result, member_id) for member_id in sorted(members.ids)], now=now)
    return result


def _cleared(result: AuctionResult, member_id: int) -> Event:
    return Event(
        member_id,
        "auction.cleared",
        f"auction:{result.pk}",
        {
            "id": result.pk,
            "market": result.market_id,
            "kind": str(result.kind),
            "price": None if result.price_nano is None else format_price(result.price_nano),
            "volume": result.volume_tokens,
            "surplus": result.surplus_tokens,
            "rule": result.rule,
        },
    )


def _reserve_tick(market: Market) -> int | None:
    """Return the lowest reserve price on offer in ticks, rounded up; None without one."""
    reserve = queries.reserve_price_nano(market.pk)
    return None if reserve is None else -(-reserve // market.tick_nano)


def _below(reserve_tick: int, state: MarketState, reference: int) -> tuple[Sealed, Determination] | None:
    """Return the sides, and a determination that trades nothing, if the price would lie below the reserve."""
    sides = sealed_book(state.book)
    determined = determine_price(sides.bids, sides.asks, reference or None)
    if determined.price_tick is None or determined.price_tick >= reserve_tick:
        return None
    return sides, replace(determined, price_tick=None, volume_lots=0, surplus_lots=0)


class _Members:
    """How many members take part, and how much of what is offered is one seller's."""

    def __init__(self, ids: set[int], buyers: int, sellers: int, largest_seller_thousandths: int) -> None:
        self.ids = ids
        self.buyers = buyers
        self.sellers = sellers
        self.largest_seller_thousandths = largest_seller_thousandths

    @property
    def thin(self) -> bool:
        """Fewer than two buyers or two sellers."""
        return self.buyers < 2 or self.sellers < 2

    @classmethod
    def of(cls, sides: Sealed) -> "_Members":
        buyers = set(sides.bid_owners.tolist())
        sellers, place = np.unique(sides.ask_owners, return_inverse=True)
        offered = np.zeros(len(sellers), np.int64)
        np.add.at(offered, place, sides.asks.lots)
        total = int(offered.sum())
        return cls(
            buyers | set(sellers.tolist()),
            len(buyers),
            len(sellers),
            int(offered.max()) * 1_000 // total if total else 0,
        )


def _figures(determined: Determination) -> dict[str, Any]:
    """Return the figures of each rule applied, in ticks and lots."""
    figures: dict[str, Any] = msgspec.to_builtins(asdict(determined))
    return figures


def _book(
    sides: Sealed, reference: int, reserve_tick: int | None, margin: str, limits: Sequence[int],
    blocks: Sequence[dict[str, Any]],
) -> bytes:  # fmt: skip
    """Return the anonymised book as `manage.py clear_book` reads it, compressed."""
    content: dict[str, Any] = {
        "bids": _rows(sides.bids, MARKET),
        "asks": _rows(sides.asks, -MARKET),
        "reference": reference or None,
        "margin": margin,
    }
    if reserve_tick is not None:
        content["reserve"] = reserve_tick
    if blocks:
        content |= {"limits": list(limits), "blocks": list(blocks)}
    return zstandard.compress(msgspec.json.encode(content))


def _rows(side: Side, market: int) -> list[list[int | None]]:
    """Return [tick or null, lots] of each order; those at any price stand first."""
    rows: list[list[int | None]] = np.stack((side.ticks, side.lots), axis=1).tolist()
    for place in np.flatnonzero(side.ticks == market).tolist():
        rows[place][0] = None
    return rows


def _nano(tick: int | None, tick_nano: int) -> int | None:
    return None if tick is None else tick * tick_nano

