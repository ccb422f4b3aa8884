"""
/healthz (this process answers), /readyz (database, broker, workers and lag) and /metrics (Prometheus).

Load balancers ask /healthz and /readyz without TLS or a key; their answers name no secret and no tenant.
"""

from __future__ import annotations

import hmac
import importlib
import importlib.util
import os
import time
from collections.abc import Iterator
from datetime import datetime

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily

from config.celery import APPS, queue_names
from core import clock
from core.health import Probe

WORKER_SILENT_SECONDS = 30.0


@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """200 when everything works, else 503; the same list either way."""
    probes = list(_all_probes(clock.now()))
    ready = all(probe.ready for probe in probes)
    checks = {probe.name: {"ready": probe.ready, "value": probe.value, "text": probe.text} for probe in probes}
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Counters of all processes of this machine, and the probes as gauges."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if settings.METRICS_TOKEN and not hmac.compare_digest(given.encode(), settings.METRICS_TOKEN.encode()):
        return HttpResponse("Give the metrics token as a Bearer token.\n", status=401, content_type="text/plain")
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    body = generate_latest(registry)
    gauges = CollectorRegistry()
    gauges.register(_ProbeCollector(clock.now()))
    return HttpResponse(body + generate_latest(gauges), content_type=CONTENT_TYPE_LATEST)


class _ProbeCollector:
    """The probes, as Prometheus reads them."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def collect(self) -> Iterator[GaugeMetricFamily]:
        value = GaugeMetricFamily("ciyuan_probe", "A probe's value, with its unit in the name", labels=["name"])
        ready = GaugeMetricFamily("ciyuan_probe_ready", "1 when the probe is as it should be", labels=["name"])
        for probe in _all_probes(self.now):
            value.add_metric([probe.name], probe.value)
            ready.add_metric([probe.name], float(probe.ready))
        yield value
        yield ready


def _all_probes(now: datetime) -> Iterator[Probe]:
    database = _database()
    yield database
    broker = _broker()
    yield broker
    if broker.ready:
        yield from _workers()
    if database.ready:
        for app in APPS:
            if app != "core" and importlib.util.find_spec(f"{app}.health") is not None:
                yield from importlib.import_module(f"{app}.health").probes(now)


def _database() -> Probe:
    started = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return Probe("database_seconds", -1, ready=False, text=type(error).__name__)
    return Probe("database_seconds", round(time.monotonic() - started, 6))


def _broker() -> Probe:
    started = time.monotonic()
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        client.ping()
    except redis.RedisError as error:
        return Probe("broker_seconds", -1, ready=False, text=type(error).__name__)
    finally:
        client.close()
    return Probe("broker_seconds", round(time.monotonic() - started, 6))


def _workers() -> Iterator[Probe]:
    """Per queue: how long ago a worker took a heartbeat, and how long that had waited."""
    for queue in queue_names():
        name = queue.replace(".", "_")
        beat = cache.get(f"heartbeat:{queue}")
        if beat is None:
            yield Probe(f"worker_{name}_silent_seconds", -1, ready=False, text="no worker has reported yet")
            continue
        silent = time.time() - beat["at"]
        late = silent > WORKER_SILENT_SECONDS
        text = "no worker takes this queue's work" if late else ""
        yield Probe(f"worker_{name}_silent_seconds", round(silent, 3), ready=not late, text=text)
        yield Probe(f"worker_{name}_lag_seconds", round(beat["lag"], 3))
