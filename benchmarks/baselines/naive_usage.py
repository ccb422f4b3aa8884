"""
Usage ingest the usual way, a Django project in one file: a DRF serializer with `bulk_create(ignore_conflicts)` for
batches, and one transaction per request for single events. Served by the same server as the product.
"""

import json
import os
import sys
import types
from datetime import UTC, datetime
from typing import Any

CREATE_NAIVE = """
    DROP TABLE IF EXISTS naive_event;
    CREATE TABLE naive_event (
        id bigserial PRIMARY KEY, meter_id bigint NOT NULL, source text NOT NULL, event_id text NOT NULL,
        subject text NOT NULL, time timestamptz NOT NULL, input_tokens integer NOT NULL,
        cached_input_tokens integer NOT NULL, output_tokens integer NOT NULL, received_at timestamptz NOT NULL,
        UNIQUE (meter_id, source, event_id))
"""


def _make_application() -> Any:
    """The usual way: a model, a serializer, a view."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.wsgi import get_wsgi_application

    get_wsgi_application()
    from django.conf import settings
    from django.db import connection, models, transaction
    from django.http import HttpRequest, JsonResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt
    from rest_framework import serializers
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class NaiveEvent(models.Model):
        meter_id = models.BigIntegerField()
        source = models.TextField()
        event_id = models.TextField()
        subject = models.TextField()
        time = models.DateTimeField()
        input_tokens = models.IntegerField()
        cached_input_tokens = models.IntegerField()
        output_tokens = models.IntegerField()
        received_at = models.DateTimeField()

        class Meta:
            app_label = "core"
            managed = False
            db_table = "naive_event"

    class DataIn(serializers.Serializer[Any]):
        input_tokens = serializers.IntegerField(min_value=0)
        cached_input_tokens = serializers.IntegerField(min_value=0)
        output_tokens = serializers.IntegerField(min_value=0)

    class EventIn(serializers.Serializer[Any]):
        id = serializers.CharField(max_length=256)
        source = serializers.CharField(max_length=256)  # type: ignore[assignment]
        subject = serializers.CharField(max_length=256)
        time = serializers.DateTimeField()
        data = DataIn()  # type: ignore[assignment]

    class Batch(APIView):
        authentication_classes = ()
        permission_classes = ()

        def post(self, request: Any) -> Response:
            events = EventIn(data=request.data, many=True)
            events.is_valid(raise_exception=True)
            now = datetime.now(UTC)
            rows = [
                NaiveEvent(meter_id=1, source=e["source"], event_id=e["id"], subject=e["subject"], time=e["time"],
                           received_at=now, **e["data"])
                for e in events.validated_data
            ]  # fmt: skip
            NaiveEvent.objects.bulk_create(rows, ignore_conflicts=True)
            return Response({"accepted": len(rows)})

    @csrf_exempt
    def single(request: HttpRequest) -> JsonResponse:
        e = json.loads(request.body)
        d = e["data"]
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO naive_event (meter_id, source, event_id, subject, time, input_tokens, cached_input_tokens,"
                " output_tokens, received_at) VALUES (1, %s, %s, %s, %s, %s, %s, %s, now()) ON CONFLICT DO NOTHING",
                [e["source"], e["id"], e["subject"], e["time"], d["input_tokens"], d["cached_input_tokens"],
                 d["output_tokens"]],
            )  # fmt: skip
        return JsonResponse({"accepted": 1})

    settings.ROOT_URLCONF = "benchmarks.baselines.naive_urls"
    settings.MIDDLEWARE = []
    urls = types.ModuleType("benchmarks.baselines.naive_urls")
    urls.urlpatterns = [path("batch", Batch.as_view()), path("single", single)]  # type: ignore[attr-defined]
    sys.modules["benchmarks.baselines.naive_urls"] = urls
    return get_wsgi_application()




if os.environ.get("CIYUAN_NAIVE_SERVER"):
    application = _make_application()
