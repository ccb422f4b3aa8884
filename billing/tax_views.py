"""Pages of tax invoices: a buyer's titles, requests and what was issued."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from billing import tax_queries
from billing.actions.tax_invoices import request_tax_invoice
from billing.actions.titles import add_title
from billing.models import InvoiceTitle, TaxInvoiceKind
from core import clock
from identity.access import Actor
from identity.page_forms import OnceForm
from identity.pages import require_actor

MOST_SHOWN = 100


class TitleForm(OnceForm):
    """A new title (发票抬头)."""

    name = forms.CharField(max_length=120, label=gettext_lazy("Name"))
    tax_number = forms.CharField(
        max_length=20, required=False, label=gettext_lazy("Tax number"),
        help_text=gettext_lazy("Without one: a natural person."),
    )  # fmt: skip
    bank_name = forms.CharField(max_length=120, required=False, label=gettext_lazy("Bank"))
    bank_account = forms.CharField(max_length=40, required=False, label=gettext_lazy("Bank account"))
    email = forms.EmailField(max_length=254, required=False, label=gettext_lazy("E-mail"))


class Documents(forms.MultipleChoiceField):
    """Offers what is free; a form sent twice names what was free the first time, so the action judges."""

    def valid_value(self, value: Any) -> bool:
        text = str(value)
        return text.isascii() and text.isdigit() and len(text) < 19


class RequestForm(OnceForm):
    """A tax invoice over one or several invoices."""

    title = forms.ModelChoiceField(
        InvoiceTitle.objects.none(), label=gettext_lazy("Invoice title"), empty_label=gettext_lazy("Choose …")
    )
    kind = forms.ChoiceField(choices=TaxInvoiceKind.choices, label=gettext_lazy("Kind"))
    invoices = Documents(label=gettext_lazy("Invoices"), widget=forms.CheckboxSelectMultiple)

    def __init__(self, actor: Actor, data: Any = None) -> None:
        super().__init__(data)
        self.fields["title"].queryset = tax_queries.titles_of(actor.organization_id)  # type: ignore[attr-defined]
        free = tax_queries.free_documents(actor.organization_id).order_by("-pk")[:MOST_SHOWN]
        self.fields["invoices"].choices = [(str(row.pk), row.number) for row in free]  # type: ignore[attr-defined]


def _show(
    request: HttpRequest, actor: Actor, *, title: TitleForm | None = None, ask: RequestForm | None = None,
    status: int = 200,
) -> HttpResponse:  # fmt: skip
    own = actor.organizations_readable().filter(pk=actor.organization_id)
    rows = tax_queries.tax_invoices_readable(own).order_by("-pk").prefetch_related("reds")[:MOST_SHOWN]
    context = {"rows": rows, "title_form": title or TitleForm(), "request_form": ask or RequestForm(actor),
               "may_ask": "billing" in actor.scopes}  # fmt: skip
    return render(request, "billing/tax_invoices.html", context, status=status)


@require_GET
@require_actor("read")
def tax_invoices(request: HttpRequest, actor: Actor) -> HttpResponse:
    """An organization's tax invoices, with the forms to ask for one."""
    return _show(request, actor)


@require_POST
@require_actor("billing")
def new_title(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Add a title."""
    form = TitleForm(request.POST)
    answer = form.send(actor, lambda typed: {
        "title": add_title(organization=actor.organization, now=clock.now(), actor=actor, **typed).pk})  # fmt: skip
    if answer is None:
        return _show(request, actor, title=form, status=422)
    messages.success(request, _("The title is added."))
    return redirect("tax-invoices")


@require_POST
@require_actor("billing")
def request_one(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Ask for a tax invoice over the chosen invoices."""
    form = RequestForm(actor, request.POST)
    answer = form.send(actor, lambda typed: {
        "tax_invoice": request_tax_invoice(
            title=typed["title"], kind=typed["kind"], invoice_ids=[int(id_) for id_ in typed["invoices"]],
            by=f"user:{actor.user_id}", now=clock.now()).pk})  # fmt: skip
    if answer is None:
        return _show(request, actor, ask=form, status=422)
    messages.success(request, _("The tax invoice is asked for."))
    return redirect("tax-invoices")
