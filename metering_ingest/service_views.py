"""Pages of how contracts are served: the grade's promise, what three sides saw, and what was found by it."""

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
from exchange.contract_queries import contracts_readable
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from metering_ingest import service_queries as queries
from metering_ingest.actions import findings
from metering_ingest.models import ServiceFinding

PER_PAGE, PROBES_SHOWN = 60, 24


class ObjectionForm(OnceForm):
    """What a side has against a finding."""

    note = forms.CharField(
        max_length=500, label=gettext_lazy("What is wrong with it"), widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Both sides read it; the operator decides then."),
    )  # fmt: skip


class RulingForm(OnceForm):
    """The operator's word."""

    verdict = forms.ChoiceField(
        label=gettext_lazy("Verdict"),
        choices=[("upheld", gettext_lazy("Upheld")), ("rejected", gettext_lazy("Rejected"))],
    )
    note = forms.CharField(max_length=500, label=gettext_lazy("Reason"), widget=forms.Textarea(attrs={"rows": 3}))


@require_GET
@require_actor("read")
def service(request: HttpRequest, actor: Actor, contract_id: int) -> HttpResponse:
    """One contract's evidence: minutes of gateway and guard, the exchange's probes, what was found."""
    row = contracts_readable(actor).select_related("grade").filter(pk=contract_id).first()
    if row is None:
        raise Http404(_("There is no such contract."))
    minutes = queries.minutes_readable(actor).filter(contract_id=row.pk)
    served = row.served_by.values_list("deployment_id", flat=True)
    probes = queries.probes_readable(actor).filter(deployment__in=served)
    if row.window_start is not None and row.window_end is not None:
        probes = probes.filter(at__gte=row.window_start, at__lt=row.window_end)
    found = queries.findings_readable(actor).filter(contract_id=row.pk)
    return render(
        request,
        "metering/service.html",
        {
            "contract": row, "grade": row.grade, "findings": [(one, _state(one)) for one in found],
            "page": Paginator(minutes, PER_PAGE).get_page(request.GET.get("page")), "probes": probes[:PROBES_SHOWN],
        },
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
@require_actor("read")
def finding(request: HttpRequest, actor: Actor, finding_id: int) -> HttpResponse:
    """One finding minute by minute; an objection, and for the operator a ruling, is sent here."""
    row = queries.findings_readable(actor).filter(pk=finding_id).first()
    if row is None:
        raise Http404(_("There is no such finding."))
    deciding = "decide" in request.GET
    is_open = not hasattr(row, "ruling")
    mine = actor.organization_id in (row.contract.buyer_id, row.contract.provider_id)
    may_object = is_open and mine and "trade" in actor.scopes
    may_decide = is_open and "operate" in actor.scopes
    objection = ObjectionForm(request.POST if request.method == "POST" and not deciding else None)
    ruling = RulingForm(request.POST if request.method == "POST" and deciding else None)
    if request.method == "POST":
        actor.require("operate" if deciding else "trade")
        if deciding:
            answer = ruling.send(actor, lambda typed: _rule(row, typed, actor))
        else:
            answer = objection.send(actor, lambda typed: _object(row, typed, actor))
        if answer is not None:
            messages.info(request, _("The decision stands.") if deciding else _("Said: the operator decides now."))
            return redirect("service-finding", finding_id=row.pk)
    return render(
        request,
        "metering/finding.html",
        {
            "row": row, "state": _state(row), "objection": objection if may_object else None,
            "ruling_form": ruling if may_decide else None,
        },
        status=422 if objection.errors or ruling.errors else 200,
    )  # fmt: skip


def _object(row: ServiceFinding, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    findings.object_to(finding_id=row.pk, by=actor.organization, note=typed["note"], now=clock.now())
    return {"finding": row.pk}


def _rule(row: ServiceFinding, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    findings.rule_on_finding(
        finding_id=row.pk, operator=actor.organization, upheld=typed["verdict"] == "upheld", note=typed["note"],
        now=clock.now(),
    )  # fmt: skip
    return {"finding": row.pk}


def _state(row: ServiceFinding) -> str:
    names = {"open": _("Open"), "disputed": _("Disputed"), "upheld": _("Upheld"), "rejected": _("Rejected")}
    return names[queries.state_of(row)]
