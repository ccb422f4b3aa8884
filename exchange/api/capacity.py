"""Capacity: published, offered and withdrawn by its provider."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer, TokensField
from core.errors import BadRequest, Forbidden, NotFound
from core.money import format_price, format_price_per_million
from exchange import order_queries
from exchange.actions import offers
from exchange.api import shapes
from exchange.api.markets import WindowIn
from exchange.api.parameters import whole_number
from exchange.models import Command, Offer
from identity.api.base import ApiView
from providers.actions.capacity import window_of
from providers.models import Capacity
from providers.queries import capacities_readable, is_certified


class NotAProvider(Forbidden):
    """Only providers publish capacity."""

    code = "not-a-provider"


class CapacityIn(StrictSerializer):
    deployment = serializers.IntegerField(min_value=1, max_value=2**62)
    market = serializers.IntegerField(required=False, min_value=1, max_value=2**31 - 1)
    window = WindowIn(required=False)
    quantity = TokensField()
    tokens_per_minute = TokensField()
    reserve_price = PriceField()
    list_price = PriceField()
    wait = serializers.BooleanField(default=False)
    rolls_over = serializers.BooleanField(
        default=False, help_text="Offer what stays unsold in the next auction as well."
    )


class CapacityOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    deployment = serializers.IntegerField()
    grade = serializers.IntegerField()
    market = serializers.IntegerField(allow_null=True)
    window_start = serializers.DateTimeField()
    window_end = serializers.DateTimeField()
    quantity = serializers.IntegerField()
    withdrawn = serializers.IntegerField()
    tokens_per_minute = serializers.IntegerField()
    reserve_price = serializers.CharField()
    reserve_price_per_million = serializers.CharField()
    list_price = serializers.CharField()
    list_price_per_million = serializers.CharField()
    certified = serializers.BooleanField(help_text="Whether a certificate of the deployment is valid at its start.")
    wait = serializers.BooleanField()
    state = serializers.CharField()
    reason = serializers.CharField()
    order = shapes.OrderOut(allow_null=True)
    published_at = serializers.DateTimeField()


CapacityPage = shapes.page_of(CapacityOut, "CapacityPage")


def show_capacity(row: Capacity, offer: Offer | None) -> dict[str, Any]:
    order = None
    if offer is not None and offer.order_id is not None:
        [state] = order_queries.order_states(Command.objects.filter(pk=offer.order_id))
        order = shapes.show_order(state)
    return {
        "id": row.pk,
        "deployment": row.deployment_id,
        "grade": row.grade_id,
        "market": offer.market_id if offer is not None else None,
        "window_start": row.window_start,
        "window_end": row.window_end,
        "quantity": row.quantity_tokens,
        "withdrawn": row.withdrawn_tokens,
        "tokens_per_minute": row.tokens_per_minute,
        "reserve_price": format_price(row.reserve_price_nano),
        "reserve_price_per_million": format_price_per_million(row.reserve_price_nano),
        "list_price": format_price(row.list_price_nano),
        "list_price_per_million": format_price_per_million(row.list_price_nano),
        "certified": is_certified(row.deployment, at=row.window_start),
        "wait": row.wait,
        "state": offer.state if offer is not None else "waiting",
        "reason": offer.reason if offer is not None else "",
        "order": order,
        "published_at": row.published_at,
    }


class Capacities(ApiView):
    """A provider's capacity."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(
        responses=CapacityPage, parameters=[OpenApiParameter("deployment", int)], operation_id="capacity_list"
    )
    def get(self, request: Request) -> Response:
        """List published capacity, the newest first."""
        rows = capacities_readable(self.actor).select_related("offer")
        deployment_id = whole_number(request, "deployment")
        if deployment_id is not None:
            rows = rows.filter(deployment_id=deployment_id)
        return Response(page(request, rows, lambda row: show_capacity(row, getattr(row, "offer", None))))

    @extend_schema(request=CapacityIn, responses={201: CapacityOut})
    def post(self, request: Request) -> Response:
        """Publish capacity for a market or a window, and offer it at its reserve price unless `wait`."""
        fields = self.parse(CapacityIn)
        if not self.actor.organization.provides:
            raise NotAProvider("Only providers publish capacity; ask the operator to become one.")
        window, market_id = fields.get("window"), fields.get("market")
        if (window is None) == (market_id is None):
            raise BadRequest("Name either a market or a window.", field="market")
        period = window_of(window["start"], window["end"]) if window is not None else None

        def publish() -> dict[str, Any]:
            published = offers.publish_and_offer(
                provider=self.actor.organization,
                deployment_id=fields["deployment"],
                market_id=market_id,
                window=period,
                quantity_tokens=fields["quantity"],
                tokens_per_minute=fields["tokens_per_minute"],
                reserve_price_nano=fields["reserve_price"],
                list_price_nano=fields["list_price"],
                wait=fields["wait"],
                rolls_over=fields["rolls_over"],
                now=self.now,
            )
            return show_capacity(published.capacity, published.offer)

        return self.once(publish)


class CapacityDetail(ApiView):
    """One capacity."""

    scopes = {"GET": "read", "DELETE": "trade"}

    @extend_schema(responses=CapacityOut)
    def get(self, request: Request, capacity_id: int) -> Response:
        """Show a capacity and what became of its offer."""
        row = capacities_readable(self.actor).select_related("offer").filter(pk=capacity_id).first()
        if row is None:
            raise NotFound("There is no such capacity.")
        return Response(show_capacity(row, getattr(row, "offer", None)))

    @extend_schema(responses={202: CapacityOut})
    def delete(self, request: Request, capacity_id: int) -> Response:
        """Take back what is not sold. What is sold cannot be withdrawn; after gate closure report a shortfall."""
        return self.once(lambda: self._withdraw(capacity_id), status=202)

    def _withdraw(self, capacity_id: int) -> dict[str, Any]:
        offer = offers.withdraw_offer(
            capacity_id=capacity_id, provider_id=self.actor.organization_id, now=self.now
        )
        offer.capacity.refresh_from_db()
        return show_capacity(offer.capacity, offer)


class CapacityOffer(ApiView):
    """Offering capacity that was held back."""

    scopes = {"POST": "trade"}

    @extend_schema(request=None, responses={202: CapacityOut})
    def post(self, request: Request, capacity_id: int) -> Response:
        """Offer a capacity that was published with `wait`, or whose offer failed."""

        def make() -> dict[str, Any]:
            offer = offers.make_offer(capacity_id=capacity_id, provider_id=self.actor.organization_id, now=self.now)
            return show_capacity(offer.capacity, offer)

        return self.once(make, status=202)
