"""
`make run` and `make sandbox`: the whole exchange on this machine, supervised, until Ctrl-C.

    python -m config.run [--port 8000] [--sandbox [--speed 43200]]    (NO_DEMO=1: without the demo market)

The processes are those of an `Instance`, kept alive by supervisord. The terminal shows what was done and what died;
everything else stands in var/log.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import httpx
import psutil
from supervisor.xmlrpc import SupervisorTransport

from config import leftovers, services, template
from config.instance import ROOT, Instance, Process

NEEDED_BYTES = 500_000_000
DEMO_SECONDS = 45
WEB_SECONDS = 180  # all processes start at once; a busy or small machine takes its time
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORTH_SHOWING = ("exited:", "gave up", "FATAL")


class Stopped(Exception):
    """Ctrl-C or TERM."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", default=os.environ.get("PORT") or "")
    parser.add_argument("--host", default=os.environ.get("HOST") or "127.0.0.1")
    parser.add_argument("--sandbox", action="store_true", help="an instance of its own whose clock runs fast")
    parser.add_argument("--speed", type=float, default=43_200, help="the sandbox's seconds per real second")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _stop)
    try:
        with contextlib.closing(Run(options)) as run:
            run.start()
            run.watch()
    except Stopped:
        print("Stopped. The data stays in var/ until `make clean`.", flush=True)
        return 0
    except services.ServiceError as error:
        print(f"\nmake: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("\nmake: The disk is full; free some space and run the same command again.", file=sys.stderr)
        return 1
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    # A terminal and make may both pass the signal on: the second must not interrupt the stopping.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


class Run:
    """One supervised start of an instance."""

    def __init__(self, options: argparse.Namespace) -> None:
        default = 8001 if options.sandbox else 8000
        try:
            port = int(options.port or default)
        except ValueError:
            raise services.ServiceError(f"PORT must be a number, not {options.port!r}.") from None
        var = Path(os.environ.get("CIYUAN_VAR") or ROOT / "var")
        self.sandbox: bool = options.sandbox
        self.speed: float = options.speed
        self.demo = not self.sandbox and not os.environ.get("NO_DEMO")
        self.instance = Instance(
            var=var / "sandbox" if self.sandbox else var,
            port=port,
            host=options.host,
            clock=self.sandbox,
            database_url=os.environ.get("DATABASE_URL") or None,
            redis_url=os.environ.get("REDIS_URL") or None,
            web_workers=int(os.environ.get("WEB_WORKERS", "1")),
            matching_workers=int(os.environ.get("CIYUAN_MATCHING_WORKERS", "1")),
            outside_worker=True,
        )
        self.lock: TextIO | None = None
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.started = time.monotonic()

    # starting ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """:raises services.ServiceError: when something is in the way, in one sentence; a new start may follow."""
        instance = self.instance
        self._lock()
        with _step("leftovers of an earlier start"):
            instance.prepare()
        self._check_port()
        self._check_disk()
        with _step("database and broker"):
            if instance.database_url is None:
                instance.postgres.initialise()
            if self.sandbox:  # months would pass while it starts, and years while it is stopped
                instance.set_clock(speed=1.0)
            self._start_supervisor()
            instance._wait_services()
        self._prepare_database()
        for process in instance.processes():
            self._start(process.name)
        with _step(f"web on port {instance.port}"):
            self._wait_for_web()
        with _step("workers"):
            instance.wait_ready(90)
        if self.sandbox:
            instance.set_clock(speed=self.speed)
        self._welcome()

    def _lock(self) -> None:
        """One start per data folder."""
        self.instance.records.mkdir(parents=True, exist_ok=True)
        self.lock = (self.instance.records / "lock").open("a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.seek(0)
            where = self.lock.read().strip() or "this folder"
            self.lock = None
            raise services.ServiceError(f"It is already running: {where}. Stop that one first.") from None
        self.lock.truncate(0)
        self.lock.write(f"{self.instance.base_url} (pid {os.getpid()})")
        self.lock.flush()

    def _check_port(self) -> None:
        port = self.instance.port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.instance.host, port))
            except PermissionError:
                raise services.ServiceError(f"Port {port} is not yours to open; take one above 1023.") from None
            except OverflowError:
                raise services.ServiceError(f"There is no port {port}; take one from 1024 to 65535.") from None
            except OSError:
                owner = _listener(port)
                raise services.ServiceError(f"Port {port} is taken{owner}; take another: PORT={port + 1}") from None

    def _check_disk(self) -> None:
        for folder in {self.instance.var, self.instance.postgres.home.folder.parent}:
            free = shutil.disk_usage(folder if folder.exists() else ROOT).free
            if free < NEEDED_BYTES:
                raise services.ServiceError(
                    f"The disk of {folder} has only {free / 1e6:.0f} MB left and a start needs "
                    f"{NEEDED_BYTES / 1e6:.0f} MB; free some and start again."
                )

    def _prepare_database(self) -> None:
        """Migrate and bootstrap, unless this data folder's own database has seen just this code do so."""
        instance = self.instance
        stamp = instance.var / "prepared"
        commands = sorted(ROOT.glob("*/management/commands/*.py"))
        key = f"{template.migrations_key(*commands)} {instance.base_url}"
        if instance.database_url is None:
            if stamp.exists() and stamp.read_text() == key:
                return
            template.ensure_database(instance.postgres.url("postgres"), template.DATABASE)
        with _step("migrations"):
            instance.manage("migrate", "-v0", "--no-input")
        with _step("operator and catalogue"):
            instance.bootstrap()
        if instance.database_url is None:
            stamp.write_text(key)

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + WEB_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.instance.base_url}/healthz", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        log = self.instance.logs / "web.log"
        last = services.last_line(log)
        raise services.ServiceError(f"The web did not answer within {WEB_SECONDS} s ({last}). Its log: {log}")

    def _welcome(self) -> None:
        """Start the demo market, and say where everything is."""
        instance = self.instance
        demo = instance.var / "demo.json"
        if any(process.name == "demo" for process in self._processes()):
            began = time.time()
            self._start("demo")
            with _step("demo market"):
                while not demo.exists() and time.time() - began < DEMO_SECONDS:
                    time.sleep(0.1)
        operator = json.loads((instance.var / "operator.json").read_text())
        lines = ["", f"Ciyuan 词元 is at {instance.base_url}  (after {time.monotonic() - self.started:.1f} s)", ""]
        sign_ins = [{**operator, "what": f"the operator; admin console at {instance.base_url}/admin/"}]
        first = gateway = ""
        if demo.exists():
            body = json.loads(demo.read_text())
            sign_ins += body.get("sign_ins", [])
            first, gateway = body.get("first", ""), body.get("gateway", "")
        for one in sign_ins:
            lines.append(f"  sign in as {one['email']}  password {one['password']}  {one['what']}")
        if first:
            lines += ["", f"  Look first at: {first}"]
        if gateway:
            lines += [f"  Call: {gateway}"]
        if self.sandbox:
            lines += ["", f"  Its clock runs {self.speed:g} times real time; `manage.py clock` shows and moves it."]
        lines += [
            "",
            f"  API {instance.base_url}/docs/api   readiness {instance.base_url}/readyz   logs {instance.logs}",
            "  Ctrl-C stops everything.",
            "",
        ]
        print("\n".join(lines), flush=True)

    # the supervisor ---------------------------------------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        found = self.instance.processes()
        if self.demo and importlib.util.find_spec("scenarios.demo") is not None:
            found.append(Process("demo", [sys.executable, "-m", "scenarios.demo"], "demo"))
        return found

    @property
    def _socket(self) -> Path:
        return self.instance.postgres.home.sockets / "supervisor.sock"

    def _start_supervisor(self) -> None:
        """Start supervisord, which starts the servers at once and the rest when told."""
        instance = self.instance
        config = instance.records / "supervisord.conf"
        log = instance.logs / "supervisor.log"
        self._log_from = log.stat().st_size if log.exists() else 0
        general = {
            "logfile": str(log),
            "logfile_maxbytes": "10MB",
            "logfile_backups": "2",
            "pidfile": str(instance.records / "supervisord.pid"),
            "nodaemon": "true",
            "silent": "true",
            "minfds": "1024",
            "umask": "022",
        }
        if services.is_root():
            general["user"] = "root"
        parts = [
            _section("supervisord", general),
            _section("unix_http_server", {"file": str(self._socket), "chmod": "0700"}),
            _section(
                "rpcinterface:supervisor",
                {"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
            ),
        ]
        for priority, process in enumerate([*instance.services(), *self._processes()], start=1):
            log_file = instance.logs / f"{process.name}.log"
            settings = {
                "command": shlex.join(instance.wrapped(process, pause=True)),
                "directory": str(ROOT),
                "priority": str(1 if process.is_service else 10 + priority),  # started first, stopped last
                "autostart": "true" if process.is_service else "false",
                "autorestart": "true",
                "startsecs": "2",
                "startretries": "1000",  # each after a longer pause
                "stopsignal": "INT" if process.name == "postgres" else "TERM",
                "stopwaitsecs": "20",
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": str(log_file),
                "stdout_logfile_maxbytes": "20MB",
                "stdout_logfile_backups": "2",
                "environment": f'CIYUAN_ROLE="{process.role}"',
            }
            parts.append(_section(f"program:{process.name}", settings))
        config.write_text("\n".join(parts))
        supervisord = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
        command = instance.wrapped(Process("supervisor", supervisord, "command"))
        self._socket.unlink(missing_ok=True)
        with (instance.logs / "supervisord.out").open("wb") as out:
            self.supervisor = subprocess.Popen(
                command, cwd=ROOT, env=instance.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while not self._answers():
            if self.supervisor.poll() is not None or time.monotonic() > deadline:
                reason = services.last_line(instance.logs / "supervisord.out")
                raise services.ServiceError(f"The supervisor did not start ({reason}).")
            time.sleep(0.05)

    def _rpc(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def _answers(self) -> bool:
        try:
            return bool(self._rpc().getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def _start(self, name: str) -> None:
        """Start a process; that it answers is for the caller to see."""
        try:
            self._rpc().startProcess(name, False)
        except (OSError, xmlrpc.client.Error) as error:
            log = self.instance.logs / f"{name}.log"
            raise services.ServiceError(f"{name} did not start ({error}). Its log is {log}") from None

    def watch(self) -> None:
        """Show what the supervisor says of dying processes, until a signal ends the run."""
        assert self.supervisor is not None
        with (self.instance.logs / "supervisor.log").open() as log:
            log.seek(self._log_from)
            while self.supervisor.poll() is None:
                for line in log:
                    if any(word in line for word in WORTH_SHOWING):
                        print(line.strip(), flush=True)
                time.sleep(0.3)
        raise services.ServiceError("The supervisor ended by itself; everything is being stopped. Start again.")

    def close(self) -> None:
        """End everything: the supervisor in its order, then whatever is left."""
        if self.lock is None:
            return  # another start owns this folder
        if self.supervisor is not None and self.supervisor.poll() is None:
            print("\nStopping …", flush=True)
            self.supervisor.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.supervisor.wait(45)
        leftovers.end(leftovers.read(self.instance.records))
        leftovers.forget(self.instance.records)
        if self.sandbox and self.instance.clock_file.exists():
            self.instance.set_clock(speed=1.0)
        self.lock.close()


def _section(name: str, settings: dict[str, str]) -> str:
    """A section of supervisord's configuration, in which a percent sign starts a substitution."""
    lines = [f"{key}={value.replace('%', '%%')}" for key, value in settings.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _listener(port: int) -> str:
    """Who listens on a port, as far as we may know."""
    with contextlib.suppress(psutil.Error):
        for found in psutil.net_connections("inet"):
            if found.laddr and found.laddr.port == port and found.status == psutil.CONN_LISTEN and found.pid:
                return f" by {psutil.Process(found.pid).name()} (pid {found.pid})"
    return ""


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    started = time.monotonic()
    print(f"  {what} … ", end="", flush=True)
    try:
        yield
    except BaseException:
        print("stopped", flush=True)
        raise
    print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
