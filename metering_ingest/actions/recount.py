"""
Usage recomputed from the events themselves, which settlement trusts alone; and the ids that were counted twice.

The ORM's connection is used: this runs in the settlement's transaction, after every earlier ingest has committed.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from core.periods import Period
from metering_ingest.actions.corrections import Voided, void_event
from metering_ingest.actions.store import INGEST_LOCK, add_to_rollup, add_to_tag_rollup, mark_late
from metering_ingest.archived import events_between
from metering_ingest.domain.classes import COLUMN_CLASSES
from metering_ingest.domain.event_key import first_key, milliseconds, milliseconds_of
from metering_ingest.domain.pipeline import HOUR_MS
from metering_ingest.models import Meter

#: How far from a window the same id is looked for before it is settled; the daily check looks everywhere.
LOOK_AROUND = timedelta(days=3)

_TOTALS = """
    SELECT e.contract_id, e.deployment_id,
        sum(e.input_micro_st + e.cached_micro_st + e.output_micro_st)::bigint,
        sum(e.requests)::bigint, sum(e.input_tokens)::bigint, sum(e.cached_tokens)::bigint,
        sum(e.output_tokens)::bigint, sum(e.reasoning_tokens)::bigint
    FROM {events} e
    WHERE e.event_key >= %(first)s AND e.event_key < %(last)s AND e.meter_id = ANY(%(meters)s)
        AND e.contract_id = ANY(%(contracts)s)
        AND NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
    GROUP BY 1, 2 ORDER BY 1, 2
"""
_RARE_CLASSES = """
    SELECT e.contract_id, e.deployment_id, c.key, sum(c.value::bigint)::bigint
    FROM {events} e, jsonb_each_text(e.details -> 'classes') c
    WHERE e.event_key >= %(first)s AND e.event_key < %(last)s AND e.meter_id = ANY(%(meters)s)
        AND e.contract_id = ANY(%(contracts)s) AND e.details ? 'classes'
        AND NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
    GROUP BY 1, 2, 3
"""
# The digest is the key without its first six bytes. The first received stands; of those received at once, the earliest.
_COUNTED_TWICE = """
    WITH mine AS (
        SELECT DISTINCT meter_id, substring(uuid_send(event_key) FROM 7) AS digest FROM usage_event
        WHERE event_key >= %(first)s AND event_key < %(last)s AND meter_id = ANY(%(meters)s)
    ), alike AS (
        SELECT e.meter_id, e.event_key, e.contract_id,
            first_value(e.event_key) OVER (
                PARTITION BY e.meter_id, m.digest ORDER BY e.received_at, e.event_key) AS stands
        FROM usage_event e
        JOIN mine m ON m.meter_id = e.meter_id AND m.digest = substring(uuid_send(e.event_key) FROM 7)
        WHERE e.event_key >= %(around_first)s AND e.event_key < %(around_last)s
            AND NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
    )
    SELECT meter_id, event_key, stands FROM alike WHERE event_key <> stands ORDER BY meter_id, event_key
"""


class Usage(NamedTuple):
    """What one deployment delivered on one contract: work, and tokens (and other counts) by class."""

    contract_id: int
    deployment_id: int
    work_micro_st: int
    tokens: dict[str, int]


def key_at(moment: datetime) -> UUID:
    """Return the lowest event key at a time."""
    return UUID(bytes=first_key(milliseconds(moment)))


def wait_for_ingest() -> None:
    """Wait until every transaction that stores usage and began before now has ended; hold nobody up afterwards."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [INGEST_LOCK])
        cursor.execute("SELECT pg_advisory_unlock(%s)", [INGEST_LOCK])


def provider_meters(provider_ids: Collection[int]) -> list[int]:
    """Return the meters whose reports count for these providers."""
    meters = Meter.objects.filter(organization_id__in=provider_ids, role=Meter.Role.PROVIDER)
    return list(meters.order_by("pk").values_list("pk", flat=True))


def recount(contract_ids: Sequence[int], meter_ids: Sequence[int], period: Period) -> list[Usage]:
    """Return the usage of these contracts in a period from its events that count, by contract and deployment."""
    values: dict[str, Any] = {
        "first": key_at(period.start),
        "last": key_at(period.end),
        "meters": list(meter_ids),
        "contracts": list(contract_ids),
    }
    with connection.cursor() as cursor:
        events = events_between(values["first"], values["last"])
        cursor.execute(_TOTALS.format(events=events), values)
        found = [
            Usage(contract, deployment, work, {n: c for n, c in zip(COLUMN_CLASSES, counts, strict=True) if c})
            for contract, deployment, work, *counts in cursor.fetchall()
        ]
        cursor.execute(_RARE_CLASSES.format(events=events), values)
        rare = cursor.fetchall()
    by_pair = {(usage.contract_id, usage.deployment_id): usage for usage in found}
    for contract, deployment, name, count in rare:
        by_pair[contract, deployment].tokens[name] = count
    return found


def void_repeats(
    meter_ids: Sequence[int], period: Period, *, now: datetime, around: timedelta | None = LOOK_AROUND
) -> int:
    """
    Void events of a period whose (source, id) is stored at another time too, except the one received first.

    :param around: how far from the period is looked; None: everywhere.
    :returns: how many were voided. Contracts that lose usage by it are marked to be settled again.
    """
    with connection.cursor() as cursor:
        # No index leads to a digest, so a nested loop compares each event with each; of a day that came in a moment ago
        # the planner has no figures, and would choose one.
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute(
            _COUNTED_TWICE,
            {
                "first": key_at(period.start),
                "last": key_at(period.end),
                "meters": list(meter_ids),
                "around_first": UUID(int=0) if around is None else key_at(period.start - around),
                "around_last": UUID(int=2**128 - 1) if around is None else key_at(period.end + around),
            },
        )
        repeats = cursor.fetchall()
        cursor.execute("SET LOCAL enable_nestloop = on")
        raw = connection.connection
        for meter_id, key, stands in repeats:
            done = void_event(raw, meter_id, key.bytes, reason="duplicate", by_key=stands.bytes, now=now)
            add_voided(meter_id, key.bytes, done, now=now)
    return len(repeats)


def add_voided(meter_id: int, key: bytes, done: Voided | None, *, now: datetime) -> int:
    """Lower the rollups by what an event had added, and have its contract settled again. Returns 1 if it counted."""
    if done is None or not done.rollup:
        return 0
    raw = connection.connection
    add_to_rollup(raw, meter_id, done.rollup)
    add_to_tag_rollup(raw, meter_id, done.tags)
    if done.contract_id:
        mark_late(raw, [(done.contract_id, milliseconds_of(key) // HOUR_MS)], now)
    return 1
