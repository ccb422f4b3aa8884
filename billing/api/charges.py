"""Charges over HTTP: the rated lines behind invoices and statements."""

from typing import Any

from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.ledger import ORGANIZATION, BillingView
from billing.models import Charge, InvoiceCharge
from billing.queries import charges_of
from core.api.paging import page
from core.api.serializers import PriceField, YuanField
from core.money import format_price, format_price_per_million, format_tokens, format_yuan


class ChargeOut(serializers.Serializer[Any]):
    """A side that is not the caller's is null: what the seller gets is not the buyer's business."""

    id = serializers.UUIDField()
    source_key = serializers.CharField()
    revision = serializers.IntegerField(help_text="0 says the whole; later ones only the difference.")
    kind = serializers.CharField()
    scope = serializers.CharField()
    labels = serializers.JSONField()
    tokens = serializers.DictField(child=serializers.IntegerField(), help_text="Raw tokens by class.")
    standard_tokens = serializers.CharField()
    buyer = serializers.IntegerField()
    provider = serializers.IntegerField()
    price = PriceField(allow_null=True, help_text="¥ per standard token, the buyer's.")
    price_per_million = serializers.CharField(allow_null=True)
    amount = YuanField(allow_null=True)
    seller_price = PriceField(allow_null=True)
    seller_amount = YuanField(allow_null=True)
    fee = YuanField(allow_null=True, help_text="Part of the seller's amount, VAT included.")
    vat_thousandths = serializers.IntegerField()
    occurred_start = serializers.DateTimeField()
    occurred_end = serializers.DateTimeField()
    invoice = serializers.CharField(allow_null=True, help_text="The number of the buyer's document that it stands on.")
    statement = serializers.CharField(allow_null=True, help_text="That of the provider's.")


class ChargePage(serializers.Serializer[Any]):
    items = ChargeOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_charge(row: Charge, *, as_buyer: bool, as_provider: bool) -> dict[str, Any]:
    documents = {taken.side: taken.line.invoice.number for taken in row.invoiced.all()}
    return {
        "id": row.id, "source_key": row.source_key, "revision": row.revision, "kind": row.kind, "scope": row.scope,
        "labels": row.labels, "tokens": row.tokens, "standard_tokens": format_tokens(row.quantity_micro_st),
        "buyer": row.buyer_id, "provider": row.provider_id,
        "price": format_price(row.buyer_price_nano) if as_buyer else None,
        "price_per_million": format_price_per_million(row.buyer_price_nano) if as_buyer else None,
        "amount": format_yuan(row.buyer_amount_micro) if as_buyer else None,
        "seller_price": format_price(row.seller_price_nano) if as_provider else None,
        "seller_amount": format_yuan(row.seller_amount_micro) if as_provider else None,
        "fee": format_yuan(row.fee_micro) if as_provider else None,
        "vat_thousandths": row.vat_thousandths if as_buyer else row.provider_vat_thousandths,
        "occurred_start": row.occurred_start, "occurred_end": row.occurred_end,
        "invoice": documents.get("buyer") if as_buyer else None,
        "statement": documents.get("provider") if as_provider else None,
    }


class Charges(BillingView):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="charges_list",
        parameters=[ORGANIZATION, OpenApiParameter("scope", str, description="Such as market:12."),
                    OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=ChargePage)
    def get(self, request: Request) -> Response:
        """What was charged to the organization, or earned by it, newest first."""
        organization_id = self.organization_asked().pk
        rows = charges_of(organization_id)
        taken = InvoiceCharge.objects.select_related("line__invoice")
        rows = rows.prefetch_related(Prefetch("invoiced", taken))
        if scope := request.query_params.get("scope"):
            rows = rows.filter(scope=scope)
        sees_all = self.actor.is_operator or self.actor.reads_everything
        return Response(page(request, rows, lambda row: show_charge(
            row, as_buyer=sees_all or row.buyer_id == organization_id,
            as_provider=sees_all or row.provider_id == organization_id)))
