"""Public pages: the spot token index with its method, and what trading here costs."""

from datetime import datetime, time, timedelta

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from billing.models import BillingProfile
from billing.queries import fee_thousandths
from core import clock
from core.periods import SHANGHAI
from exchange import index_queries, page_queries
from exchange.domain import funding, replacement, spot_index
from exchange.index_chart import index_chart
from identity.pages import page_actor
from providers.models import Grade
from providers.queries import delivered_thousandths

DAYS = 30


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The index of one grade: now, by day, and how it is found."""
    grades = page_queries.grades_with_markets()
    slug = request.GET.get("grade") or _first_shown(grades)
    if slug and slug not in dict(grades):
        raise Http404
    context = {"grades": grades, "slug": slug, "days": DAYS, "least": spot_index.LEAST_MEMBERS,
               "most_thousandths": spot_index.MOST_THOUSANDTHS}  # fmt: skip
    if slug:
        now = clock.now()
        grade = Grade.objects.get(slug=slug)
        midnight = datetime.combine(now.astimezone(SHANGHAI).date(), time(), SHANGHAI)
        by_day = index_queries.index_by_day(grade.pk, since=midnight - timedelta(days=DAYS - 1), until=now)
        context |= {
            "grade": grade,
            "now": index_queries.index_at(grade.pk, now),
            "discount": index_queries.off_peak_discount(grade.pk, now),
            "by_day": by_day,
            "chart": index_chart([(day, value.price_nano) for day, value in by_day[::-1]]),
        }
    return render(request, "exchange/index.html", context | {"reasons": reasons()})


def _first_shown(grades: list[tuple[str, str]]) -> str:
    """Return the grade that was auctioned last; before any auction the first one, where there is one."""
    last = page_queries.past_auctions().first()
    return last.market.grade.slug if last else grades[0][0] if grades else ""


def reasons() -> dict[str, str]:
    """Return why an index has no value, in the reader's language."""
    return {
        "too-few-sellers": _("fewer than three sellers"),
        "too-few-buyers": _("fewer than three buyers"),
        "seller-concentrated": _("one seller has more than half"),
        "buyer-concentrated": _("one buyer has more than half"),
    }


@require_GET
def fees(request: HttpRequest) -> HttpResponse:
    """What trading costs besides the price; for a member with what holds for it."""
    actor = page_actor(request)
    own_fee = own_bond = None
    if actor is not None and actor.organization.provides:
        own_fee = fee_thousandths(actor.organization_id)
        own_bond = funding.bond_rate_thousandths(delivered_thousandths(actor.organization_id))
    context = {
        "fee_thousandths": BillingProfile._meta.get_field("fee_thousandths").default,
        "own_fee_thousandths": own_fee,
        "bond_thousandths": funding.DEFAULT_BOND_THOUSANDTHS,
        "least_bond_thousandths": funding.LEAST_BOND_THOUSANDTHS,
        "most_bond_thousandths": funding.MOST_BOND_THOUSANDTHS,
        "own_bond_thousandths": own_bond,
        "penalty_thousandths": replacement.PENALTY_THOUSANDTHS,
        "ahead_penalty_thousandths": replacement.AHEAD_PENALTY_THOUSANDTHS,
        "replacement_thousandths": replacement.MOST_THOUSANDTHS,
        "payout_minimum_micro": settings.PAYOUT_MINIMUM_MICRO,
        "payment_days": BillingProfile._meta.get_field("payment_days").default,
        "grades": Grade.objects.order_by("slug")[:100],
    }
    return render(request, "exchange/fees.html", context)
