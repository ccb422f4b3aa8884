"""Usage from the rollup as JSON or CSV, and the events that were rejected."""

import csv
import io
from datetime import datetime, timedelta
from typing import Any

from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import BadRequest
from core.money import (
    MICRO_PER_TOKEN,
    format_price,
    format_price_per_million,
    format_tokens,
    format_yuan,
    round_half_up,
)
from identity.api.base import ApiView
from metering_ingest import queries, usage_queries
from metering_ingest.actions.replay import replay
from metering_ingest.api.usage_parquet import usage_parquet
from metering_ingest.ingest_workers import own_connection
from metering_ingest.models import RejectedEvent

INTEGERS = ("contract", "deployment", "meter", "organization", "buyer", "provider", "grade", "length_band")
TEXTS = ("class", "model", "accelerator", "service_class", "key")
SUMS = (
    "quantity", "standard_tokens", "events", "cost", "price", "price_per_million", "estimate", "accelerator_hours",
    "standard_tokens_per_accelerator_hour",
)  # fmt: skip
DEFAULT_SPAN = timedelta(days=1)
MAX_REPLAY = 1_000


class UsageRowOut(serializers.Serializer[Any]):
    """Beside these, one member per dimension asked for."""

    quantity = serializers.IntegerField()
    standard_tokens = serializers.CharField()
    events = serializers.IntegerField()
    cost = serializers.CharField(help_text="¥ of the asking side: what was charged, or an estimate until settlement.")
    price = serializers.CharField(allow_null=True, help_text="Cost ÷ standard tokens, in ¥.")
    price_per_million = serializers.CharField(allow_null=True)
    estimate = serializers.BooleanField(help_text="Part of the cost is not settled yet.")
    accelerator_hours = serializers.IntegerField(
        allow_null=True, help_text="Where grouped by deployment or accelerator."
    )
    standard_tokens_per_accelerator_hour = serializers.IntegerField(allow_null=True)


class UsageOut(serializers.Serializer[Any]):
    items = UsageRowOut(many=True)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    group_by = serializers.ListField(child=serializers.CharField())


class RejectedOut(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="Names the kept event, for a replay.")
    meter = serializers.IntegerField()
    received_at = serializers.DateTimeField()
    code = serializers.CharField()
    field = serializers.CharField(allow_null=True)
    detail = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    event_id = serializers.CharField()
    body = serializers.CharField()
    attempts = serializers.IntegerField()
    resolved_at = serializers.DateTimeField(allow_null=True)


class RejectedPage(serializers.Serializer[Any]):
    items = RejectedOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class ReplayIn(StrictSerializer):
    ids = serializers.ListField(child=serializers.UUIDField(), required=False, max_length=1000)
    code = serializers.CharField(required=False, max_length=40)


class ReplayOut(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    duplicate = serializers.IntegerField()
    conflict = serializers.IntegerField()
    rejected = serializers.IntegerField()
    remaining = serializers.IntegerField()


def moment(request: Request, name: str, default: datetime) -> datetime:
    """Return a time of the query. :raises BadRequest: for one that is no RFC 3339 time with a zone."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        found = parse_datetime(text.replace(" ", "+"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadRequest(f"{name} is a time such as 2026-11-21T00:00:00Z.", field=name)
    return found


_NAMES = ", ".join(usage_queries.DIMENSIONS)
PARAMETERS = [
    OpenApiParameter(
        "group_by", OpenApiTypes.STR, description=f"Names with commas: {', '.join(usage_queries.DIMENSIONS)}, tag:NAME."
    ),
    OpenApiParameter("from", OpenApiTypes.DATETIME),
    OpenApiParameter("to", OpenApiTypes.DATETIME),
    *(OpenApiParameter(name, OpenApiTypes.INT) for name in INTEGERS),
    *(OpenApiParameter(name, OpenApiTypes.STR) for name in TEXTS),
    OpenApiParameter("tag", OpenApiTypes.STR, description="NAME:VALUE, to keep usage with that tag."),
    OpenApiParameter("reported_by", OpenApiTypes.STR, enum=["provider", "buyer"], description="Whose meters."),
]


def show_sums(row: usage_queries.UsageRow) -> dict[str, Any]:
    """Show what a group adds up to."""
    price_nano = round_half_up(row.cost_micro * 10**9, row.work_micro_st) if row.work_micro_st > 0 else None
    hours = row.accelerator_hours
    return {
        "quantity": row.quantity, "standard_tokens": format_tokens(row.work_micro_st), "events": row.events,
        "cost": format_yuan(row.cost_micro),
        "price": None if price_nano is None else format_price(price_nano),
        "price_per_million": None if price_nano is None else format_price_per_million(price_nano),
        "estimate": row.estimate, "accelerator_hours": hours,
        "standard_tokens_per_accelerator_hour": row.work_micro_st // (MICRO_PER_TOKEN * hours) if hours else None,
    }  # fmt: skip


class CsvRenderer(BaseRenderer):
    """`?format=csv` or `Accept: text/csv`: the rows as a file. Problems stay JSON."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> Any:
        if "items" not in data:
            return JSONRenderer().render(data)
        text = io.StringIO()
        writer = csv.DictWriter(text, [*data["group_by"], *SUMS])
        writer.writeheader()
        for row in data["items"]:
            writer.writerow({n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()})
        return text.getvalue()


class ParquetRenderer(BaseRenderer):
    """`?format=parquet`: the same rows, typed: counts as integers, money and standard tokens as decimals."""

    media_type = "application/vnd.apache.parquet"
    format = "parquet"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> Any:
        if "items" not in data:
            return JSONRenderer().render(data)
        return usage_parquet(data["group_by"], data["items"])


class Usage(ApiView):
    scopes = {"GET": "read"}
    renderer_classes = (JSONRenderer, CsvRenderer, ParquetRenderer)

    @extend_schema(operation_id="usage_read", parameters=PARAMETERS, responses=UsageOut)
    def get(self, request: Request) -> Response:
        group_by, start, end, rows = self.rows(request)
        items = [dict(zip(group_by, row.group, strict=True)) | show_sums(row) for row in rows]
        return Response({"items": items, "start": start, "end": end, "group_by": group_by})

    def rows(self, request: Request) -> tuple[list[str], datetime, datetime, list[usage_queries.UsageRow]]:
        group_by = [name for name in request.query_params.get("group_by", "class").split(",") if name]
        end = moment(request, "to", self.now)
        start = moment(request, "from", end - DEFAULT_SPAN)
        if start >= end:
            raise BadRequest("“from” lies before “to”.", field="from")
        filters: dict[str, Any] = {}
        if tagged := request.query_params.get("tag"):
            tag, colon, value = tagged.partition(":")
            if not (tag and colon):
                raise BadRequest("tag is NAME:VALUE, such as team:search.", field="tag")
            filters[f"{usage_queries.TAG}{tag}"] = value
        reported_by = request.query_params.get("reported_by", "provider")
        if reported_by not in ("provider", "buyer"):
            raise BadRequest("reported_by is provider or buyer.", field="reported_by")
        for name in usage_queries.DIMENSIONS:
            text = request.query_params.get(name)
            if text is None:
                continue
            if name in INTEGERS and not (text.isascii() and text.isdigit() and len(text) < 19):
                raise BadRequest(f"{name} is a whole number.", field=name)
            filters[name] = int(text) if name in INTEGERS else text
        return group_by, start, end, usage_queries.usage(
            self.actor, group_by=group_by, start=start, end=end, filters=filters, reported_by=reported_by
        )  # fmt: skip


def show_rejected(row: RejectedEvent) -> dict[str, Any]:
    return {
        "id": row.kept_id,
        "meter": row.meter_id,
        "received_at": row.received_at,
        "code": row.code,
        "field": row.field or None,
        "detail": row.detail,
        "source": row.source,
        "event_id": row.id,
        "body": bytes(row.body).decode("utf-8", "replace"),
        "attempts": row.attempts,
        "resolved_at": row.resolved_at,
    }


class Rejected(ApiView):
    scopes = {"GET": "read"}

    @extend_schema(
        operation_id="rejected_events_list", responses=RejectedPage,
        parameters=[OpenApiParameter("resolved", OpenApiTypes.BOOL), OpenApiParameter("code", OpenApiTypes.STR)],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        rows = queries.rejected_readable(self.actor)
        if request.query_params.get("resolved") != "true":
            rows = rows.filter(resolved_at__isnull=True)
        if code := request.query_params.get("code"):
            rows = rows.filter(code=code)
        return Response(page(request, rows, show_rejected, by="kept_id"))


class Replay(ApiView):
    scopes = {"POST": "trade"}

    @extend_schema(operation_id="rejected_events_replay", request=ReplayIn, responses={200: ReplayOut})
    def post(self, request: Request) -> Response:
        wanted = self.parse(ReplayIn)
        rows = queries.rejected_readable(self.actor).filter(resolved_at__isnull=True)
        if "code" in wanted:
            rows = rows.filter(code=wanted["code"])
        if "ids" in wanted:
            rows = rows.filter(kept_id__in=wanted["ids"])
        # Not under `once`: replaying is harmless by the events' own identities, and it has a connection of its own.
        counts = replay(own_connection(), rows.order_by("kept_id")[:MAX_REPLAY], now=self.now)
        names = ("accepted", "duplicate", "conflict", "rejected")
        return Response({name: counts.get(name, 0) for name in names} | {"remaining": rows.count()})
