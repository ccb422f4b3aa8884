"""Old days lie in files, and everything that is promised of an event still holds."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from core import clock
from core.periods import Period
from core.transactions import durable
from identity.auth import forget_cached_keys
from metering_ingest import tasks
from metering_ingest.actions import attribution, partitions
from metering_ingest.actions.archiving import TooRecent, archive_day
from metering_ingest.actions.meters import register_alias
from metering_ingest.actions.recount import recount
from metering_ingest.models import ArchivedPart, UsageEvent, UsageRollup, UsageVoid
from tests.given import NOW, given_deployment, given_organization
from tests.metering.conftest import event
from tests.metering.given import Door, given_meter, given_meter_key

pytestmark = pytest.mark.django_db(transaction=True)

OLD = NOW - timedelta(days=120)
DAY = OLD.date()


class World:
    def __init__(self) -> None:
        deployment = given_deployment()
        self.provider = deployment.provider
        durable(lambda: register_alias(provider=self.provider, subject="acme", buyer=given_organization(), now=NOW))
        self.meter = given_meter(deployment)
        self.door = Door(given_meter_key(self.meter))

    def send(self, *events: dict[str, Any]) -> list[str]:
        answer = self.door.post(list(events))
        assert answer.status_code == 200, answer.text
        return [result["status"] for result in answer.json()["results"]]

    def rolled_up(self) -> dict[tuple[date, int], tuple[int, int]]:
        found: dict[tuple[date, int], tuple[int, int]] = {}
        for row in UsageRollup.objects.filter(meter_id=self.meter.pk):
            key = (row.hour.date(), row.token_class)
            quantity, work = found.get(key, (0, 0))
            found[key] = (quantity + row.quantity, work + row.work_micro_st)
        return {key: sums for key, sums in found.items() if sums != (0, 0)}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    monkeypatch.setattr(settings, "ARCHIVE_DIR", tmp_path / "archive")
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    yield World()


def old(id_: str, minutes: int = 0, **changes: Any) -> dict[str, Any]:
    return event(id_, subject="acme", time=(OLD + timedelta(minutes=minutes)).isoformat(), **changes)


def recent(id_: str) -> dict[str, Any]:
    return event(id_, subject="acme", time=(NOW - timedelta(minutes=1)).isoformat())


def audit() -> str:
    printed = io.StringIO()
    with contextlib.suppress(SystemExit):
        call_command("audit", stdout=printed)
    return printed.getvalue()


def archived() -> ArchivedPart:
    part = archive_day(day=DAY, now=NOW)
    assert part is not None
    return part


STRANGE = 'quote " comma , new\nline \\N 词元'


def test_a_day_moves_to_parquet_and_everything_stays_as_it_was(world: World) -> None:
    events = [old(f"a-{n}", n, input_tokens=100 + n) for n in range(50)]
    events += [
        old(STRANGE, 55, tags={"team": STRANGE}, status="\\N"),
        old("sized", 56, input_bytes=400, output_bytes=80),
    ]
    assert world.send(*events) == ["accepted"] * 52
    before, period = world.rolled_up(), Period(OLD, OLD + timedelta(hours=2))
    contract = UsageEvent.objects.filter(meter_id=world.meter.pk).values_list("contract_id", flat=True)[0]
    counted = recount([contract], [world.meter.pk], period)
    part = archived()
    assert part.events == 52 and not UsageEvent.objects.filter(meter_id=world.meter.pk).exists()
    assert world.rolled_up() == before
    assert recount([contract], [world.meter.pk], period) == counted, "what settles again is rated from the files"
    with duckdb.connect() as database:
        path = str(Path(settings.ARCHIVE_DIR) / part.parquet)
        rows = database.execute("SELECT id, details FROM read_parquet(?) ORDER BY event_key", [path]).fetchall()
    assert [row[0] for row in rows] == [e["id"] for e in events]
    assert json.loads(rows[50][1]) == {"tags": {"team": STRANGE}, "status": "\\N"}
    assert audit().strip().endswith("audit: clean")


def test_what_is_archived_is_still_counted_once(world: World) -> None:
    events = [old(f"a-{n}", n) for n in range(20)]
    world.send(*events)
    archived()
    before = world.rolled_up()
    new = old("late", 40)
    # All of it again, one with other content, one that is new, in one batch with an event of today.
    changed = old("a-3", 3, input_tokens=999)
    today = recent("t")
    sent = [*events[:3], changed, *events[4:], new, today]
    assert world.send(*sent) == ["duplicate"] * 3 + ["conflict"] + ["duplicate"] * 16 + ["accepted"] * 2
    assert world.send(*sent) == ["duplicate"] * 3 + ["conflict"] + ["duplicate"] * 18
    assert world.rolled_up()[DAY, 1] == (before[DAY, 1][0] + 1, 0)
    assert UsageEvent.objects.filter(meter_id=world.meter.pk).count() == 2
    assert audit().strip().endswith("audit: clean")
    # The late one is archived into a part of its own; then all are known from two files.
    assert archived().number == 2
    assert world.send(*sent)[-2:] == ["duplicate", "duplicate"]
    assert audit().strip().endswith("audit: clean")


def test_an_archived_event_is_voided_and_amended(world: World) -> None:
    world.send(*(old(f"a-{n}", n, tags={"team": "x"}) for n in range(5)))
    archived()
    refers = {"id": "a-1", "source": "gw", "time": old("a-1", 1)["time"]}
    void = old("v", 1) | {"type": "ciyuan.usage.void", "data": {"refers_to": refers}}
    amend = old("am", 2, input_tokens=7, cached_input_tokens=0, output_tokens=1) | {"type": "ciyuan.usage.amend"}
    amend["data"]["refers_to"] = refers | {"id": "a-2", "time": old("a-2", 2)["time"]}
    assert world.send(void, amend) == ["accepted", "accepted"]
    assert world.send(void, amend) == ["duplicate", "duplicate"]
    assert world.rolled_up()[DAY, 1][0] == 4 and world.rolled_up()[DAY, 2][0] == 3 * 60 + 7
    unknown = void | {"id": "v2", "data": {"refers_to": refers | {"id": "nobody"}}}
    assert world.send(unknown) == ["rejected"]
    assert UsageVoid.objects.filter(meter_id=world.meter.pk).count() == 2
    assert audit().strip().endswith("audit: clean")


def test_an_id_at_another_time_is_found_before_the_day_is_archived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the table, whatever the distance, and in the archive; the first received stands."""
    earlier = OLD - timedelta(days=40)
    world.send(old("a"), old("b", 1), old("c", 2))
    world.send(event("a", subject="acme", time=(NOW - timedelta(hours=1)).isoformat()))  # 120 days later
    archived()
    assert UsageVoid.objects.get().reason == "duplicate"
    monkeypatch.setattr(clock, "now", lambda: NOW + timedelta(seconds=1))
    # `b` once more, reported for an earlier day after its first report was archived.
    world.send(event("b", subject="acme", time=earlier.isoformat()))
    assert archive_day(day=earlier.date(), now=NOW) is not None
    assert UsageVoid.objects.count() == 2
    # Of `a` and of `b` the first report stands, both of the archived day.
    assert {key: sums[0] for key, sums in world.rolled_up().items() if key[1] == 1} == {(DAY, 1): 3}
    assert audit().strip().endswith("audit: clean")


def test_the_audit_sees_a_damaged_archive(world: World) -> None:
    world.send(*(old(f"a-{n}", n) for n in range(5)))
    part = archived()
    path = Path(settings.ARCHIVE_DIR) / part.identities
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "archives-are-whole" in audit()
    path.unlink()
    assert "no file" in audit()
    # Nothing can be decided about its day: refused, to be sent again, and other days go on.
    assert world.door.post([old("a-1", 1)]).status_code == 503
    assert world.send(recent("n")) == ["accepted"]


def test_the_command_and_the_sweep(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooRecent):
        archive_day(day=(NOW - timedelta(days=8)).date(), now=NOW)
    world.send(old("a"), old("b", 24 * 60), recent("t"))
    printed = io.StringIO()
    call_command("archive_usage", "--most", "1", stdout=printed)
    assert f"{DAY}: 1 events in {DAY:%Y/%m}/usage_{DAY:%Y%m%d}_1.parquet" in printed.getvalue()
    assert tasks.archive_usage() == 1 and tasks.archive_usage() == 0
    assert ArchivedPart.objects.count() == 2 and UsageEvent.objects.filter(meter_id=world.meter.pk).count() == 1


def test_an_event_that_comes_in_meanwhile_stops_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from metering_ingest.actions import archiving

    world.send(old("a"))
    original: Callable[..., None] = archiving.archive_files.write_identities

    def slow(*arguments: Any) -> None:
        original(*arguments)
        world.send(old("b", 1))

    monkeypatch.setattr(archiving.archive_files, "write_identities", slow)
    with pytest.raises(archiving.ChangedMeanwhile):
        archive_day(day=DAY, now=NOW)
    assert not ArchivedPart.objects.exists() and UsageEvent.objects.filter(meter_id=world.meter.pk).count() == 2
    monkeypatch.undo()
    assert connection.connection is not None
