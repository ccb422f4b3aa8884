"""Bundles and gifts over HTTP: offered and given by the operator, bought and seen by buyers."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import credit_queries
from billing.actions import credits
from billing.api.ledger import OperatorView
from billing.models import BundleOffer, Credit
from core.api.paging import page
from core.api.serializers import StrictSerializer, YuanField
from core.money import format_yuan
from identity.api.base import ApiView


class BundleOfferIn(StrictSerializer):
    name = serializers.CharField(max_length=80)
    price = YuanField()
    worth = YuanField(help_text="What usage it pays for; at least its price.")
    valid_days = serializers.IntegerField(min_value=1, max_value=credits.MOST_DAYS)
    priority = serializers.IntegerField(min_value=0, max_value=1_000, default=100, help_text="The lower goes first.")


class BundleOfferOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    price = serializers.CharField()
    worth = serializers.CharField()
    valid_days = serializers.IntegerField()
    priority = serializers.IntegerField()
    offered_at = serializers.DateTimeField()


class BundleOfferPage(serializers.Serializer[Any]):
    items = BundleOfferOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class BundleIn(StrictSerializer):
    offer = serializers.IntegerField(min_value=1, max_value=2**63 - 1)


class GiftIn(StrictSerializer):
    organization = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    amount = YuanField()
    name = serializers.CharField(max_length=80)
    expires_at = serializers.DateTimeField()
    priority = serializers.IntegerField(min_value=0, max_value=1_000, default=100)


class CreditOut(serializers.Serializer[Any]):
    """A bundle or gift; `left` is what usage may still draw, in ¥."""

    id = serializers.IntegerField()
    kind = serializers.CharField()
    name = serializers.CharField()
    paid = serializers.CharField()
    worth = serializers.CharField()
    left = serializers.CharField()
    priority = serializers.IntegerField()
    granted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class CreditPage(serializers.Serializer[Any]):
    items = CreditOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_offer(row: BundleOffer) -> dict[str, Any]:
    return {
        "id": row.pk, "name": row.name, "price": format_yuan(row.price_micro), "worth": format_yuan(row.worth_micro),
        "valid_days": row.valid_days, "priority": row.priority, "offered_at": row.offered_at,
    }  # fmt: skip


def show_credit(row: Credit) -> dict[str, Any]:
    return {
        "id": row.pk, "kind": row.kind, "name": row.name, "paid": format_yuan(row.paid_micro),
        "worth": format_yuan(row.worth_micro), "left": format_yuan(credit_queries.left_micro([row])[row.pk]),
        "priority": row.priority, "granted_at": row.granted_at, "expires_at": row.expires_at,
    }  # fmt: skip


class BundleOffers(ApiView):
    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(operation_id="bundle_offers_list", responses=BundleOfferPage)
    def get(self, request: Request) -> Response:
        """The bundles that are sold now."""
        return Response(page(request, BundleOffer.objects.filter(withdrawn_at=None), show_offer))

    @extend_schema(operation_id="bundle_offers_create", request=BundleOfferIn, responses={201: BundleOfferOut})
    def post(self, request: Request) -> Response:
        """Offer a bundle at a fixed price. For the operator."""
        given = self.parse(BundleOfferIn)
        return self.once(
            lambda: show_offer(
                credits.offer_bundle(
                    name=given["name"], price_micro=given["price"], worth_micro=given["worth"],
                    valid_days=given["valid_days"], priority=given["priority"], now=self.now,
                )
            )
        )  # fmt: skip


class BundleOfferDetail(OperatorView):
    scopes = {"DELETE": "read"}

    @extend_schema(operation_id="bundle_offers_withdraw", responses={200: BundleOfferOut})
    def delete(self, request: Request, offer_id: int) -> Response:
        """Sell a bundle no more; what was sold stays good. For the operator."""
        return self.once(
            lambda: show_offer(credits.withdraw_bundle(offer_id=offer_id, now=self.now)), content=None, status=200
        )


class Bundles(ApiView):
    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(operation_id="bundles_list", responses=CreditPage)
    def get(self, request: Request) -> Response:
        """One's bundles and gifts, the newest first, with what is left of each."""
        return Response(page(request, credit_queries.credits_of(self.actor.organization_id), show_credit))

    @extend_schema(operation_id="bundles_buy", request=BundleIn, responses={201: CreditOut})
    def post(self, request: Request) -> Response:
        """Buy a bundle from free money: its worth pays for list usage and overage, before money does."""
        given = self.parse(BundleIn)
        return self.once(
            lambda: show_credit(
                credits.buy_bundle(organization=self.actor.organization, offer_id=given["offer"], now=self.now)
            )
        )


class Gifts(ApiView):
    scopes = {"POST": "operate"}

    @extend_schema(operation_id="gifts_create", request=GiftIn, responses={201: CreditOut})
    def post(self, request: Request) -> Response:
        """Give an organization credit, spent before anything that it paid for. For the operator."""
        given = self.parse(GiftIn)
        return self.once(
            lambda: show_credit(
                credits.give(
                    organization_id=given["organization"], amount_micro=given["amount"], name=given["name"],
                    expires_at=given["expires_at"], priority=given["priority"], now=self.now,
                )
            )
        )  # fmt: skip
