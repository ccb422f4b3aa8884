"""Billing's pages: documents with their lines, and the account behind them."""

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import get_language
from django.views.decorators.http import require_GET

from billing import credit_queries, queries
from billing.documents import pdf, table
from billing.documents.terms import Language
from billing.models import Invoice
from identity.access import Actor
from identity.pages import require_actor

PER_PAGE = 50
BUYER, PROVIDER = "buyer", "provider"


def _documents(request: HttpRequest, actor: Actor, side: str) -> HttpResponse:
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side)
    page = Paginator(rows.select_related("organization").order_by("-pk"), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "billing/documents.html", {"page": page, "side": side})


def _document(request: HttpRequest, actor: Actor, side: str, document_id: int) -> HttpResponse:
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side)
    document = rows.select_related("refers_to", "organization").filter(pk=document_id).first()
    if document is None:
        raise Http404
    return render(
        request,
        "billing/document.html",
        {
            "document": document,
            "side": side,
            "lines": document.lines.order_by("number"),
            "taxes": document.taxes.order_by("-section", "vat_thousandths"),
            "notes": Invoice.objects.filter(refers_to=document).order_by("pk"),
        },
    )


def _file(request: HttpRequest, actor: Actor, side: str, document_id: int, suffix: str) -> HttpResponse:
    rows = queries.invoices_readable(actor.organizations_readable()).filter(side=side)
    document = rows.select_related("refers_to").filter(pk=document_id).first()
    if document is None:
        raise Http404
    if suffix == "csv":
        text = table.as_csv(table.INVOICE_COLUMNS, table.invoice_rows(document))
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{document.number}.csv"'
        return response
    language = Language.ZH if (get_language() or "zh").startswith("zh") else Language.EN
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
    return _document(request, actor, BUYER, document_id)


@require_GET
@require_actor("read")
def statements(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Settlement statements to providers, the latest first."""
    return _documents(request, actor, PROVIDER)


@require_GET
@require_actor("read")
def statement(request: HttpRequest, actor: Actor, document_id: int) -> HttpResponse:
    """One settlement statement with its lines."""
    return _document(request, actor, PROVIDER, document_id)


@require_GET
@require_actor("read")
def account(request: HttpRequest, actor: Actor) -> HttpResponse:
    """What stands to the organization's account, and what moved it."""
    rows = queries.transfers_of(actor.organization_id).order_by("-pk")
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    own = actor.organization_id
    moves = [
        (row, -row.amount_micro if row.debit.organization_id == own else row.amount_micro) for row in page.object_list
    ]
    return render(
        request,
        "billing/account.html",
        {
            "balance": queries.balance(own), "credits": credit_queries.credits_with_left(own), "page": page,
            "moves": moves, "own": own,
        },
    )  # fmt: skip
