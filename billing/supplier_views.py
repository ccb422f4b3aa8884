"""Handing in a provider's tax invoice for its settlement statement, and getting its file back."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from billing import queries
from billing.actions.payees import InvoiceGiven, upload_tax_invoice
from billing.models import Invoice, SupplierInvoice
from billing.supplier_forms import SupplierInvoiceForm, format_of
from billing.views import PROVIDER, show_document
from core import clock
from identity.access import Actor
from identity.pages import require_actor


@require_POST
@require_actor("billing")
def upload(request: HttpRequest, actor: Actor, document_id: int) -> HttpResponse:
    """Hand in the tax invoice for one of one's own statements; what differs is told, and nothing is paid for it."""
    own = Invoice.objects.filter(organization_id=actor.organization_id, side=PROVIDER)
    statement = own.filter(pk=document_id).first()
    if statement is None:
        raise Http404
    form = SupplierInvoiceForm(request.POST, request.FILES)

    def perform(typed: dict[str, Any]) -> dict[str, Any]:
        amounts = {"total_micro": typed.pop("total"), "tax_micro": typed.pop("tax")}
        row = upload_tax_invoice(statement=statement, given=InvoiceGiven(**typed, **amounts), now=clock.now())
        return {"id": row.pk, "differences": len(row.differences)}

    answer = form.send(actor, perform)
    if answer is None:
        return show_document(request, actor, PROVIDER, document_id, upload_form=form, status=422)
    if answer.body["differences"]:
        messages.warning(request, _("The tax invoice is noted, but it differs from the statement; see below where."))
    else:
        messages.success(request, _("The tax invoice matches. The statement is paid with the next payouts."))
    return redirect("statement", document_id)


@require_GET
@require_actor("read")
def file(request: HttpRequest, actor: Actor, document_id: int, supplier_invoice_id: int) -> HttpResponse:
    """The file of an uploaded tax invoice, as it came."""
    statements = queries.invoices_readable(actor.organizations_readable()).filter(pk=document_id)
    row = SupplierInvoice.objects.filter(statement__in=statements, pk=supplier_invoice_id).exclude(document=b"").first()
    if row is None:
        raise Http404
    content = bytes(row.document)
    media_type, suffix = format_of(content) or ("application/octet-stream", "bin")
    response = HttpResponse(content, content_type=media_type)
    response["Content-Disposition"] = f'attachment; filename="{row.number}.{suffix}"'
    return response
