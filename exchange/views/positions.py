"""Pages of what one holds before the gate closes, and of whom a buyer does not want to be served by."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import clock
from exchange import contract_queries
from exchange.actions import exclusions as actions
from exchange.models import MarketPosition
from identity.access import Actor
from identity.models import Organization
from identity.page_forms import OnceForm, new_key
from identity.pages import require_actor

PER_PAGE = 50


class ExclusionForm(OnceForm):
    """Which provider to exclude."""

    provider = forms.ModelChoiceField(
        queryset=Organization.objects.none(), label=gettext_lazy("Provider"), empty_label=gettext_lazy("Choose …")
    )

    def __init__(self, *args: Any, choices: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["provider"].queryset = choices  # type: ignore[attr-defined]


@require_GET
@require_actor("read")
def positions(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What one holds and may sell in each market that is not settled, the latest delivery window first."""
    rows = (
        MarketPosition.objects.filter(organization_id=actor.organization_id, market__settled_at__isnull=True)
        .exclude(capacity_tokens=0, position_tokens=0, open_sell_tokens=0)
        .select_related("market__grade__model_card")
        .order_by("-market__window_start", "-pk")
    )
    return render(
        request, "exchange/positions.html", {"page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))}
    )


@require_http_methods(["GET", "POST"])
@require_actor("read")
def exclusions(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Whom the organization excludes, and what of its purchases could not be placed because of it."""
    if not actor.organization.buys:
        raise Http404
    rows = contract_queries.exclusions(actor.organization_id)
    others = (
        Organization.objects.filter(kind__in=["provider", "both"])
        .exclude(pk__in=[actor.organization_id, *(row.provider_id for row in rows)])
        .order_by("name")
    )
    form = ExclusionForm(request.POST or None, choices=others)
    if request.method == "POST":
        actor.require("trade")
        if form.send(actor, lambda typed: _exclude(typed, actor)) is not None:
            messages.info(request, _("Excluded, from the next gate closure on."))
            return redirect("exclusions")
    unplaced = contract_queries.unplaced_of(actor.organization_id).select_related("market__grade__model_card")
    context = {
        "rows": rows,
        "form": form if "trade" in actor.scopes and len(rows) < actions.MOST else None,
        "may_change": "trade" in actor.scopes,
        "key": new_key(),
        "unplaced": unplaced[:PER_PAGE],
    }
    return render(request, "exchange/exclusions.html", context, status=422 if form.errors else 200)


@require_POST
@require_actor("trade")
def readmit(request: HttpRequest, actor: Actor, provider_id: int) -> HttpResponse:
    """Take an exclusion back."""
    sent = OnceForm({"key": f"readmit:{provider_id}:{request.POST.get('key', '')[:36]}"})
    answer = sent.send(actor, lambda _typed: _readmit(provider_id, actor))
    if answer is None:
        raise Http404(_("You do not exclude that provider."))
    return redirect("exclusions")


def _exclude(typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    row = actions.exclude(buyer=actor.organization, provider_id=typed["provider"].pk, now=clock.now())
    return {"provider": row.provider_id}


def _readmit(provider_id: int, actor: Actor) -> dict[str, Any]:
    actions.readmit(buyer=actor.organization, provider_id=provider_id)
    return {"provider": provider_id}
