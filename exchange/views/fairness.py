"""A public page for each grade: what buyers paid, apart from each other; and the same as CSV."""

from datetime import timedelta

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from core import clock
from core.csv_files import as_csv
from exchange import fairness_queries
from exchange.fairness_queries import Paid
from providers.models import Grade

DAYS = 30
SHOWN = 60
COLUMNS = (
    "kind", "market", "at", "buyers", "standard_tokens", "average_price_nano", "lowest_price_nano",
    "highest_price_nano", "one_price", "cheapest_buyer_thousandths", "dearest_buyer_thousandths",
)  # fmt: skip


@require_GET
def page(request: HttpRequest, slug: str) -> HttpResponse:
    """Both distributions of the last 30 days, with the rows behind them."""
    grade = _grade(slug)
    auctions, hours = _paid(grade)
    return render(
        request,
        "exchange/fairness.html",
        {
            "grade": grade,
            "days": DAYS,
            "auctions": auctions[:SHOWN],
            "hours": hours[:SHOWN],
            "auction_count": len(auctions),
            "several_prices": sum(not row.is_one_price for row in auctions),
            "auction_spread": fairness_queries.distribution(_spread(row) for row in auctions),
            "by_time": fairness_queries.distribution(_against(row, hours) for row in hours),
            "by_buyer": fairness_queries.distribution(share for row in hours for share in row.buyers_thousandths),
        },
    )


@require_GET
def export(request: HttpRequest, slug: str) -> HttpResponse:
    """The rows as CSV."""
    grade = _grade(slug)
    auctions, hours = _paid(grade)
    text = as_csv(COLUMNS, fairness_queries.export_rows([*auctions, *hours]))
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="fairness-{grade.slug}.csv"'
    return response


def _spread(row: Paid) -> int:
    """What the dearest paid against the cheapest, in thousandths."""
    return row.highest_nano * 1_000 // row.lowest_nano


def _against(row: Paid, hours: list[Paid]) -> int:
    """What an hour cost against all of its market's hours together, in thousandths."""
    same = [one for one in hours if one.market_id == row.market_id]
    average = sum(one.average_nano * one.tokens for one in same) // sum(one.tokens for one in same)
    return row.average_nano * 1_000 // average if average else 1_000


def _paid(grade: Grade) -> tuple[list[Paid], list[Paid]]:
    now = clock.now()
    since = now - timedelta(days=DAYS)
    return (
        fairness_queries.auctions_paid(grade.pk, since=since, until=now),
        fairness_queries.hours_paid(grade.pk, since=since, until=now),
    )


def _grade(slug: str) -> Grade:
    found = Grade.objects.filter(slug=slug).first()
    if found is None:
        raise Http404
    return found
