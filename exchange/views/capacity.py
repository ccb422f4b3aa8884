"""A provider's pages: publishing capacity, what is published, whom to serve."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import clock
from core.form_fields import PriceField, QuantityField
from core.templatetags.ciyuan import window_text
from exchange import contract_queries, page_queries
from exchange.actions import offers
from exchange.domain.funding import bond_rate_thousandths
from exchange.views.capacity_calendar import CalendarForm, Refusal, calendar_context, publish_each
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from providers.models import Capacity, Deployment
from providers.queries import delivered_thousandths

PER_PAGE = 50


class CapacityForm(OnceForm):
    """What a deployment offers in one market."""

    deployment = forms.ModelChoiceField(
        queryset=Deployment.objects.none(), label=gettext_lazy("Deployment"), empty_label=gettext_lazy("Choose …")
    )
    market = forms.ChoiceField(label=gettext_lazy("Delivery window"))
    quantity = QuantityField(
        max_length=60, label=gettext_lazy("Standard tokens"),
        help_text=gettext_lazy("At most the rate × the window. 1.5M or 150万 is understood."),
    )  # fmt: skip
    tokens_per_minute = QuantityField(max_length=60, label=gettext_lazy("Standard tokens a minute"))
    reserve_price = PriceField(
        max_length=60, label=gettext_lazy("Reserve price, ¥ per million"),
        help_text=gettext_lazy("Nothing is sold below it. Includes VAT."),
    )  # fmt: skip
    list_price = PriceField(
        max_length=60, label=gettext_lazy("List price, ¥ per million"),
        help_text=gettext_lazy("What usage beyond contracts costs; the market's cap is the highest of these."),
    )  # fmt: skip
    wait = forms.BooleanField(required=False, label=gettext_lazy("Publish only; I offer it later"))
    rolls_over = forms.BooleanField(
        required=False, label=gettext_lazy("Offer what stays unsold in the next auction as well")
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mine = Deployment.objects.filter(provider_id=actor.organization_id, status=Deployment.Status.ACTIVE)
        self.fields["deployment"].queryset = mine.select_related("grade")  # type: ignore[attr-defined]
        grades = set(mine.values_list("grade_id", flat=True))
        markets = page_queries.markets_to_offer_in(grades, now=clock.now())
        self.fields["market"].choices = [  # type: ignore[attr-defined]
            (row.pk, f"{window_text(row.window_start, row.window_end)} · {page_queries.localized_name(row.grade)}")
            for row in markets
        ]


@require_GET
@require_actor("read")
def capacity(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What the organization has published, and what became of it."""
    return _capacity(request, actor)


@require_http_methods(["GET", "POST"])
@require_actor("trade")
def publish_in_windows(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Publish capacity in each window chosen in the calendar. Asked for, it is the page of the calendar."""
    if request.method == "GET":  # after signing in again on the page that said what was wrong
        return redirect("capacity")
    form = CalendarForm(request.POST)
    if not form.is_valid():
        return _capacity(request, actor, form=form)
    refused = publish_each(actor, form)
    if done := len(form.cleaned_data["windows"]) - len(refused):
        messages.success(request, _("Windows in which capacity is published: %(n)s.") % {"n": done})
    return _capacity(request, actor, form=form, refused=refused) if refused else redirect("capacity")


def _capacity(
    request: HttpRequest, actor: Actor, *, form: CalendarForm | None = None, refused: Sequence[Refusal] = ()
) -> HttpResponse:
    rows = Capacity.objects.select_related("deployment", "grade", "offer").filter(provider_id=actor.organization_id)
    context: dict[str, Any] = {
        "page": Paginator(rows.order_by("-pk"), PER_PAGE).get_page(request.GET.get("page")),
        "now": clock.now(),
        "may_publish": "trade" in actor.scopes and actor.organization.provides,
        "refused": refused,
    }
    if actor.organization.provides:
        context |= calendar_context(request, actor, form)
    return render(request, "exchange/capacity.html", context, status=422 if form is not None else 200)


@require_http_methods(["GET", "POST"])
@require_actor("trade")
def publish(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Publish capacity for a market and offer it at its reserve price."""
    form = CapacityForm(request.POST or None, actor=actor)
    if request.method == "POST":

        def perform(typed: dict[str, Any]) -> dict[str, Any]:
            published = offers.publish_and_offer(
                provider=actor.organization,
                deployment_id=typed["deployment"].pk,
                market_id=int(typed["market"]),
                window=None,
                quantity_tokens=typed["quantity"],
                tokens_per_minute=typed["tokens_per_minute"],
                reserve_price_nano=typed["reserve_price"],
                list_price_nano=typed["list_price"],
                wait=typed["wait"],
                rolls_over=typed["rolls_over"],
                now=clock.now(),
            )
            return {"capacity": published.capacity.pk}

        if form.send(actor, perform) is not None:
            messages.success(request, _("Capacity published."))
            return redirect("capacity")
    return render(
        request,
        "exchange/capacity_new.html",
        {
            "form": form,
            "bond_thousandths": bond_rate_thousandths(delivered_thousandths(actor.organization_id)),
        },
        status=422 if form.errors else 200,
    )


@require_POST
@require_actor("trade")
def withdraw(request: HttpRequest, actor: Actor, capacity_id: int) -> HttpResponse:
    """Take back what is not sold of a capacity."""
    form = OnceForm({"key": f"withdraw:{capacity_id}"})
    answer = form.send(
        actor,
        lambda _typed: {
            "state": offers.withdraw_offer(
                capacity_id=capacity_id, provider_id=actor.organization_id, now=clock.now()
            ).state
        },
    )
    if answer is None:
        messages.error(request, str(form.non_field_errors()[0]))
    else:
        messages.success(request, _("What is not sold of it is taken back."))
    return redirect("capacity")


@require_GET
@require_actor("read")
def deliveries(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Whom the provider is to serve, from where, how much and when; the next to end first."""
    now = clock.now()
    rows = contract_queries.deliveries_of(actor.organization_id)
    due = rows.filter(contract__window_end__gt=now).order_by("contract__window_start", "pk")
    page = Paginator(due, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "exchange/deliveries.html", {"page": page, "now": now})
