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
from core.money import format_tokens
from identity.api.base import ApiView
from metering_ingest import queries
from metering_ingest.actions.replay import replay
from metering_ingest.ingest_workers import own_connection
from metering_ingest.models import RejectedEvent

INTEGERS = ("contract", "deployment", "meter", "buyer", "provider", "grade", "length_band")
DEFAULT_SPAN = timedelta(days=1)
MAX_REPLAY = 1_000


class UsageRowOut(serializers.Serializer[Any]):
    """Beside these, one member per dimension asked for."""

    quantity = serializers.IntegerField()
    standard_tokens = serializers.CharField()
    events = serializers.IntegerField()


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


PARAMETERS = [
    OpenApiParameter("group_by", OpenApiTypes.STR, description=f"Names with commas: {', '.join(queries.DIMENSIONS)}."),
    OpenApiParameter("from", OpenApiTypes.DATETIME),
    OpenApiParameter("to", OpenApiTypes.DATETIME),
    *(OpenApiParameter(name, OpenApiTypes.INT) for name in INTEGERS),
    *(OpenApiParameter(name, OpenApiTypes.STR) for name in ("class", "model", "accelerator")),
]


class CsvRenderer(BaseRenderer):
    """`?format=csv` or `Accept: text/csv`: the rows as a file. Problems stay JSON."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> Any:
        if "items" not in data:
            return JSONRenderer().render(data)
        text = io.StringIO()
        writer = csv.DictWriter(text, [*data["group_by"], "quantity", "standard_tokens", "events"])
        writer.writeheader()
        for row in data["items"]:
            writer.writerow({n: v.isoformat() if isinstance(v, datetime) else v for n, v in row.items()})
        return text.getvalue()


class Usage(ApiView):
    scopes = {"GET": "read"}
    renderer_classes = (JSONRenderer, CsvRenderer)

    @extend_schema(operation_id="usage_read", parameters=PARAMETERS, responses=UsageOut)
    def get(self, request: Request) -> Response:
        group_by, start, end, rows = self.rows(request)
        items = [
            dict(zip(group_by, row.group, strict=True))
            | {
                "quantity": row.quantity,
                "standard_tokens": format_tokens(row.work_micro_st),
                "events": row.events,
            }
            for row in rows
        ]
        return Response({"items": items, "start": start, "end": end, "group_by": group_by})

    def rows(self, request: Request) -> tuple[list[str], datetime, datetime, list[queries.UsageRow]]:
        group_by = [name for name in request.query_params.get("group_by", "class").split(",") if name]
        end = moment(request, "to", self.now)
        start = moment(request, "from", end - DEFAULT_SPAN)
        if start >= end:
            raise BadRequest("“from” lies before “to”.", field="from")
        filters: dict[str, Any] = {}
        for name in queries.DIMENSIONS:
            text = request.query_params.get(name)
            if text is None:
                continue
            if name in INTEGERS and not (text.isascii() and text.isdigit() and len(text) < 19):
                raise BadRequest(f"{name} is a whole number.", field=name)
            filters[name] = int(text) if name in INTEGERS else text
        return group_by, start, end, queries.usage(
            self.actor, group_by=group_by, start=start, end=end, filters=filters
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
