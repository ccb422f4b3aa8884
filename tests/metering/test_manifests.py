"""What a meter says it recorded in an hour is held against what arrived: gaps are named, announced, and filled."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from ciyuan import Client, Meter
from ciyuan.manifests import Manifest
from ciyuan.signing import Signer
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction

from core import clock
from identity.actions.webhooks import create_endpoint
from identity.auth import forget_cached_keys
from identity.models import WebhookEvent
from metering_ingest import tasks
from metering_ingest.actions import attribution, partitions
from metering_ingest.actions.archiving import archive_day
from metering_ingest.actions.meters import register_alias
from metering_ingest.models import Meter as MeterRow
from metering_ingest.models import UsageEvent, UsageGap, UsageManifest
from tests.given import NOW, given_actor, given_api, given_deployment, given_organization, given_user
from tests.metering.conftest import event
from tests.metering.given import Door, given_meter, given_meter_key
from tests.sdk.in_process import commands

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = NOW - timedelta(hours=2)


class InProcess(httpx.BaseTransport):
    """Both doors of the exchange in this process, as the ASGI application parts them. `lose`: events that get lost."""

    def __init__(self, secret: str) -> None:
        self.door, self.django = Door(secret), httpx.WSGITransport(app=WSGIHandler())  # type: ignore[arg-type]
        self.paths: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(f"{request.method} {request.url.path}")
        if request.url.path != "/v1/events":
            return self.django.handle_request(request)
        signature = request.headers.get("Ciyuan-Signature")
        answer = self.door.post(request.read(), **({"Ciyuan_Signature": signature} if signature else {}))
        return httpx.Response(answer.status_code, headers={"Content-Type": "application/json"}, content=answer.content)


class World:
    def __init__(self, signer: Signer | None = None) -> None:
        self.deployment = given_deployment()
        register_alias(provider=self.deployment.provider, subject="acme", buyer=given_organization(), now=NOW)
        self.signer = signer
        self.meter = given_meter(self.deployment, public_key=bytes.fromhex(signer.public_hex) if signer else None)
        self.secret = given_meter_key(self.meter)
        self.door = Door(self.secret)
        self.owner = given_api(self.deployment.provider)

    def http(self) -> httpx.Client:
        return httpx.Client(
            transport=InProcess(self.secret), base_url="http://localhost",
            headers={"Authorization": f"Bearer {self.secret}"},
        )  # fmt: skip

    def client(self) -> Client:
        return Client(self.secret, http=self.http())

    def sdk_meter(self, spool: Path, now: datetime = NOW, **options: Any) -> Meter:
        return Meter(
            source="gw", spool=spool, api_key=self.secret, http=self.http(), background=False, now=lambda: now,
            signer=self.signer, **options,
        )  # fmt: skip

    def gaps(self) -> dict[str, tuple[int, int]]:
        rows = self.owner.get("/v1/manifests/gaps").json()["items"]
        return {row["token_class"]: (row["expected"], row["received"]) for row in rows}


@pytest.fixture(autouse=True)
def _in_one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def given_world(signer: Signer | None = None) -> World:
    with transaction.atomic():
        return World(signer)


def manifest(events: int, *, revision: int = 1, log: str = "l-1", source: str = "gw", **sums: int) -> Manifest:
    named = {"requests": events, **{name.replace("__", "."): count for name, count in sums.items()}}
    return Manifest(source, log, HOUR, revision, events, named)


def usage(id_: str, source: str = "gw", **changes: Any) -> dict[str, Any]:
    return event(id_, source=source, subject="acme", time=(HOUR + timedelta(minutes=5)).isoformat(), **changes)


FULL = {"input__text": 60, "input__text__cache_read": 40, "output__text": 20}


def times(n: int) -> dict[str, int]:
    return {name: n * count for name, count in FULL.items()}


def test_a_signed_manifest_of_what_arrived_is_complete() -> None:
    signer = Signer.new()
    world = given_world(signer)
    exchange = world.client()
    assert world.door.post([usage("a"), usage("b")]).status_code == 200
    said = manifest(2, **times(2))
    assert exchange.manifests.send(said, signer=signer).state == "complete"
    unsigned, forged = exchange, Signer.new()
    for wrong in (None, forged):
        with pytest.raises(Exception, match="sign"):
            unsigned.manifests.send(said, signer=wrong)
    row = UsageManifest.objects.get()
    assert bytes(row.body) == said.body() and row.signature is not None
    [shown] = world.owner.get("/v1/manifests?state=complete").json()["items"]
    assert shown["signed"] and shown["events"] == 2 and shown["sums"]["input.text"] == 120
    assert given_api(given_organization("both")).get("/v1/manifests").json()["items"] == []


def test_a_gap_is_named_announced_and_closed() -> None:
    world = given_world()
    exchange = world.client()
    with transaction.atomic():
        create_endpoint(
            organization_id=world.deployment.provider_id, url="https://example.com/hook", events=[], description="",
            now=NOW, actor=given_actor(world.deployment.provider),
        )  # fmt: skip
    world.door.post([usage("a"), usage("b")])
    answer = exchange.manifests.send(manifest(3, **times(3)))
    assert answer.state == "missing"
    assert {gap.token_class: gap.missing for gap in answer.gaps or []} == {
        "events": 1, "requests": 1, "input.text": 60, "input.text.cache_read": 40, "output.text": 20,
    }  # fmt: skip
    assert world.gaps()["output.text"] == (60, 40)
    [told] = WebhookEvent.objects.filter(type="usage.missing")
    assert told.data["hour"] == HOUR.isoformat() and {gap["missing"] for gap in told.data["gaps"]} == {1, 60, 40, 20}
    exchange.manifests.send(manifest(3, **times(3)))
    assert WebhookEvent.objects.filter(type="usage.missing").count() == 1, "told once"
    world.door.post([usage("c")])
    assert tasks.check_gaps() == 0  # the sweep finds that it has come
    assert world.gaps() == {} and UsageManifest.objects.get().state == "complete"
    assert len(world.owner.get("/v1/manifests/gaps?closed=true").json()["items"]) == 5
    assert tasks.check_gaps() == 0


def test_several_logs_add_up_and_each_source_answers_for_itself() -> None:
    world = given_world()
    exchange = world.client()
    world.door.post([usage("a"), usage("b"), usage("x", source="other"), usage("y", source="other")])
    exchange.manifests.send(manifest(1, log="l-1", **times(1)))
    assert exchange.manifests.send(manifest(1, log="l-2", **times(1))).state == "complete"
    # `other` sent one more than it recorded: that hides nothing of what `gw` misses.
    assert exchange.manifests.send(manifest(1, source="other", **times(1))).state == "surplus"
    answer = exchange.manifests.send(manifest(2, log="l-2", revision=2, **times(2)))
    assert answer.state == "missing" and {gap.source for gap in answer.gaps or []} == {"gw"}
    # A revision that comes too late changes nothing.
    assert exchange.manifests.send(manifest(1, log="l-2", revision=1, **times(1))).revision == 2


def test_a_manifest_that_never_comes_is_missed_and_closed_when_it_does() -> None:
    world = given_world()
    exchange = world.client()
    early = HOUR - timedelta(hours=2)
    world.door.post([usage("a"), usage("before") | {"time": early.isoformat()}])
    assert tasks.miss_manifests() == 0, "nobody ever sent one"
    said = manifest(1, **times(1))
    exchange.manifests.send(Manifest(said.source, said.log, early, 1, 1, said.sums))
    assert tasks.miss_manifests() == 1 and tasks.miss_manifests() == 0  # of HOUR, told once
    assert world.gaps() == {"manifest": (1, 0)}
    assert tasks.check_gaps() == 1 and world.gaps() == {"manifest": (1, 0)}
    assert exchange.manifests.send(said).state == "complete"
    assert world.gaps() == {} and tasks.miss_manifests() == 0


def test_of_several_sources_only_the_one_that_reported_is_missed() -> None:
    world = given_world()
    exchange = world.client()
    early = HOUR - timedelta(hours=1)
    for source in ("gw", "other"):
        world.door.post([usage(f"a-{source}", source=source) | {"time": early.isoformat()}])
        said = manifest(1, source=source, **times(1))
        exchange.manifests.send(Manifest(source, "l", early, 1, 1, said.sums))
    world.door.post([usage("b", source="other")])  # `gw` had nothing to do in that hour
    assert tasks.miss_manifests() == 1
    assert [row.source for row in UsageGap.objects.filter(token_class="manifest")] == ["other"]


def test_a_late_manifest_of_an_archived_hour_shows_no_false_gap(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two sources, so that the events themselves are counted, which lie in a file by now."""
    monkeypatch.setattr(settings, "ARCHIVE_DIR", tmp_path)
    world = given_world()
    exchange = world.client()
    old = (NOW - timedelta(days=30)).replace(minute=0)
    when = {"time": (old + timedelta(minutes=5)).isoformat()}
    world.door.post([usage("a") | when, usage("b", source="other") | when])
    assert archive_day(day=old.date(), now=NOW) is not None
    said = manifest(1, **times(1))
    for source in ("gw", "other"):
        assert exchange.manifests.send(Manifest(source, "l", old, 1, 1, said.sums)).state == "complete"
    more = exchange.manifests.send(Manifest("gw", "l", old, 2, 2, {name: 2 * n for name, n in said.sums.items()}))
    assert more.state == "missing" and {gap.received for gap in more.gaps or []} == {1, 60, 40, 20}


def test_the_meters_page_shows_manifests_gaps_and_what_was_set_aside(client: Any) -> None:
    world = given_world()
    world.door.post([usage("a"), usage("lost") | {"subject": "nobody"}])
    world.client().manifests.send(manifest(2, **times(2)))
    with transaction.atomic():
        owner, stranger = given_user(world.deployment.provider), given_user(given_organization("provider"))
    path = f"/meters/{world.meter.pk}"
    client.force_login(owner)
    assert f'href="{path}"' in client.get("/meters", headers={"Accept-Language": "en"}).content.decode()
    page = client.get(path, headers={"Accept-Language": "en"}).content.decode()
    for shown in ("gw / a", "output.text", "unknown-subject", "Missing", "Replay what waits"):
        assert shown in page, shown
    with transaction.atomic():
        register_alias(provider=world.deployment.provider, subject="nobody", buyer=given_organization(), now=NOW)
    attribution.forget_cached_routes()
    answer = client.post("/usage/rejected/replay", {"meter": str(world.meter.pk)})
    assert (answer.status_code, answer["Location"]) == (302, path)
    assert tasks.check_gaps() == 0
    page = client.get(path, headers={"Accept-Language": "en"}).content.decode()
    assert "Nothing is missing" in page and "No event is set aside" in page and "Complete" in page
    client.force_login(stranger)
    assert client.get(path).status_code == 404


def test_voided_and_rejected_events() -> None:
    world = given_world()
    exchange = world.client()
    void = usage("v-1") | {"type": "ciyuan.usage.void"}
    void["data"] = {"refers_to": {"id": "a", "source": "gw", "time": usage("a")["time"]}}
    world.door.post([usage("a"), usage("b"), void, usage("c") | {"subject": "nobody"}])
    answer = exchange.manifests.send(manifest(3, **times(3)))
    assert answer.state == "missing" and UsageGap.objects.filter(token_class="events").get().received == 2
    assert {gap.set_aside for gap in answer.gaps or []} == {1}, "the missing event was rejected, and waits"
    buyer = given_organization()
    with transaction.atomic():
        register_alias(provider=world.deployment.provider, subject="nobody", buyer=buyer, now=NOW)
    attribution.forget_cached_routes()
    world.owner.post("/v1/events/rejected/replay", {})
    assert tasks.check_gaps() == 0 and world.gaps() == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"hour": NOW.replace(minute=5)}, "manifest-invalid"),
        ({"hour": NOW}, "hour-not-over"),
        ({"sums": {"output.smell": 3}}, "manifest-invalid"),
        ({"sums": {"output.text": -3}}, "manifest-invalid"),
        ({"revision": 0}, "manifest-invalid"),
    ],
)
def test_refuses_what_is_no_manifest(change: dict[str, Any], code: str) -> None:
    world = given_world()
    values = {"source": "gw", "log": "l", "hour": HOUR, "revision": 1, "events": 0, "sums": {}} | change
    with pytest.raises(Exception) as refused:
        world.client().manifests.send(Manifest(**values))
    assert refused.value.code == code  # type: ignore[attr-defined]
    assert not UsageManifest.objects.exists()
    answer = world.owner.post("/v1/manifests", {})
    assert answer.status_code == 403  # a member's key reports nothing


def test_the_meter_says_what_it_recorded_and_sends_again_what_got_lost(tmp_path: Path) -> None:
    signer = Signer.new()
    world = given_world(signer)
    with world.sdk_meter(tmp_path / "spool", batch=3) as meter:
        for n in range(10):
            meter.record(
                subject="acme", id=f"m-{n}", time=HOUR + timedelta(minutes=n), input_tokens=10, output_tokens=5
            )
        meter.record(subject="acme", id="now", time=NOW, input_tokens=10)
        meter.flush()
        assert [answer.state for answer in meter.send_manifests()] == ["complete"]
        assert meter.send_manifests() == []
    # As if the exchange had been restored from a copy of half an hour ago.
    lost = UsageEvent.objects.filter(id__in=["m-7", "m-8", "m-9"])
    with transaction.atomic():
        lose(world.meter, [row.id for row in lost])
    with world.sdk_meter(tmp_path / "spool") as meter:
        meter.record(subject="acme", id="late", time=HOUR + timedelta(minutes=50), output_tokens=1)  # the hour again
        meter.flush()
        [answer] = meter.send_manifests()
        assert answer.state == "complete" and answer.events == 11
    assert UsageEvent.objects.filter(meter_id=world.meter.pk).count() == 12
    assert UsageManifest.objects.get().revision == 2
    assert not UsageGap.objects.filter(closed_at__isnull=True).exists()
    assert UsageGap.objects.filter(token_class="events").get().expected == 11  # it was seen, and filled


def test_the_command_line_sends_a_spools_hour_again(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    world = given_world()
    spool = tmp_path / "spool"
    with world.sdk_meter(spool) as meter:
        for n in range(2):
            meter.record(subject="acme", id=f"m-{n}", time=HOUR + timedelta(minutes=n), input_tokens=10)
        meter.flush()
    run = commands(monkeypatch, capsys)
    given = ["meter", "resend", "--source", "gw", "--spool", str(spool)]
    assert run(world.client(), *given, "--hour", f"{HOUR:%Y-%m-%dT%H}")[:2] == (0, "2 duplicate\n")
    assert run(world.client(), *given, "--hour", "2020-01-01T00")[1] == "the spool keeps nothing of that hour\n"
    code, _, err = run(world.client(), "meter", "resend", "--source", "gw", "--spool", str(tmp_path / "no"), "--hour",
                       "2020-01-01T00")  # fmt: skip
    assert code == 1 and "there is no spool" in err


def lose(meter: MeterRow, ids: list[str]) -> None:
    """Take events out of the tables as no door of the product can."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_event WHERE meter_id = %s AND id = ANY(%s)", [meter.pk, ids])
        assert cursor.rowcount == 3
        cursor.execute(
            "UPDATE usage_rollup SET quantity = quantity - CASE token_class WHEN 1 THEN 3 WHEN 2 THEN 30 ELSE 15 END,"
            " events = events - 3 WHERE meter_id = %s AND hour = %s", [meter.pk, HOUR],
        )  # fmt: skip


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`ciyuan meter keygen`, `gaps` and `resend`, the last beside a meter that has the spool."""
    from ciyuan.cli import main

    def ciyuan(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["meter", *arguments])
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return out + err

    key, spool = tmp_path / "meter.key", tmp_path / "spool"
    public = ciyuan("keygen", str(key)).strip()
    signer = Signer.read(key)
    assert signer.public_hex == public and key.stat().st_mode & 0o77 == 0
    world = given_world(signer)
    with world.sdk_meter(spool) as meter:
        for n in range(3):
            meter.record(subject="acme", id=f"m-{n}", time=HOUR, input_tokens=10, output_tokens=5)
        meter.flush()
        with transaction.atomic():
            lose(world.meter, ["m-0", "m-1", "m-2"])
        world.client().manifests.send(manifest(3, input__text=30, output__text=15), signer=signer)
        member = Client(world.owner.secret, http=httpx.Client(
            transport=httpx.WSGITransport(app=WSGIHandler()), base_url="http://localhost",  # type: ignore[arg-type]
            headers={"Authorization": f"Bearer {world.owner.secret}"},
        ))  # fmt: skip
        monkeypatch.setattr("ciyuan.cli.metering.open_client", lambda: member)
        told = ciyuan("gaps")
        assert f"gw  {HOUR:%Y-%m-%dT%H}Z  output.text: 15 of 15 missing" in told and "4 gaps" in told
        monkeypatch.setattr("ciyuan.cli.metering.open_client", world.client)
        told = ciyuan("resend", "--source", "gw", "--spool", str(spool), "--signing-key", str(key), "--hour",
                      f"{HOUR:%Y-%m-%dT%H}")  # fmt: skip
        assert told.strip() == "3 accepted"
    assert tasks.check_gaps() == 0 and world.gaps() == {}
