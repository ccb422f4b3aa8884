"""Metering's pages: an organization at a glance, its meters, what was used, events that were set aside."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from billing.queries import balance
from core import clock
from core.listing import Column, Filter, Listing, Table
from core.money import format_tokens
from exchange.contract_queries import contracts_readable
from identity.access import Actor
from identity.actions.keys import create_key
from identity.page_forms import OnceForm
from identity.pages import require_actor
from metering_ingest import page_queries, queries, service_queries, usage_queries
from metering_ingest.actions.meters import open_meter
from metering_ingest.actions.replay import replay
from metering_ingest.ingest_workers import own_connection
from metering_ingest.models import Meter, RejectedEvent
from providers.models import Deployment

PER_PAGE = 50
MOST_REPLAYED = 1_000
MOST_METERS = 200


@require_GET
@require_actor("read")
def rejected(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Events of the organization's meters that were set aside, with the reason."""
    meters = queries.meters_readable(actor)
    rows = RejectedEvent.objects.filter(meter_id__in=meters.values("pk")).order_by("-kept_id")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    waiting = rows.filter(resolved_at__isnull=True).exists()
    return render(
        request, "metering/rejected.html", {"page": page, "may_replay": waiting and "trade" in actor.scopes}
    )


@require_POST
@require_actor("trade")
def replay_rejected(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Send what the organization's meters have waiting through the pipeline again; harmless to repeat."""
    rows = queries.rejected_readable(actor).filter(resolved_at__isnull=True).order_by("kept_id")
    number = request.POST.get("meter", "")
    if one_meter := number.isascii() and number.isdigit() and len(number) < 19:
        rows = rows.filter(meter_id=int(number))
    counts = replay(own_connection(), rows[:MOST_REPLAYED], now=clock.now())
    stored = counts.get("accepted", 0) + counts.get("duplicate", 0)
    messages.info(
        request, _("%(stored)s events are stored now; %(left)s still wait.") % {"stored": stored, "left": rows.count()}
    )
    return redirect("meter", int(number)) if one_meter else redirect("rejected-events")


#: Rows are MeterHealth.
METERS = Table(
    name="meters",
    columns={
        "meter": Column("", lambda row: row.meter.pk),
        "name": Column(gettext_lazy("Name"), lambda row: row.meter.name, "name"),
        "role": Column(gettext_lazy("It counts for"), lambda row: row.meter.role, "role", left=True),
        "deployment": Column(
            gettext_lazy("Deployment"), lambda row: row.meter.deployment.name if row.meter.deployment else "",
            "deployment__name", left=True,
        ),
        "last_hour": Column(gettext_lazy("Last hour reported"), lambda row: row.last_hour),
        "requests": Column(gettext_lazy("Requests in a day"), lambda row: row.events),
        "standard_tokens": Column(
            gettext_lazy("Standard tokens in a day"), lambda row: format_tokens(row.work_micro_st)
        ),
        "set_aside": Column(gettext_lazy("Set aside"), lambda row: row.set_aside),
        "closed_at": Column("", lambda row: row.meter.closed_at),
    },
    filters={
        "role": Filter(gettext_lazy("It counts for"), Meter.Role.choices, lambda value: Q(role=value)),
        "open": Filter(
            gettext_lazy("State"), [("yes", gettext_lazy("in use")), ("no", gettext_lazy("closed"))],
            lambda value: Q(closed_at__isnull=value == "yes"),
        ),
    },
    default=(F("closed_at").desc(nulls_first=True), "name"),
)  # fmt: skip


def _with_health(rows: Iterable[Meter]) -> list[page_queries.MeterHealth]:
    return page_queries.with_health(list(rows), now=clock.now())


class MeterForm(OnceForm):
    """A new meter."""

    name = forms.CharField(max_length=80, label=gettext_lazy("Name"), help_text=gettext_lazy("Such as gateway-1."))
    role = forms.ChoiceField(choices=Meter.Role.choices, label=gettext_lazy("It counts for"))
    deployment = forms.ModelChoiceField(
        queryset=Deployment.objects.none(), required=False, label=gettext_lazy("Deployment"),
        empty_label=gettext_lazy("none: a buyer's gateway"),
    )  # fmt: skip

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mine = Deployment.objects.select_related("grade").filter(provider_id=actor.organization_id)
        self.fields["deployment"].queryset = mine.order_by("name")  # type: ignore[attr-defined]
        roles = [role for role in Meter.Role.choices if role[0] == "buyer" and actor.organization.buys]
        if actor.organization.provides:
            roles = [role for role in Meter.Role.choices if role[0] != "buyer"] + roles
        self.fields["role"].choices = roles  # type: ignore[attr-defined]


@require_http_methods(["GET", "POST"])
@require_actor("read")
def meters(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization's meters and their health; opening one shows its key, with lines to copy, this once."""
    listing = Listing(request, METERS)
    if listing.wants_csv:
        return listing.csv(page_queries.meters_of(actor), _with_health)
    form = MeterForm(request.POST or None, actor=actor)
    opened: dict[str, Any] | None = None
    if request.method == "POST":
        actor.require("trade")

        def perform(typed: dict[str, Any]) -> dict[str, Any]:
            meter = open_meter(organization=actor.organization, public_key=None, now=clock.now(), **typed)
            key = create_key(
                organization=actor.organization, name=meter.name, scopes=["meter"], meter_id=meter.pk, now=clock.now(),
                actor=actor,
            )  # fmt: skip
            return {"meter": meter.pk, "name": meter.name, "secret": key.secret}

        answer = form.send(actor, perform, secret_fields={"secret"})
        if answer is not None and answer.repeated:
            messages.info(request, _("This meter was opened already; its key was shown then."))
            return redirect("meters")
        if answer is not None:
            opened, form = answer.body, MeterForm(actor=actor)
    response = render(
        request,
        "metering/meters.html",
        {
            "meters": _with_health(listing.rows(page_queries.meters_of(actor))[:MOST_METERS]),
            "listing": listing,
            "form": form,
            "opened": opened,
            "base_url": f"{request.scheme}://{request.get_host()}",
            "may_open": "trade" in actor.scopes and bool(form.fields["role"].choices),  # type: ignore[attr-defined]
        },
        status=422 if form.errors else 200,
    )
    if opened:
        response["Cache-Control"] = "no-store"
    return response


@require_GET
@require_actor("read")
def meter(request: HttpRequest, actor: Actor, meter_id: int) -> HttpResponse:
    """One meter: its last event, what it says it recorded, what of it is missing, and what was set aside."""
    row = get_object_or_404(queries.meters_readable(actor).select_related("deployment"), pk=meter_id)
    aside = page_queries.set_aside_by_reason(meter_id)
    gaps = queries.gaps_readable(actor, meter_id=meter_id).filter(closed_at__isnull=True)
    return render(
        request,
        "metering/meter.html",
        {
            "meter": row,
            "last": page_queries.last_event(meter_id),
            "gaps": gaps.order_by("-hour", "source", "token_class")[:100],
            "manifests": queries.manifests_readable(actor, meter_id=meter_id).order_by("-hour", "source", "log")[:100],
            "aside": aside,
            "may_replay": bool(aside) and "trade" in actor.scopes and row.organization_id == actor.organization_id,
        },
    )


@require_GET
@require_actor("read")
def overview(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The organization at a glance: money, contracts that are served now or next, and how much of each is used."""
    now = clock.now()
    rows = contracts_readable(actor).select_related("grade", "market", "buyer", "provider")
    current = list(rows.filter(kind="spot", window_end__gt=now).order_by("window_start", "pk")[:50])
    used = page_queries.used_micro_st([contract.pk for contract in current])
    shown = [_Progress(contract, used.get(contract.pk, 0), now) for contract in current]
    day = usage_queries.usage(actor, group_by=[], start=now - timedelta(days=1), end=now + timedelta(hours=1))
    return render(
        request,
        "metering/overview.html",
        {
            "balance": balance(actor.organization_id),
            "contracts": shown,
            "late": [one for one in shown if one.little_used],
            "warnings": service_queries.warnings_shown(actor, now),
            "day": day[0] if day else None,
        },
    )


class _Progress:
    """A contract with how much of it has been used, as its window goes by."""

    def __init__(self, contract: Any, used_micro_st: int, now: Any) -> None:
        self.contract = contract
        self.used_micro_st = used_micro_st
        self.used_thousandths = min(1_000, used_micro_st // (contract.quantity_tokens * 1_000))
        self.serving = contract.window_start <= now
        length = contract.window_end - contract.window_start
        self.gone_thousandths = max(0, min(1_000, int((now - contract.window_start) / length * 1_000)))

    @property
    def little_used(self) -> bool:
        """Half of the window is gone and less than a quarter used."""
        return self.gone_thousandths >= 500 and self.used_thousandths < 250
