"""
Fixtures for every test: databases cloned from the migrated template, one per xdist worker.

A test marked `django_db` runs in a transaction that is rolled back. With `transaction=True` (races, commits, on_commit)
the worker's database is dropped and cloned anew afterwards, never flushed: what migrations put there is still there.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import psycopg
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.test import TransactionTestCase

from tests import servers

# Every machine gets the same answer; a slow neighbour is no failure.
hypothesis.settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
# In CI the same examples each time, so that a run says something of the change; elsewhere new ones, to find more.
hypothesis.settings.register_profile("proof", max_examples=2_000, deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("proof" if os.environ.get("CIYUAN_PROOF") else "quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        terminalreporter.write_line(
            "No Chromium is installed: the browser tests are left out (apt install chromium fonts-noto-cjk)."
        )


def pytest_unconfigure() -> None:
    servers.stop()


class WorkerDatabase:
    """This worker's own copy of the migrated database."""

    def __init__(self) -> None:
        self.name = settings.DATABASES["default"]["NAME"]
        self.admin_url = os.environ["DATABASE_URL"].replace(f"/{servers.TEMPLATE}?", "/postgres?")

    def recreate(self) -> None:
        connections.close_all()
        if "metering_ingest.ingest_workers" in sys.modules:  # it keeps one of its own, which would be ended below
            sys.modules["metering_ingest.ingest_workers"].close_own_connection()
        with psycopg.connect(self.admin_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
            admin.execute(f"CREATE DATABASE {self.name} TEMPLATE {servers.TEMPLATE} STRATEGY FILE_COPY")


@pytest.fixture(scope="session")
def worker_database() -> WorkerDatabase:
    return WorkerDatabase()


@pytest.fixture(scope="session")
def django_db_setup(worker_database: WorkerDatabase, django_db_blocker: Any) -> Iterator[None]:
    """Replaces pytest-django's: no migrations, a clone instead."""
    with django_db_blocker.unblock():
        worker_database.recreate()

    def clone_again(_case: TransactionTestCase) -> None:
        with django_db_blocker.unblock():
            worker_database.recreate()

    original = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]
    TransactionTestCase._fixture_teardown = clone_again  # type: ignore[attr-defined]
    yield
    TransactionTestCase._fixture_teardown = original  # type: ignore[attr-defined]
    with django_db_blocker.unblock():
        connections.close_all()


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """Throttles, sessions and kept books of one test are not the next one's."""
    yield
    cache.clear()
    if "exchange.frame_queries" in sys.modules:
        sys.modules["exchange.frame_queries"].forget_public_markets()


def run_together(*calls: Any) -> list[Any]:
    """
    Run `calls` in threads released by one barrier, each with a database connection of its own.

    :returns: each call's result, or the exception it raised, in the order of `calls`.
    """
    barrier = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)

    def run(index: int, call: Any) -> None:
        try:
            connections["default"].ensure_connection()
            barrier.wait(30)
            results[index] = call()
        except Exception as error:
            results[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


@pytest.fixture
def race() -> Any:
    """`race(call, call, …)`: see `run_together`. For tests with `django_db(transaction=True)`."""
    return run_together
