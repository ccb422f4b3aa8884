"""
What changes about events already stored: those that came without a time, those taken back, those replaced.

Nothing is ever updated: an identity is entered once, a void is a row of its own, and the rollup is lowered by what
the voided event had added.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from metering_ingest.archived import archived_event
from metering_ingest.domain.classes import CACHED, CODES, INPUT, INPUT_BYTES, OUTPUT, OUTPUT_BYTES, REASONING, REQUESTS
from metering_ingest.domain.event_key import event_key, identity_digest, milliseconds, milliseconds_of
from metering_ingest.domain.events import VOID, Event, Rejection
from metering_ingest.domain.pipeline import HOUR_MS, MeterFacts, Prepared
from metering_ingest.domain.rows import Rollup, TagRollup, tagged_rows

Connection = psycopg.Connection[Any]

_ENTER = """
    INSERT INTO untimed_identity AS u (meter_id, digest, time_ms)
    SELECT %s::bigint, digest, %s::bigint FROM unnest(%s::bytea[]) AS digest ORDER BY digest
    ON CONFLICT (meter_id, digest) DO UPDATE SET time_ms = u.time_ms RETURNING digest, time_ms
"""
_VOIDED_ROW = """
    SELECT contract_id, deployment_id, length_band, requests, input_tokens, cached_tokens, output_tokens,
        reasoning_tokens, input_micro_st, cached_micro_st, output_micro_st, (details -> 'classes')::text,
        (details -> 'tags')::text, coalesce((details ->> 'input_bytes')::bigint, 0),
        coalesce((details ->> 'output_bytes')::bigint, 0)
    FROM usage_event WHERE event_key = %s AND meter_id = %s
"""
_VOID = """
    INSERT INTO usage_void (event_key, meter_id, reason, by_key, voided_at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""


def times_of_untimed(
    connection: Connection, meter_id: int, events: Sequence[Event | None], *, now_ms: int
) -> list[int]:
    """Return the time of every event in milliseconds; one without gets the time at which it was first seen."""
    times = [0] * len(events)
    digests: dict[bytes, list[int]] = {}
    for i, event in enumerate(events):
        if event is None:
            continue
        if event.time is not None:
            times[i] = milliseconds(event.time)
        else:
            digests.setdefault(identity_digest(event.source, event.id), []).append(i)
    if digests:
        for digest, time_ms in connection.execute(_ENTER, [meter_id, now_ms, sorted(digests)]):
            for i in digests[bytes(digest)]:
                times[i] = time_ms
    return times


class Voided(NamedTuple):
    """What a voided event had added to the rollup, negated, and the contract that it belonged to."""

    contract_id: int
    rollup: Rollup
    tags: TagRollup


class CorrectionRefused(Exception):
    """An amendment whose original is not there: it was stored in this transaction, which must be undone."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.detail)
        self.rejection = rejection


@dataclass(slots=True)
class Outcome:
    """What the corrections of one request did."""

    rollup: Rollup = field(default_factory=list)
    tags: TagRollup = field(default_factory=list)
    late: set[tuple[int, int]] = field(default_factory=set)
    rejections: list[Rejection] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)


def correct(
    connection: Connection, meter: MeterFacts, events: Sequence[Event | None], corrections: Sequence[int], *,
    inserted: set[int], batch: Prepared, now: datetime,
) -> Outcome:  # fmt: skip
    """
    Void the originals of voids and of stored amendments.

    :param inserted: places of the events that were stored now: only then does an amendment void what it replaces.
    """
    outcome = Outcome()
    own_key = dict(zip(batch.index, batch.key_bytes(), strict=True))
    for i in corrections:
        event = events[i]
        assert event is not None
        void = event.type == VOID
        if not void and i not in inserted:
            continue
        reference = event.data.refers_to
        if reference is None:
            if not void:
                raise CorrectionRefused(
                    _rejection(i, event, "missing-field", "An amendment names its original.", "data.refers_to")
                )
            outcome.rejections.append(
                _rejection(i, event, "missing-field", "A correction names its original.", "refers_to")
            )
            continue
        digest = identity_digest(reference.source or event.source, reference.id)
        if reference.time is not None:
            ms = milliseconds(reference.time)
        else:
            row = connection.execute(
                "SELECT time_ms FROM untimed_identity WHERE meter_id = %s AND digest = %s", [meter.meter_id, digest]
            ).fetchone()
            ms = row[0] if row else -1
        key = event_key(ms, digest) if ms >= 0 else None
        by = own_key.get(i) or event_key(milliseconds(now), identity_digest(event.source, event.id))
        done = None if key is None else void_event(
            connection, meter.meter_id, key, reason="voided" if void else "amended", by_key=by, now=now
        )  # fmt: skip
        if done is None:
            detail = "The event that it refers to is not stored; give its id, source and the time it was sent with."
            rejection = _rejection(i, event, "unknown-original", detail, "data.refers_to")
            if not void:
                raise CorrectionRefused(rejection)
            outcome.rejections.append(rejection)
        elif not done.rollup:
            outcome.repeated += [i] if void else []
        else:
            outcome.rollup += done.rollup
            outcome.tags += done.tags
            if done.contract_id:
                outcome.late.add((done.contract_id, milliseconds_of(key) // HOUR_MS))  # type: ignore[arg-type]
    return outcome


def void_event(
    connection: Connection, meter_id: int, key: bytes, *, reason: str, by_key: bytes, now: datetime
) -> Voided | None:
    """
    Void one stored event. The caller adds the returned rollup rows; they are empty when it was void already.

    :returns: None when there is no such event.
    """
    row = connection.execute(_VOIDED_ROW, [UUID(bytes=key), meter_id]).fetchone()
    row = row or archived_event(connection, meter_id, key)
    if row is None:
        return None
    inserted = connection.execute(_VOID, [UUID(bytes=key), meter_id, reason, UUID(bytes=by_key), now]).rowcount
    contract, deployment, band, requests, fresh, cached, visible, reasoning, w_in, w_cached, w_out, classes = row[:12]
    tags, input_bytes, output_bytes = row[12:]
    if not inserted:
        return Voided(contract, [], [])
    hour = milliseconds_of(key) // HOUR_MS
    columns = [
        (REQUESTS, requests, 0), (INPUT, fresh, w_in), (CACHED, cached, w_cached), (OUTPUT, visible, w_out),
        (REASONING, reasoning, 0), *((CODES[name], n, 0) for name, n in msgspec.json.decode(classes or "{}").items()),
        (INPUT_BYTES, input_bytes, 0), (OUTPUT_BYTES, output_bytes, 0),
    ]  # fmt: skip
    carried = msgspec.json.decode(tags or "{}")
    return Voided(
        contract,
        [(contract, deployment, hour, band, code, -n, -work, -1) for code, n, work in columns if n or work],
        [(*key, *less) for key, *less in tagged_rows((contract, deployment, hour), carried, columns, sign=-1)],  # type: ignore[misc]
    )


def _rejection(index: int, event: Event, code: str, detail: str, field_: str) -> Rejection:
    return Rejection(index, code, detail, field_, event.id, event.source, msgspec.json.encode(event))
