"""Invoices and settlement statements over HTTP: lists, one with its lines, PDF, CSV, and the charges behind."""

import hashlib
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import queries
from billing.api.charges import ChargePage, show_charge
from billing.api.ledger import LANGUAGE, ORGANIZATION, BillingView
from billing.documents import table
from billing.documents.pdf import render
from billing.models import Charge, Invoice, InvoiceLine, InvoiceState
from core.api.paging import page
from core.api.serializers import PriceField, YuanField
from core.csv_files import as_csv
from core.errors import BadRequest, NotFound
from core.money import format_price, format_price_per_million, format_tokens, format_yuan
from identity.models import Organization


class LineOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    section = serializers.CharField(help_text="supply, or fee (deducted from a provider's proceeds).")
    kind = serializers.CharField()
    scope = serializers.CharField()
    labels = serializers.JSONField(help_text="Contract, lot, market, auction, model: where the line comes from.")
    tokens = serializers.DictField(child=serializers.IntegerField(), help_text="Raw tokens by class.")
    standard_tokens = serializers.CharField()
    price = PriceField(help_text="¥ per standard token, VAT included.")
    price_per_million = serializers.CharField()
    vat_thousandths = serializers.IntegerField()
    amount_exact = serializers.CharField(help_text="¥, before rounding to the fen.")
    amount = YuanField(help_text="¥, whole fen; the lines add up to the total.")
    occurred_start = serializers.DateTimeField()
    occurred_end = serializers.DateTimeField()


class TaxOut(serializers.Serializer[Any]):
    section = serializers.CharField()
    vat_thousandths = serializers.IntegerField()
    gross = YuanField()
    net = YuanField()
    tax = YuanField()


class InvoiceOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    number = serializers.CharField()
    kind = serializers.ChoiceField(choices=Invoice.Kind.choices)
    organization = serializers.IntegerField()
    refers_to = serializers.IntegerField(allow_null=True, help_text="The document that a note corrects.")
    cycle = serializers.CharField()
    period_start = serializers.DateTimeField()
    period_end = serializers.DateTimeField()
    issued_at = serializers.DateTimeField()
    due_on = serializers.DateField()
    state = serializers.ChoiceField(choices=InvoiceState.State.choices)
    currency = serializers.CharField()
    total = YuanField(help_text="¥, whole fen, VAT included; a credit's is negative.")
    net = YuanField()
    tax = YuanField()
    charges = serializers.CharField(help_text="¥, the exact sum of the charges.")
    rounding = serializers.CharField(help_text="¥, total − charges.")
    due = YuanField(help_text="What of the total was owed at issue; the rest was paid from deposits.")
    paid = YuanField(help_text="What of the due has been paid, or settled by a credit.")
    disputed = YuanField(help_text="What of it is disputed: not due until that is decided.")


class InvoiceDetailOut(InvoiceOut):
    issuer = serializers.JSONField()
    customer = serializers.JSONField()
    lines = LineOut(many=True)
    taxes = TaxOut(many=True)


class InvoicePage(serializers.Serializer[Any]):
    items = InvoiceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_invoice(row: queries.ShownInvoice) -> dict[str, Any]:
    return {
        "id": row.pk, "number": row.number, "kind": row.kind, "organization": row.organization_id,
        "refers_to": row.refers_to_id, "cycle": row.cycle, "period_start": row.period_start,
        "period_end": row.period_end, "issued_at": row.issued_at, "due_on": row.due_on, "state": row.state,
        "currency": "CNY", "total": format_yuan(row.total_micro), "net": format_yuan(row.net_micro),
        "tax": format_yuan(row.tax_micro), "charges": format_yuan(row.exact_micro, places=6),
        "rounding": format_yuan(row.rounding_micro, places=6), "due": format_yuan(row.due_micro),
        "paid": format_yuan(row.paid_micro), "disputed": format_yuan(row.disputed_micro),
    }


def show_line(row: InvoiceLine) -> dict[str, Any]:
    return {
        "number": row.number, "section": row.section, "kind": row.kind, "scope": row.scope, "labels": row.labels,
        "tokens": row.tokens, "standard_tokens": format_tokens(row.quantity_micro_st),
        "price": format_price(row.price_nano), "price_per_million": format_price_per_million(row.price_nano),
        "vat_thousandths": row.vat_thousandths, "amount_exact": format_yuan(row.amount_micro, places=6),
        "amount": format_yuan(row.printed_micro), "occurred_start": row.occurred_start,
        "occurred_end": row.occurred_end,
    }


def show_document(row: queries.ShownInvoice) -> dict[str, Any]:
    taxes = [
        {"section": tax.section, "vat_thousandths": tax.vat_thousandths, "gross": format_yuan(tax.gross_micro),
         "net": format_yuan(tax.net_micro), "tax": format_yuan(tax.tax_micro)}
        for tax in row.taxes.order_by("-section", "-vat_thousandths")]
    return show_invoice(row) | {
        "issuer": row.issuer, "customer": row.customer, "taxes": taxes,
        "lines": [show_line(line) for line in row.lines.order_by("number")]}


class DocumentView(BillingView):
    """A view of one side's documents; `side` is set in urls.py."""

    scopes: ClassVar[dict[str, str]] = {"GET": "read"}
    side = "buyer"

    def document(self, invoice_id: int) -> queries.ShownInvoice:
        """
        Return a document that the caller may see.

        :raises NotFound: another organization's, or one of the other side.
        """
        rows = queries.invoices_readable(self.actor.organizations_readable())
        row = rows.select_related("refers_to").filter(pk=invoice_id, side=self.side).first()
        if row is None:
            raise NotFound("There is no such document.")
        return row


def tagged(request: Request, response: HttpResponseBase, content: str) -> HttpResponseBase:
    """Add a strong ETag made of what the answer says; a client that has it gets 304."""
    tag = f'"{hashlib.blake2b(content.encode(), digest_size=12).hexdigest()}"'
    if tag in [part.strip() for part in request.headers.get("If-None-Match", "").split(",")]:
        response = HttpResponse(status=304)
    response["ETag"] = tag
    return response


class Documents(DocumentView):
    @extend_schema(
        parameters=[
            ORGANIZATION, OpenApiParameter("kind", str, enum=Invoice.Kind.values),
            OpenApiParameter("state", str, enum=InvoiceState.State.values),
            OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=InvoicePage)
    def get(self, request: Request) -> Response:
        """The organization's documents, newest first."""
        asked = Organization.objects.filter(pk=self.organization_asked().pk)
        rows = queries.invoices_readable(asked).filter(side=self.side)
        for name, known in (("kind", Invoice.Kind.values), ("state", InvoiceState.State.values)):
            if (value := request.query_params.get(name)) is not None:
                if value not in known:
                    raise BadRequest(f"{name} is one of {', '.join(known)}.", field=name)
                rows = rows.filter(**{name: value})
        return Response(page(request, rows, show_invoice))


class DocumentDetail(DocumentView):
    @extend_schema(responses=InvoiceDetailOut)
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One document with its lines and taxes."""
        row = self.document(invoice_id)
        now = f"{row.number} {row.state} {row.paid_micro} {row.disputed_micro}"
        return tagged(request, Response(show_document(row)), now)


class DocumentPdf(DocumentView):
    @extend_schema(parameters=[LANGUAGE], responses={(200, "application/pdf"): OpenApiTypes.BINARY})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One document as PDF/A, in Chinese (the default) or English; the same bytes each time."""
        row, language = self.document(invoice_id), self.language()
        address = request.build_absolute_uri(f"/{'invoices' if self.side == 'buyer' else 'statements'}/{row.pk}")
        response = HttpResponse(render(row, language, address=address), content_type="application/pdf")
        response["Content-Disposition"] = f'inline; filename="{row.number}-{language.value}.pdf"'
        return tagged(request, response, f"{row.number} {language.value} {address}")


class DocumentCsv(DocumentView):
    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One document's lines as CSV."""
        row = self.document(invoice_id)
        text = as_csv(table.INVOICE_COLUMNS, table.invoice_rows(row))
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{row.number}.csv"'
        return tagged(request, response, f"{row.number} csv")


class DocumentChargesCsv(DocumentView):
    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """The charges behind one document's lines as CSV."""
        row = self.document(invoice_id)
        text = as_csv(table.CHARGE_COLUMNS, table.charge_rows(row))
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="{row.number}-charges.csv"'
        return tagged(request, response, f"{row.number} charges csv")


class DocumentCharges(DocumentView):
    @extend_schema(
        parameters=[OpenApiParameter("line", int), OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=ChargePage)
    def get(self, request: Request, invoice_id: int) -> Response:
        """The charges behind a document, or behind one `line` of it: deployments, trades and sources by name."""
        row = self.document(invoice_id)
        asked: dict[str, Any] = {"invoiced__line__invoice_id": row.pk, "invoiced__side": self.side}
        line = request.query_params.get("line")
        if line is not None:
            if not (line.isascii() and line.isdigit() and len(line) < 10):
                raise BadRequest("line is a line's number.", field="line")
            asked["invoiced__line__number"] = int(line)
        buys = self.side == "buyer"
        return Response(page(request, Charge.objects.filter(**asked), lambda charge: show_charge(
            charge, as_buyer=buys, as_provider=not buys)))
