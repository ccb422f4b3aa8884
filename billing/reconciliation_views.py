"""The page of a month's reconciliation statement (对账单): read, download, confirm or object."""

import re
from datetime import date, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from billing import reconciliation
from billing.actions.periods import answer_statement
from billing.documents import month_statement
from billing.documents.terms import page_language
from core import clock
from core.api.converters import MonthConverter
from core.periods import shanghai_date
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor

MONTHS_OFFERED = 12


class AnswerForm(OnceForm):
    """What the organization says of the statement that it read."""

    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    agrees = forms.ChoiceField(
        choices=[("yes", gettext_lazy("We confirm it")), ("no", gettext_lazy("Something is wrong"))],
        widget=forms.RadioSelect, label=gettext_lazy("Answer"), initial="yes",
    )  # fmt: skip
    comment = forms.CharField(
        max_length=500, required=False, label=gettext_lazy("What is wrong"), widget=forms.Textarea(attrs={"rows": 3}),
    )  # fmt: skip


@require_GET
@require_actor("read")
def statement(request: HttpRequest, actor: Actor) -> HttpResponse:
    """A month's documents and payments with the balance after each."""
    return _show(request, actor, _asked(request.GET.get("month", "")))


@require_GET
@require_actor("read")
def statement_pdf(request: HttpRequest, actor: Actor, month: date) -> HttpResponse:
    """The statement as PDF, in the language of the page."""
    language = page_language()
    response = HttpResponse(month_statement.of(actor.organization, month, language), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="reconciliation-{month:%Y-%m}-{language.value}.pdf"'
    return response


@require_GET
@require_actor("read")
def statement_csv(request: HttpRequest, actor: Actor, month: date) -> HttpResponse:
    """The statement as CSV."""
    text = reconciliation.as_csv(reconciliation.rows_of(actor.organization_id, month))
    response = HttpResponse(text, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="reconciliation-{month:%Y-%m}.csv"'
    return response


@require_POST
@require_actor("billing")
def answer(request: HttpRequest, actor: Actor, month: date) -> HttpResponse:
    """Confirm the statement that was read, or say what is wrong with it."""
    form = AnswerForm(request.POST)

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        current = reconciliation.digest(reconciliation.rows_of(actor.organization_id, month))
        given = answer_statement(
            organization_id=actor.organization_id, month=month, digest=typed["digest"], current=current,
            agrees=typed["agrees"] == "yes", comment=typed["comment"], by=f"user:{actor.user_id}", now=clock.now(),
        )  # fmt: skip
        return {"agrees": given.agrees}

    if form.send(actor, perform) is None:
        return _show(request, actor, month, form=form, status=422)
    messages.success(request, _("Your answer is noted."))
    return redirect(f"{reverse('reconciliation')}?month={month:%Y-%m}")


def _show(
    request: HttpRequest, actor: Actor, month: date, *, form: AnswerForm | None = None, status: int = 200
) -> HttpResponse:
    rows = reconciliation.rows_of(actor.organization_id, month)
    digest = reconciliation.digest(rows)
    if form is not None:  # it is answered again by somebody who has the statement as it is now before them
        form.data = {**{name: form.data[name] for name in form.data}, "digest": digest}
    this_month = shanghai_date(clock.now()).replace(day=1)
    context = {
        "month": month,
        "name": f"{month:%Y-%m}",
        "months": _months_before(this_month),
        "rows": rows[1:-1],
        "opening": rows[0],
        "closing": rows[-1],
        "digest": digest,
        "over": month < this_month,
        "answered": reconciliation.confirmation_of(actor.organization_id, month, digest),
        "form": form or AnswerForm(initial={"digest": digest}),
        "may_answer": "billing" in actor.scopes,
    }
    return render(request, "billing/reconciliation.html", context, status=status)


def _asked(text: str) -> date:
    """Return the first day of the month named, of the last one that is over if none is; 404 for what is no month."""
    if not text:
        return (shanghai_date(clock.now()).replace(day=1) - timedelta(days=1)).replace(day=1)
    if re.fullmatch(MonthConverter.regex, text) is None:
        raise Http404
    return MonthConverter().to_python(text)


def _months_before(month: date) -> list[str]:
    """Return the month and those before it, the latest first."""
    found = [month]
    while len(found) < MONTHS_OFFERED:
        found.append((found[-1] - timedelta(days=1)).replace(day=1))
    return [f"{each:%Y-%m}" for each in found]
