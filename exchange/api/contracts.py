"""Delivery contracts: who delivers what to whom, and the way in."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.errors import Conflict, NotFound
from core.money import format_price, format_yuan
from core.transactions import durable
from exchange import contract_queries
from exchange.actions import access
from exchange.api import shapes
from exchange.api.parameters import whole_number
from exchange.models import DeliveryContract
from identity.api.base import ApiView
from providers.queries import list_price_nano


class NothingToAccess(Conflict):
    """The contract has no window, or it is over."""

    code = "contract-over"


class SigningKeysOut(serializers.Serializer[Any]):
    keys = serializers.ListField(child=serializers.DictField(), help_text="JSON Web Keys (RFC 7517, RFC 8037).")


class EndpointOut(serializers.Serializer[Any]):
    deployment = serializers.IntegerField()
    endpoint = serializers.CharField()
    quantity = serializers.IntegerField()
    token = serializers.CharField()
    list_price = serializers.CharField(allow_null=True, help_text="What a token beyond the contract costs.")


class AccessOut(serializers.Serializer[Any]):
    contract = serializers.IntegerField()
    model = serializers.CharField()
    endpoint = serializers.CharField()
    token = serializers.CharField(help_text="A JWT signed by the exchange: send it as a Bearer token.")
    tokens_per_minute = serializers.IntegerField()
    quantity = serializers.IntegerField()
    window_start = serializers.DateTimeField()
    window_end = serializers.DateTimeField()
    endpoints = EndpointOut(many=True, help_text="All of them, where several deployments serve the contract.")
    allows_overage = serializers.CharField(help_text="¥ a month that the buyer allows beyond its contracts.")


class DeliveryOut(serializers.Serializer[Any]):
    contract = serializers.IntegerField()
    subject = serializers.CharField(help_text="How usage names the contract.")
    market = serializers.IntegerField(allow_null=True)
    deployment = serializers.IntegerField()
    deployment_name = serializers.CharField()
    model = serializers.CharField()
    buyer = serializers.IntegerField()
    buyer_name = serializers.CharField()
    quantity = serializers.IntegerField()
    tokens_per_minute = serializers.IntegerField()
    window_start = serializers.DateTimeField()
    window_end = serializers.DateTimeField()
    status = serializers.CharField()


DeliveryPage = shapes.page_of(DeliveryOut, "DeliveryPage")


def _price(price_nano: int | None) -> str | None:
    return None if price_nano is None else format_price(price_nano)


class Contracts(ApiView):
    """Contracts of either side."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=shapes.ContractPage, parameters=[OpenApiParameter("market", int)], operation_id="contracts_list"
    )
    def get(self, request: Request) -> Response:
        """List the contracts that one bought or sold, the newest first."""
        rows = contract_queries.contracts_readable(self.actor).prefetch_related("lots")
        market_id = whole_number(request, "market")
        if market_id is not None:
            rows = rows.filter(market_id=market_id)
        return Response(page(request, rows, self.show))

    def show(self, row: DeliveryContract) -> dict[str, Any]:
        """Show a contract from this actor's side."""
        return shapes.show_contract(row, as_provider=row.provider_id == self.actor.organization_id, now=self.now)


class ContractDetail(Contracts):
    """One contract."""

    @extend_schema(responses=shapes.ContractOut, operation_id="contracts_retrieve")
    def get(self, request: Request, contract_id: int = 0) -> Response:
        """Show a contract with its price lots."""
        row = contract_queries.contracts_readable(self.actor).prefetch_related("lots").filter(pk=contract_id).first()
        if row is None:
            raise NotFound("There is no such contract.")
        return Response(self.show(row))


class ContractAccess(ApiView):
    """The way into a contract."""

    scopes = {"GET": "trade"}

    @extend_schema(responses=AccessOut)
    def get(self, request: Request, contract_id: int) -> Response:
        """Give the buyer where its contract is served, and a signed token for it."""
        rows = contract_queries.contracts_readable(self.actor)
        row = rows.filter(pk=contract_id, buyer=self.actor.organization).first()
        if row is None:
            raise NotFound("There is no such contract.")
        if row.window_end is None or row.window_end <= self.now:
            raise NothingToAccess("This contract's window is over; there is nothing left to call.")
        served = contract_queries.served_by(row)
        if not served:
            raise NothingToAccess("No deployment serves this contract.")
        tokens = durable(
            lambda: [access.access_token(contract=row, served=place, now=self.now) for place in served]
        )
        endpoints = [
            {
                "deployment": place.deployment_id,
                "endpoint": place.deployment.endpoint,
                "quantity": place.quantity_tokens,
                "token": token,
                "list_price": _price(list_price_nano(place.deployment_id, self.now)),
            }
            for place, token in zip(served, tokens, strict=True)
        ]
        return Response(
            {
                "contract": row.pk,
                "model": row.grade.model_card.slug,
                "endpoint": endpoints[0]["endpoint"],
                "token": endpoints[0]["token"],
                "tokens_per_minute": row.rate_tokens_per_minute,
                "quantity": row.quantity_tokens,
                "window_start": row.window_start,
                "window_end": row.window_end,
                "endpoints": endpoints,
                "allows_overage": format_yuan(row.buyer.allows_overage_micro),
            }
        )


class Deliveries(ApiView):
    """What a provider is to deliver."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=DeliveryPage, parameters=[OpenApiParameter("market", int)], operation_id="deliveries_list"
    )
    def get(self, request: Request) -> Response:
        """List whom to serve, from which deployment, how much and when."""
        rows = contract_queries.deliveries_of(self.actor.organization_id)
        market_id = whole_number(request, "market")
        if market_id is not None:
            rows = rows.filter(contract__market_id=market_id)

        def show(row: Any) -> dict[str, Any]:
            contract = row.contract
            return {
                "contract": contract.pk,
                "subject": str(contract.pk),
                "market": contract.market_id,
                "deployment": row.deployment_id,
                "deployment_name": row.deployment.name,
                "model": contract.grade.model_card.slug,
                "buyer": contract.buyer_id,
                "buyer_name": str(contract.buyer),
                "quantity": row.quantity_tokens,
                "tokens_per_minute": contract.rate_tokens_per_minute,
                "window_start": contract.window_start,
                "window_end": contract.window_end,
                "status": shapes.contract_status(contract, self.now),
            }

        return Response(page(request, rows, show))


class SigningKeys(ApiView):
    """The public keys of access tokens."""

    public = True

    @extend_schema(responses={200: SigningKeysOut})
    def get(self, request: Request) -> Response:
        """Show the keys (JWKS, RFC 7517) that a provider checks access tokens with."""
        return Response(
            {"keys": access.published_keys(self.now)}, headers={"Cache-Control": "public, max-age=300"}
        )
