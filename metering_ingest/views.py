"""Metering's pages: what was used, by class, model and day, and events that were set aside."""

from datetime import timedelta

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from core import clock
from identity.access import Actor
from identity.pages import require_actor
from metering_ingest import queries
from metering_ingest.models import RejectedEvent

SPANS = {"1": timedelta(days=1), "7": timedelta(days=7), "31": timedelta(days=31)}
PER_PAGE = 50


@require_GET
@require_actor("read")
def usage(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Usage of the last days by model and class, and by contract."""
    days = request.GET.get("days", "1")
    span = SPANS.get(days, SPANS["1"])
    end = clock.now() + timedelta(hours=1)
    start = end - span
    total = queries.usage(actor, group_by=[], start=start, end=end)
    by_class = queries.usage(actor, group_by=["model", "class"], start=start, end=end)
    by_contract = queries.usage(actor, group_by=["contract", "model"], start=start, end=end)
    return render(
        request,
        "metering/usage.html",
        {
            "days": days if days in SPANS else "1",
            "spans": [("1", _("one day")), ("7", _("a week")), ("31", _("a month"))],
            "total": total[0] if total else None,
            "by_class": by_class,
            "by_contract": sorted(by_contract, key=lambda row: row.group[0] or 0, reverse=True)[:100],
        },
    )


@require_GET
@require_actor("read")
def rejected(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Events of the organization's meters that were set aside, with the reason."""
    meters = queries.meters_readable(actor)
    rows = RejectedEvent.objects.filter(meter_id__in=meters.values("pk")).order_by("-kept_id")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "metering/rejected.html", {"page": page})
