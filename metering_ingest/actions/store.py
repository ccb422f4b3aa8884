"""
Storing a prepared batch: COPY of the events in key order and the rollup's upsert in one transaction, acknowledged after
its commit. Each event is stored once whatever is resent: a duplicate makes the COPY fail, then the batch is staged and
what is new goes in.

It works on a psycopg connection of its own, as no ORM is on this path. A caller's transaction becomes the outer one.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.errors import DeadlockDetected, SerializationFailure, UniqueViolation

from core.ids import new_id
from metering_ingest.actions.corrections import CorrectionRefused, correct, times_of_untimed
from metering_ingest.actions.partitions import ensure_days, partition_name
from metering_ingest.archived import CONTENT, contents_of_archived
from metering_ingest.domain.event_key import milliseconds
from metering_ingest.domain.events import AMEND, VOID, Decoded, Event, Rejection
from metering_ingest.domain.pipeline import MeterFacts, Prepared, RouteBook, conflict, prepare
from metering_ingest.domain.rows import COLUMNS, Rollup, TagRollup, copy_rows, rollup, tag_rollup

Connection = psycopg.Connection[Any]
Clock = Callable[[], datetime]
ATTEMPTS = 8
#: Shared by every transaction that stores usage; settlement waits for those that began before it.
INGEST_LOCK = 0x63697975616E02

_NAMES = ", ".join(COLUMNS)
_COPY = f"COPY {{}} ({_NAMES}) FROM STDIN (FORMAT BINARY)"
_BEGIN = f"BEGIN; SELECT pg_advisory_xact_lock_shared({INGEST_LOCK})"
_MAKE_STAGE = """
    CREATE TEMP TABLE IF NOT EXISTS usage_stage (LIKE usage_event) ON COMMIT DELETE ROWS; DELETE FROM usage_stage
"""
_INSERT_NEW = f"""
    INSERT INTO {{table}} ({_NAMES}) SELECT {_NAMES} FROM usage_stage ORDER BY event_key
    ON CONFLICT DO NOTHING RETURNING event_key
"""
# In key order, so that the answers stand as the rows do. The OFFSET keeps it a look-up by key per staged row: without
# it the planner may read the whole table.
_SAME_CONTENT = """
    SELECT found.same FROM usage_stage s LEFT JOIN LATERAL (
        SELECT (e.subject, e.requests, e.input_tokens, e.cached_tokens, e.output_tokens, e.reasoning_tokens, e.details)
            IS NOT DISTINCT FROM
            (s.subject, s.requests, s.input_tokens, s.cached_tokens, s.output_tokens, s.reasoning_tokens, s.details)
            AS same
        FROM {table} e WHERE e.event_key = s.event_key AND e.meter_id = s.meter_id OFFSET 0
    ) found ON true ORDER BY s.event_key
"""
_UPSERT = """
    INSERT INTO usage_rollup AS r
        (meter_id, contract_id, deployment_id, hour, length_band, token_class, quantity, work_micro_st, events)
    SELECT %s::bigint, contract_id, deployment_id, to_timestamp(hour * 3600), band, class, quantity, work, events
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::smallint[], %s::bigint[], %s::bigint[],
        %s::bigint[]) AS new (contract_id, deployment_id, hour, band, class, quantity, work, events)
    ON CONFLICT (meter_id, contract_id, deployment_id, hour, length_band, token_class) DO UPDATE SET
        quantity = r.quantity + excluded.quantity, work_micro_st = r.work_micro_st + excluded.work_micro_st,
        events = r.events + excluded.events
"""
_UPSERT_TAGS = """
    INSERT INTO usage_tag_rollup AS r
        (meter_id, contract_id, deployment_id, hour, tag, value, token_class, quantity, work_micro_st, events)
    SELECT %s::bigint, contract_id, deployment_id, to_timestamp(hour * 3600), tag, value, class, quantity, work, events
    FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::smallint[], %s::bigint[],
        %s::bigint[], %s::bigint[])
        AS new (contract_id, deployment_id, hour, tag, value, class, quantity, work, events)
    ON CONFLICT (meter_id, contract_id, deployment_id, hour, tag, value, token_class) DO UPDATE SET
        quantity = r.quantity + excluded.quantity, work_micro_st = r.work_micro_st + excluded.work_micro_st,
        events = r.events + excluded.events
"""
_REJECT = """
    INSERT INTO rejected_event AS r
        (meter_id, digest, kept_id, received_at, code, field, detail, source, id, body, attempts, resolved_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, NULL)
    ON CONFLICT (meter_id, digest) DO UPDATE SET
        attempts = r.attempts + 1, code = excluded.code, field = excluded.field, detail = excluded.detail
"""
_MARK_LATE = """
    INSERT INTO late_usage (contract_id, hour, since)
    SELECT id, hour, %s FROM unnest(%s::bigint[], %s::bigint[]) AS late (id, hour) ORDER BY id, hour
    ON CONFLICT (contract_id, hour) DO UPDATE SET since = excluded.since
"""


class Result(NamedTuple):
    """What became of one event: accepted, duplicate, conflict or rejected; the last two with the reason."""

    status: str
    rejection: Rejection | None = None


ACCEPTED, DUPLICATE = Result("accepted"), Result("duplicate")


def ingest(
    connection: Connection, decoded: Decoded, *, meter: MeterFacts, route_book: RouteBook, clock: Clock
) -> list[Result]:
    """
    Store the events of one request and return the result of each, in order. Nothing is stored unless all of it is.

    Deadlocks and serialization failures are tried again.

    :param route_book: names the contract of (subject, hour) pairs; it may read the database on its own connection.
    """
    events, rejections = list(decoded.events), list(decoded.rejections)
    untimed = [i for i, event in enumerate(events) if event is not None and event.time is None and event.type != VOID]
    corrections = [i for i, event in enumerate(events) if event is not None and event.type in (VOID, AMEND)]
    now = clock()
    batch = None if untimed else prepare(events, meter=meter, route_book=route_book, now_ms=milliseconds(now))
    known_new = True
    attempt = 0
    while True:
        try:
            if batch is not None:
                ensure_days(connection, batch.days)
            with _transaction(connection) as ours:
                if batch is None:
                    times = times_of_untimed(connection, meter.meter_id, events, now_ms=milliseconds(now))
                    batch = prepare(
                        events, meter=meter, route_book=route_book, now_ms=milliseconds(now), times_ms=times
                    )
                    ensure_days(connection, batch.days)
                archived = contents_of_archived(
                    connection, meter.meter_id, batch.key_bytes(), batch.days, now_ms=milliseconds(now)
                ) if batch.days else {}
                return _store(
                    connection, batch, events, rejections, corrections, archived=archived, known_new=known_new,
                    commit=ours, clock=clock,
                )  # fmt: skip
        except UniqueViolation:
            known_new = False
        except CorrectionRefused as refused:
            events[refused.rejection.index] = None
            rejections.append(refused.rejection)
            corrections.remove(refused.rejection.index)
            batch = None if untimed else prepare(events, meter=meter, route_book=route_book, now_ms=milliseconds(now))
        except (DeadlockDetected, SerializationFailure):
            attempt += 1
            if attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.005 * 2**attempt))
        if untimed:
            batch = None


def _store(
    connection: Connection, batch: Prepared, events: Sequence[Event | None], rejections: Sequence[Rejection],
    corrections: Sequence[int], *, archived: dict[bytes, bytes], known_new: bool, commit: bool, clock: Clock,
) -> list[Result]:  # fmt: skip
    # Read with the lock held: a settlement that did not wait for this transaction has a later clock than this.
    now = clock()
    results: list[Result] = [ACCEPTED] * len(events)
    refused = [*rejections, *batch.rejections]
    new: list[int] | None = None
    if len(batch):
        chunks = copy_rows(batch, received_us=round(now.timestamp() * 1e6))
        if known_new and not archived:
            _copy(connection, _table(batch.days), chunks)
        else:
            new, conflicts = _stage(connection, batch, chunks, events, results, archived)
            refused += conflicts
    added = rollup(batch, new)
    tagged = tag_rollup(batch, new)
    now_ms = milliseconds(now)
    late = {pair for pair, settles_ms in batch.settles_ms.items() if pair[0] and now_ms >= settles_ms}
    if corrections:
        inserted = set(batch.index if new is None else (batch.index[row] for row in new))
        outcome = correct(connection, batch.meter, events, corrections, inserted=inserted, batch=batch, now=now)
        added = _merged(added, outcome.rollup)
        tagged = sorted([*tagged, *outcome.tags])
        late |= outcome.late
        refused += outcome.rejections
        for index in outcome.repeated:
            results[index] = DUPLICATE
    for rejection in refused:
        results[rejection.index] = Result("conflict" if rejection.code == "conflict" else "rejected", rejection)
    for place, first in batch.repeats:
        results[place] = DUPLICATE if results[first].rejection is None else results[first]
    _keep_aside(connection, batch.meter.meter_id, refused, now)
    with _last(connection, commit=commit):
        add_to_rollup(connection, batch.meter.meter_id, added)
        add_to_tag_rollup(connection, batch.meter.meter_id, tagged)
        mark_late(connection, late, now)
    return results


@contextmanager
def _transaction(connection: Connection) -> Iterator[bool]:
    """
    A transaction that holds the ingest lock, both taken in one round trip: a waiting process's turn comes late on a
    busy machine. Yields whether it is ours to commit; within a caller's transaction it is a savepoint.
    """
    if connection.info.transaction_status != pq.TransactionStatus.IDLE:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [INGEST_LOCK])
            yield False
        return
    connection.execute(_BEGIN, prepare=False)
    try:
        yield True
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


@contextmanager
def _last(connection: Connection, *, commit: bool) -> Iterator[None]:
    """The last statements of a transaction, in one round trip with its commit."""
    if not commit:
        yield
        return
    with connection.pipeline():
        yield
        connection.commit()


def _table(days: Collection[int]) -> str:
    """A batch of one day goes straight to its partition, without routing row by row."""
    return partition_name(next(iter(days))) if len(days) == 1 else "usage_event"


def _copy(connection: Connection, table: str, chunks: Iterable[bytes]) -> None:
    """Send rows while the next ones are being encoded."""
    with connection.cursor().copy(_COPY.format(table)) as copy:
        for chunk in chunks:
            copy.write(chunk)


def _stage(
    connection: Connection,
    batch: Prepared,
    chunks: Iterable[bytes],
    events: Sequence[Event | None],
    results: list[Result],
    archived: dict[bytes, bytes],
) -> tuple[list[int], list[Rejection]]:
    """
    Put in what is new; return its rows, and the conflicts among the rest. The others are duplicates.

    :param archived: the content digests of those that lie in the archive, by key.
    """
    table = _table(batch.days)
    connection.execute(_MAKE_STAGE, prepare=False)
    _copy(connection, "usage_stage", chunks)
    new: list[int] = []
    keys = batch.key_bytes()
    in_archive = _take_archived_out(connection, archived) if archived else {}
    there = [row for row, key in enumerate(keys) if key not in in_archive]
    same = _same_content(connection, table)
    if None in same:
        inserted = {row[0].bytes for row in connection.execute(_INSERT_NEW.format(table=table).encode())}
        new = [row for row in there if keys[row] in inserted]
        if len(new) < same.count(None):  # another transaction was first with some
            same = _same_content(connection, table)
    fresh, conflicts = set(new), []
    found = dict(zip(there, same, strict=True))
    found |= {row: in_archive[key] for row, key in enumerate(keys) if key in in_archive}
    for row, alike in sorted(found.items()):
        if row in fresh:
            continue
        place = batch.index[row]
        if alike:
            results[place] = DUPLICATE
        else:
            event = events[place]
            assert event is not None
            conflicts.append(conflict(place, event))
    return new, conflicts


def _take_archived_out(connection: Connection, archived: dict[bytes, bytes]) -> dict[bytes, bool]:
    """Take staged rows away that are archived; return by key whether each has the same content as there."""
    keys = [UUID(bytes=key) for key in sorted(archived)]
    staged = connection.execute(
        f"DELETE FROM usage_stage WHERE event_key = ANY(%s) RETURNING event_key, {CONTENT}", [keys]
    )
    return {key.bytes: bytes(content) == archived[key.bytes] for key, content in staged}


def _same_content(connection: Connection, table: str) -> list[bool | None]:
    """Return whether each staged row stands in the table with the same content; None where it does not stand there."""
    return [row[0] for row in connection.execute(_SAME_CONTENT.format(table=table).encode())]


def _merged(one: Rollup, other: Rollup) -> Rollup:
    """Add two rollups; in key order, so that every transaction takes the rows' locks in the same order."""
    sums: dict[tuple[int, ...], list[int]] = {}
    for row in (*one, *other):
        total = sums.setdefault(row[:5], [0, 0, 0])
        for i in range(3):
            total[i] += row[5 + i]
    return [(*key, *sums[key]) for key in sorted(sums)]  # type: ignore[misc]


def add_to_rollup(connection: Connection, meter_id: int, rows: Rollup) -> None:
    """Add rows in key order to the rollup of a meter."""
    if rows:
        # As text: adapting a thousand numbers one by one costs more than the statement itself.
        columns = [f"{{{','.join(map(str, column))}}}" for column in zip(*rows, strict=True)]
        connection.execute(_UPSERT, [meter_id, *columns], prepare=True)


def add_to_tag_rollup(connection: Connection, meter_id: int, rows: TagRollup) -> None:
    """Add rows to the rollup by tag of a meter; rows of one key are added up, in key order."""
    if not rows:
        return
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        total = sums.setdefault(row[:6], [0, 0, 0])
        for i in range(3):
            total[i] += int(row[6 + i])
    columns = list(zip(*((*key, *sums[key]) for key in sorted(sums)), strict=True))
    connection.execute(_UPSERT_TAGS, [meter_id, *map(list, columns)])


def mark_late(connection: Connection, late: Iterable[tuple[int, int]], now: datetime) -> None:
    """Have these contracts and hours settled again. A mark stays locked until commit: a settlement waits for it."""
    pairs = sorted(late)
    if pairs:
        connection.execute(_MARK_LATE, [now, [pair[0] for pair in pairs], [pair[1] for pair in pairs]])


def _keep_aside(connection: Connection, meter_id: int, refused: Iterable[Rejection], now: datetime) -> None:
    """Keep rejected events as they came, the same one once; in the order of their digests, against deadlocks."""
    rows = {blake2b(r.raw, digest_size=16).digest(): r for r in refused}
    if rows:
        connection.cursor().executemany(
            _REJECT,
            [
                (meter_id, digest, new_id(), now, r.code, r.field or "", r.detail, r.source or "", r.id or "", r.raw)
                for digest, r in sorted(rows.items())
            ],
        )
