"""A provider's deployments and their list prices."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer, TokensField
from core.errors import NotFound
from core.money import format_price, format_price_per_million
from identity.api.base import ApiView
from providers import queries
from providers.actions import deployments, prices
from providers.api.catalogue import SlugOrIdField
from providers.models import Deployment, ListPrice


class DeploymentIn(StrictSerializer):
    name = serializers.CharField(max_length=80)
    grade = SlugOrIdField()
    accelerator = SlugOrIdField()
    accelerator_count = serializers.IntegerField()
    engine = serializers.CharField(max_length=60)
    precision = serializers.CharField(max_length=10)
    region = serializers.CharField(max_length=40)
    endpoint = serializers.CharField(max_length=500)
    rated_tokens_per_minute = TokensField()


class DeploymentOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    provider = serializers.IntegerField()
    name = serializers.CharField()
    grade = serializers.IntegerField()
    grade_slug = serializers.CharField()
    accelerator = serializers.CharField()
    accelerator_count = serializers.IntegerField()
    engine = serializers.CharField()
    precision = serializers.CharField()
    region = serializers.CharField()
    endpoint = serializers.CharField()
    rated_tokens_per_minute = serializers.IntegerField()
    certified_tokens_per_minute = serializers.IntegerField(allow_null=True)
    certified_until = serializers.DateTimeField(allow_null=True)
    roofline_tokens_per_minute = serializers.IntegerField(help_text="By its accelerators' published numbers.")
    limit_tokens_per_minute = serializers.IntegerField(help_text="The most that capacity may promise now.")
    list_price = serializers.CharField(allow_null=True)
    list_price_per_million = serializers.CharField(allow_null=True)
    status = serializers.CharField()
    created_at = serializers.DateTimeField()


class DeploymentPage(serializers.Serializer[Any]):
    items = DeploymentOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ListPriceIn(StrictSerializer):
    price = PriceField(allow_null=True)


class ListPriceOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    deployment = serializers.IntegerField()
    price = serializers.CharField(allow_null=True)
    price_per_million = serializers.CharField(allow_null=True)
    valid_from = serializers.DateTimeField()


class ListPricePage(serializers.Serializer[Any]):
    items = ListPriceOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_list_price(row: ListPrice) -> dict[str, Any]:
    return {
        "id": row.pk,
        "deployment": row.deployment_id,
        "price": None if row.price_nano is None else format_price(row.price_nano),
        "price_per_million": None if row.price_nano is None else format_price_per_million(row.price_nano),
        "valid_from": row.valid_from,
    }


class DeploymentView(ApiView):
    """What the deployment views share."""

    def show(self, row: Deployment) -> dict[str, Any]:
        price_nano = queries.list_price_nano(row.pk, self.now)
        return {
            "id": row.pk,
            "provider": row.provider_id,
            "name": row.name,
            "grade": row.grade_id,
            "grade_slug": row.grade.slug,
            "accelerator": row.accelerator.slug,
            "accelerator_count": row.accelerator_count,
            "engine": row.engine,
            "precision": row.precision,
            "region": row.region,
            "endpoint": row.endpoint,
            "rated_tokens_per_minute": row.rated_tokens_per_minute,
            "certified_tokens_per_minute": row.certified_tokens_per_minute,
            "certified_until": row.certified_until,
            "roofline_tokens_per_minute": row.roofline().tokens_per_minute,
            "limit_tokens_per_minute": queries.rate_limit_tokens_per_minute(row, at=self.now),
            "list_price": None if price_nano is None else format_price(price_nano),
            "list_price_per_million": None if price_nano is None else format_price_per_million(price_nano),
            "status": row.status,
            "created_at": row.created_at,
        }

    def readable(self, deployment_id: int) -> Deployment:
        found = queries.deployments_readable(self.actor).filter(pk=deployment_id).first()
        if found is None:
            raise NotFound("There is no such deployment.")
        return found


class Deployments(DeploymentView):
    """One's own deployments; all of them for the operator."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(responses=DeploymentPage)
    def get(self, request: Request) -> Response:
        """List deployments."""
        return Response(page(request, queries.deployments_readable(self.actor).order_by(), self.show))

    @extend_schema(request=DeploymentIn, responses={201: DeploymentOut})
    def post(self, request: Request) -> Response:
        """Register a deployment: model, accelerator, engine, precision, region, endpoint, rate."""
        data = self.parse(DeploymentIn)
        return self.once(
            lambda: self.show(
                deployments.register_deployment(
                    provider_id=self.actor.organization_id, now=self.now, actor=self.actor, **data
                )
            )
        )


class DeploymentDetail(DeploymentView):
    """One deployment."""

    scopes = {"GET": "read", "DELETE": "trade"}

    @extend_schema(responses=DeploymentOut)
    def get(self, request: Request, deployment_id: int) -> Response:
        """Show a deployment."""
        return Response(self.show(self.readable(deployment_id)))

    @extend_schema(responses={200: DeploymentOut})
    def delete(self, request: Request, deployment_id: int) -> Response:
        """Retire a deployment that has no capacity ahead; its past stays."""
        return self.once(
            lambda: self.show(
                deployments.retire_deployment(
                    deployment_id=deployment_id,
                    provider_id=self.actor.organization_id,
                    now=self.now,
                    actor=self.actor,
                )
            ),
            status=200,
        )


class ListPrices(DeploymentView):
    """A deployment's list prices."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(responses=ListPricePage)
    def get(self, request: Request, deployment_id: int) -> Response:
        """List the prices since the beginning, the latest first."""
        rows = ListPrice.objects.filter(deployment=self.readable(deployment_id))
        return Response(page(request, rows, show_list_price))

    @extend_schema(request=ListPriceIn, responses={201: ListPriceOut})
    def post(self, request: Request, deployment_id: int) -> Response:
        """Put a list price into force from now on; null takes the deployment off the list."""
        price_nano = self.parse(ListPriceIn)["price"]
        return self.once(
            lambda: show_list_price(
                prices.set_list_price(
                    deployment_id=deployment_id,
                    price_nano=price_nano,
                    now=self.now,
                    provider_id=self.actor.organization_id,
                )
            )
        )
