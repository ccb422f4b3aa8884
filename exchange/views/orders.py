"""Pages of an organization's orders and trades."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from core.listing import Listing
from exchange import order_queries, page_queries
from exchange.models import Command, Market, Trade
from exchange.order_queries import OrderState
from exchange.views.tables import ORDERS, STATUSES, trades_table
from identity.access import Actor
from identity.pages import require_actor


@require_GET
@require_actor("read")
def orders(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's orders and what became of them."""
    listing = Listing(request, ORDERS)
    rows = order_queries.orders_of(actor).filter(organization_id=actor.organization_id)
    if listing.wants_csv:
        return listing.csv(rows, _with_states)
    page = listing.page(rows)
    context = {
        "page": page, "orders": _with_states(list(page)), "listing": listing, "query": listing.query,
        "statuses": STATUSES,
    }  # fmt: skip
    return render(request, "exchange/orders.html", context)


@require_GET
@require_actor("read")
def trades(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's trades, each a fill of one of its orders."""
    listing = Listing(request, trades_table(actor.organization_id))
    rows = order_queries.trades_of(actor.organization_id)
    if listing.wants_csv:
        return listing.csv(rows, _with_markets)
    page = listing.page(rows)
    context: dict[str, Any] = {
        "page": page, "trades": _with_markets(list(page)), "listing": listing, "query": listing.query,
        "own": actor.organization_id,
    }  # fmt: skip
    return render(request, "exchange/trades.html", context)


def _with_states(rows: Sequence[Command]) -> list[tuple[OrderState, Market]]:
    states = order_queries.order_states(rows)
    named = page_queries.markets_by_id({state.market_id for state in states})
    return [(state, named[state.market_id]) for state in states]


def _with_markets(rows: Sequence[Trade]) -> list[tuple[Trade, Market]]:
    found = list(rows)
    named = page_queries.markets_by_id({row.market_id for row in found})
    return [(row, named[row.market_id]) for row in found]
