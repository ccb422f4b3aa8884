"""
The threads that store usage, each with a database connection of its own, and the gathering of single events.

An event posted alone waits a few milliseconds for others of the same meter, so that many share one commit. If the
common transaction fails for another reason than the database being away, each is tried on its own: a poisonous
event harms nobody else.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db import connection as django_connection
from django.db import connections

from core import clock
from metering_ingest.actions.attribution import MeterAccess, route_book_of
from metering_ingest.actions.store import Result, ingest
from metering_ingest.domain.events import Decoded, Rejection

log = logging.getLogger(__name__)

THREADS = 4
GATHER_SECONDS = 0.003
GATHER_EVENTS = 1_000
STORING_AT_ONCE = 2
PAUSE_SECONDS = 1.0

T = TypeVar("T")
_local = threading.local()


def own_connection() -> "psycopg.Connection[Any]":
    """Return this thread's connection, opened anew when it was lost or when the database is another one (tests)."""
    given = connections["default"].settings_dict
    connection: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if connection is not None and _local.name == given["NAME"] and _answers(connection):
        _local.used = monotonic()
        return connection
    options: dict[str, Any] = {key: value for key, value in given["OPTIONS"].items() if isinstance(value, str)}
    close_own_connection()
    connection = psycopg.connect(
        dbname=given["NAME"],
        user=given["USER"] or None,
        password=given["PASSWORD"] or None,
        host=given["HOST"] or None,
        port=given["PORT"] or None,
        autocommit=True,
        application_name="ciyuan-ingest",
        **options,
    )
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET idle_in_transaction_session_timeout = '60s'")
    # Not before it is ready: a database that dies in the middle of this must leave nothing half made behind.
    _local.connection, _local.name, _local.used = connection, given["NAME"], monotonic()
    return connection


def _answers(connection: "psycopg.Connection[Any]") -> bool:
    """
    Whether it is open, and in no transaction: what is stored within one would not be durable. After a pause it is
    asked, so that a database's restart costs nobody a request.
    """
    if connection.closed or connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        return False
    if monotonic() - _local.used > PAUSE_SECONDS:
        try:
            connection.execute("SELECT 1")
        except psycopg.Error:
            connection.close()
            return False
    return True


def close_own_connection() -> None:
    """Close this thread's connection; the next use opens another."""
    connection: psycopg.Connection[Any] | None = getattr(_local, "connection", None)
    if connection is not None:
        connection.close()


def store(access: MeterAccess, decoded: Decoded) -> list[Result]:
    """Store the events of one request in this thread. The result stands committed when this returns."""
    try:
        return ingest(own_connection(), decoded, meter=access.facts, route_book=route_book_of(access), clock=clock.now)
    finally:
        release()


def release() -> None:
    """Give back the ORM's connection, if one was borrowed for a look-up: threads here live as long as the process."""
    if not django_connection.in_atomic_block:
        django_connection.close()


Posted = tuple[Decoded, "asyncio.Future[list[Result]]"]


@dataclass(slots=True)
class _Gathering:
    """
    Single events of one meter that wait for each other. While some are being stored, the next ones gather; a second
    lot may be on its way meanwhile, so that nobody waits for a commit and then for another.
    """

    items: list[Posted] = field(default_factory=list)
    storing: int = 0
    timer: asyncio.TimerHandle | None = None


class Workers:
    """The pool of one process; made in its event loop on first use."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
        self._gathering: dict[int, _Gathering] = {}

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking call in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    async def store(self, access: MeterAccess, decoded: Decoded) -> list[Result]:
        """Store a batch by itself, or a single event together with those that arrive in the same moment."""
        if len(decoded.events) != 1:
            return await self.run(store, access, decoded)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Result]] = loop.create_future()
        gathering = self._gathering.setdefault(access.facts.meter_id, _Gathering())
        gathering.items.append((decoded, future))
        if gathering.storing < STORING_AT_ONCE and gathering.timer is None:
            gathering.timer = loop.call_later(GATHER_SECONDS, self._begin, access, gathering)
        return await future

    def _begin(self, access: MeterAccess, gathering: _Gathering) -> None:
        gathering.timer = None
        gathering.storing += 1
        _keep(asyncio.ensure_future(self._store_gathered(access, gathering)))

    async def _store_gathered(self, access: MeterAccess, gathering: _Gathering) -> None:
        """Store what has gathered, then what has gathered meanwhile, until nothing waits."""
        try:
            while gathering.items:
                items, gathering.items = gathering.items[:GATHER_EVENTS], gathering.items[GATHER_EVENTS:]
                await self._store_together(access, items)
        finally:
            gathering.storing -= 1
            if gathering.items and gathering.timer is None:
                self._begin(access, gathering)
            elif not gathering.items and not gathering.storing and gathering.timer is None:
                self._gathering.pop(access.facts.meter_id, None)

    async def _store_together(self, access: MeterAccess, items: list[Posted]) -> None:
        decoded = Decoded([], [])
        for place, (one, _) in enumerate(items):
            decoded.events += one.events
            decoded.rejections += [_moved(rejection, place) for rejection in one.rejections]
        try:
            results = await self.run(store, access, decoded)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            for _, future in items:
                if not future.done():
                    future.set_exception(error)
            return
        except Exception:
            log.exception("events posted together failed; trying each by itself", extra={"events": len(items)})
            for one, future in items:
                await self._store_alone(access, one, future)
            return
        for (_, future), result in zip(items, results, strict=True):
            if result.rejection is not None:
                result.rejection.index = 0
            if not future.done():
                future.set_result([result])

    async def _store_alone(self, access: MeterAccess, decoded: Decoded, future: "asyncio.Future[list[Result]]") -> None:
        try:
            results = await self.run(store, access, decoded)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(results)


def _moved(rejection: Rejection, place: int) -> Rejection:
    rejection.index = place
    return rejection


_tasks: set["asyncio.Future[None]"] = set()


def _keep(task: "asyncio.Future[None]") -> None:
    """A task that nobody refers to may be collected before it is done."""
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


def threads_wanted() -> int:
    """Return how many threads a process uses: the setting INGEST_THREADS, or four."""
    return int(getattr(settings, "INGEST_THREADS", THREADS))
