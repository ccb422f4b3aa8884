"""Money that goes out, over HTTP: payouts, refunds, batches, and providers' tax invoices."""

import base64
import binascii
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import payout_queries
from billing.actions import payees, payouts
from billing.api.banking import FileIn, person
from billing.api.ledger import ORGANIZATION, BillingView, OperatorView
from billing.domain.bank_files import batch_file
from billing.models import Invoice, Payout, PayoutBatch, SupplierInvoice
from billing.queries import invoices_readable
from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.errors import BadRequest, NotFound
from core.money import format_yuan


class PayoutIn(StrictSerializer):
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)
    method = serializers.ChoiceField(choices=["bank", "stripe"], required=False, default="bank")


class CancelIn(StrictSerializer):
    reason = serializers.CharField(max_length=200, required=False, default="", allow_blank=True)


class RefundIn(StrictSerializer):
    amount = YuanField()


class PayoutOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    reference = serializers.CharField()
    kind = serializers.CharField(help_text="proceeds, refund or return.")
    method = serializers.CharField()
    organization = serializers.IntegerField(allow_null=True)
    amount = YuanField()
    state = serializers.CharField(help_text="waiting, approved, sent, paid, failed or cancelled.")
    payee = serializers.CharField()
    payee_account = serializers.CharField()
    approvals = serializers.IntegerField()
    approvals_needed = serializers.IntegerField()
    requested_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)
    reason = serializers.CharField()
    batch = serializers.IntegerField(allow_null=True)
    deposit = serializers.IntegerField(allow_null=True)
    statements = serializers.ListField(child=serializers.CharField())


class PayoutPage(serializers.Serializer[Any]):
    items = PayoutOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class PayoutBatchOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    total = YuanField()
    payouts = serializers.IntegerField()


class PayoutBatchPage(serializers.Serializer[Any]):
    items = PayoutBatchOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class PayoutResultsOut(serializers.Serializer[Any]):
    paid = serializers.IntegerField()
    failed = serializers.IntegerField()
    repeated = serializers.IntegerField()
    rejected = serializers.ListField(child=serializers.DictField())


class SupplierInvoiceIn(StrictSerializer):
    number = serializers.CharField(max_length=20, help_text="20 digits.")
    issued_on = serializers.DateField()
    seller_name = serializers.CharField(max_length=120)
    seller_tax_number = serializers.CharField(max_length=20)
    buyer_name = serializers.CharField(max_length=120)
    buyer_tax_number = serializers.CharField(max_length=20)
    total = YuanField(help_text="With tax.")
    tax = YuanField(allow_zero=True)
    document = serializers.CharField(
        max_length=2_000_000, required=False, default="", allow_blank=True, help_text="The file, in base64."
    )


class SupplierInvoiceOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    statement = serializers.IntegerField()
    number = serializers.CharField()
    issued_on = serializers.DateField()
    total = YuanField()
    tax = YuanField()
    matches = serializers.BooleanField()
    differences = serializers.ListField(child=serializers.DictField(), help_text="field, expected, found.")
    uploaded_at = serializers.DateTimeField()


class SupplierInvoicePage(serializers.Serializer[Any]):
    items = SupplierInvoiceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_payout(row: Payout) -> dict[str, Any]:
    return {
        "id": row.pk,
        "reference": str(row),
        "kind": row.kind,
        "method": row.method,
        "organization": row.organization_id,
        "amount": format_yuan(row.amount_micro),
        "state": row.state,
        "payee": row.payee,
        "payee_account": row.payee_account,
        "approvals": row.approvals.count(),
        "approvals_needed": row.approvals_needed,
        "requested_at": row.requested_at,
        "ended_at": row.ended_at,
        "reason": row.reason,
        "batch": row.batch_id,
        "deposit": row.deposit_id,
        "statements": list(row.statements.order_by("id").values_list("statement__number", flat=True)),
    }


def show_batch(row: PayoutBatch) -> dict[str, Any]:
    return {
        "id": row.pk,
        "created_at": row.created_at,
        "total": format_yuan(row.total_micro),
        "payouts": row.payouts.count(),
    }


def show_supplier_invoice(row: SupplierInvoice) -> dict[str, Any]:
    return {
        "id": row.pk,
        "statement": row.statement_id,
        "number": row.number,
        "issued_on": row.issued_on,
        "total": format_yuan(row.total_micro),
        "tax": format_yuan(row.tax_micro),
        "matches": not row.differences,
        "differences": row.differences,
        "uploaded_at": row.uploaded_at,
    }


class Payouts(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(
        parameters=[ORGANIZATION, OpenApiParameter("state", str, description="The operator's work list: waiting.")],
        responses=PayoutPage,
    )
    def get(self, request: Request) -> Response:
        """Money that went out or is on its way, newest first; the operator sees everybody's."""
        rows = Payout.objects.all()
        if "organization" in request.query_params or not self.actor.is_operator:
            rows = rows.filter(organization=self.organization_asked())
        state = request.query_params.get("state")
        if state is not None:
            if state not in Payout.State.values:
                raise BadRequest(f"state is one of {', '.join(Payout.State.values)}.", field="state")
            rows = rows.filter(state=state)
        return Response(page(request, rows, show_payout))

    @extend_schema(request=PayoutIn, responses={201: PayoutOut})
    def post(self, request: Request) -> Response:
        """Ask for what settled statements come to. Every provider is paid each day by itself, too."""
        given = self.parse(PayoutIn)
        organization = self.subject(given.get("organization"))
        return self.once(
            lambda: show_payout(
                payouts.request_payout(
                    organization_id=organization.pk, by=person(self.actor), now=self.now, method=given["method"]
                )
            )
        )


class PayoutDetail(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(responses=PayoutOut)
    def get(self, request: Request, payout_id: int) -> Response:
        """One payout."""
        row = Payout.objects.filter(pk=payout_id).first()
        if row is None or not self.actor.may_read(row.organization_id):
            raise payouts.PayoutNotFound("There is no payout with that id.")
        return Response(show_payout(row))


class PayoutApprove(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=None, responses=PayoutOut)
    def post(self, request: Request, payout_id: int) -> Response:
        """Let a payout go; above the threshold two others than whoever asked must."""
        return self.once(
            lambda: show_payout(payouts.approve(payout_id=payout_id, by=person(self.actor), now=self.now)), status=200
        )


class PayoutCancel(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=CancelIn, responses=PayoutOut)
    def post(self, request: Request, payout_id: int) -> Response:
        """Take back a payout that has not been sent."""
        reason = self.parse(CancelIn)["reason"]
        return self.once(
            lambda: show_payout(payouts.cancel(payout_id=payout_id, reason=reason, now=self.now)), status=200
        )


class DepositRefund(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=RefundIn, responses={201: PayoutOut})
    def post(self, request: Request, deposit_id: int) -> Response:
        """Send (part of) a deposit back to the account it came from."""
        amount_micro = self.parse(RefundIn)["amount"]
        return self.once(
            lambda: show_payout(
                payouts.request_refund(
                    deposit_id=deposit_id, amount_micro=amount_micro, by=person(self.actor), now=self.now
                )
            )
        )


class PayoutBatches(BillingView):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(responses=PayoutBatchPage)
    def get(self, request: Request) -> Response:
        """Batches, newest first."""
        return Response(page(request, PayoutBatch.objects.all(), show_batch))

    @extend_schema(request=None, responses={201: PayoutBatchOut})
    def post(self, request: Request) -> Response:
        """Take every approved payout by bank into a file for the bank."""

        def perform() -> dict[str, Any]:
            batch = payouts.make_batch(now=self.now)
            if batch is None:
                raise payouts.PayoutRefused("No payout by bank is approved and waiting.", why="nothing-to-pay")
            return show_batch(batch)

        return self.once(perform)


class PayoutBatchFile(OperatorView):
    scopes = {"GET": "read"}

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.BINARY})
    def get(self, request: Request, batch_id: int) -> HttpResponse:
        """The batch as CSV for the bank; the same bytes each time."""
        batch = PayoutBatch.objects.filter(pk=batch_id).first()
        if batch is None:
            raise payouts.PayoutNotFound("There is no batch with that id.")
        rows = payout_queries.payouts_of_batch(batch)
        text = batch_file((str(row), row.payee, row.payee_account, row.payee_bank, row.amount_micro) for row in rows)
        response = HttpResponse(text, content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="payouts-{batch.pk}.csv"'
        return response


class PayoutResults(BillingView):
    scopes = {"POST": "operate"}

    @extend_schema(request=FileIn, responses={201: PayoutResultsOut})
    def post(self, request: Request) -> Response:
        """Import what the bank says of payouts (CSV); the same file again changes nothing."""
        content = self.parse(FileIn)["content"].encode()
        return self.once(lambda: payouts.import_results(content=content, now=self.now))


class StatementTaxInvoices(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    def statement(self, invoice_id: int) -> Invoice:
        rows = invoices_readable(self.actor.organizations_readable()).filter(side="provider")
        found = rows.filter(pk=invoice_id).first()
        if found is None:
            raise NotFound("There is no such statement.")
        return found

    @extend_schema(responses=SupplierInvoicePage)
    def get(self, request: Request, invoice_id: int) -> Response:
        """The tax invoices uploaded for a statement, with what differs."""
        return Response(page(request, self.statement(invoice_id).supplier_invoices.all(), show_supplier_invoice))

    @extend_schema(request=SupplierInvoiceIn, responses={201: SupplierInvoiceOut})
    def post(self, request: Request, invoice_id: int) -> Response:
        """Upload the tax invoice for a statement; where it matches, the statement may be paid out."""
        statement = self.statement(invoice_id)
        given = self.parse(SupplierInvoiceIn)
        try:
            document = base64.b64decode(given.pop("document"), validate=True)
        except binascii.Error:
            raise BadRequest("document is the file in base64.", field="document") from None
        entered = payees.InvoiceGiven(
            total_micro=given.pop("total"), tax_micro=given.pop("tax"), document=document, **given
        )
        return self.once(
            lambda: show_supplier_invoice(payees.upload_tax_invoice(statement=statement, given=entered, now=self.now))
        )
