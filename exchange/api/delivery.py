"""Who serves what after the gate: exclusions, what they kept from being placed, and substitution of deployments."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import Forbidden
from core.money import format_price, format_yuan
from exchange import contract_queries
from exchange.actions import exclusions, serving
from exchange.api import shapes
from exchange.models import BuyerExclusion, ContractDeployment, Unplaced
from identity.api.base import ApiView


class NotABuyer(Forbidden):
    """Only buyers exclude providers."""

    code = "not-a-buyer"


class ExclusionIn(StrictSerializer):
    provider = serializers.IntegerField(min_value=1, max_value=2**62)


class ExclusionOut(serializers.Serializer[Any]):
    provider = serializers.IntegerField()
    provider_name = serializers.CharField()
    since = serializers.DateTimeField()


class ExclusionsOut(serializers.Serializer[Any]):
    items = ExclusionOut(many=True)


class UnplacedOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    side = serializers.CharField(help_text="buy or sell.")
    quantity = serializers.IntegerField()
    price = serializers.CharField()
    refund = serializers.CharField(help_text="What the buyer got back; 0 for the seller, whose bond is free again.")


UnplacedPage = shapes.page_of(UnplacedOut, "UnplacedPage")


class SubstitutionIn(StrictSerializer):
    from_deployment = serializers.IntegerField(min_value=1, max_value=2**62)
    to_deployment = serializers.IntegerField(min_value=1, max_value=2**62)


class ServedOut(serializers.Serializer[Any]):
    deployment = serializers.IntegerField()
    quantity = serializers.IntegerField()
    since = serializers.DateTimeField()


class ServedByOut(serializers.Serializer[Any]):
    items = ServedOut(many=True)


def show_exclusion(row: BuyerExclusion) -> dict[str, Any]:
    return {"provider": row.provider_id, "provider_name": str(row.provider), "since": row.since}


class Exclusions(ApiView):
    """Providers that a buyer does not want to be served by, three at most."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(responses=ExclusionsOut)
    def get(self, request: Request) -> Response:
        """List whom one excludes."""
        rows = contract_queries.exclusions(self.actor.organization_id)
        return Response({"items": [show_exclusion(row) for row in rows]})

    @extend_schema(request=ExclusionIn, responses={201: ExclusionOut})
    def post(self, request: Request) -> Response:
        """Exclude a provider; gates that close from now on honour it."""
        fields = self.parse(ExclusionIn)
        if not self.actor.organization.buys:
            raise NotABuyer("Only buyers exclude providers.")
        return self.once(
            lambda: show_exclusion(
                exclusions.exclude(buyer=self.actor.organization, provider_id=fields["provider"], now=self.now)
            )
        )


class ExclusionDetail(ApiView):
    """One exclusion."""

    scopes = {"DELETE": "trade"}

    @extend_schema(responses={200: ExclusionsOut})
    def delete(self, request: Request, provider_id: int) -> Response:
        """Take an exclusion back."""

        def readmit() -> dict[str, Any]:
            exclusions.readmit(buyer=self.actor.organization, provider_id=provider_id)
            return {"items": [show_exclusion(row) for row in contract_queries.exclusions(self.actor.organization_id)]}

        return self.once(readmit, status=200)


class UnplacedList(ApiView):
    """What exclusions kept from being placed at gate closures."""

    scopes = {"GET": "read"}

    @extend_schema(responses=UnplacedPage, operation_id="unplaced_list")
    def get(self, request: Request) -> Response:
        """List one's own purchases and sales that found nobody to serve them or to be served."""

        def show(row: Unplaced) -> dict[str, Any]:
            bought = row.buyer_id == self.actor.organization_id
            return {
                "market": row.market_id,
                "side": "buy" if bought else "sell",
                "quantity": row.quantity_tokens,
                "price": format_price(row.buyer_price_nano if bought else row.seller_price_nano),
                "refund": format_yuan(row.refund_micro if bought else 0),
            }

        return Response(page(request, contract_queries.unplaced_of(self.actor.organization_id), show))


class Substitution(ApiView):
    """Another deployment for a contract."""

    scopes = {"POST": "trade"}

    @extend_schema(request=SubstitutionIn, responses={201: ServedByOut})
    def post(self, request: Request, contract_id: int) -> Response:
        """Let another deployment of the grade serve what one serves of a contract (provider); the price stays."""
        fields = self.parse(SubstitutionIn)

        def substitute() -> dict[str, Any]:
            rows = serving.substitute(
                contract_id=contract_id, provider_id=self.actor.organization_id,
                from_deployment_id=fields["from_deployment"], to_deployment_id=fields["to_deployment"], now=self.now,
            )  # fmt: skip
            return {"items": [show_served(row) for row in rows]}

        return self.once(substitute)


def show_served(row: ContractDeployment) -> dict[str, Any]:
    return {"deployment": row.deployment_id, "quantity": row.quantity_tokens, "since": row.since}
