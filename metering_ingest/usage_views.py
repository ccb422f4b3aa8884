"""The usage explorer: what was used in a span of days, grouped by what one asks for, with what it cost per token."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from billing.documents.terms import Language, page_language, token_names
from core import clock
from core.listing import Column, Filter, Listing, Table, Text
from core.money import MICRO_PER_TOKEN, format_price, format_tokens, format_yuan, round_half_up
from core.periods import SHANGHAI
from core.templatetags.ciyuan import EMPTY
from exchange.charts import CHINESE_UNITS, ENGLISH_UNITS
from identity.access import Actor
from identity.models import Organization
from identity.pages import require_actor
from metering_ingest import usage_queries
from metering_ingest.usage_chart import UsageChart, usage_chart
from metering_ingest.usage_queries import UsageRow
from providers.models import Deployment

SPANS = {"1": timedelta(days=1), "7": timedelta(days=7), "31": timedelta(days=31)}
SPAN_NAMES = (("1", _("one day")), ("7", _("a week")), ("31", _("a month")))
#: How usage may be grouped → its dimensions, each with its heading.
GROUPINGS: dict[str, tuple[Text, tuple[tuple[str, Text], ...]]] = {
    "class": (_("model and class"), (("model", _("Model")), ("class", _("Class")))),
    "contract": (_("contract"), (("contract", _("Contract")), ("model", _("Model")))),
    "hour": (_("hour"), (("hour", _("Hour")),)),
    "day": (_("day"), (("day", _("Day")),)),
    "grade": (_("service class"), (("model", _("Model")), ("service_class", _("Service")))),
    "accelerator": (_("accelerator"), (("accelerator", _("Accelerator")),)),
    "deployment": (_("deployment"), (("deployment", _("Deployment")),)),
    "provider": (_("provider"), (("provider", _("Provider")),)),
    "buyer": (_("buyer"), (("buyer", _("Buyer")),)),
    "meter": (_("meter"), (("meter", _("Meter")),)),
    "key": (_("API key (as tagged)"), (("key", _("Key")),)),
}
DEFAULT = "class"
HOURS_UP_TO = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Shown:
    """A group as it is shown: `cells` are its dimensions' values, `price_nano` what a standard token cost in it."""

    cells: tuple[Any, ...]
    names: tuple[Any, ...]
    quantity: int
    events: int
    work_micro_st: int
    cost_micro: int
    estimate: bool
    price_nano: int | None
    accelerator_hours: int | None


def _named(place: int) -> Callable[[Shown], Any]:
    return lambda row: row.names[place]


def usage_table(grouping: str) -> Table:
    """Return the table of usage in one grouping."""
    columns = {
        name: Column(label, _named(place), f"cells.{place}", left=True)
        for place, (name, label) in enumerate(GROUPINGS[grouping][1])
    }
    if grouping == "class":
        columns["quantity"] = Column(_("Tokens"), lambda row: row.quantity, "quantity")
    columns |= {
        "requests": Column(_("Requests"), lambda row: row.events, "events"),
        "standard_tokens": Column(_("Standard tokens"), lambda row: format_tokens(row.work_micro_st), "work_micro_st"),
        "cost": Column(_("Amount"), lambda row: format_yuan(row.cost_micro), "cost_micro"),
        "estimate": Column("", lambda row: row.estimate),
        "price": Column(
            _("¥ per token"), lambda row: "" if row.price_nano is None else format_price(row.price_nano), "price_nano"
        ),
    }
    if grouping in ("accelerator", "deployment"):
        columns["accelerator_hours"] = Column(
            _("Accelerator hours"), lambda row: row.accelerator_hours, "accelerator_hours"
        )
    every = [(name, label) for name, (label, _dimensions) in GROUPINGS.items()]
    return Table(
        name=f"usage-by-{grouping}",
        columns=columns,
        filters={
            "days": Filter(_("Span"), SPAN_NAMES, lambda _value: Q(), default="1"),
            "by": Filter(_("Grouped by"), every, lambda _value: Q(), default=DEFAULT),
        },
    )  # fmt: skip


@require_GET
@require_actor("read")
def usage(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Usage of the last days in the grouping that is asked for; the whole in front."""
    grouping = request.GET.get("by") or DEFAULT
    listing = Listing(request, usage_table(grouping if grouping in GROUPINGS else DEFAULT))
    end = clock.now() + timedelta(hours=1)
    start = end - SPANS[listing.chosen["days"]]
    dimensions = [name for name, _label in GROUPINGS[grouping][1]]
    reach = usage_queries.reach_of(actor)
    rows = _shown(usage_queries.usage(actor, group_by=dimensions, start=start, end=end, reach=reach), dimensions)
    if grouping == "class":  # requests are no tokens; how many there were stands in each row
        rows = [row for row in rows if row.cells[1] != "requests"]
    rows = listing.ordered(rows)
    if listing.wants_csv:
        return listing.csv_of(rows)
    total = usage_queries.usage(actor, group_by=[], start=start, end=end, reach=reach)
    context = {
        "chart": _chart(actor, dimensions[-1] if grouping == "class" else dimensions[0], start, end, reach, rows),
        "listing": listing, "rows": rows, "total": total[0] if total else None, "grouping": grouping,
        "price_nano": _price(total[0]) if total else None, "with_classes": grouping == "class",
        "of_hardware": grouping in ("accelerator", "deployment"),
    }  # fmt: skip
    return render(request, "metering/usage.html", context)


def _chart(
    actor: Actor, dimension: str, start: datetime, end: datetime, reach: usage_queries.Reach | None, rows: list[Shown]
) -> UsageChart | None:
    """Return usage over the span as a chart: by the hour up to two days, else by the day; stacked by the dimension."""
    if not rows:
        return None
    by = "hour" if end - start <= HOURS_UP_TO else "day"
    groups = [by] if dimension in ("hour", "day") else [by, dimension]
    try:
        found = usage_queries.usage(actor, group_by=groups, start=start, end=end, reach=reach)
    except usage_queries.TooMuchUsage:  # then as one
        groups = [by]
        found = usage_queries.usage(actor, group_by=groups, start=start, end=end, reach=reach)
    names = {row.cells[-1 if dimension == "class" else 0]: row.names[-1 if dimension == "class" else 0] for row in rows}
    chinese = page_language() is not Language.EN
    return usage_chart(
        ((row.group[0], row.group[1] if len(groups) > 1 else None, row.work_micro_st) for row in found),
        times=_times(start, end, by),
        name=lambda group: gettext("Standard tokens") if len(groups) == 1 else str(names.get(group) or EMPTY),
        rest=gettext("All others"),
        units=CHINESE_UNITS if chinese else ENGLISH_UNITS,
    )


def _times(start: datetime, end: datetime, by: str) -> list[tuple[datetime, str]]:
    """Return every hour or day of Shanghai in [start, end) with its label."""
    at = start.astimezone(SHANGHAI).replace(minute=0, second=0, microsecond=0)
    step, form = (timedelta(hours=1), "%H:00") if by == "hour" else (timedelta(days=1), "%m-%d")
    if by == "day":
        at = at.replace(hour=0)
    elif at < start:
        at += step  # rollups are of whole hours: the one that has begun before the span is not part of it
    times = []
    while at < end:
        times.append((at, at.strftime(form)))
        at += step
    return times


def _price(row: UsageRow) -> int | None:
    if not row.work_micro_st or not row.cost_micro:
        return None
    return round_half_up(row.cost_micro * 1_000 * MICRO_PER_TOKEN, row.work_micro_st)


def _shown(rows: list[UsageRow], dimensions: list[str]) -> list[Shown]:
    names = [_names(dimension, {row.group[place] for row in rows}) for place, dimension in enumerate(dimensions)]
    return [
        Shown(
            cells=row.group, names=tuple(name(value) for name, value in zip(names, row.group, strict=True)),
            quantity=row.quantity, events=row.events, work_micro_st=row.work_micro_st, cost_micro=row.cost_micro,
            estimate=row.estimate, price_nano=_price(row), accelerator_hours=row.accelerator_hours,
        )
        for row in rows
    ]  # fmt: skip


def _names(dimension: str, values: set[Any]) -> Callable[[Any], Any]:
    """Return how a dimension's values are written: organizations and deployments by name, times in Shanghai."""
    if dimension in ("provider", "buyer"):
        known: dict[Any, str] = {one.pk: str(one) for one in Organization.objects.filter(pk__in=values - {None})}
        return lambda value: known.get(value, "")
    if dimension == "deployment":
        known = dict(Deployment.objects.filter(pk__in=values - {None}).values_list("pk", "name"))
        return lambda value: known.get(value, "")
    if dimension == "class":
        classes = token_names(page_language())
        return lambda value: classes.get(value, value)
    if dimension in ("hour", "day"):
        form = "%Y-%m-%d %H:00" if dimension == "hour" else "%Y-%m-%d"
        return lambda value: value.astimezone(SHANGHAI).strftime(form)
    return lambda value: "" if value is None else value
