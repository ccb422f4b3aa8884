"""
An instance: one complete exchange of its own, with its data folder, database, Valkey, ports, clock and processes.

`make run` hands the processes of one to a supervisor; the replayed day and the process tests start theirs directly:

    with Instance(var=tmp_path, clock=True).started() as instance:
        operator = instance.bootstrap()  # {"api_key": …, "email": …, "password": …}
        httpx.get(instance.base_url + "/healthz")
        instance.kill9("worker"); instance.restart("worker")
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from config import leftovers, services, template

ROOT = Path(__file__).resolve().parent.parent
OPERATOR_EMAIL = "operator@ciyuan.example"
CHILD = str(ROOT / "config" / "child.py")


@dataclass(frozen=True, slots=True)
class Process:
    """One process of an instance: how it is started, and the variables that are its own."""

    name: str
    command: list[str]
    role: str
    is_service: bool = False  # Postgres or Valkey: runs as the services' user


@dataclass
class Instance:
    """
    What an instance is made of; nothing runs until `start()`.

    :param var: its data folder; the same folder finds the same data again.
    :param port: where its web answers on 127.0.0.1; 0 picks a free one.
    :param web_workers: web processes behind that port.
    :param matching_workers: queues and processes that drain markets.
    :param workers: processes that take every other queue, each with `worker_threads` tasks at a time.
    :param outside_worker: whether what waits for others' servers (webhooks, payment services) has a process of its own.
    :param clock: whether its time can be moved (`set_clock`); its file is `var/clock.json`.
    :param seed: for whatever the instance draws at random (CIYUAN_SEED).
    :param settings: more environment for all processes.
    :param postgres_settings: overrides by name; durability stays on unless a test says otherwise.
    """

    var: Path
    port: int = 0
    host: str = "127.0.0.1"
    web_workers: int = 1
    matching_workers: int = 1
    workers: int = 1
    worker_threads: int = 1
    outside_worker: bool = False
    beat: bool = True
    clock: bool = False
    seed: int = 1
    database_url: str | None = None
    redis_url: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    postgres_settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.var = self.var.resolve()
        self.port = self.port or free_port()
        self.postgres, self.valkey = services.embedded(self.var, **self.postgres_settings)
        self._popen: dict[str, subprocess.Popen[bytes]] = {}

    # what it is ------------------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        return f"http://{self.host if self.host != '0.0.0.0' else '127.0.0.1'}:{self.port}"

    @property
    def records(self) -> Path:
        return self.var / "run"

    @property
    def logs(self) -> Path:
        return self.var / "log"

    @property
    def clock_file(self) -> Path:
        return self.var / "clock.json"

    def environment(self, role: str = "command") -> dict[str, str]:
        """The environment in which the instance's processes and commands run."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("CIYUAN_TEST_RUN")},
            "CIYUAN_ENV": os.environ.get("CIYUAN_ENV", "development"),
            "CIYUAN_ROLE": role,
            "CIYUAN_VAR": str(self.var),
            "CIYUAN_BASE_URL": self.base_url,
            "CIYUAN_MATCHING_WORKERS": str(self.matching_workers),
            "CIYUAN_CLOCK_FILE": str(self.clock_file) if self.clock else "",
            "CIYUAN_SEED": str(self.seed),
            "DATABASE_URL": self.database_url or self.postgres.url(),
            "REDIS_URL": self.redis_url or self.valkey.url(),
            "PROMETHEUS_MULTIPROC_DIR": str(self.var / "metrics"),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }

    def services(self) -> list[Process]:
        """The embedded servers; none where addresses of others are given."""
        found = []
        if self.database_url is None:
            found.append(Process("postgres", self.postgres.foreground_command(), "command", is_service=True))
        if self.redis_url is None:
            found.append(Process("valkey", self.valkey.foreground_command(), "command", is_service=True))
        return found

    def processes(self) -> list[Process]:
        """The web, the workers and the beat, in the order in which they start."""
        python = sys.executable
        celery = [python, "-m", "celery", "-A", "config.celery"]
        web = [
            python, "-m", "granian", "--interface", "asginl", "--loop", "uvloop",
            "--host", self.host, "--port", str(self.port), "--workers", str(self.web_workers),
            "--respawn-failed-workers", "--workers-kill-timeout", "10", "--no-access-log", "--log-level", "warning",
            "config.asgi:application",
        ]  # fmt: skip
        found = [Process("web", web, "web")]
        for number in range(self.matching_workers):
            # Solo: one process, whose book stays in its memory.
            options = ["-Q", f"matching.{number}", "-P", "solo", "-n", f"matching{number}@%h"]
            found.append(Process(f"matching{number}", [*celery, "worker", *options, *QUIET], "worker"))
        for number in range(self.workers):
            pool = ["-P", "solo"] if self.worker_threads == 1 else ["-P", "prefork", "-c", str(self.worker_threads)]
            queues = "exchange,billing,metering,default" + ("" if self.outside_worker else ",outside")
            options = ["-Q", queues, *pool, "-n", f"worker{number}@%h"]
            name = "worker" if self.workers == 1 else f"worker{number}"
            found.append(Process(name, [*celery, "worker", *options, *QUIET], "worker"))
        if self.outside_worker:
            options = ["-Q", "outside", "-P", "solo", "-n", "outside@%h"]
            found.append(Process("outside", [*celery, "worker", *options, *QUIET], "worker"))
        if self.beat:
            found.append(Process("beat", [*celery, "beat", "-l", "warning", "--pidfile="], "beat"))
        return found

    def wrapped(self, process: Process, *, pause: bool = False) -> list[str]:
        """The command that notes the process's pid, takes on its user, and becomes it."""
        options = ["--pause"] if pause else []
        owner = services.service_owner() if process.is_service else None
        if owner is not None:
            options += ["--uid", str(owner.pw_uid), "--gid", str(owner.pw_gid)]
        return [sys.executable, "-P", CHILD, str(self.records), process.name, *options, "--", *process.command]

    # starting and stopping -------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the folders, end leftovers of a killed start, and lay out an empty cluster on first need."""
        for folder in (self.records, self.logs, self.var / "metrics"):
            folder.mkdir(parents=True, exist_ok=True)
        leftovers.end(leftovers.read(self.records))
        leftovers.forget(self.records)
        for path in (self.var / "metrics").glob("*.db"):
            path.unlink()
        if self.database_url is None or self.redis_url is None:
            self.postgres.home.prepare()

    def start(self, *, wait: bool = True) -> None:
        """Start all processes directly, on a copy of the migrated cluster where the instance has no data yet."""
        self.prepare()
        if self.database_url is None:
            self.postgres.initialise(template.migrated_cluster())
        self.start_services()
        for process in self.processes():
            self._spawn(process)
        if wait:
            self.wait_ready()

    def start_services(self) -> None:
        """Start the embedded servers and wait until they answer."""
        for process in self.services():
            self._spawn(process)
        self._wait_services()

    def _wait_services(self) -> None:
        if self.database_url is None:
            self.postgres.wait_ready(lambda: self._lives("postgres"), self.logs / "postgres.log")
        if self.redis_url is None:
            self.valkey.wait_ready(lambda: self._lives("valkey"), self.logs / "valkey.log")

    def _lives(self, name: str) -> bool:
        return name not in self._popen or self._popen[name].poll() is None

    def wait_ready(self, seconds: float = 60) -> None:
        """
        Wait until /readyz says that web, database, broker and workers are there.

        :raises services.ServiceError: when they are not in time, with what was missing.
        """
        deadline = time.monotonic() + seconds
        missing = "the web does not answer"
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError, ValueError):
                answer = httpx.get(f"{self.base_url}/readyz", timeout=5)
                if answer.status_code == 200:
                    return
                checks = answer.json()["checks"]
                missing = ", ".join(f"{name} ({c['text']})" for name, c in checks.items() if not c["ready"])
            time.sleep(0.1)
        raise services.ServiceError(f"Not ready after {seconds:.0f} s: {missing}. The logs are in {self.logs}.")

    @contextlib.contextmanager
    def started(self, *, wait: bool = True) -> Iterator[Instance]:
        """Start; stop at the end, whatever happens."""
        try:
            self.start(wait=wait)
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """End every process: web, workers and beat first, the servers last. The data stays."""
        leftovers.end(leftovers.read(self.records))
        leftovers.forget(self.records)
        for popen in self._popen.values():
            popen.wait(5)
        self._popen.clear()

    def remove(self) -> None:
        """Delete the data of a stopped instance."""
        self.postgres.home.remove()
        shutil.rmtree(self.var, ignore_errors=True)

    # what tests do to it ---------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """The pid of a process by its name (`web`, `worker`, `matching0`, `beat`, `postgres`, `valkey`)."""
        for record in leftovers.read(self.records):
            if record.name == name and record.leader() is not None:
                return record.pid
        raise KeyError(f"{name} is not running")

    def kill9(self, name: str) -> None:
        """Kill a process and all that it started, at once and without a word; return when they are gone."""
        record = next(record for record in leftovers.read(self.records) if record.name == name)
        if (leader := record.leader()) is not None:
            leader.suspend()  # it starts nothing more while the others are looked for
        members = record.members()
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.kill()
        if name in self._popen:
            self._popen.pop(name).wait(10)
        psutil.wait_procs(members, timeout=10)

    def restart(self, name: str, *, wait: bool = True) -> None:
        """Start a process that was killed or has ended; a server is awaited, its recovery included."""
        process = next(process for process in [*self.services(), *self.processes()] if process.name == name)
        self._spawn(process)
        if process.is_service and wait:
            self._wait_services()

    def manage(
        self, *arguments: str, check: bool = True, timeout: float = 600, extra: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """
        Run `manage.py` with `arguments` in the instance's environment.

        :raises services.ServiceError: when it fails and `check` is on, with what it printed.
        """
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT, env={**self.environment(), **(extra or {})}, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        if check and done.returncode:
            raise services.ServiceError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done

    def bootstrap(self) -> dict[str, str]:
        """
        Make the operator and load the catalogue; safe to repeat.

        :returns: `api_key`, `email`, `password` of the operator, and `base_url`: what `var/operator.json` says too.
        """
        path, key_file = self.var / "operator.json", self.var / "operator.key"
        kept = json.loads(path.read_text()) if path.exists() else {}
        password = kept.get("password") or secrets.token_urlsafe(12)
        self._write_secret(path, {"email": OPERATOR_EMAIL, "password": password})  # before it is used, lest it be lost
        commands = [["bootstrap", "--key-file", str(key_file), "--admin-email", OPERATOR_EMAIL,
                     "--admin-password-env", "CIYUAN_ADMIN_PASSWORD"]]  # fmt: skip
        if (ROOT / "providers" / "management" / "commands" / "load_catalogue.py").exists():
            commands.append(["load_catalogue"])
        for command in commands:
            self.manage(*command, extra={"CIYUAN_ADMIN_PASSWORD": password})
        body = {
            "api_key": key_file.read_text().strip(),
            "email": OPERATOR_EMAIL,
            "password": password,
            "base_url": self.base_url,
        }
        self._write_secret(path, body)
        return body

    @staticmethod
    def _write_secret(path: Path, body: dict[str, str]) -> None:
        scratch = path.with_suffix(".new")
        scratch.touch(mode=0o600)
        scratch.write_text(json.dumps(body, indent=2) + "\n")
        scratch.replace(path)

    def set_clock(self, **changes: Any) -> datetime:
        """Move or speed up the instance's time; see `core.clock.set_clock`."""
        from core.clock import set_clock

        self.var.mkdir(parents=True, exist_ok=True)
        return set_clock(self.clock_file, **changes)

    def _spawn(self, process: Process) -> None:
        """Start a process; return when its note is written, so that it can be found from now on."""
        with (self.logs / f"{process.name}.log").open("ab") as log:
            popen = self._popen[process.name] = subprocess.Popen(
                self.wrapped(process),
                cwd=ROOT, env=self.environment(process.role), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        while not any(record.pid == popen.pid for record in leftovers.read(self.records)):
            if popen.poll() is not None:
                path = self.logs / f"{process.name}.log"
                raise services.ServiceError(f"{process.name} ended at its start ({services.last_line(path)}).")
            time.sleep(0.01)


QUIET = ["-l", "info", "--without-gossip", "--without-mingle", "--without-heartbeat"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
