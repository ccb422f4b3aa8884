"""Other protocols at the usage door, byte for byte as their clients were captured."""

import json
from datetime import timedelta
from typing import Any

import pytest

from metering_ingest.models import RejectedEvent, UsageEvent
from tests.given import NOW
from tests.metering.test_door import World, world  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = int((NOW - timedelta(minutes=30)).timestamp())
AT = (NOW - timedelta(minutes=30)).isoformat()


def stored(id_: str) -> tuple[int, int, int, int]:
    row = UsageEvent.objects.get(id=id_)
    return row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens


def test_litellm_through_openmeter(world: World) -> None:  # noqa: F811
    sent = {
        "specversion": "1.0", "type": "litellm_tokens", "id": "chatcmpl-1", "time": AT, "subject": "acme",
        "source": "litellm-proxy",
        "data": {"model": "m", "cost": None, "prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    }  # fmt: skip
    for _ in range(2):
        answer = world.door.post(sent, "/api/v1/events", Content_Type="application/cloudevents+json")
        assert (answer.status_code, answer.content) == (204, b"")
    assert stored("chatcmpl-1") == (11, 0, 7, 0)
    bad = sent | {"id": "x", "data": {"model": "m"}}
    answer = world.door.post([bad, sent], "/api/v1/events", Content_Type="application/cloudevents-batch+json")
    assert (answer.status_code, answer.headers["ciyuan-rejected"]) == (204, "1")
    assert RejectedEvent.objects.get().code == "unknown-usage"
    assert world.door.post(b"{", "/api/v1/events").status_code == 400


def test_lago_with_and_without_a_timestamp(world: World) -> None:  # noqa: F811
    properties = {"model": "m", "prompt_tokens": "11", "completion_tokens": 7, "total_tokens": 18}
    one = {"transaction_id": "t-1", "external_subscription_id": "acme", "code": "tokens", "properties": properties}
    answer = world.door.post({"event": one}, "/api/v1/events")
    assert answer.status_code == 200 and answer.json()["event"]["transaction_id"] == "t-1"
    assert world.door.post({"event": one}, "/api/v1/events").status_code == 200
    two = one | {"transaction_id": "t-2", "timestamp": str(SECONDS)}
    answer = world.door.post({"events": [two, one]}, "/api/v1/events/batch")
    assert [e["transaction_id"] for e in answer.json()["events"]] == ["t-2", "t-1"]
    assert UsageEvent.objects.count() == 2 and stored("t-1") == stored("t-2") == (11, 0, 7, 0)


def test_litellms_generic_logger_without_its_prompts(world: World) -> None:  # noqa: F811
    payload: dict[str, Any] = {
        "id": "chatcmpl-9", "trace_id": "t", "call_type": "acompletion", "status": "success", "model": "m",
        "startTime": SECONDS - 2.5, "endTime": float(SECONDS), "prompt_tokens": 2000, "completion_tokens": 300,
        "total_tokens": 2300, "end_user": "acme", "request_tags": ["a"], "response_cost": 0.1,
        "messages": [{"role": "user", "content": "secret words"}], "response": {"choices": ["secret words"]},
        "metadata": {"usage_object": {
            "prompt_tokens": 2000, "completion_tokens": 300, "total_tokens": 2300, "cache_read_input_tokens": 1500,
            "prompt_tokens_details": {"cached_tokens": 1500}, "completion_tokens_details": {"reasoning_tokens": 100}}},
    }  # fmt: skip
    assert world.door.post([payload], "/v1/litellm").json()["accepted"] == 1
    assert stored("chatcmpl-9") == (500, 1500, 200, 100)
    row = UsageEvent.objects.get()
    assert row.details == {"status": "success", "duration_ms": 2500, "model": "m", "tags": {"a": "true"}}
    broken = payload | {"id": "b", "prompt_tokens": None}
    assert world.door.post([broken], "/v1/litellm").json()["results"][0]["code"] == "unknown-usage"
    assert b"secret" not in bytes(RejectedEvent.objects.get().body)


def span(**attributes: Any) -> dict[str, Any]:
    pairs = [
        {"key": name.replace("__", "."), "value": {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}}
        for name, v in attributes.items()
    ]
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat m",
        "startTimeUnixNano": str((SECONDS - 1) * 10**9), "endTimeUnixNano": str(SECONDS * 10**9), "attributes": pairs,
    }  # fmt: skip


def test_opentelemetry_in_json(world: World) -> None:  # noqa: F811
    usage = {"gen_ai__usage__input_tokens": 100, "gen_ai__usage__output_tokens": 20,
             "gen_ai__usage__cache_read__input_tokens": 60, "ciyuan__subject": "acme"}  # fmt: skip
    attributes = [{"key": "service.name", "value": {"stringValue": "chat-app"}}]
    body = {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [
        span(http__method="POST"), span(**usage)]}]}]}  # fmt: skip
    answer = world.door.post(body, "/v1/traces")
    assert (answer.status_code, answer.json()) == (200, {})
    assert UsageEvent.objects.get().source == "chat-app"
    assert stored("0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331") == (40, 60, 20, 0)
    wrong = span(**usage | {"gen_ai__usage__cache_read__input_tokens": 101})
    answer = world.door.post({"resourceSpans": [{"scopeSpans": [{"spans": [wrong]}]}]}, "/v1/traces")
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert world.door.post(b"\xff\xff", "/v1/traces", Content_Type="application/x-protobuf").status_code == 400
    metrics = world.door.post({"resourceMetrics": []}, "/v1/metrics")
    assert "gen_ai.usage" in json.dumps(metrics.json())
