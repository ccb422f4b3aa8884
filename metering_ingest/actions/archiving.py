"""
Old days are moved to files: after every id of theirs was looked for in all of its meter's history, and only when what
was written adds up to what stood in the table.
"""

import tempfile
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from django.db import connection, transaction

from core.errors import Conflict
from core.periods import Period
from core.transactions import assert_in_transaction, durable
from metering_ingest import archive_files
from metering_ingest.actions.corrections import void_event
from metering_ingest.actions.partitions import partition_name
from metering_ingest.actions.recount import add_voided, void_repeats
from metering_ingest.actions.store import INGEST_LOCK
from metering_ingest.archive_files import Identity
from metering_ingest.archived import CONTENT, RECENT_DAYS, folder, start_of
from metering_ingest.domain.rows import COLUMNS
from metering_ingest.models import ArchivedPart, Meter

_NAMES = ", ".join(COLUMNS)
_EPOCH = date(1970, 1, 1)


class TooRecent(Conflict):
    """A day that may still change: meters resend, claims and settlements read it."""

    code = "too-recent"


class ChangedMeanwhile(Exception):
    """Events of the day came in while it was written; it is begun again another time."""


def archivable_days(*, older_than_days: int, now: datetime) -> list[date]:
    """Return the days before that have events in the table, oldest first."""
    newest = now.date() - timedelta(days=max(older_than_days, RECENT_DAYS))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'usage_event'::regclass ORDER BY 1"
        )
        names = [name for (name,) in cursor.fetchall()]
        found = []
        for name in names:
            day = date.fromisoformat(name.rpartition("_")[2])
            if day >= newest:
                continue
            cursor.execute(f"SELECT EXISTS (SELECT FROM {name})")
            if cursor.fetchone()[0]:
                found.append(day)
    return found


def archive_day(*, day: date, now: datetime) -> ArchivedPart | None:
    """
    Move a day's events to files; None where there are none. A crash at any point leaves it to be begun again.

    :raises TooRecent: less than eight days old.
    :raises ChangedMeanwhile: an event came in while it was written.
    """
    if (now.date() - day).days <= RECENT_DAYS:
        raise TooRecent(f"Only days that are over for more than {RECENT_DAYS} days are archived.")
    durable(lambda: void_repeats_everywhere(day=day, now=now))
    table = partition_name((day - _EPOCH).days)
    number = ArchivedPart.objects.filter(day=day).count() + 1
    names = f"{day:%Y/%m}/usage_{day:%Y%m%d}_{number}.parquet", f"{day:%Y/%m}/usage_{day:%Y%m%d}_{number}.identities"
    parquet, identities = (folder() / name for name in names)
    parquet.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parquet.parent) as scratch:
        rows = Path(scratch, "events.csv")
        _write_rows(table, rows)
        sums = archive_files.write_parquet(rows, parquet)
    if not sums["events"]:
        parquet.unlink()
        return None
    archive_files.write_identities(_identities(table), identities)
    written = ArchivedPart(
        day=day, number=number, events=sums["events"], sums=sums, parquet=names[0],
        parquet_digest=archive_files.file_digest(parquet), identities=names[1],
        identities_digest=archive_files.file_digest(identities), archived_at=now,
    )  # fmt: skip
    durable(lambda: _let_go(table, written))
    return written


def void_repeats_everywhere(*, day: date, now: datetime) -> int:
    """
    Void what stands twice: each id of a day is looked for at every other time, in the table and in the archive. What
    was received first stands.
    """
    assert_in_transaction()
    period = Period(start_of(day), start_of(day) + timedelta(days=1))
    voided = void_repeats(list(Meter.objects.values_list("pk", flat=True)), period, now=now, around=None)
    parts = list(ArchivedPart.objects.exclude(day=day).order_by("day", "number"))
    if not parts:
        return voided
    with tempfile.TemporaryDirectory() as scratch:
        mine = Path(scratch, "day")
        archive_files.write_identities(_identities(partition_name((day - _EPOCH).days)), mine)
        others = archive_files.load(mine)
        for part in parts:
            for old, new in archive_files.alike(folder() / part.identities, others):
                first, second = sorted((old, new), key=lambda identity: (identity.received_us, identity.key))
                done = void_event(
                    connection.connection, second.meter_id, second.key, reason="duplicate", by_key=first.key, now=now
                )
                voided += add_voided(second.meter_id, second.key, done, now=now)
    return voided


def _write_rows(table: str, target: Path) -> None:
    connection.ensure_connection()
    with target.open("wb") as file, transaction.atomic():
        raw = connection.connection
        copying = f"COPY {table} ({_NAMES}) TO STDOUT (FORMAT csv, NULL '{archive_files.CSV_NULL}')"
        copying = copying[:-1] + ", FORCE_QUOTE (source, id, subject))"
        with raw.cursor().copy(copying) as copy:
            for block in copy:
                file.write(block)


def _identities(table: str) -> Iterator[Identity]:
    with transaction.atomic():
        connection.ensure_connection()
        with connection.connection.cursor(name="archived_identities") as cursor:
            cursor.itersize = 10_000
            cursor.execute(f"SELECT event_key, meter_id, received_at, {CONTENT} FROM {table}")
            for key, meter_id, received_at, content in cursor:
                yield Identity(key.bytes, meter_id, archive_files.microseconds(received_at), bytes(content))


def _let_go(table: str, written: ArchivedPart) -> None:
    """Empty the day's table, if it still holds what was written and nothing else. Events wait for a moment."""
    assert_in_transaction()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [INGEST_LOCK])
        cursor.execute(archive_files.TABLE_SUMS.format(table=table))
        if dict(zip(archive_files.SUM_NAMES, cursor.fetchone(), strict=True)) != written.sums:
            raise ChangedMeanwhile(f"events of {written.day} came in while it was archived")
        written.save(force_insert=True)
        cursor.execute(f"TRUNCATE {table}")
