"""The operator's page of finance work: closing months, bank lines, payouts, disputes, bundles."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from billing import finance_tasks as tasks
from billing import payout_queries
from billing.domain.bank_files import batch_file
from billing.models import BankLine, BankLineBooking, BundleOffer, Dispute, Payout, PayoutBatch, PeriodClose
from core import clock
from identity.access import Actor
from identity.pages import require_actor

SHOWN = 50
State = Payout.State


@require_http_methods(["GET", "POST"])
@require_actor("operate")
def finance(request: HttpRequest, actor: Actor) -> HttpResponse:
    """The work that waits; a form's task is done once, and what is wrong stands at its field or on top."""
    if request.method != "POST":
        return _show(request)
    kind = tasks.TASKS.get(request.POST.get("task", ""))
    if kind is None:
        raise Http404
    form = kind(request.POST, request.FILES)
    now = clock.now()
    answer = form.send(
        actor, lambda typed: {"said": form.perform(actor, typed, now)}, fields=kind.fields_of_problems
    )
    if answer is None:
        messages.error(request, str(next(iter(form.errors.values()))[0]))
        return _show(request, form, status=422)
    messages.success(request, answer.body["said"])
    return redirect("finance")


@require_GET
@require_actor("operate")
def batch_csv(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A batch for the bank; the same bytes each time."""
    number = request.GET.get("batch", "")
    known = number.isascii() and number.isdigit() and len(number) < 19
    batch = PayoutBatch.objects.filter(pk=int(number)).first() if known else None
    if batch is None:
        raise Http404
    rows = payout_queries.payouts_of_batch(batch)
    text = batch_file((str(row), row.payee, row.payee_account, row.payee_bank, row.amount_micro) for row in rows)
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="payouts-{batch.pk}.csv"'
    return response


def _show(request: HttpRequest, sent: tasks.Task | None = None, status: int = 200) -> HttpResponse:
    def form(kind: type[tasks.Task], **initial: Any) -> tasks.Task:
        fresh = kind(**initial)
        return sent if sent is not None and type(sent) is kind and sent.row == fresh.row else fresh

    suspended = BankLine.objects.filter(booking__state=BankLineBooking.State.SUSPENSE).order_by("pk")
    unexplained = BankLine.objects.filter(booking__state=BankLineBooking.State.UNEXPLAINED)
    payouts = Payout.objects.filter(state__in=[State.WAITING, State.APPROVED, State.SENT]).order_by("pk")
    open_disputes = Dispute.objects.filter(state=Dispute.State.OPEN).order_by("pk")
    context: dict[str, Any] = {
        "periods": [
            (row, None if row.closed_at else form(tasks.Close, month=str(row)))
            for row in PeriodClose.objects.order_by("-month")[:SHOWN]
        ],
        "lines": [
            (row, form(tasks.ResolveLine, line=row.pk, organization=row.booking.suggestion_id),
             form(tasks.ReturnLine, line=row.pk))
            for row in suspended.select_related("booking__suggestion")[:SHOWN]
        ],
        "unexplained": unexplained.order_by("-pk")[:SHOWN],
        "payouts": [
            (row, form(tasks.ApprovePayout, payout=row.pk) if row.state == State.WAITING else None,
             form(tasks.CancelPayout, payout=row.pk) if row.state != State.SENT else None)
            for row in payouts.select_related("organization")[:SHOWN]
        ],
        "batches": PayoutBatch.objects.order_by("-pk")[:10],
        "disputes": [
            (row, form(tasks.DecideDispute, dispute=row.pk))
            for row in open_disputes.select_related("invoice__organization", "line")[:SHOWN]
        ],
        "offers": [
            (row, form(tasks.WithdrawBundle, offer=row.pk))
            for row in BundleOffer.objects.filter(withdrawn_at=None).order_by("pk")[:SHOWN]
        ],
        "propose": form(tasks.ProposeClose), "statement": form(tasks.ImportStatement), "batch": tasks.MakeBatch(),
        "results": form(tasks.ImportResults), "offer": form(tasks.OfferBundle),
    }  # fmt: skip
    return render(request, "billing/finance.html", context, status=status)
