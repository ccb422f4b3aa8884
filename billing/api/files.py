"""One document as a file of other programs: JSON, spreadsheet, Parquet, UBL."""

import hashlib

from django.db.models import Prefetch
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.charges import show_charge
from billing.api.invoices import DocumentView, show_document, tagged
from billing.documents.parquet import write_parquet
from billing.documents.table import CHARGE_COLUMNS, CHARGE_TYPES, charge_rows
from billing.documents.ubl import as_ubl
from billing.documents.workbook import document_workbook
from billing.models import InvoiceCharge

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PARQUET = "application/vnd.apache.parquet"


class DocumentFile(DocumentView):
    """A view that answers a document as an attachment."""

    def attachment(self, request: Request, number: str, suffix: str, content: bytes, kind: str) -> HttpResponseBase:
        """Answer a file; a client that has it (ETag) gets 304."""
        response = HttpResponse(content, content_type=kind)
        response["Content-Disposition"] = f'attachment; filename="{number}.{suffix}"'
        return tagged(request, response, f"{number} {suffix} {hash_of(content)}")


def hash_of(content: bytes) -> str:
    """Return what stands for a file's bytes in its ETag."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


class DocumentJson(DocumentFile):
    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One document with its lines, taxes and the charges behind them, whole."""
        row = self.document(invoice_id)
        buys = self.side == "buyer"
        documents = Prefetch("charge__invoiced", InvoiceCharge.objects.select_related("line__invoice"))
        taken = InvoiceCharge.objects.filter(line__invoice=row).select_related("charge", "line")
        taken = taken.prefetch_related(documents)
        charges = [
            {"line": one.line.number} | show_charge(one.charge, as_buyer=buys, as_provider=not buys)
            for one in taken.order_by("line__number", "charge_id")
        ]
        response = Response(show_document(row) | {"charges": charges})
        response["Content-Disposition"] = f'attachment; filename="{row.number}.json"'
        return tagged(request, response, f"{row.number} json {row.state} {row.paid_micro} {row.disputed_micro}")


class DocumentXlsx(DocumentFile):
    @extend_schema(responses={(200, XLSX): OpenApiTypes.BINARY})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One document as a spreadsheet: a sheet of lines, one of charges."""
        row = self.document(invoice_id)
        return self.attachment(request, row.number, "xlsx", document_workbook(row), XLSX)


class DocumentParquet(DocumentFile):
    @extend_schema(responses={(200, PARQUET): OpenApiTypes.BINARY})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """The charges behind one document as Parquet, figures typed."""
        row = self.document(invoice_id)
        content = write_parquet(CHARGE_COLUMNS, charge_rows(row), types=CHARGE_TYPES)
        return self.attachment(request, row.number, "parquet", content, PARQUET)


class DocumentUbl(DocumentFile):
    @extend_schema(responses={(200, "application/xml"): OpenApiTypes.BINARY})
    def get(self, request: Request, invoice_id: int) -> HttpResponseBase:
        """One invoice or note as UBL 2.1 by EN 16931."""
        row = self.document(invoice_id)
        return self.attachment(request, row.number, "xml", as_ubl(row), "application/xml")
