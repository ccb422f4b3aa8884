"""/healthz, /readyz, /metrics."""

from __future__ import annotations

import time

import pytest
from django.core.cache import cache

from config.celery import queue_names

pytestmark = pytest.mark.django_db


def given_heartbeats(*, age_seconds: float = 0) -> None:
    for queue in queue_names():
        cache.set(f"heartbeat:{queue}", {"at": time.time() - age_seconds, "lag": 0.01})


def test_healthz_answers(client):
    assert client.get("/healthz").content == b"ok\n"


def test_ready_when_database_broker_and_workers_are(client):
    given_heartbeats()
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.json()
    assert answer.json()["checks"]["database_seconds"]["ready"]
    assert answer.json()["checks"]["worker_matching_0_lag_seconds"]["value"] == 0.01


def test_not_ready_without_workers(client):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["worker_default_silent_seconds"]["text"] == "no worker has reported yet"


def test_not_ready_when_a_worker_fell_silent(client):
    given_heartbeats(age_seconds=60)
    assert client.get("/readyz").status_code == 503


def test_not_ready_without_the_broker(client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broker_seconds"] == {"ready": False, "value": -1, "text": "ConnectionError"}


def test_metrics_show_the_probes(client):
    given_heartbeats()
    text = client.get("/metrics").content.decode()
    assert 'ciyuan_probe_ready{name="database_seconds"} 1.0' in text


def test_metrics_want_their_token(client, settings):
    settings.METRICS_TOKEN = "a-token"
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer a-token"}).status_code == 200


def test_the_request_id_comes_back(client):
    assert client.get("/healthz", headers={"X-Request-ID": "abcdefgh-1"}).headers["X-Request-ID"] == "abcdefgh-1"
    assert len(client.get("/healthz", headers={"X-Request-ID": "no good\x7f"}).headers["X-Request-ID"]) == 16
