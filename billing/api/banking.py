"""Bank transfers over HTTP: references, statements, the work list, accounts."""

from typing import Any

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import payout_queries
from billing.actions import banking, payees
from billing.api.ledger import ORGANIZATION, BillingView, OperatorView
from billing.domain.bank_files import payment_reference
from billing.models import BankAccount, BankLine, BankLineBooking, BankStatement
from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import BadRequest
from core.money import format_yuan
from identity.access import Actor

MOST_FILE_CHARACTERS = 3_500_000


def person(actor: Actor) -> str:
    """Return who acts, as approvals know them: a person, or a key."""
    return f"user:{actor.user_id}" if actor.user_id else f"key:{actor.api_key_id}"


class PaymentReferenceOut(serializers.Serializer[Any]):
    organization = serializers.IntegerField()
    reference = serializers.CharField(help_text="Write it into the transfer's purpose: by it your money is found.")
    account = serializers.DictField(help_text="Where to pay: holder, number and bank.")


class FileIn(StrictSerializer):
    content = serializers.CharField(
        max_length=MOST_FILE_CHARACTERS, trim_whitespace=False, help_text="The CSV file as text."
    )
    name = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)


class BankStatementOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    imported_at = serializers.DateTimeField()
    added = serializers.IntegerField()
    repeated = serializers.IntegerField(help_text="Lines that were known already.")
    rejected = serializers.ListField(child=serializers.DictField(), help_text="Line number and reason.")


class BankStatementPage(serializers.Serializer[Any]):
    items = BankStatementOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class BankLineOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    statement = serializers.IntegerField()
    reference = serializers.CharField()
    booked_at = serializers.DateTimeField()
    amount = serializers.CharField(help_text="¥; below zero: money that went out.")
    payer = serializers.CharField()
    payer_account = serializers.CharField()
    purpose = serializers.CharField()
    state = serializers.CharField(help_text="unbooked, matched, suspense, resolved, returned or unexplained.")
    reason = serializers.CharField()
    suggestion = serializers.IntegerField(allow_null=True, help_text="Whose it might be.")
    organization = serializers.IntegerField(allow_null=True)
    deposit = serializers.IntegerField(allow_null=True)
    payout = serializers.IntegerField(allow_null=True)


class BankLinePage(serializers.Serializer[Any]):
    items = BankLineOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ResolveIn(StrictSerializer):
    organization = serializers.IntegerField(min_value=1, max_value=2**63 - 1)


class BankAccountIn(StrictSerializer):
    holder = serializers.CharField(max_length=120)
    number = serializers.CharField(max_length=40)
    bank = serializers.CharField(max_length=120)
    organization = serializers.IntegerField(required=False, min_value=1, max_value=2**63 - 1)


class BankAccountOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    holder = serializers.CharField()
    number = serializers.CharField()
    bank = serializers.CharField()
    verified_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)
    closed_reason = serializers.CharField()


class BankAccountPage(serializers.Serializer[Any]):
    items = BankAccountOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_statement(row: BankStatement) -> dict[str, Any]:
    return {
        "id": row.pk,
        "name": row.name,
        "imported_at": row.imported_at,
        "added": row.lines_added,
        "repeated": row.lines_repeated,
        "rejected": row.rejected,
    }


def show_line(row: BankLine) -> dict[str, Any]:
    booking: BankLineBooking | None = getattr(row, "booking", None)
    return {
        "id": row.pk,
        "statement": row.statement_id,
        "reference": row.reference,
        "booked_at": row.booked_at,
        "amount": format_yuan(row.amount_micro),
        "payer": row.payer,
        "payer_account": row.payer_account,
        "purpose": row.purpose,
        "state": booking.state if booking else "unbooked",
        "reason": booking.reason if booking else "",
        "suggestion": booking.suggestion_id if booking else None,
        "organization": booking.organization_id if booking else None,
        "deposit": booking.deposit_id if booking else None,
        "payout": booking.payout_id if booking else None,
    }


def show_account(row: BankAccount) -> dict[str, Any]:
    return {
        "id": row.pk,
        "organization": row.organization_id,
        "holder": row.holder,
        "number": row.number,
        "bank": row.bank,
        "verified_at": row.verified_at,
        "closed_at": row.closed_at,
        "closed_reason": row.closed_reason,
    }


class PaymentReference(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="payment_reference", parameters=[ORGANIZATION], responses=PaymentReferenceOut)
    def get(self, request: Request) -> Response:
        """What to write into a bank transfer, and where to send it."""
        organization = self.organization_asked()
        return Response({
            "organization": organization.pk, "reference": payment_reference(organization.pk),
            "account": settings.BANK_ACCOUNT})  # fmt: skip


class BankStatements(BillingView):
    scopes = {"GET": "operate", "POST": "operate"}

    @extend_schema(responses=BankStatementPage)
    def get(self, request: Request) -> Response:
        """Statements imported, newest first."""
        return Response(page(request, BankStatement.objects.all(), show_statement))

    @extend_schema(request=FileIn, responses={201: BankStatementOut})
    def post(self, request: Request) -> Response:
        """Import a bank statement (CSV). Lines are booked within seconds; the same file again changes nothing."""
        given = self.parse(FileIn)

        def perform() -> dict[str, Any]:
            row = banking.import_statement(content=given["content"].encode(), name=given["name"], now=self.now)
            return show_statement(row)

        return self.once(perform)


class BankLines(BillingView):
    scopes = {"GET": "operate"}

    @extend_schema(
        parameters=[OpenApiParameter("state", str, description="Such as suspense: the work list.")],
        responses=BankLinePage,
    )
    def get(self, request: Request) -> Response:
        """Movements at the bank, newest first."""
        state = request.query_params.get("state")
        if state is not None and state not in BankLineBooking.State.values:
            raise BadRequest(f"state is one of {', '.join(BankLineBooking.State.values)}.", field="state")
        return Response(page(request, payout_queries.bank_lines(state), show_line))


class BankLineResolve(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=ResolveIn, responses=BankLineOut)
    def post(self, request: Request, line_id: int) -> Response:
        """Say whose money a line in suspense is."""
        organization = self.subject(self.parse(ResolveIn)["organization"])

        def perform() -> dict[str, Any]:
            banking.resolve_line(line_id=line_id, organization_id=organization.pk, now=self.now)
            return show_line(payout_queries.bank_lines().get(pk=line_id))

        return self.once(perform, status=200)


class BankLineReturn(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=None, responses=BankLineOut)
    def post(self, request: Request, line_id: int) -> Response:
        """Send the money of a line in suspense back to its payer."""

        def perform() -> dict[str, Any]:
            banking.return_line(line_id=line_id, by=person(self.actor), now=self.now)
            return show_line(payout_queries.bank_lines().get(pk=line_id))

        return self.once(perform, status=200)


class BankAccounts(BillingView):
    scopes = {"GET": "read", "POST": "billing"}

    @extend_schema(parameters=[ORGANIZATION], responses=BankAccountPage)
    def get(self, request: Request) -> Response:
        """The organization's bank accounts."""
        return Response(page(request, BankAccount.objects.filter(organization=self.organization_asked()), show_account))

    @extend_schema(request=BankAccountIn, responses={201: BankAccountOut})
    def post(self, request: Request) -> Response:
        """Name an account to be paid to; the operator verifies it."""
        given = self.parse(BankAccountIn)
        organization = self.subject(given.pop("organization", None))
        return self.once(
            lambda: show_account(
                payees.add_bank_account(organization=organization, **given, now=self.now, actor=self.actor)
            )
        )


class BankAccountDetail(BillingView):
    scopes = {"DELETE": "billing"}

    @extend_schema(request=None, responses=BankAccountOut)
    def delete(self, request: Request, account_id: int) -> Response:
        """Use an account no more."""
        owner = None if self.actor.is_operator else self.actor.organization_id
        return self.once(
            lambda: show_account(
                payees.close_bank_account(account_id=account_id, organization_id=owner, now=self.now, actor=self.actor)
            ),
            status=200,
        )


class BankAccountVerify(OperatorView):
    scopes = {"POST": "read"}

    @extend_schema(request=None, responses=BankAccountOut)
    def post(self, request: Request, account_id: int) -> Response:
        """Say that the account is the organization's own (operator)."""
        return self.once(
            lambda: show_account(payees.verify_bank_account(account_id=account_id, now=self.now, actor=self.actor)),
            status=200,
        )
