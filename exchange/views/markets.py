"""Public pages of the exchange: the landing page, markets, past auctions."""

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from core import clock
from core.templatetags.ciyuan import per_million, short_tokens
from exchange import page_queries, queries
from exchange.models import AuctionResult, Market
from identity.pages import page_actor

PER_PAGE = 50


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The live market in one look, and what this is."""
    now = clock.now()
    following = page_queries.next_call(now=now)
    latest = page_queries.past_auctions()[:8]
    return render(request, "exchange/home.html", {"next_market": following, "auctions": latest})


@require_GET
def markets(request: HttpRequest) -> HttpResponse:
    """All markets that are open or near."""
    grade, phase = request.GET.get("grade", ""), request.GET.get("phase", "")
    if phase and phase not in Market.Phase.values:
        raise Http404
    rows = page_queries.markets_on_show(now=clock.now(), grade=grade, phase=phase)
    return render(
        request,
        "exchange/markets.html",
        {
            "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
            "grades": page_queries.grades_with_markets(),
            "phases": Market.Phase.choices,
            "grade": grade,
            "phase": phase,
        },
    )


@require_GET
def market(request: HttpRequest, market_id: int) -> HttpResponse:
    """One market: at what price does it clear, and why?"""
    row = get_object_or_404(Market.objects.select_related("grade__model_card"), pk=market_id)
    auction = AuctionResult.objects.filter(market=row).select_related("market").order_by("-sequence").first()
    actor = page_actor(request)
    own = []
    if actor is not None:
        mine = queries.orders_of(actor).filter(market_id=row.pk, organization_id=actor.organization_id)
        own = queries.order_states(mine.order_by("-pk")[:20])
    return render(
        request,
        "exchange/market.html",
        {
            "market": row,
            "auction": auction,
            "curves": page_queries.curves_of_auction(auction, row.tick_nano) if auction else None,
            "sentences": _sentences(auction) if auction else [],
            "own_orders": own,
            "trades": list(queries.trades_in(row.pk).order_by("-pk")[:12]),
            "past": page_queries.past_auctions(grade_id=row.grade_id).exclude(market=row)[:6],
        },
    )


@require_GET
def auctions(request: HttpRequest) -> HttpResponse:
    """Past auctions, the latest first."""
    rows = page_queries.past_auctions()
    return render(
        request, "exchange/auctions.html", {"page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}
    )


def _sentences(auction: AuctionResult) -> list[str]:
    return page_queries.sentences_of(
        auction,
        price=lambda price_nano: f"{per_million(price_nano)} {_('per million')}",
        quantity=lambda tokens: short_tokens(tokens),
    )
