"""
Reading what was archived: whether an event is there, the event itself, and events of a span brought back to be counted.
"""

import tempfile
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from django.conf import settings
from django.db import connection as django_connection

from metering_ingest import archive_files
from metering_ingest.domain.event_key import milliseconds_of
from metering_ingest.domain.rows import COLUMNS
from metering_ingest.models import ArchivedPart

Connection = psycopg.Connection[Any]
DAY_MS = 86_400_000
#: Younger days are never archived, so that nobody has to ask whether they are.
RECENT_DAYS = 8

_NAMES = ", ".join(COLUMNS)
_MAKE = "CREATE TEMP TABLE IF NOT EXISTS archived_usage (LIKE usage_event); DELETE FROM archived_usage"
_EPOCH = date(1970, 1, 1)
#: What of an event makes it the same event; of a staged row and of a stored one alike.
CONTENT = """
    decode(md5(jsonb_build_array(subject, requests, input_tokens, cached_tokens, output_tokens, reasoning_tokens,
        details)::text), 'hex')
"""


class ArchiveAway(psycopg.OperationalError):
    """A file of the archive is not there: nothing can be decided about its day until it is back."""


def day_of(key: bytes) -> date:
    """Return the UTC day of an event's key."""
    return _EPOCH + timedelta(days=milliseconds_of(key) // DAY_MS)


def folder() -> Path:
    """Return the archive's folder."""
    return Path(settings.ARCHIVE_DIR)


def may_be_archived(days: Iterable[int], *, now_ms: int) -> bool:
    """Whether any of these days (since 1970) is old enough."""
    return min(days) < now_ms // DAY_MS - RECENT_DAYS


def contents_of_archived(
    connection: Connection, meter_id: int, keys: Iterable[bytes], days: Iterable[int]
) -> dict[bytes, bytes]:
    """
    Return the content digests of those events that are archived, by key.

    Called with the ingest lock held: a day cannot be archived between this and the commit.

    :param days: the days of the keys, counted since 1970.
    """
    old = [_EPOCH + timedelta(days=day) for day in days]
    rows = connection.execute("SELECT day, identities FROM archived_part WHERE day = ANY(%s)", [old]).fetchall()
    if not rows:
        return {}
    keys = list(keys)
    found: dict[bytes, bytes] = {}
    for day, name in rows:
        found |= archive_files.find(_there(name), meter_id, (key for key in keys if day_of(key) == day))
    return found


def archived_event(connection: Connection, meter_id: int, key: bytes) -> tuple[Any, ...] | None:
    """Return an archived event in the columns that a void needs, or None."""
    rows = connection.execute("SELECT parquet, identities FROM archived_part WHERE day = %s", [day_of(key)]).fetchall()
    for parquet, identities in rows:
        if archive_files.find(_there(identities), meter_id, [key]):
            event = archive_files.one_event(_there(parquet), meter_id, key)
            assert event is not None
            details = msgspec.json.decode(event["details"] or "{}")
            return (
                *(event[name] for name in (
                    "contract_id", "deployment_id", "length_band", "requests", "input_tokens", "cached_tokens",
                    "output_tokens", "reasoning_tokens", "input_micro_st", "cached_micro_st", "output_micro_st",
                )),
                *(None if details.get(name) is None else msgspec.json.encode(details[name]).decode()
                  for name in ("classes", "tags")),
                details.get("input_bytes") or 0, details.get("output_bytes") or 0,
            )  # fmt: skip
    return None


def is_archived(meter_id: int, key: bytes) -> bool:
    """Whether an event lies in the archive."""
    return any(
        archive_files.find(_there(part.identities), meter_id, [key])
        for part in ArchivedPart.objects.filter(day=day_of(key))
    )


def events_between(first: UUID, last: UUID) -> str:
    """
    Return the SQL of a table of all events with first <= key < last: `usage_event`, and where some of them are archived
    these as well, brought back into a temporary table of this connection.
    """
    end = min(milliseconds_of(last.bytes) - 1, 2**45)
    days = (day_of(first.bytes), day_of(end.to_bytes(6, "big") + bytes(10)))
    parts = list(ArchivedPart.objects.filter(day__range=days).order_by("day", "number"))
    if not parts:
        return "usage_event"
    bring_back(parts, first, last)
    return f"(SELECT {_NAMES} FROM usage_event UNION ALL SELECT {_NAMES} FROM archived_usage)"


def bring_back(parts: Iterable[ArchivedPart], first: UUID, last: UUID) -> None:
    """Fill the temporary table `archived_usage` with these parts' events from `first` to before `last`."""
    django_connection.ensure_connection()
    with tempfile.TemporaryDirectory() as scratch, django_connection.cursor() as cursor:
        rows = Path(scratch, "events.csv")
        archive_files.write_csv([_there(part.parquet) for part in parts], rows, first=first, last=last)
        cursor.execute(_MAKE)
        copying = f"COPY archived_usage ({_NAMES}) FROM STDIN (FORMAT csv, NULL '{archive_files.CSV_NULL}')"
        with rows.open("rb") as file, django_connection.connection.cursor().copy(copying) as copy:
            while block := file.read(2**20):
                copy.write(block)


def _there(name: str) -> Path:
    path = folder() / name
    if not path.exists():
        raise ArchiveAway(f"the archive's file {name} is not in {folder()}")
    return path


def start_of(day: date) -> datetime:
    """Return the beginning of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
