"""Public pages of the exchange: the landing page, markets, past auctions."""

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from core import clock
from exchange import index_queries, notice_queries, page_queries
from exchange.models import Market
from exchange.views import market_page
from identity import rulebook

PER_PAGE = 50
TRADING = (Market.Phase.CALL, Market.Phase.CONTINUOUS)


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The live market in one look, and what this is."""
    now = clock.now()
    following = page_queries.next_call(now=now)
    latest = page_queries.past_auctions()[:8]
    index = index_queries.index_at(following.grade_id, now) if following else None
    discount = index_queries.off_peak_discount(following.grade_id, now) if following else None
    context = {
        "next_market": following, "auctions": latest, "index": index, "discount": discount,
        "news": notice_queries.news(now), "rules_ahead": rulebook.ahead(now),
    }  # fmt: skip
    return render(request, "exchange/home.html", context)


@require_GET
def markets(request: HttpRequest) -> HttpResponse:
    """All markets that are open or near."""
    grade, phase = request.GET.get("grade", ""), request.GET.get("phase", "")
    if phase and phase not in Market.Phase.values:
        raise Http404
    now = clock.now()
    rows = page_queries.markets_on_show(now=now, grade=grade, phase=phase)
    return render(
        request,
        "exchange/markets.html",
        {
            "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
            "grades": page_queries.grades_with_markets(),
            "phases": Market.Phase.choices,
            "grade": grade,
            "phase": phase,
            "news": notice_queries.news(now),
            "rules_ahead": rulebook.ahead(now),
        },
    )


@require_GET
def market(request: HttpRequest, market_id: int) -> HttpResponse:
    """One market: at what price does it clear, and why?"""
    row = get_object_or_404(page_queries.markets_compared(clock.now()), pk=market_id)
    return render(request, "exchange/market.html", market_page.context(request, row))


@require_GET
def market_live(request: HttpRequest, market_id: int) -> HttpResponse:
    """The part of the market page that changes while one looks; asked for again every few seconds."""
    row = get_object_or_404(page_queries.markets_compared(clock.now()), pk=market_id)
    context = market_page.live_context(request, row)
    shown = request.GET.get("phase")
    answer = render(request, "exchange/_live.html", context | {"swap": row.phase in TRADING})
    if shown and shown != row.phase:
        answer["HX-Refresh"] = "true"  # another phase is another page: the ticket, the curve, the result
    return answer


@require_GET
def auctions(request: HttpRequest) -> HttpResponse:
    """Past auctions, the latest first."""
    rows = page_queries.past_auctions()
    return render(
        request, "exchange/auctions.html", {"page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}
    )
