"""Price books over HTTP: published by the operator, read by everybody with a key."""

from datetime import datetime
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.actions.price_books import publish_price_book
from billing.models import PriceBookVersion
from core.api.paging import page
from core.api.serializers import StrictSerializer
from identity.api.base import ApiView


class PriceBookIn(StrictSerializer):
    name = serializers.SlugField(max_length=60)
    effective_from = serializers.DateTimeField()
    terms = serializers.JSONField(help_text="Rules by class, tier, provider, grade and model; docs/BILLING.md.")


class PriceBookOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    version = serializers.IntegerField()
    effective_from = serializers.DateTimeField()
    published_at = serializers.DateTimeField()
    terms = serializers.JSONField()


class PriceBookPage(serializers.Serializer[Any]):
    items = PriceBookOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


def show_version(row: PriceBookVersion) -> dict[str, Any]:
    return {
        "id": row.pk, "name": row.book.name, "version": row.number, "effective_from": row.effective_from,
        "published_at": row.published_at, "terms": row.terms,
    }  # fmt: skip


class PriceBooks(ApiView):
    scopes = {"GET": "read", "POST": "operate"}

    @extend_schema(
        operation_id="price_books_list",
        parameters=[OpenApiParameter("name", str), OpenApiParameter("cursor", str), OpenApiParameter("limit", int)],
        responses=PriceBookPage,
    )
    def get(self, request: Request) -> Response:
        """All versions of the price books, newest first."""
        rows = PriceBookVersion.objects.select_related("book")
        if name := request.query_params.get("name"):
            rows = rows.filter(book__name=name)
        return Response(page(request, rows, show_version))

    @extend_schema(operation_id="price_books_create", request=PriceBookIn, responses={201: PriceBookOut})
    def post(self, request: Request) -> Response:
        """Publish the next version of a price book. For the operator."""
        given = self.parse(PriceBookIn)
        effective_from: datetime = given["effective_from"]
        return self.once(
            lambda: show_version(
                publish_price_book(
                    name=given["name"], effective_from=effective_from, terms=given["terms"], now=self.now
                )
            )
        )
