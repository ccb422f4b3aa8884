"""Tax invoices (数电发票) over HTTP: titles, requests, the tax platform's files, red invoices, withdrawn invoices."""

import base64
import binascii
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import tax_queries
from billing.actions import red_invoices, tax_invoices, titles
from billing.actions.withdrawals import withdraw_invoice
from billing.api.banking import FileIn, person
from billing.api.files import XLSX
from billing.api.ledger import ORGANIZATION, BillingView, OperatorView
from billing.documents.workbook import workbook
from billing.domain.tax_files import HEAD_COLUMNS, HEAD_SHEET, LINE_COLUMNS, LINE_SHEET
from billing.domain.tax_invoices import UNIT, quantity, unit_price
from billing.models import InvoiceState, InvoiceTitle, RedInvoice, TaxExport, TaxInvoice, TaxInvoiceKind
from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.errors import BadRequest
from core.money import format_yuan

KINDS = TaxInvoiceKind.choices
DATE_EXAMPLE = "The day on the tax invoice, as in 2026-11-20."


class TitleIn(StrictSerializer):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    name = serializers.CharField(max_length=120)
    tax_number = serializers.CharField(max_length=20, required=False, allow_blank=True, default="")
    address = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    phone = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    bank_name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    bank_account = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True, default="")
    monthly_kind = serializers.ChoiceField(
        choices=KINDS, required=False, allow_blank=True, default="", help_text="Asked for by itself after each month."
    )


class TitleOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    name = serializers.CharField()
    tax_number = serializers.CharField()
    address = serializers.CharField()
    phone = serializers.CharField()
    bank_name = serializers.CharField()
    bank_account = serializers.CharField()
    email = serializers.CharField()
    monthly_kind = serializers.CharField(help_text="81, 82, or empty.")
    created_at = serializers.DateTimeField()
    removed_at = serializers.DateTimeField(allow_null=True)


class TitlePage(serializers.Serializer[Any]):
    items = TitleOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TaxInvoiceIn(StrictSerializer):
    title = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    kind = serializers.ChoiceField(choices=KINDS)
    invoices = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        min_length=1,
        max_length=tax_invoices.MOST_DOCUMENTS,
        help_text="Ids of invoices and debit notes; credit notes go with what they correct.",
    )


class TaxLineOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    tax_code = serializers.CharField()
    item = serializers.CharField()
    specification = serializers.CharField()
    unit = serializers.CharField()
    quantity = serializers.CharField(help_text="Millions of standard tokens; empty for an amount only.")
    price = serializers.CharField(help_text="¥ without VAT per million; empty for an amount only.")
    net = YuanField()
    vat_thousandths = serializers.IntegerField()
    tax = YuanField()


class RedInvoiceOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    reference = serializers.CharField()
    tax_invoice = serializers.IntegerField()
    corrects = serializers.CharField(allow_null=True, help_text="The number of the tax invoice that it takes back.")
    note = serializers.CharField(allow_null=True, help_text="The credit note that waits for it.")
    reason = serializers.CharField()
    net = YuanField()
    tax = YuanField()
    total = YuanField()
    requested_at = serializers.DateTimeField()
    number = serializers.CharField(allow_null=True, help_text="Null: it waits for its number.")
    issued_on = serializers.DateField(allow_null=True)


class RedInvoicePage(serializers.Serializer[Any]):
    items = RedInvoiceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TaxInvoiceOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    reference = serializers.CharField(help_text="发票流水号: by it the platform's answer is found.")
    organization = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=KINDS)
    state = serializers.ChoiceField(choices=TaxInvoice.State.choices)
    seller = serializers.JSONField()
    title = serializers.JSONField()
    net = YuanField()
    tax = YuanField()
    total = YuanField()
    remark = serializers.CharField()
    requested_at = serializers.DateTimeField()
    number = serializers.CharField(allow_null=True)
    issued_on = serializers.DateField(allow_null=True)
    refusal = serializers.CharField(help_text="Why the platform refused it last; empty for no refusal.")
    files = serializers.ListField(child=serializers.CharField(), help_text="xml, pdf: what is attached.")
    invoices = serializers.ListField(child=serializers.CharField())
    lines = TaxLineOut(many=True)
    reds = RedInvoiceOut(many=True)


class TaxInvoicePage(serializers.Serializer[Any]):
    items = TaxInvoiceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class NumberIn(StrictSerializer):
    number = serializers.CharField(max_length=20)
    issued_on = serializers.DateField(help_text=DATE_EXAMPLE)
    total = YuanField()
    tax = YuanField(allow_zero=True)


class RedNumberIn(StrictSerializer):
    number = serializers.CharField(max_length=20)
    issued_on = serializers.DateField(help_text=DATE_EXAMPLE)


class ReasonIn(StrictSerializer):
    reason = serializers.CharField(max_length=200)


class TaxFileIn(StrictSerializer):
    format = serializers.ChoiceField(choices=["xml", "pdf"])
    content = serializers.CharField(max_length=3_000_000, help_text="The file in base64.")


class TaxExportOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    tax_invoices = serializers.IntegerField()
    reds = serializers.IntegerField()


class TaxExportPage(serializers.Serializer[Any]):
    items = TaxExportOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class TaxAnswersOut(serializers.Serializer[Any]):
    issued = serializers.IntegerField()
    red = serializers.IntegerField()
    refused = serializers.IntegerField()
    repeated = serializers.IntegerField()
    rejected = serializers.ListField(child=serializers.JSONField())


class WithdrawnOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    number = serializers.CharField()
    state = serializers.ChoiceField(choices=InvoiceState.State.choices)


def show_title(row: InvoiceTitle) -> dict[str, Any]:
    return {"id": row.pk, "organization": row.organization_id, **tax_invoices.shown_title(row),
            "monthly_kind": row.monthly_kind, "created_at": row.created_at, "removed_at": row.removed_at}  # fmt: skip


def show_red(row: RedInvoice) -> dict[str, Any]:
    return {
        "id": row.pk, "reference": str(row), "tax_invoice": row.tax_invoice_id, "corrects": row.tax_invoice.number,
        "note": row.note.number if row.note else None, "reason": row.reason, "net": format_yuan(row.net_micro),
        "tax": format_yuan(row.tax_micro), "total": format_yuan(row.total_micro), "requested_at": row.requested_at,
        "number": row.number, "issued_on": row.issued_on,
    }  # fmt: skip


def show_tax_invoice(row: TaxInvoice) -> dict[str, Any]:
    lines = [
        {"number": line.number, "tax_code": line.tax_code, "item": line.item, "specification": line.specification,
         "unit": UNIT if line.quantity_micro_st > 0 else "", "quantity": quantity(line.quantity_micro_st),
         "price": unit_price(line.net_micro, line.quantity_micro_st), "net": format_yuan(line.net_micro),
         "vat_thousandths": line.vat_thousandths, "tax": format_yuan(line.tax_micro)}
        for line in row.lines.order_by("number")
    ]  # fmt: skip
    return {
        "id": row.pk, "reference": str(row), "organization": row.organization_id, "kind": row.kind,
        "state": row.state, "seller": row.seller, "title": row.title, "net": format_yuan(row.net_micro),
        "tax": format_yuan(row.tax_micro), "total": format_yuan(row.total_micro), "remark": row.remark,
        "requested_at": row.requested_at, "number": row.number, "issued_on": row.issued_on, "refusal": row.refusal,
        "files": [form for form in ("xml", "pdf") if getattr(row, form)],
        "invoices": list(row.documents.order_by("id").values_list("invoice__number", flat=True)), "lines": lines,
        "reds": [show_red(red) for red in row.reds.order_by("id").select_related("note", "tax_invoice")],
    }  # fmt: skip


def show_export(row: TaxExport) -> dict[str, Any]:
    return {"id": row.pk, "created_at": row.created_at, "tax_invoices": row.tax_invoices.count(),
            "reds": row.reds.count()}  # fmt: skip


class TaxInvoiceView(BillingView):
    def tax_invoice(self, tax_invoice_id: int) -> TaxInvoice:
        """
        Return a tax invoice that the caller may see.

        :raises TaxInvoiceNotFound: another organization's, or none.
        """
        rows = tax_queries.tax_invoices_readable(self.actor.organizations_readable())
        found = rows.filter(pk=tax_invoice_id).first()
        if found is None:
            raise red_invoices.TaxInvoiceNotFound("There is no tax invoice with that id.")
        return found


class InvoiceTitles(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(parameters=[ORGANIZATION], responses=TitlePage)
    def get(self, request: Request) -> Response:
        """The titles (发票抬头) in use, newest first."""
        return Response(page(request, tax_queries.titles_of(self.organization_asked().pk), show_title))

    @extend_schema(request=TitleIn, responses={201: TitleOut})
    def post(self, request: Request) -> Response:
        """Add a title. To change one, add another and remove it: what was issued keeps what it says."""
        given = self.parse(TitleIn)
        organization = self.subject(given.pop("organization", None))
        return self.once(lambda: show_title(
            titles.add_title(organization=organization, now=self.now, actor=self.actor, **given)))  # fmt: skip


class InvoiceTitleDetail(BillingView):
    scopes = {"DELETE": "billing"}

    @extend_schema(responses={200: TitleOut})
    def delete(self, request: Request, title_id: int) -> Response:
        """Use a title no more."""
        owner = None if self.actor.is_operator else self.actor.organization_id
        return self.once(lambda: show_title(titles.remove_title(
            title_id=title_id, organization_id=owner, now=self.now, actor=self.actor)), status=200)  # fmt: skip


class TaxInvoices(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(
        parameters=[ORGANIZATION, OpenApiParameter("state", str, enum=TaxInvoice.State.values)],
        responses=TaxInvoicePage,
    )
    def get(self, request: Request) -> Response:
        """Tax invoices, newest first; the operator sees everybody's."""
        rows = tax_queries.tax_invoices_readable(self.actor.organizations_readable())
        if "organization" in request.query_params:
            rows = rows.filter(organization=self.organization_asked())
        state = request.query_params.get("state")
        if state is not None:
            if state not in TaxInvoice.State.values:
                raise BadRequest(f"state is one of {', '.join(TaxInvoice.State.values)}.", field="state")
            rows = rows.filter(state=state)
        return Response(page(request, rows, show_tax_invoice))

    @extend_schema(request=TaxInvoiceIn, responses={201: TaxInvoiceOut})
    def post(self, request: Request) -> Response:
        """Ask for one tax invoice over one or several invoices, with the notes that correct them."""
        given = self.parse(TaxInvoiceIn)
        organizations = self.actor.organizations_readable() if self.actor.is_operator else None
        rows = InvoiceTitle.objects.filter(pk=given["title"])
        title = (rows if organizations is not None else rows.filter(organization=self.actor.organization)).first()
        if title is None:
            raise red_invoices.TaxInvoiceNotFound("There is no title with that id.", field="title")
        return self.once(lambda: show_tax_invoice(tax_invoices.request_tax_invoice(
            title=title, kind=given["kind"], invoice_ids=given["invoices"], by=person(self.actor),
            now=self.now)))  # fmt: skip


class TaxInvoiceDetail(TaxInvoiceView):
    scopes = {"GET": "read"}

    @extend_schema(responses=TaxInvoiceOut)
    def get(self, request: Request, tax_invoice_id: int) -> Response:
        """One tax invoice with its lines and red invoices."""
        return Response(show_tax_invoice(self.tax_invoice(tax_invoice_id)))


class TaxInvoiceFile(TaxInvoiceView):
    """`form` (xml or pdf) is set in urls.py."""

    scopes = {"GET": "read"}
    form = "pdf"

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY})
    def get(self, request: Request, tax_invoice_id: int) -> HttpResponse:
        """The attached file, as it was issued."""
        row = self.tax_invoice(tax_invoice_id)
        content = bytes(getattr(row, self.form))
        if not content:
            raise red_invoices.TaxInvoiceNotFound(f"No {self.form.upper()} is attached to this tax invoice.")
        response = HttpResponse(content, content_type=f"application/{self.form}")
        response["Content-Disposition"] = f'attachment; filename="{row.number}.{self.form}"'
        return response


class TaxInvoiceCancel(TaxInvoiceView):
    scopes = {"POST": "billing"}

    @extend_schema(request=None, responses=TaxInvoiceOut)
    def post(self, request: Request, tax_invoice_id: int) -> Response:
        """Take back a request that is not with the platform yet."""
        row = self.tax_invoice(tax_invoice_id)
        return self.once(lambda: show_tax_invoice(tax_invoices.cancel_request(
            tax_invoice_id=row.pk, by_operator=self.actor.is_operator, now=self.now)), status=200)  # fmt: skip


class TaxInvoiceNumber(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=NumberIn, responses=TaxInvoiceOut)
    def post(self, request: Request, tax_invoice_id: int) -> Response:
        """Enter the number of a tax invoice that was issued, by hand."""
        given = self.parse(NumberIn)
        return self.once(lambda: show_tax_invoice(tax_invoices.enter_number(
            tax_invoice_id=tax_invoice_id, number=given["number"], issued_on=given["issued_on"],
            total_micro=given["total"], tax_micro=given["tax"], now=self.now)), status=200)  # fmt: skip


class TaxInvoiceReverse(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=ReasonIn, responses={201: RedInvoiceOut})
    def post(self, request: Request, tax_invoice_id: int) -> Response:
        """Ask for a red invoice over all that is left, such as for a wrong title."""
        reason = self.parse(ReasonIn)["reason"]
        return self.once(lambda: show_red(
            red_invoices.reverse(tax_invoice_id=tax_invoice_id, reason=reason, now=self.now)))  # fmt: skip


class TaxInvoiceFiles(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=TaxFileIn, responses=TaxInvoiceOut)
    def post(self, request: Request, tax_invoice_id: int) -> Response:
        """Attach the XML or PDF of an issued tax invoice."""
        given = self.parse(TaxFileIn)
        try:
            content = base64.b64decode(given["content"], validate=True)
        except binascii.Error:
            raise BadRequest("content is the file in base64.", field="content") from None
        return self.once(lambda: show_tax_invoice(tax_invoices.attach_file(
            tax_invoice_id=tax_invoice_id, form=given["format"], content=content)), status=200)  # fmt: skip


class RedInvoices(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(
        parameters=[ORGANIZATION, OpenApiParameter("waiting", bool, description="Those without number: a work list.")],
        responses=RedInvoicePage,
    )
    def get(self, request: Request) -> Response:
        """Red invoices, newest first; the operator sees everybody's."""
        rows = tax_queries.reds_readable(self.actor.organizations_readable())
        if "organization" in request.query_params:
            rows = rows.filter(tax_invoice__organization=self.organization_asked())
        if request.query_params.get("waiting", "").lower() in ("1", "true"):
            rows = rows.filter(number=None)
        return Response(page(request, rows, show_red))


class RedInvoiceNumber(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=RedNumberIn, responses=RedInvoiceOut)
    def post(self, request: Request, red_id: int) -> Response:
        """Enter the number of a red invoice: the credit note waits no more."""
        given = self.parse(RedNumberIn)
        return self.once(lambda: show_red(
            red_invoices.enter_red_number(red_id=red_id, now=self.now, **given)), status=200)  # fmt: skip


class TaxExports(BillingView):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(responses=TaxExportPage)
    def get(self, request: Request) -> Response:
        """Files for the tax platform, newest first."""
        return Response(page(request, TaxExport.objects.all(), show_export))

    @extend_schema(request=None, responses={201: TaxExportOut})
    def post(self, request: Request) -> Response:
        """Take every request that waits into a file for the tax platform."""

        def perform() -> dict[str, Any]:
            export = tax_invoices.make_export(now=self.now)
            if export is None:
                raise red_invoices.TaxInvoiceState("No tax invoice waits to be issued.")
            return show_export(export)

        return self.once(perform)


class TaxExportFile(OperatorView):
    scopes = {"GET": "read"}

    @extend_schema(responses={(200, XLSX): OpenApiTypes.BINARY})
    def get(self, request: Request, export_id: int) -> HttpResponse:
        """The file as a workbook of the platform's two sheets."""
        export = TaxExport.objects.filter(pk=export_id).first()
        if export is None:
            raise red_invoices.TaxInvoiceNotFound("There is no file with that id.")
        heads, lines = tax_queries.export_rows(export)
        sheets = [(HEAD_SHEET, HEAD_COLUMNS, heads), (LINE_SHEET, LINE_COLUMNS, lines)]
        response = HttpResponse(workbook(sheets, made_at=export.created_at), content_type=XLSX)
        response["Content-Disposition"] = f'attachment; filename="{export}.xlsx"'
        return response


class TaxAnswers(BillingView):
    scopes = {"POST": "operate"}

    @extend_schema(request=FileIn, responses={201: TaxAnswersOut})
    def post(self, request: Request) -> Response:
        """Import what the tax platform answered (CSV); the same file again changes nothing."""
        content = self.parse(FileIn)["content"].encode()
        return self.once(lambda: tax_invoices.import_answers(content=content, now=self.now))


class InvoiceWithdraw(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=ReasonIn, responses=WithdrawnOut)
    def post(self, request: Request, invoice_id: int) -> Response:
        """Withdraw an invoice, while no tax invoice exists for it: its charges go on another one."""
        reason = self.parse(ReasonIn)["reason"]

        def perform() -> dict[str, Any]:
            row = withdraw_invoice(invoice_id=invoice_id, reason=reason, now=self.now, actor=self.actor)
            return {"id": row.pk, "number": row.number, "state": InvoiceState.State.WITHDRAWN}

        return self.once(perform, status=200)
