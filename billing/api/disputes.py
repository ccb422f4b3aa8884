"""Disputes, what is due and overdue, and invoices that are given up, over HTTP."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import dunning_queries
from billing.actions import disputes
from billing.actions.dunning import write_off
from billing.api.banking import person
from billing.api.invoices import DocumentView
from billing.api.ledger import ORGANIZATION, BillingView, OperatorView
from billing.api.tax_invoices import ReasonIn
from billing.models import Dispute, WriteOff
from billing.queries import ShownInvoice
from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.errors import BadRequest
from core.money import format_yuan
from core.periods import shanghai_date


class DisputeIn(StrictSerializer):
    line = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="The number of the line.")
    amount = YuanField(help_text="¥, whole fen, VAT included: what of the line is wrong.")
    reason = serializers.CharField(max_length=500)


class DisputeDecisionIn(StrictSerializer):
    credit = YuanField(allow_zero=True, help_text="¥, whole fen; 0 rejects the dispute.")
    decision = serializers.CharField(max_length=500, help_text="Why; the buyer reads it.")


class DisputeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    invoice = serializers.IntegerField()
    invoice_number = serializers.CharField()
    line = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Dispute.State.choices)
    amount = YuanField()
    held = YuanField(help_text="What of it was due and is not, while this is open.")
    credit = YuanField(help_text="What the decision credits; it comes on a credit note.")
    reason = serializers.CharField()
    decision = serializers.CharField()
    opened_at = serializers.DateTimeField()
    decided_at = serializers.DateTimeField(allow_null=True)


class DisputePage(serializers.Serializer[Any]):
    items = DisputeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class OwedOut(serializers.Serializer[Any]):
    invoice = serializers.IntegerField()
    number = serializers.CharField()
    due_on = serializers.DateField()
    owed = YuanField()
    disputed = YuanField()
    days_overdue = serializers.IntegerField(help_text="0: not yet.")
    reminders = serializers.IntegerField(help_text="How often it was reminded of.")


class StandingOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField()
    owed = YuanField()
    overdue = YuanField()
    held_since = serializers.DateTimeField(allow_null=True, help_text="Since when new orders are refused.")
    invoices = OwedOut(many=True)


class WriteOffOut(serializers.Serializer[Any]):
    invoice = serializers.IntegerField()
    amount = YuanField()
    reason = serializers.CharField()
    at = serializers.DateTimeField()


def show_dispute(row: Dispute) -> dict[str, Any]:
    return {
        "id": row.pk, "organization": row.invoice.organization_id, "invoice": row.invoice_id,
        "invoice_number": row.invoice.number, "line": row.line.number, "state": row.state,
        "amount": format_yuan(row.amount_micro), "held": format_yuan(row.held_micro),
        "credit": format_yuan(row.credit_micro), "reason": row.reason, "decision": row.decision,
        "opened_at": row.opened_at, "decided_at": row.decided_at,
    }  # fmt: skip


def show_write_off(row: WriteOff) -> dict[str, Any]:
    return {"invoice": row.invoice_id, "amount": format_yuan(row.amount_micro), "reason": row.reason, "at": row.at}


class InvoiceDisputes(DocumentView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(responses=DisputePage)
    def get(self, request: Request, invoice_id: int) -> Response:
        """The disputes about one invoice."""
        rows = self.document(invoice_id).disputes.select_related("invoice", "line")
        return Response(page(request, rows, show_dispute))

    @extend_schema(request=DisputeIn, responses={201: DisputeOut})
    def post(self, request: Request, invoice_id: int) -> Response:
        """Object to (part of) a line: that slice is not due until it is decided; the rest is."""
        invoice = self.document(invoice_id)
        given = self.parse(DisputeIn)
        return self.once(lambda: show_dispute(disputes.open_dispute(
            invoice_id=invoice.pk, line_number=given["line"], amount_micro=given["amount"], reason=given["reason"],
            by=person(self.actor), now=self.now)))  # fmt: skip


class DisputeView(BillingView):
    def dispute(self, dispute_id: int) -> Dispute:
        """
        Return a dispute that the caller may see.

        :raises DisputeNotFound: another organization's, or none.
        """
        rows = dunning_queries.disputes_readable(self.actor.organizations_readable())
        found = rows.filter(pk=dispute_id).first()
        if found is None:
            raise disputes.DisputeNotFound("There is no dispute with that id.")
        return found


class Disputes(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(
        parameters=[ORGANIZATION, OpenApiParameter("state", str, enum=Dispute.State.values)], responses=DisputePage
    )
    def get(self, request: Request) -> Response:
        """Disputes, newest first; the operator sees everybody's (with state `open` the work list)."""
        rows = dunning_queries.disputes_readable(self.actor.organizations_readable())
        if "organization" in request.query_params:
            rows = rows.filter(invoice__organization=self.organization_asked())
        state = request.query_params.get("state")
        if state is not None:
            if state not in Dispute.State.values:
                raise BadRequest(f"state is one of {', '.join(Dispute.State.values)}.", field="state")
            rows = rows.filter(state=state)
        return Response(page(request, rows, show_dispute))


class DisputeDetail(DisputeView):
    scopes = {"GET": "read"}

    @extend_schema(responses=DisputeOut)
    def get(self, request: Request, dispute_id: int) -> Response:
        """One dispute."""
        return Response(show_dispute(self.dispute(dispute_id)))


class DisputeWithdraw(DisputeView):
    scopes = {"POST": "billing"}

    @extend_schema(request=None, responses=DisputeOut)
    def post(self, request: Request, dispute_id: int) -> Response:
        """Take an objection back: what it held is due again."""
        row = self.dispute(dispute_id)
        return self.once(lambda: show_dispute(disputes.withdraw_dispute(dispute_id=row.pk, now=self.now)), status=200)


class DisputeDecide(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=DisputeDecisionIn, responses=DisputeOut)
    def post(self, request: Request, dispute_id: int) -> Response:
        """Credit (part of) a dispute by a credit note, or with 0 reject it."""
        given = self.parse(DisputeDecisionIn)
        return self.once(lambda: show_dispute(disputes.decide_dispute(
            dispute_id=dispute_id, credit_micro=given["credit"], decision=given["decision"],
            by=person(self.actor), now=self.now)), status=200)  # fmt: skip


class Receivables(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="receivables", parameters=[ORGANIZATION], responses=StandingOut)
    def get(self, request: Request) -> Response:
        """What the organization owes by invoice, what of it is overdue, and whether it is held for that."""
        organization = self.organization_asked()
        today = shanghai_date(self.now)
        rows = list(dunning_queries.owing(self.actor.organizations_readable().filter(pk=organization.pk)))
        hold = dunning_queries.hold_of(organization.pk)

        def show(row: ShownInvoice) -> dict[str, Any]:
            return {
                "invoice": row.pk, "number": row.number, "due_on": row.due_on,
                "owed": format_yuan(dunning_queries.owed_micro(row)), "disputed": format_yuan(row.disputed_micro),
                "days_overdue": max((today - row.due_on).days, 0), "reminders": row.reminders.count(),
            }  # fmt: skip

        return Response({
            "organization": organization.pk,
            "owed": format_yuan(sum(map(dunning_queries.owed_micro, rows))),
            "overdue": format_yuan(sum(dunning_queries.owed_micro(row) for row in rows if row.due_on < today)),
            "held_since": hold.since if hold else None, "invoices": [show(row) for row in rows]})  # fmt: skip


class InvoiceWriteOff(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=ReasonIn, responses={201: WriteOffOut})
    def post(self, request: Request, invoice_id: int) -> Response:
        """Give up what is owed on an invoice: it is uncollectible."""
        reason = self.parse(ReasonIn)["reason"]
        return self.once(lambda: show_write_off(write_off(
            invoice_id=invoice_id, reason=reason, by=person(self.actor), now=self.now, actor=self.actor)))  # fmt: skip
