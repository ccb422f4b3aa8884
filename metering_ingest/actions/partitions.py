"""A partition of `usage_event` per UTC day: made ahead by a task, and on first need for any other day."""

import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
from psycopg import sql

from metering_ingest.domain.event_key import first_key

DAY_MS = 86_400_000
DAYS_AHEAD = 7
LOCK = 0x63697975616E01  # advisory: one maker of partitions at a time

_known: set[tuple[str, int]] = set()
_known_lock = threading.Lock()


def partition_name(day: int) -> str:
    """Return the table of a day, counted in days since 1970."""
    return f"usage_event_{date(1970, 1, 1) + timedelta(days=day):%Y%m%d}"


def ensure_days(connection: "psycopg.Connection[object]", days: Iterable[int]) -> None:
    """
    Make the partitions of these days (since 1970) where they are missing.

    A table is made beside the others and then attached, which, unlike `PARTITION OF`, does not stop anybody's writes.
    What this process has seen committed is remembered, so that it asks once per day.
    """
    database = connection.info.dbname
    missing = sorted(day for day in days if (database, day) not in _known)
    if not missing:
        return
    nested = connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
    for day in missing:
        _make(connection, day)
        if not nested:
            with _known_lock:
                _known.add((database, day))


def _make(connection: "psycopg.Connection[object]", day: int) -> None:
    name = partition_name(day)
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        found = connection.execute("SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass(%s)", [name]).fetchone()
        if found:
            return
        table = sql.Identifier(name)
        first, last = (str(UUID(bytes=first_key(edge * DAY_MS))) for edge in (day, day + 1))
        connection.execute(sql.SQL("CREATE TABLE {} (LIKE usage_event INCLUDING ALL)").format(table))
        connection.execute(
            sql.SQL("ALTER TABLE usage_event ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                table, sql.Literal(first), sql.Literal(last)
            )
        )


def days_ahead(now: datetime) -> range:
    """Return today and the days for which partitions are made ahead, in days since 1970."""
    today = (now - datetime(1970, 1, 1, tzinfo=UTC)).days
    return range(today, today + DAYS_AHEAD + 1)


def forget_known_days() -> None:
    """Ask the database again: another one may stand under the same name."""
    with _known_lock:
        _known.clear()
