"""What the market page shows, however it was asked for."""

from typing import Any
from uuid import uuid4

from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.queries import available_micro
from core.money import LOT_TOKENS
from core.templatetags.ciyuan import per_million, short_tokens
from exchange import frame_queries, page_queries, queries
from exchange.models import AuctionResult, Market, MarketPosition
from exchange.views.ticket_form import TicketForm
from identity.pages import page_actor

OWN_ORDERS = 20


def context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return the context of `exchange/market.html`."""
    auction = None
    if market.last_trade or market.phase not in (Market.Phase.SCHEDULED, Market.Phase.CALL):
        auction = AuctionResult.objects.filter(market=market).select_related("market").order_by("-sequence").first()
    return live_context(request, market) | {
        "auction": auction,
        "curves": page_queries.curves_of_auction(auction, market.tick_nano) if auction else None,
        "sentences": _sentences(auction) if auction else [],
        "trades": list(queries.trades_in(market.pk).order_by("-pk")[:12]) if market.last_trade else [],
        "past": page_queries.past_auctions(grade_id=market.grade_id).exclude(market=market)[:6],
    }


def live_context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return what of the page changes while one looks: the visitor's own orders, position and money."""
    found: dict[str, Any] = {"market": market, "own_orders": [], "ticket": None, "may_trade": False}
    found["indicative"] = indicative_of(market)
    actor = page_actor(request)
    if actor is None:
        return found
    mine = queries.orders_of(actor).filter(market_id=market.pk, organization_id=actor.organization_id)
    found["own_orders"] = queries.order_states(mine.order_by("-pk")[:OWN_ORDERS])
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


def indicative_of(market: Market) -> dict[str, int | None] | None:
    """Return what the call would give now; None outside a call."""
    if market.phase != Market.Phase.CALL:
        return None
    with frame_queries.Reading(market.pk) as now:
        found = now.indicative
    if found is None:
        return None
    tick = market.tick_nano
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
