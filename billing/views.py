"""Billing's pages: documents with their lines, and the account behind them."""

from collections.abc import Iterable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from billing import credit_queries, queries, supplier_forms
from billing.documents import pdf, table
from billing.documents.terms import page_language, token_names
from billing.domain.token_classes import shown
from billing.ledger_words import ACCOUNTS, KINDS, STAGES
from billing.models import Invoice, InvoiceLine, Transfer
from billing.tables import TRANSFERS, documents_table
from core.csv_files import csv_response
from core.listing import Listing
from identity.access import Actor
from identity.pages import require_actor

BUYER, PROVIDER = "buyer", "provider"


def _documents(request: HttpRequest, actor: Actor, side: str) -> HttpResponse:
    listing = Listing(request, documents_table(side))
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side).select_related("organization")
    if listing.wants_csv:
        return listing.csv(rows)
    context = {"page": listing.page(rows), "side": side, "listing": listing, "query": listing.query}
    return render(request, "billing/documents.html", context)


def show_document(
    request: HttpRequest, actor: Actor, side: str, document_id: int, *,
    upload_form: supplier_forms.SupplierInvoiceForm | None = None, status: int = 200,
) -> HttpResponse:  # fmt: skip
    """Show one document with its lines; a settlement statement with its tax invoice and payout."""
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side)
    document = rows.select_related("refers_to", "organization").filter(pk=document_id).first()
    if document is None:
        raise Http404
    context: dict[str, Any] = {
        "document": document,
        "side": side,
        "lines": [(line, _counts(line)) for line in document.lines.order_by("number")],
        "taxes": document.taxes.order_by("-section", "vat_thousandths"),
        "notes": Invoice.objects.filter(refers_to=document).order_by("pk"),
    }
    if side == PROVIDER:
        context |= supplier_forms.context(actor, document, upload_form)
    return render(request, "billing/document.html", context, status=status)


def _counts(line: InvoiceLine) -> list[tuple[str, int]]:
    """Return a line's raw counts by name, in the order of a request."""
    names = token_names(page_language())
    return [(names.get(name, name), count) for name, count in shown(line.tokens).items()]


def _file(request: HttpRequest, actor: Actor, side: str, document_id: int, suffix: str) -> HttpResponse:
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side)
    document = rows.select_related("refers_to").filter(pk=document_id).first()
    if document is None:
        raise Http404
    if suffix == "csv":
        return csv_response(table.INVOICE_COLUMNS, table.invoice_rows(document), name=document.number)
    language = page_language()
    address = request.build_absolute_uri(f"/{'invoices' if side == BUYER else 'statements'}/{document.pk}")
    response = HttpResponse(pdf.render(document, language, address=address), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{document.number}-{language.value}.pdf"'
    return response


@require_GET
@require_actor("read")
def invoice_file(request: HttpRequest, actor: Actor, document_id: int, suffix: str) -> HttpResponse:
    """One invoice as PDF, in the language of the page, or CSV."""
    return _file(request, actor, BUYER, document_id, suffix)


@require_GET
@require_actor("read")
def statement_file(request: HttpRequest, actor: Actor, document_id: int, suffix: str) -> HttpResponse:
    """One settlement statement as PDF, in the language of the page, or CSV."""
    return _file(request, actor, PROVIDER, document_id, suffix)


@require_GET
@require_actor("read")
def invoices(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Invoices to buyers, the latest first."""
    return _documents(request, actor, BUYER)


@require_GET
@require_actor("read")
def invoice(request: HttpRequest, actor: Actor, document_id: int) -> HttpResponse:
    """One invoice with its lines."""
    return show_document(request, actor, BUYER, document_id)


@require_GET
@require_actor("read")
def statements(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Settlement statements to providers, the latest first."""
    return _documents(request, actor, PROVIDER)


@require_GET
@require_actor("read")
def statement(request: HttpRequest, actor: Actor, document_id: int) -> HttpResponse:
    """One settlement statement with its lines."""
    return show_document(request, actor, PROVIDER, document_id)


@require_GET
@require_actor("read")
def account(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What stands to the organization's account, and what moved it."""
    listing, own = Listing(request, TRANSFERS), actor.organization_id
    rows = queries.transfers_of(own)

    def signed(found: Iterable[Transfer]) -> list[tuple[Transfer, int]]:
        return [(row, -row.amount_micro if row.debit.organization_id == own else row.amount_micro) for row in found]

    if listing.wants_csv:
        return listing.csv(rows, signed)
    page = listing.page(rows)
    return render(
        request,
        "billing/account.html",
        {
            "balance": queries.balance(own), "credits": credit_queries.credits_with_left(own), "page": page,
            "moves": signed(page.object_list), "own": own, "listing": listing, "query": listing.query,
            "account_names": ACCOUNTS, "kind_names": KINDS, "stage_names": STAGES,
        },
    )  # fmt: skip
