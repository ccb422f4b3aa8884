"""
Storing a prepared batch: COPY of the events in key order and the rollup's upsert in one transaction, acknowledged after
its commit. Each event is stored once whatever is resent: a duplicate makes the COPY fail, then what stands already is
looked up, and what is new goes in.

It works on a psycopg connection of its own, as no ORM is on this path. A caller's transaction becomes the outer one.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple

import psycopg
from psycopg import pq
from psycopg.errors import DeadlockDetected, SerializationFailure, UniqueViolation

from core.ids import new_id
from metering_ingest.actions.copying import copying
from metering_ingest.actions.corrections import CorrectionRefused, correct, times_of_untimed
from metering_ingest.actions.known import same_as_archived, same_as_stored
from metering_ingest.actions.partitions import ensure_days, partition_name
from metering_ingest.archived import contents_of_archived, may_be_archived
from metering_ingest.domain.event_key import milliseconds
from metering_ingest.domain.events import USAGE, VOID, Decoded, Event, Rejection
from metering_ingest.domain.pipeline import MeterFacts, Prepared, conflict, prepare
from metering_ingest.domain.routing import RouteBook
from metering_ingest.domain.rows import Rollup, TagRollup, copy_rows, rollup, tag_rollup

Connection = psycopg.Connection[Any]
Clock = Callable[[], datetime]
ATTEMPTS = 8
#: How often others may be first with some of a batch.
MOST_RACES = 100
#: Shared by every transaction that stores usage; settlement waits for those that began before it.
INGEST_LOCK = 0x63697975616E02

_LOCK = f"SELECT pg_advisory_xact_lock_shared({INGEST_LOCK});"
_BEGIN = f"BEGIN; {_LOCK}"
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
    untimed, corrections = _special(events)
    now = clock()
    batch = None if untimed else prepare(events, meter=meter, route_book=route_book, now_ms=milliseconds(now))
    known_new = True
    attempt = races = 0
    while True:
        try:
            if batch is not None:
                ensure_days(connection, batch.days)
                if known_new and len(batch) and not may_be_archived(batch.days, now_ms=milliseconds(now)):
                    return _store_new(connection, batch, events, rejections, corrections, clock=clock)
            with _transaction(connection) as ours:
                connection.execute(_first(ours=ours), prepare=False)
                if batch is None:
                    times = times_of_untimed(connection, meter.meter_id, events, now_ms=milliseconds(now))
                    batch = prepare(
                        events, meter=meter, route_book=route_book, now_ms=milliseconds(now), times_ms=times
                    )
                    ensure_days(connection, batch.days)
                return _store_rest(connection, batch, events, rejections, corrections, commit=ours, clock=clock)
        except UniqueViolation:
            # Somebody else stored some of it, whom the next look finds; each time there is less left to be in the way.
            known_new = False
            races += 1
            if races == MOST_RACES:
                raise
        except CorrectionRefused as refused:
            events[refused.rejection.index] = None
            rejections.append(refused.rejection)
            corrections.remove(refused.rejection.index)
            batch = None if untimed else prepare(events, meter=meter, route_book=route_book, now_ms=milliseconds(now))
        except (DeadlockDetected, SerializationFailure):
            attempt += 1
            if attempt >= ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.005 * 2**attempt))
        if untimed:
            batch = None


def _special(events: Sequence[Event | None]) -> tuple[bool, list[int]]:
    """Return whether any event came without a time, and the places of those that correct others."""
    rare = [(i, e) for i, e in enumerate(events) if e is not None and (e.time is None or e.type != USAGE)]
    return any(e.time is None and e.type != VOID for _, e in rare), [i for i, e in rare if e.type != USAGE]


def _store_new(
    connection: Connection, batch: Prepared, events: Sequence[Event | None], rejections: Sequence[Rejection],
    corrections: Sequence[int], *, clock: Clock,
) -> list[Result]:  # fmt: skip
    """Store a batch as if nothing of it were there. :raises UniqueViolation: something is."""
    with _transaction(connection) as ours:
        with copying(connection, _table(batch.days), begin=_first(ours=ours)) as write:
            # Read with the lock held: a settlement that did not wait for this transaction has a later clock than this.
            now = clock()
            for chunk in copy_rows(batch, received_us=_microseconds(now)):
                write(chunk)
            added = rollup(batch)  # while the database takes the rows in
        return _finish(
            connection, batch, events, rejections, corrections, new=None, known={}, added=added, commit=ours, now=now
        )


def _store_rest(
    connection: Connection, batch: Prepared, events: Sequence[Event | None], rejections: Sequence[Rejection],
    corrections: Sequence[int], *, commit: bool, clock: Clock,
) -> list[Result]:  # fmt: skip
    """Store what is not there yet, in the table or in the archive; the rest are duplicates or conflicts."""
    now = clock()
    new: list[int] = []
    known: dict[int, bool] = {}
    if len(batch):
        if may_be_archived(batch.days, now_ms=milliseconds(now)):
            archived = contents_of_archived(connection, batch.meter.meter_id, batch.key_bytes(), batch.days)
            known = same_as_archived(connection, batch, archived) if archived else {}
        table = _table(batch.days)
        known |= same_as_stored(connection, table, batch, [row for row in range(len(batch)) if row not in known])
        new = [row for row in range(len(batch)) if row not in known]
        if new:
            with copying(connection, table) as write:
                for chunk in copy_rows(batch, received_us=_microseconds(now), only=new):
                    write(chunk)
    return _finish(
        connection, batch, events, rejections, corrections, new=new, known=known, added=rollup(batch, new),
        commit=commit, now=now,
    )  # fmt: skip


def _finish(
    connection: Connection, batch: Prepared, events: Sequence[Event | None], rejections: Sequence[Rejection],
    corrections: Sequence[int], *, new: list[int] | None, known: dict[int, bool], added: Rollup, commit: bool,
    now: datetime,
) -> list[Result]:  # fmt: skip
    """
    Do what goes with rows that are stored, in the same transaction; return the result of each event.

    :param new: the rows that were stored; all of them where None.
    :param known: of those that were there, whether with the same content.
    """
    results: list[Result] = [ACCEPTED] * len(events)
    refused = [*rejections, *batch.rejections]
    for row, same in sorted(known.items()):
        place = batch.index[row]
        event = events[place]
        assert event is not None
        if same:
            results[place] = DUPLICATE
        else:
            refused.append(conflict(place, event))
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
    A transaction, to be begun by `_first` with the body's first statement. Yields whether it is ours to commit: within
    a caller's transaction it is a savepoint.
    """
    if connection.info.transaction_status != pq.TransactionStatus.IDLE:
        with connection.transaction():
            yield False
        return
    try:
        yield True
    except BaseException:
        if not connection.closed:
            connection.rollback()
        raise


def _first(*, ours: bool) -> str:
    """The statements that begin a transaction of ours, or continue a caller's, and take the ingest lock."""
    return _BEGIN if ours else _LOCK


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


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


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
    """
    Have these contracts and hours settled again; the exchange's own requests, below zero, with the contract that they
    were on. A mark stays locked until commit: a settlement waits for it.
    """
    pairs = sorted({(abs(contract), hour) for contract, hour in late})
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
