"""Pages of an organization's orders."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from exchange import page_queries, queries
from identity.access import Actor
from identity.pages import require_actor

PER_PAGE = 50


@require_GET
@require_actor("read")
def orders(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's orders and what became of them."""
    rows = queries.orders_of(actor).filter(organization_id=actor.organization_id).order_by("-pk")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    states = queries.order_states(page.object_list)
    named = page_queries.markets_by_id({state.market_id for state in states})
    return render(
        request,
        "exchange/orders.html",
        {"page": page, "orders": [(state, named[state.market_id]) for state in states]},
    )
