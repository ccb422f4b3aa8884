"""The public page of notices: what was halted, annulled or changed, when and why; and the versions of the rulebook."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from core import clock
from exchange import notice_queries
from identity import rulebook

PER_PAGE = 50
#: What the fields of a grade and of the house's limits are called on pages.
FIELDS = {
    "name": _("Name"),
    "name_zh": _("Chinese name"),
    "mode": _("Trading mode"),
    "margin_rule": _("Margin rule"),
    "window_schedule": _("Delivery windows"),
    "call_opens_before_seconds": _("Call opens before the window (s)"),
    "call_closes_before_seconds": _("Call closes before the window (s)"),
    "gate_closes_before_seconds": _("Gate closes before the window (s)"),
    "reference_price_nano": _("Reference price (nano-yuan)"),
    "meter_tolerance_thousandths": _("Tolerance between meters (‰)"),
    "signed_usage": _("Signed usage"),
    "random_end_seconds": _("Random end of the call (s)"),
    "volatility_call_seconds": _("Volatility call (s)"),
    "static_collar_thousandths": _("Static collar (‰)"),
    "dynamic_collar_thousandths": _("Dynamic collar (‰)"),
    "status": _("State"),
    "order_tokens": _("Largest order (tokens)"),
    "order_value_micro": _("Largest order value (micro-yuan)"),
    "price_distance_thousandths": _("Distance from the reference price (‰)"),
    "orders_per_minute": _("Orders a minute"),
    "position_tokens": _("Largest position (tokens)"),
}


@require_GET
def notices(request: HttpRequest) -> HttpResponse:
    """Everything that everybody was told, the latest first."""
    page = Paginator(notice_queries.published().order_by("-pk"), PER_PAGE).get_page(request.GET.get("page"))
    now = clock.now()
    context = {
        "page": page, "notices": notice_queries.shown(page), "halted": notice_queries.halted_markets(),
        "versions": rulebook.versions()[::-1], "current": rulebook.in_force(now), "ahead": rulebook.ahead(now),
        "fields": FIELDS,
    }  # fmt: skip
    return render(request, "exchange/notices.html", context)
