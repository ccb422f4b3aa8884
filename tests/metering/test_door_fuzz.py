"""Whatever is sent to the usage door: never a 5xx, and no good event lost for a bad neighbour."""

import itertools
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import clock
from core.transactions import durable
from identity.auth import forget_cached_keys
from metering_ingest import dialects
from metering_ingest.actions import attribution, partitions
from metering_ingest.actions.meters import register_alias
from metering_ingest.models import UsageEvent
from tests.given import NOW, given_deployment, given_organization
from tests.metering.conftest import event
from tests.metering.given import Door, given_meter, given_meter_key

pytestmark = pytest.mark.django_db(transaction=True)
FEW = settings(
    max_examples=300 if os.environ.get("CIYUAN_PROOF") else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

numbers = itertools.count()
texts = st.one_of(st.text(max_size=12), st.sampled_from(["", "\0", "a" * 300, "词元", "\ud800", "acme", "contract:1"]))
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), texts, st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["2026-11-20T03:00:00Z", "2026-11-20", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
FIELDS = ("id", "source", "subject", "time", "type", "specversion", "data")
MEMBERS = (
    "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "classes", "format", "usage", "tags",
    "refers_to", "input_bytes", "status", "duration_ms",
)  # fmt: skip


@st.composite
def damaged(draw: Any) -> Any:
    """An event in which something is otherwise, or no event at all."""
    if draw(st.integers(0, 5)) == 0:
        return draw(values)
    one = good(f"bad-{next(numbers)}")
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=2)):
        one[name] = draw(values)
    if isinstance(one["data"], dict):
        for name in draw(st.lists(st.sampled_from(MEMBERS), max_size=3)):
            one["data"][name] = draw(values)
    return one


def good(id_: str) -> dict[str, Any]:
    return event(id_, subject="acme", time=(NOW - timedelta(minutes=30)).isoformat())


def encoded(value: Any) -> bytes:
    """As JSON, lone surrogates and all."""
    import json

    return json.dumps(value).encode()


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    deployment = given_deployment()
    durable(lambda: register_alias(provider=deployment.provider, subject="acme", buyer=given_organization(), now=NOW))
    yield Door(given_meter_key(given_meter(deployment)))


@FEW
@given(bad=st.lists(damaged(), min_size=1, max_size=4), place=st.integers(0, 4))
def test_no_neighbour_is_lost(door: Door, bad: list[Any], place: int) -> None:
    mine = [good(f"good-{next(numbers)}") for _ in range(3)]
    batch = [*mine[:1], *bad[:place], *mine[1:], *bad[place:]]
    answer = door.post(encoded(batch))
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == len(batch)
    for sent, result in zip(batch, results, strict=True):
        if any(sent is one for one in mine):
            assert result["status"] == "accepted", (result, batch)
        assert result["status"] in ("accepted", "duplicate", "conflict", "rejected")
        assert result["status"] != "rejected" or (result["code"] and result["detail"])
    assert UsageEvent.objects.filter(id__in=[one["id"] for one in mine]).count() == 3


@FEW
@given(
    path=st.sampled_from(sorted(dialects.PATHS)),
    body=st.one_of(st.binary(max_size=60), values.map(encoded), st.lists(values, max_size=3).map(encoded)),
    media_type=st.sampled_from(
        ["application/json", "application/x-protobuf", "application/cloudevents+json", "text/x"]
    ),
    encoding=st.sampled_from(["", "gzip", "zstd", "br"]),
)
def test_no_body_on_any_address_is_an_error_of_ours(
    door: Door, path: str, body: bytes, media_type: str, encoding: str
) -> None:
    headers = {"Content_Encoding": encoding} if encoding else {}
    answer = door.post(body, path, Content_Type=media_type, **headers)
    assert answer.status_code < 500, (path, body, answer.text)
    if answer.status_code >= 400:
        assert msgspec.json.decode(answer.content)["code"]
