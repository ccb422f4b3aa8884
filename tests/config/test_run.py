"""`make run`: one supervised start, what gets in its way, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from config import leftovers, services
from config.instance import ROOT, free_port

pytestmark = pytest.mark.processes


class Started:
    """A `make run` of a test, in a data folder of its own."""

    def __init__(self, var: Path, port: int) -> None:
        self.var, self.port = var, port
        self.process: subprocess.Popen[str] | None = None

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        unwanted = ("CIYUAN_TEST_RUN", "DATABASE_URL", "REDIS_URL", "CIYUAN_ENV")
        environment = {key: value for key, value in os.environ.items() if key not in unwanted}
        environment |= {"CIYUAN_VAR": str(self.var), "DJANGO_SETTINGS_MODULE": "config.settings", "NO_DEMO": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "config.run", "--port", str(self.port), *arguments],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return self.process

    def wait_for(self, words: str, seconds: float = 120) -> str:
        """Read the terminal until `words` appear."""
        assert self.process is not None and self.process.stdout is not None
        seen, deadline = "", time.monotonic() + seconds
        while words not in seen:
            assert time.monotonic() < deadline, seen
            line = self.process.stdout.readline()
            assert line or self.process.poll() is None, seen
            seen += line
        return seen

    def records(self) -> dict[str, leftovers.Record]:
        return {record.name: record for record in leftovers.read(self.var / "run")}


@pytest.fixture
def started(tmp_path: Path):
    one = Started(tmp_path / "a folder", free_port())
    yield one
    if one.process is not None and one.process.poll() is None:
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=90)
    leftovers.end(leftovers.read(one.var / "run"))
    services.Home(one.var).remove()


def test_a_taken_port_is_one_sentence(started):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", started.port))
        taken.listen()
        output, _ = started.run().communicate(timeout=60)
    assert started.process.returncode == 1
    assert f"make: Port {started.port} is taken by" in output
    assert f"PORT={started.port + 1}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(("port", "words"), [("eight", "PORT must be a number"), ("70000", "There is no port 70000")])
def test_a_senseless_port_is_one_sentence(started, port, words):
    output, _ = started.run("--port", port).communicate(timeout=60)
    assert words in output
    assert "Traceback" not in output


@pytest.mark.proof
def test_lives_through_kills_and_leaves_nothing_behind(started):
    started.run()
    started.wait_for("Ctrl-C stops everything.")
    assert httpx.get(f"http://127.0.0.1:{started.port}/readyz").status_code == 200

    second = Started(started.var, free_port())
    output, _ = second.run().communicate(timeout=60)
    assert f"It is already running: http://127.0.0.1:{started.port}" in output

    for name in ("worker", "postgres", "web"):
        before = started.records()[name]
        before.leader().kill()
        assert f"exited: {name}" in started.wait_for("exited: ")
        deadline = time.monotonic() + 60
        while started.records()[name].pid == before.pid or started.records()[name].leader() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    first = started.records()
    started.process.kill()
    started.process.wait()
    assert first["supervisor"].leader() is not None, "the supervisor outlives a kill of the run"
    started.run()
    started.wait_for("Ctrl-C stops everything.")
    assert not any(record.leader() for name, record in first.items())

    pids = [record.pid for record in started.records().values()]
    started.process.send_signal(signal.SIGINT)
    started.process.send_signal(signal.SIGTERM)  # as a terminal and make do together
    output, _ = started.process.communicate(timeout=90)
    assert "Stopped. The data stays" in output
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert started.records() == {}
