"""Balance, transfers and deposits over HTTP."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import queries
from billing.actions.deposits import record_deposit
from billing.documents.terms import Language
from billing.domain.postings import Stage
from billing.models import Deposit, Transfer
from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.errors import BadRequest, NotFound
from core.money import format_yuan
from identity.api.base import ApiView
from identity.models import Organization

LANGUAGE = OpenApiParameter("language", str, enum=[language.value for language in Language])
ORGANIZATION = OpenApiParameter("organization", int, description="Another organization (operator and auditor only).")


class BalanceOut(serializers.Serializer[Any]):
    """All amounts in ¥, zero or more."""

    organization = serializers.IntegerField()
    currency = serializers.CharField()
    available = YuanField(help_text="Free to spend.")
    held = YuanField(help_text="Put aside for open orders and bonds.")
    bond = YuanField(help_text="Security taken for delivery.")
    payable = YuanField(help_text="Proceeds not paid out yet.")
    receivable = YuanField(help_text="What the organization owes.")
    gift = YuanField(help_text="Credit granted by the operator.")


class TransferOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    booked_at = serializers.DateTimeField()
    kind = serializers.CharField()
    stage = serializers.ChoiceField(choices=[stage.name.lower() for stage in Stage])
    debit = serializers.CharField(help_text="kind/organization/scope; a debit lowers the balance.")
    credit = serializers.CharField()
    amount = YuanField()
    excess = YuanField(help_text="What a post frees of its hold beyond the amount.")
    hold = serializers.UUIDField(allow_null=True, help_text="The transfer whose hold this uses.")
    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]


class TransferPage(serializers.Serializer[Any]):
    items = TransferOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class DepositIn(StrictSerializer):
    organization = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    amount = YuanField()
    reference = serializers.CharField(max_length=64)


class DepositOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    amount = YuanField()
    settled_debt = YuanField(help_text="What of it paid debts; the rest became available.")
    reference = serializers.CharField()
    received_at = serializers.DateTimeField()


class DepositPage(serializers.Serializer[Any]):
    items = DepositOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_transfer(row: Transfer) -> dict[str, Any]:
    return {
        "id": row.id, "booked_at": row.booked_at, "kind": row.kind, "stage": Stage(row.stage).name.lower(),
        "debit": str(row.debit), "credit": str(row.credit), "amount": format_yuan(row.amount_micro),
        "excess": format_yuan(row.excess_micro), "hold": row.pending_id, "key": row.key, "label": row.label,
    }


def show_deposit(row: Deposit) -> dict[str, Any]:
    return {
        "id": row.pk, "organization": row.organization_id, "amount": format_yuan(row.amount_micro),
        "settled_debt": format_yuan(row.settled_debt_micro), "reference": row.reference,
        "received_at": row.received_at,
    }


class BillingView(ApiView):
    """A view about one organization's money: the caller's, or for operator and auditor the one they name."""

    def organization_asked(self) -> Organization:
        """
        Return the organization whose things are asked for.

        :raises NotFound: another organization's id from somebody who may not read it.
        """
        text = self.request.query_params.get("organization")
        if text is None:
            return self.actor.organization
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise BadRequest("organization is a whole number.", field="organization")
        found = self.actor.organizations_readable().filter(pk=int(text)).first()
        if found is None:
            raise NotFound("There is no such organization.", field="organization")
        return found

    def language(self) -> Language:
        """
        Return the language of a document that is asked for; Chinese when none is.

        :raises BadRequest: for another one.
        """
        text = self.request.query_params.get("language", Language.ZH.value)
        if text not in set(Language):
            raise BadRequest("language is zh or en.", field="language")
        return Language(text)


class OperatorView(BillingView):
    """A view of one thing that the operator alone may know of: to everybody else it is not there."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not self.actor.is_operator:
            raise NotFound("There is nothing at this address that this key may see.")
        self.actor.require("operate")


class Balance(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(operation_id="balance", parameters=[ORGANIZATION], responses=BalanceOut)
    def get(self, request: Request) -> Response:
        """What the organization has, holds, is owed and owes."""
        organization = self.organization_asked()
        now = queries.balance(organization.pk)
        return Response({
            "organization": organization.pk, "currency": "CNY", "available": format_yuan(now.available_micro),
            "held": format_yuan(now.held_micro), "bond": format_yuan(now.bond_micro),
            "payable": format_yuan(now.payable_micro), "receivable": format_yuan(now.receivable_micro),
            "gift": format_yuan(now.gift_micro)})


class Transfers(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="transfers_list",
        parameters=[ORGANIZATION, OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=TransferPage)
    def get(self, request: Request) -> Response:
        """The movements on the organization's accounts, newest first."""
        return Response(page(request, queries.transfers_of(self.organization_asked().pk), show_transfer))


class Deposits(BillingView):
    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(
        operation_id="deposits_list",
        parameters=[ORGANIZATION, OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=DepositPage)
    def get(self, request: Request) -> Response:
        """Money received, newest first."""
        rows = Deposit.objects.filter(organization=self.organization_asked())
        return Response(page(request, rows, show_deposit))

    @extend_schema(operation_id="deposits_create", request=DepositIn, responses={201: DepositOut})
    def post(self, request: Request) -> Response:
        """Enter money that arrived at the bank, by its reference. For the operator."""
        given = self.parse(DepositIn)
        organization = self.subject(given["organization"])
        return self.once(lambda: show_deposit(record_deposit(
            organization_id=organization.pk, amount_micro=given["amount"], reference=given["reference"],
            now=self.now)))
