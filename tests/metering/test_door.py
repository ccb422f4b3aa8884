"""The usage door over HTTP: keys, limits, compression, results per event, attribution to contracts."""

import base64
import gzip
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import call_command
from django.db import transaction

from core import clock
from core.rate_limit import Limiter
from exchange.models import DeliveryContract
from identity.auth import forget_cached_keys
from identity.models import ApiKey
from metering_ingest.actions import attribution, partitions
from metering_ingest.actions.meters import close_meter, register_alias
from metering_ingest.models import Meter, RejectedEvent, UsageEvent, UsageRollup
from providers.models import Grade
from tests.given import NOW, given_api, given_deployment, given_user
from tests.metering.conftest import event
from tests.metering.given import Door, given_contract, given_market, given_meter, given_meter_key

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A deployment with its meter and key, and a buyer whose contract's window began an hour ago and ends now."""

    def __init__(self) -> None:
        self.deployment = given_deployment()
        self.contract = given_contract(self.deployment)
        self.buyer = self.contract.buyer
        self.meter = given_meter(self.deployment)
        self.secret = given_meter_key(self.meter)
        self.door = Door(self.secret)
        register_alias(provider=self.deployment.provider, subject="acme", buyer=self.buyer, now=NOW)

    def event(self, id_: str = "e-1", **changes: Any) -> dict[str, Any]:
        defaults = {"subject": "acme", "time": (NOW - timedelta(minutes=30)).isoformat()}
        return event(id_, **defaults | changes)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()

    with transaction.atomic():
        made = World()
    yield made


def found() -> list[tuple[str, int]]:
    return list(UsageEvent.objects.order_by("id").values_list("id", "contract_id"))


def test_a_batch_is_stored_and_answered_event_by_event(world: World) -> None:
    answer = world.door.post([world.event(), world.event("e-2", output_tokens=-1), world.event("e-3")])
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "results": [
            {"id": "e-1", "status": "accepted"},
            {"id": "e-2", "status": "rejected", "code": "negative-count", "field": "data.output_tokens",
             "detail": "Expected `int` >= 0 (data.output_tokens)."},
            {"id": "e-3", "status": "accepted"},
        ],
        "accepted": 2, "duplicate": 0, "conflict": 0, "rejected": 1,
    }  # fmt: skip
    again = world.door.post([world.event(), world.event("e-3", output_tokens=1)])
    assert [r["status"] for r in again.json()["results"]] == ["duplicate", "conflict"]
    assert found() == [("e-1", world.contract.pk), ("e-3", world.contract.pk)]


def test_single_events_posted_at_once_share_a_commit(world: World) -> None:
    singles = [world.event(f"e-{i % 20}") for i in range(40)]
    answers = world.door.post_together([*singles, world.event("bad", output_tokens=-1)])
    assert [a.status_code for a in answers] == [200] * 41
    results = [a.json()["results"][0]["status"] for a in answers]
    assert sorted(results) == ["accepted"] * 20 + ["duplicate"] * 20 + ["rejected"]
    assert results[-1] == "rejected"
    assert UsageEvent.objects.count() == 20


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies(world: World, encoding: str) -> None:
    plain = msgspec.json.encode([world.event(f"e-{i}") for i in range(50)])
    packed = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)
    answer = world.door.post(packed, Content_Encoding=encoding)
    assert answer.json()["accepted"] == 50
    broken = world.door.post(packed[:-9], Content_Encoding=encoding)
    assert (broken.status_code, broken.json()["code"]) == (400, "unreadable-body")
    bomb = b"[" + b" " * (16 * 2**20) + b"]"
    bomb = gzip.compress(bomb) if encoding == "gzip" else zstandard.compress(bomb)
    assert (world.door.post(bomb, Content_Encoding=encoding)).status_code == 413


BAD_BODIES = [
    (b"", 400, "malformed-json"),
    (b"nope", 400, "malformed-json"),
    (b'{"id": "\xff"}', 400, "invalid-utf-8"),
    (b"[" * 100_000, 400, "malformed-json"),
    (b"[" + b"{}," * 10_000 + b"{}]", 400, "too-many-events"),
    (b" " * (16 * 2**20 + 1), 413, "body-too-large"),
]


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES)
def test_a_body_that_cannot_be_read_is_a_problem(world: World, body: bytes, status: int, code: str) -> None:
    answer = world.door.post(body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_strangers_are_refused(world: World) -> None:
    def other_keys() -> tuple[str, str, str]:
        from tests.given import given_api

        trader = given_api(world.deployment.provider).secret
        revoked = given_meter_key(world.meter)
        ApiKey.objects.filter(pk=ApiKey.objects.latest("id").pk).update(revoked_at=NOW)
        foreign = given_meter_key(given_meter(organization=world.buyer))
        ApiKey.objects.filter(pk=ApiKey.objects.latest("id").pk).update(meter_id=world.meter.pk)
        return trader or "", revoked, foreign

    trader, revoked, foreign = other_keys()
    for secret, status, code in [
        (None, 401, "key-invalid"), ("ck_nothing", 401, "key-invalid"), (revoked, 401, "key-invalid"),
        (trader, 403, "scope-missing"), (foreign, 403, "meter-closed"),
    ]:  # fmt: skip
        answer = Door(secret).post([world.event()])
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (world.door.post([world.event()], Content_Type="text/plain")).status_code == 415

    def close() -> None:

        with transaction.atomic():
            close_meter(meter=Meter.objects.get(pk=world.meter.pk), now=NOW)
        attribution.forget_cached_routes()

    close()
    assert (world.door.post([world.event()])).json()["code"] == "meter-closed"
    assert UsageEvent.objects.count() == 0


def test_usage_finds_its_contract_by_time_and_subject(world: World) -> None:
    def more() -> tuple[DeliveryContract, int]:
        earlier = given_market(world.deployment.grade, NOW - timedelta(hours=5))
        other = given_contract(world.deployment, market=earlier)
        elsewhere = given_contract()
        return other, elsewhere.pk

    other, elsewhere = more()
    earlier = (NOW - timedelta(hours=4, minutes=30)).isoformat()
    answer = world.door.post(
        [
            world.event("1-in"),
            world.event("2-start", time=world.contract.window_start.isoformat()),  # type: ignore[union-attr]
            world.event("3-end", time=world.contract.window_end.isoformat()),  # type: ignore[union-attr]
            world.event("4-number", subject=f"contract:{other.pk}", time=earlier),
            world.event("5-bare", subject=str(other.pk), time=earlier),
            world.event("6-alone", time=earlier),
            world.event("7-stranger", subject="nobody"),
            world.event("8-foreign", subject=f"contract:{elsewhere}"),
        ]
    )
    codes = [r.get("code", r["status"]) for r in answer.json()["results"]]
    assert codes == ["accepted"] * 6 + ["unknown-subject"] * 2

    def check() -> None:
        standing = DeliveryContract.objects.get(kind="list")
        assert (standing.buyer_id, standing.provider_id) == (world.buyer.pk, world.deployment.provider_id)
        assert found() == [
            ("1-in", world.contract.pk), ("2-start", world.contract.pk), ("3-end", standing.pk),
            ("4-number", other.pk), ("5-bare", other.pk), ("6-alone", standing.pk),
        ]  # fmt: skip
        by_contract = {row.contract_id for row in UsageRollup.objects.all()}
        assert by_contract == {world.contract.pk, standing.pk, other.pk}

    check()


def test_a_window_without_contracts_yet_keeps_its_events_for_later(world: World) -> None:
    def call() -> None:
        start = NOW - timedelta(hours=3)
        given_market(world.deployment.grade, start, phase="call", gate_closed_at=None)

    call()
    answer = world.door.post([world.event(time=(NOW - timedelta(hours=2, minutes=30)).isoformat())])
    assert answer.json()["results"][0]["code"] == "contract-pending"
    assert RejectedEvent.objects.count() == 1


def test_a_buyers_gateway_names_contracts_and_counts_apart(world: World) -> None:
    def key() -> str:
        return given_meter_key(given_meter(organization=world.buyer))

    door = Door(key())
    stranger = given_contract()
    answer = door.post(
        [
            world.event(subject=f"contract:{world.contract.pk}"),
            world.event("e-2", subject=f"contract:{stranger.pk}"),
            world.event("e-3"),
        ]
    )
    assert [r["status"] for r in answer.json()["results"]] == ["accepted", "rejected", "rejected"]
    assert found() == [("e-1", world.contract.pk)]


def test_signed_usage(world: World) -> None:
    """A signature must be right where there is one, and be there where the grade wants it."""
    private = Ed25519PrivateKey.generate()

    def sign(body: bytes, key: Ed25519PrivateKey = private) -> str:
        return f"ed25519={base64.b64encode(key.sign(body)).decode()}"

    body = msgspec.json.encode([world.event()])
    signed = given_meter(world.deployment, public_key=private.public_key().public_bytes_raw())
    door = Door(given_meter_key(signed))
    assert door.post(body).json()["accepted"] == 1
    for grade_wants_it in (False, True):
        Grade.objects.update(signed_usage=grade_wants_it)
        attribution.forget_cached_routes()
        assert door.post(body, Ciyuan_Signature=sign(body)).json()["duplicate"] == 1
        packed = gzip.compress(body)
        assert door.post(packed, Content_Encoding="gzip", Ciyuan_Signature=sign(packed)).json()["duplicate"] == 1
        for wrong in (sign(body + b" "), sign(body, Ed25519PrivateKey.generate()), "ed25519=", "ed25519=%%", "x"):
            refused = door.post(body, Ciyuan_Signature=wrong)
            assert (refused.status_code, refused.json()["code"]) == (401, "signature-invalid")
    assert door.post(body).json()["code"] == "signature-missing"
    assert world.door.post(body).json()["code"] == "no-public-key"


def test_too_many_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door takes its permits from where the API does."""
    few = Limiter(12, settings.CACHES["default"]["LOCATION"])
    monkeypatch.setattr("metering_ingest.ingest_asgi.limiter", lambda: few)
    monkeypatch.setattr("identity.api.base.limiter", lambda: few)
    monkeypatch.setattr("core.rate_limit._window", lambda: 7)
    sent = world.door.post([world.event()])
    assert (sent.status_code, sent.headers["ratelimit"]) == (200, '"organization";r=1;t=1')
    api = given_api(world.deployment.provider)
    listed = api.get("/v1/meters")
    assert (listed.status_code, listed.headers["RateLimit"]) == (200, '"organization";r=0;t=1')
    assert listed.headers["RateLimit-Policy"] == '"organization";q=2;w=10'
    refused = world.door.post([world.event("e-2")])
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert int(refused.headers["retry-after"]) >= 1
    assert api.get("/v1/meters").status_code == 429
    assert UsageEvent.objects.count() == 1


def test_what_was_set_aside_is_replayed_by_command_and_page(world: World, client: Any) -> None:
    """Once the cause is mended; what is still wrong stays with its reason."""
    sent = [world.event("a", subject="late"), world.event("b", subject="later"), world.event("c", output_tokens=-1)]
    assert world.door.post(sent).json()["rejected"] == 3

    def learn(subject: str) -> None:
        with transaction.atomic():
            register_alias(provider=world.deployment.provider, subject=subject, buyer=world.buyer, now=NOW)
        attribution.forget_cached_routes()

    learn("late")
    printed = io.StringIO()
    call_command("replay_rejected", "--code", "unknown-subject", stdout=printed)
    assert printed.getvalue() == "replayed 2 events: 1 accepted, 1 rejected\n"
    assert found() == [("a", world.contract.pk)]
    learn("later")
    client.force_login(given_user(world.buyer))
    client.post("/usage/rejected/replay")
    assert found() == [("a", world.contract.pk)], "a stranger replays nothing of it"
    client.force_login(given_user(world.deployment.provider))
    assert "/usage/rejected/replay" in client.get("/usage/rejected").content.decode()
    page = client.post("/usage/rejected/replay", follow=True, headers={"Accept-Language": "en"}).content.decode()
    assert "1 events are stored now; 1 still wait." in page
    assert found() == [("a", world.contract.pk), ("b", world.contract.pk)]
