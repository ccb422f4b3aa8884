"""What the market page shows, however it was asked for."""

from typing import Any
from uuid import uuid4

from django.http import HttpRequest
from django.utils.translation import gettext as _

from billing.queries import available_micro
from core.templatetags.ciyuan import per_million, short_tokens
from exchange import page_queries, queries
from exchange.models import AuctionResult, Market, MarketPosition
from exchange.views.ticket_form import TicketForm
from identity.pages import page_actor

OWN_ORDERS = 20


def context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return the context of `exchange/market.html`."""
    auction = AuctionResult.objects.filter(market=market).select_related("market").order_by("-sequence").first()
    return live_context(request, market) | {
        "auction": auction,
        "curves": page_queries.curves_of_auction(auction, market.tick_nano) if auction else None,
        "sentences": _sentences(auction) if auction else [],
        "trades": list(queries.trades_in(market.pk).order_by("-pk")[:12]),
        "past": page_queries.past_auctions(grade_id=market.grade_id).exclude(market=market)[:6],
    }


def live_context(request: HttpRequest, market: Market) -> dict[str, Any]:
    """Return what of the page changes while one looks: the visitor's own orders, position and money."""
    found: dict[str, Any] = {"market": market, "own_orders": [], "ticket": None, "may_trade": False}
    actor = page_actor(request)
    if actor is None:
        return found
    mine = queries.orders_of(actor).filter(market_id=market.pk, organization_id=actor.organization_id)
    found["own_orders"] = queries.order_states(mine.order_by("-pk")[:OWN_ORDERS])
    found["open_orders"] = sum(not order.ended for order in found["own_orders"])
    if "trade" in actor.scopes and market.phase in ("call", "continuous"):
        found["position"] = MarketPosition.objects.filter(market=market, organization_id=actor.organization_id).first()
        found["available_micro"] = available_micro(actor.organization_id)
        found["cancel_key"] = str(uuid4())
        found["may_trade"] = True
        found["ticket"] = TicketForm(
            initial={"side": "buy" if actor.organization.buys else "sell", "type": "limit", "key": str(uuid4())}
        )
    return found


def _sentences(auction: AuctionResult) -> list[str]:
    return page_queries.sentences_of(
        auction,
        price=lambda price_nano: f"{per_million(price_nano)} {_('per million')}",
        quantity=lambda tokens: short_tokens(tokens),
    )
