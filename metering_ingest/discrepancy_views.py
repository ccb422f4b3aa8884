"""Pages of discrepancies: what the meters counted, what both sides say and attach, and the operator's decision."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods

from billing.documents.terms import page_language, token_names
from core import clock
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor
from metering_ingest import reconciliation_queries
from metering_ingest.actions import discrepancies as actions
from metering_ingest.actions.discrepancies import Attachment
from metering_ingest.models import Discrepancy, DiscrepancyEntry
from metering_ingest.models.reconciliation import MAX_ATTACHMENT_BYTES

PER_PAGE = 50


class CommentForm(OnceForm):
    """Words, a file, or both."""

    text = forms.CharField(
        max_length=4_000, required=False, label=gettext_lazy("What you have to say"),
        widget=forms.Textarea(attrs={"rows": 4}),
    )  # fmt: skip
    attachment = forms.FileField(
        required=False,
        label=gettext_lazy("File"),
        help_text=gettext_lazy("A log, a bill: up to 1 MiB; both sides see it."),
    )

    def clean_attachment(self) -> Attachment | None:
        """Read the file, no further than what may be kept."""
        sent = self.cleaned_data["attachment"]
        if sent is None:
            return None
        name = "".join(c for c in sent.name if c.isprintable() and c not in "/\\")[-200:] or "file"
        media_type = (sent.content_type or "application/octet-stream")[:100]
        return Attachment(name, media_type, sent.read(MAX_ATTACHMENT_BYTES + 1))


class DecisionForm(OnceForm):
    """The operator's word."""

    accepted_quantity = forms.IntegerField(
        min_value=0, label=gettext_lazy("Tokens that are billed"),
        help_text=gettext_lazy("Of the provider's count; the rest is denied for good."),
    )  # fmt: skip
    reason = forms.CharField(
        max_length=4_000, label=gettext_lazy("Reason"), widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Both sides read it."),
    )  # fmt: skip


@require_GET
@require_actor("read")
def discrepancies(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Where the meters of one's contracts are too far apart, the newest first."""
    rows = reconciliation_queries.discrepancies_readable(actor).order_by("-pk")
    state = request.GET.get("state", "")
    if state in Discrepancy.State.values:
        rows = rows.filter(state=state)
    else:
        state = ""
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    states = [("", _("all")), *Discrepancy.State.choices]
    query = f"state={state}" if state else ""
    return render(
        request,
        "metering/discrepancies.html",
        {
            "page": page, "state": state, "states": states, "query": query,
            "classes": token_names(page_language()),
        },
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
@require_actor("read")
def discrepancy(request: HttpRequest, actor: Actor, discrepancy_id: int) -> HttpResponse:
    """One discrepancy with all that happened about it; a comment, and for the operator a decision, is sent here."""
    row = _find(actor, discrepancy_id)
    deciding = "decide" in request.GET
    may_decide = "operate" in actor.scopes and row.state == Discrepancy.State.OPEN
    may_say = "trade" in actor.scopes
    said = CommentForm(request.POST or None, request.FILES or None) if not deciding else CommentForm()
    decided = DecisionForm(request.POST if deciding and request.method == "POST" else None)
    if request.method == "POST":
        actor.require("operate" if deciding else "trade")
        if deciding:
            answer = decided.send(actor, lambda typed: _decide(row, typed, actor))
        else:
            answer = said.send(actor, lambda typed: _say(row, typed, actor))
        if answer is not None:
            messages.info(request, _("The decision stands, and what it changes is posted.") if deciding else _("Said."))
            return redirect("discrepancy", discrepancy_id=row.pk)
    return render(
        request,
        "metering/discrepancy.html",
        {
            "row": row,
            "classes": token_names(page_language()),
            "entries": [_Told(entry, row) for entry in row.entries.defer("attachment").order_by("pk")],
            "said": said if may_say else None,
            "decided": decided if may_decide else None,
        },
        status=422 if said.errors or decided.errors else 200,
    )


@require_GET
@require_actor("read")
def attachment(request: HttpRequest, actor: Actor, discrepancy_id: int, entry_id: int) -> HttpResponse:
    """What was attached, to be saved and never shown in place."""
    entry = _find(actor, discrepancy_id).entries.filter(pk=entry_id, attachment__isnull=False).first()
    if entry is None:
        raise Http404
    answer = HttpResponse(bytes(entry.attachment or b""), content_type="application/octet-stream")
    answer.headers["Content-Disposition"] = f"attachment; filename=discrepancy-{discrepancy_id}-{entry_id}"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


class _Told:
    """An entry and whose it is."""

    def __init__(self, entry: DiscrepancyEntry, row: Discrepancy) -> None:
        sides = {row.contract.buyer_id: _("Buyer"), row.contract.provider_id: _("Provider"), None: _("The exchange")}
        self.entry = entry
        self.side = sides.get(entry.organization_id, _("Operator"))


def _find(actor: Actor, discrepancy_id: int) -> Discrepancy:
    row = reconciliation_queries.discrepancies_readable(actor).filter(pk=discrepancy_id).first()
    if row is None:
        raise Http404
    return row


def _say(row: Discrepancy, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    entry = actions.comment(
        discrepancy=row, text=typed["text"], attachment=typed["attachment"], actor=actor, now=clock.now()
    )
    return {"entry": entry.pk}


def _decide(row: Discrepancy, typed: dict[str, Any], actor: Actor) -> dict[str, Any]:
    done = actions.decide(discrepancy_id=row.pk, actor=actor, now=clock.now(), **typed)
    return {"state": done.state}
