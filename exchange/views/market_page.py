"""What the market page shows, however it was asked for."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.queries import available_micro
from core import clock
from core.money import LOT_TOKENS
from core.templatetags.ciyuan import per_million, short_tokens
from exchange import candle_queries, frame_queries, notice_queries, order_queries, page_queries, wire
from exchange.candle_chart import candle_chart
from exchange.domain.frames import PublicMarket
from exchange.domain.orders import BUY, SELL
from exchange.domain.public_book import Level
from exchange.models import AuctionResult, Market, MarketPosition
from exchange.views.ticket_form import TicketForm
from identity.pages import page_actor

OWN_ORDERS, LADDER_LEVELS, SHOWN_TRADES = 20, 8, 12


@dataclass(frozen=True, slots=True)
class Rung:
    """A level of the ladder; `share` is its depth so far in percent of the deepest one shown."""

    price_nano: int
    tokens: int
    orders: int
    depth_tokens: int
    share: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """The best levels of an open book: offers from the highest to the best, then bids from the best down."""

    asks: list[Rung]
    bids: list[Rung]
    spread_nano: int | None
    market_bids_tokens: int
    market_asks_tokens: int
    last_nano: int | None


def context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return the context of `exchange/market.html`, for a market of `page_queries.markets_compared`."""
    auction = None
    if market.last_trade or market.phase not in (Market.Phase.SCHEDULED, Market.Phase.CALL):
        auction = AuctionResult.objects.filter(market=market).select_related("market").order_by("-sequence").first()
    return _live(request, market, auction) | {
        "auction": auction,
        "curves": page_queries.curves_of_auction(auction, market.tick_nano) if auction else None,
        "sentences": _sentences(auction) if auction else [],
        "halt_reason": notice_queries.reason_of_halt(market),
        "past": page_queries.past_auctions(grade_id=market.grade_id).exclude(market=market)[:6],
    }


def live_context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return what of the page changes while one looks: the visitor's own orders, position and money."""
    return _live(request, market, None)


def _live(request: HttpRequest, market: Market, auction: AuctionResult | None) -> dict[str, Any]:
    found: dict[str, Any] = {"market": market, "own_orders": [], "ticket": None, "may_trade": False}
    found |= _of_frames(market)
    found["comparison"] = _comparison(market, found, auction)
    trades = order_queries.trades_in(market.pk).order_by("-pk")
    found["trades"] = list(trades[:SHOWN_TRADES]) if market.last_trade else []
    if market.last_trade and market.phase in (Market.Phase.CALL, Market.Phase.CONTINUOUS):
        candles, found["interval"] = candle_queries.of_whole_life(market, now=clock.now())
        found["candles"], found["candle_chart"] = candles[::-1], candle_chart(candles)
    actor = page_actor(request)
    if actor is None:
        return found
    mine = order_queries.orders_of(actor).filter(market_id=market.pk, organization_id=actor.organization_id)
    found["own_orders"] = order_queries.order_states(mine.order_by("-pk")[:OWN_ORDERS])
    found["open_orders"] = sum(not order.ended for order in found["own_orders"])
    if "trade" in actor.scopes and market.phase in ("call", "continuous"):
        if market.last_trade:
            held = MarketPosition.objects.filter(market=market, organization_id=actor.organization_id)
            found["position"] = held.first()
        found["available_micro"] = available_micro(actor.organization_id)
        found["cancel_key"] = str(uuid4())
        found["may_trade"] = True
        found["ticket"] = TicketForm(
            initial={"side": "buy" if actor.organization.buys else "sell", "type": "limit", "key": str(uuid4())}
        )
    return found


def _of_frames(market: Market) -> dict[str, Any]:
    """Return the book, where it is open, what a call would give now, and what has been traded."""
    if market.phase not in (Market.Phase.CALL, Market.Phase.CONTINUOUS):
        return {"indicative": None, "ladder": None, "traded": None}
    sealed = wire.is_sealed(market, clock.now())
    with frame_queries.Reading(market.pk) as now:
        return {
            "indicative": _indicative(market, now) if market.phase == Market.Phase.CALL else None,
            "ladder": None if sealed else _ladder(market, now),
            "traded": _traded(market, now) if market.phase == Market.Phase.CONTINUOUS else None,
        }


def _comparison(market: Market, found: dict[str, Any], auction: AuctionResult | None) -> page_queries.Comparison:
    """Return what the page's price is seen against: that of the last trade, of the auction, or what is indicated."""
    if found["traded"]:
        return page_queries.comparison(market, found["traded"]["last_nano"])
    if auction is not None:
        return page_queries.comparison(market, auction.price_nano)
    return page_queries.comparison(market, found["indicative"]["price_nano"] if found["indicative"] else None)


def _ladder(market: Market, now: PublicMarket) -> Ladder:
    asks, bids = now.book.side(SELL, LADDER_LEVELS), now.book.side(BUY, LADDER_LEVELS)
    deepest = max(sum(level.lots for level in side) for side in (asks, bids)) or 1
    tick = market.tick_nano
    return Ladder(
        asks=_rungs(asks, tick, deepest)[::-1],
        bids=_rungs(bids, tick, deepest),
        spread_nano=(asks[0].price - bids[0].price) * tick if asks and bids else None,
        market_bids_tokens=now.book.market_lots(BUY) * LOT_TOKENS,
        market_asks_tokens=now.book.market_lots(SELL) * LOT_TOKENS,
        last_nano=now.statistics.last * tick or None,
    )


def _rungs(levels: list[Level], tick_nano: int, deepest_lots: int) -> list[Rung]:
    rungs, depth = [], 0
    for level in levels:
        depth += level.lots
        share = depth * 100 // deepest_lots
        rungs.append(Rung(level.price * tick_nano, level.lots * LOT_TOKENS, level.orders, depth * LOT_TOKENS, share))
    return rungs


def _traded(market: Market, now: PublicMarket) -> dict[str, int] | None:
    found, tick = now.statistics, market.tick_nano
    if not found.trades:
        return None
    return {
        "last_nano": found.last * tick,
        "open_nano": found.open * tick,
        "high_nano": found.high * tick,
        "low_nano": found.low * tick,
        "volume_tokens": found.volume * LOT_TOKENS,
        "trades": found.trades,
    }


def _indicative(market: Market, now: PublicMarket) -> dict[str, int | None] | None:
    found, tick = now.indicative, market.tick_nano
    if found is None:
        return None
    return {
        "price_nano": found.price * tick or None,
        "volume_tokens": found.volume * LOT_TOKENS,
        "surplus_tokens": found.surplus * LOT_TOKENS,
        "best_bid_nano": found.best_bid * tick or None,
        "best_ask_nano": found.best_ask * tick or None,
    }


def _sentences(auction: AuctionResult) -> list[str]:
    return page_queries.sentences_of(
        auction,
        price=lambda price_nano: f"{per_million(price_nano)} {_('per million')}",
        quantity=lambda tokens: short_tokens(tokens),
    )
