"""Pages of claims: a buyer names requests that failed, the provider accepts, or the operator rules."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods

from core import clock
from core.form_fields import QuantityField
from exchange.contract_queries import contracts_readable
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from metering_ingest import queries
from metering_ingest.actions import claims as actions
from metering_ingest.models import Claim

PER_PAGE = 50
LONGEST_ID = 200


class RequestsField(forms.CharField):
    """Ids of requests, one a line; cleaned to a list."""

    widget = forms.Textarea(attrs={"rows": 5, "spellcheck": "false"})

    def clean(self, value: Any) -> Any:
        ids = [line.strip() for line in super().clean(value).splitlines() if line.strip()]
        if long := next((one for one in ids if len(one) > LONGEST_ID), None):
            raise forms.ValidationError(_("“%(id)s…” is longer than 200 characters.") % {"id": long[:40]})
        return ids


class ClaimForm(OnceForm):
    """What failed, and what it would have been."""

    requests = RequestsField(
        label=gettext_lazy("Ids of the requests that failed"),
        help_text=gettext_lazy("One a line, as your gateway or client sent them; at most 1,000."),
    )
    quantity = QuantityField(
        max_length=60, label=gettext_lazy("Standard tokens that they would have been"),
        help_text=gettext_lazy("In lots of 1,000."),
    )  # fmt: skip
    note = forms.CharField(
        max_length=500, required=False, label=gettext_lazy("What happened"), widget=forms.Textarea(attrs={"rows": 3})
    )


class AcceptForm(OnceForm):
    """The provider's word."""

    note = forms.CharField(
        max_length=500, required=False, label=gettext_lazy("Note"), widget=forms.Textarea(attrs={"rows": 2})
    )


class RulingForm(OnceForm):
    """The operator's word."""

    verdict = forms.ChoiceField(
        choices=[("upheld", gettext_lazy("Uphold")), ("rejected", gettext_lazy("Reject"))],
        label=gettext_lazy("Ruling"),
    )
    quantity = QuantityField(
        max_length=60, required=False, label=gettext_lazy("Of it, standard tokens"),
        help_text=gettext_lazy("Empty: all that was claimed. With a rejection: empty."),
    )  # fmt: skip
    note = forms.CharField(
        max_length=500, label=gettext_lazy("Reason"), widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Both sides read it."),
    )  # fmt: skip


@require_GET
@require_actor("read")
def claims(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Claims that one made, or that are made on one, the newest first."""
    page = Paginator(queries.claims_readable(actor), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "metering/claims.html", {"page": page, "query": ""})


@require_http_methods(["GET", "POST"])
@require_actor("read")
def new_claim(request: HttpRequest, actor: Actor, contract_id: int) -> HttpResponse:
    """Claim that requests of a contract failed."""
    contract = contracts_readable(actor).filter(pk=contract_id, buyer_id=actor.organization_id).first()
    if contract is None:
        raise Http404
    form = ClaimForm(request.POST or None)
    if request.method == "POST":
        actor.require("trade")
        answer = form.send(actor, lambda typed: _make(contract_id, typed, actor))
        if answer is not None:
            messages.info(request, _("Claimed. The provider accepts it, or the operator decides."))
            return redirect("claim", claim_id=answer.body["claim"])
    return render(
        request, "metering/claim_new.html", {"contract": contract, "form": form}, status=422 if form.errors else 200
    )


@require_http_methods(["GET", "POST"])
@require_actor("read")
def claim(request: HttpRequest, actor: Actor, claim_id: int) -> HttpResponse:
    """One claim and what was decided of it; its provider accepts it here, and the operator rules on it."""
    row = queries.claims_readable(actor).filter(pk=claim_id).first()
    if row is None:
        raise Http404
    is_open = getattr(row, "ruling", None) is None
    sent = request.POST if request.method == "POST" else None
    form: OnceForm | None = None
    if is_open and "operate" in actor.scopes:
        form = RulingForm(sent)
    elif is_open and row.contract.provider_id == actor.organization_id and "trade" in actor.scopes:
        form = AcceptForm(sent)
    if request.method == "POST":
        actor.require("operate" if actor.is_operator else "trade")
        if form is None and is_open:
            raise Http404  # neither its provider nor the operator
        if form is None:
            messages.info(request, _("This claim was decided before; nothing was changed."))
            return redirect("claim", claim_id=row.pk)
        rules = isinstance(form, RulingForm)
        if form.send(actor, lambda typed: (_rule if rules else _accept)(row, typed, actor)) is not None:
            messages.info(request, _("The decision stands; the window is settled again with it."))
            return redirect("claim", claim_id=row.pk)
    context = {
        "row": row,
        "requests": list(row.requests.order_by("pk").values_list("request_id", flat=True)),
        "form": form,
        "rules": isinstance(form, RulingForm),
    }
    return render(request, "metering/claim.html", context, status=422 if form is not None and form.errors else 200)


def _make(contract_id: int, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    made = actions.make_claim(
        contract_id=contract_id, buyer_id=actor.organization_id, request_ids=typed["requests"],
        quantity_tokens=typed["quantity"], note=typed["note"], now=clock.now(),
    )  # fmt: skip
    return {"claim": made.pk}


def _accept(row: Claim, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    actions.accept_claim(
        claim_id=row.pk, provider=actor.organization, quantity_tokens=None, note=typed["note"], now=clock.now()
    )
    return {"claim": row.pk}


def _rule(row: Claim, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    actions.rule_on_claim(
        claim_id=row.pk, operator=actor.organization, upheld=typed["verdict"] == "upheld",
        quantity_tokens=typed["quantity"], note=typed["note"], now=clock.now(),
    )  # fmt: skip
    return {"claim": row.pk}
