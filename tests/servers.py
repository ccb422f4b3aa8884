"""
The servers that a test run starts for itself: one Postgres, one Valkey, in a data folder of their own.

Several runs (of several checkouts) live side by side. The migrated cluster is kept between runs, keyed by the
migrations' content, and copied: a run starts in about half a second when no migration has changed.
"""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path

import psutil

from config import services, template

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = template.DATABASE  # the migrated database; tests work on copies of it
SETTINGS = {**template.WITHOUT_WAITING_FOR_THE_DISK, "max_connections": "400"}

_RUN = "CIYUAN_TEST_RUN"  # set for the run's own children


def ensure() -> None:
    """Start this run's servers unless a parent process has, and put their addresses into the environment."""
    if os.environ.get(_RUN):
        return
    _remove_abandoned_runs()
    var = ROOT / "var" / "tests" / f"{os.getpid()}-{int(psutil.Process().create_time())}"
    postgres, valkey = services.embedded(var, **SETTINGS)
    postgres.initialise(template.migrated_cluster())
    os.environ.update(CIYUAN_ENV="test", CIYUAN_VAR=str(var))
    valkey.start()
    postgres.start()
    os.environ.update({_RUN: str(os.getpid()), "DATABASE_URL": postgres.url(TEMPLATE), "REDIS_URL": valkey.url()})
    atexit.register(stop)


def stop() -> None:
    """End this run's servers and delete their data; nothing in a process that did not start them."""
    if os.environ.get(_RUN) == str(os.getpid()):
        del os.environ[_RUN]
        _end_run(Path(os.environ["CIYUAN_VAR"]))


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
