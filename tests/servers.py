"""
The servers that a test run starts for itself: one Postgres, one Valkey, in a data folder of their own.

Several runs (of several checkouts) live side by side. The migrated cluster is kept between runs, keyed by the
migrations' content, and copied: a run starts in about half a second when no migration has changed.
"""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg

from config import services

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "var" / "cache"
TEMPLATE = "ciyuan"  # the migrated database; tests work on copies of it
NO_WAIT_FOR_DISK = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "400"}
KEEP_CLUSTERS = 3

_RUN = "CIYUAN_TEST_RUN"  # set for the run's own children


def ensure() -> None:
    """Start this run's servers unless a parent process has, and put their addresses into the environment."""
    if os.environ.get(_RUN):
        return
    _remove_abandoned_runs()
    var = ROOT / "var" / "tests" / f"{os.getpid()}-{int(psutil.Process().create_time())}"
    os.environ.update(CIYUAN_ENV="test", CIYUAN_VAR=str(var))
    postgres, valkey = services.embedded(var, **NO_WAIT_FOR_DISK)
    postgres.initialise(migrated_cluster())
    valkey.start()
    postgres.start()
    os.environ.update({_RUN: str(os.getpid()), "DATABASE_URL": postgres.url(TEMPLATE), "REDIS_URL": valkey.url()})
    atexit.register(stop)


def stop() -> None:
    """End this run's servers and delete their data; nothing in a process that did not start them."""
    if os.environ.get(_RUN) == str(os.getpid()):
        del os.environ[_RUN]
        _end_run(Path(os.environ["CIYUAN_VAR"]))


def migrated_cluster() -> Path:
    """Return the folder of a stopped cluster with the migrated database `ciyuan`, made anew when migrations change."""
    key = _migrations_key()
    var = CACHE / f"cluster-{key}"
    postgres, _ = services.embedded(var, **NO_WAIT_FOR_DISK)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (var / "ready").exists():
            _forget_old_clusters()
            postgres.home.remove()
            shutil.rmtree(var, ignore_errors=True)
            postgres.initialise()
            postgres.start()
            try:
                with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {TEMPLATE}")
                environment = {
                    **os.environ,
                    "CIYUAN_ENV": "test",
                    "CIYUAN_VAR": str(var),
                    "DATABASE_URL": postgres.url(TEMPLATE),
                    "DJANGO_SETTINGS_MODULE": "config.settings",
                }
                done = subprocess.run(
                    [sys.executable, "manage.py", "migrate", "-v0", "--no-input"],
                    cwd=ROOT, env=environment, capture_output=True, text=True,
                )  # fmt: skip
                if done.returncode:
                    raise services.ServiceError(f"The migrations failed:\n{done.stderr}")
            finally:
                postgres.stop()
            (var / "ready").touch()
    return postgres.data


def _migrations_key() -> str:
    digest = hashlib.blake2b(digest_size=8)
    files = sorted([*ROOT.glob("*/migrations/*.py"), *ROOT.glob("*/migrations/**/*.json")])
    for path in [*files, ROOT / "requirements.txt", ROOT / "config" / "settings.py"]:
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()


def _forget_old_clusters() -> None:
    clusters = sorted(CACHE.glob("cluster-*"), key=lambda path: path.stat().st_mtime)
    for var in clusters[: -(KEEP_CLUSTERS - 1)]:
        services.Home(var).remove()
        shutil.rmtree(var, ignore_errors=True)


def _remove_abandoned_runs() -> None:
    """End what a killed run left behind: its folder's name says which process it belonged to."""
    for var in (ROOT / "var" / "tests").glob("*-*"):
        pid, _, started = var.name.partition("-")
        try:
            if int(psutil.Process(int(pid)).create_time()) == int(started):
                continue
        except (psutil.Error, ValueError):
            pass
        _end_run(var)


def _end_run(var: Path) -> None:
    postgres, valkey = services.embedded(var)
    valkey.stop()
    postgres.stop(how=services.signal.SIGQUIT)  # the data goes: no need to write it out
    postgres.home.remove()
    shutil.rmtree(var, ignore_errors=True)
