"""An instance of its own: real processes that are killed and started again."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import UTC, datetime

import httpx
import psutil
import psycopg
import pytest

from config import leftovers
from config.instance import Instance

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("instance")]  # one instance for all of them


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    instance = Instance(var=tmp_path_factory.mktemp("an instance"), clock=True)
    with instance.started() as running:
        yield running
    instance.remove()


def test_it_is_ready_with_all_its_processes(instance):
    names = {record.name for record in leftovers.read(instance.records) if record.leader()}
    assert names == {"postgres", "valkey", "web", "matching0", "worker", "beat"}
    assert httpx.get(f"{instance.base_url}/readyz").json()["ready"]


def test_its_database_is_durable(instance):
    with psycopg.connect(instance.postgres.url()) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == ("on",)


@pytest.mark.proof  # four commands, each a process that imports everything
def test_bootstrap_twice_is_bootstrap_once(instance):
    first = instance.bootstrap()
    assert instance.bootstrap() == first == json.loads((instance.var / "operator.json").read_text())
    answer = httpx.get(f"{instance.base_url}/v1/whoami", headers={"Authorization": f"Bearer {first['api_key']}"})
    assert answer.status_code == 200, answer.text


def test_all_processes_share_its_clock(instance):
    there = datetime(2099, 1, 1, tzinfo=UTC)
    instance.set_clock(product=there, speed=0)
    shown = instance.manage("shell", "-v0", "-c", "from core import clock; print(clock.now().isoformat())")
    assert shown.stdout.strip() == there.isoformat()


def test_the_request_id_follows_into_the_log_of_a_failing_task(instance):
    send = (
        "from core import request_id; from config.celery import app; request_id.current.set('feedfacecafe0001'); "
        "app.send_task('core.tasks.heartbeat', args=[], queue='default')"
    )
    instance.manage("shell", "-v0", "-c", send)
    deadline = time.monotonic() + 30
    log = instance.logs / "worker.log"
    while not (found := [line for line in log.read_text().splitlines() if "raised unexpected" in line]):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    assert json.loads(found[-1])["request_id"] == "feedfacecafe0001"


@pytest.mark.proof
@pytest.mark.parametrize("name", ["web", "worker", "valkey", "postgres"])
def test_survives_a_kill(instance, name):
    before = instance.pid(name)
    instance.kill9(name)
    assert not psutil.pid_exists(before)
    instance.restart(name)
    instance.wait_ready()
    assert instance.pid(name) != before


def test_a_second_start_ends_what_a_killed_one_left(instance, tmp_path):
    other = Instance(var=tmp_path / "left over", beat=False)
    other.start(wait=False)
    pids = [record.pid for record in leftovers.read(other.records)]
    again = Instance(var=tmp_path / "left over", beat=False)
    again.prepare()
    deadline = time.monotonic() + 5
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < deadline
    other.stop()
    again.remove()


def test_a_stranger_with_the_same_pid_is_left_alone(tmp_path):
    child = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")
    try:
        note = {"pid": child, "started": psutil.Process(child).create_time() - 100, "command": []}
        (tmp_path / "web.json").write_text(json.dumps(note))
        assert leftovers.end(leftovers.read(tmp_path), seconds=1) == []
        assert psutil.pid_exists(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
