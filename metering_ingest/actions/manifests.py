"""Manifests come in and are held against the events that have arrived; what is missing is named until it is there."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection

from core.errors import BadRequest
from core.live import publish_on_commit
from core.transactions import assert_in_transaction
from identity.actions.events import emit
from metering_ingest.archived import events_between
from metering_ingest.domain import manifests as rule
from metering_ingest.domain.classes import COLUMN_CLASSES, NAMES, REQUESTS
from metering_ingest.domain.event_key import first_key, milliseconds
from metering_ingest.models import Meter, RejectedEvent, UsageGap, UsageManifest

AHEAD = timedelta(minutes=5)
MOST_SET_ASIDE = 20_000
#: A manifest is missed an hour after its own hour is over, of sources that have sent one within a week.
DUE, WATCHED, LOOKED_BACK = timedelta(hours=1), timedelta(days=7), timedelta(hours=24)

_IN_HOUR = "e.event_key >= %(first)s AND e.event_key < %(last)s AND e.meter_id = %(meter)s"
_ROLLED_UP = """
    SELECT token_class, sum(quantity)::bigint, sum(events)::bigint FROM usage_rollup
    WHERE meter_id = %(meter)s AND hour = %(hour)s GROUP BY 1
"""
_VOIDED = """
    SELECT EXISTS (SELECT FROM usage_void e WHERE e.event_key >= %(first)s AND e.event_key < %(last)s
        AND e.meter_id = %(meter)s)
"""
_BY_SOURCE = f"""
    SELECT e.source, count(*), sum(e.requests)::bigint, sum(e.input_tokens)::bigint, sum(e.cached_tokens)::bigint,
        sum(e.output_tokens)::bigint, sum(e.reasoning_tokens)::bigint,
        coalesce(sum((e.details ->> 'input_bytes')::bigint), 0)::bigint,
        coalesce(sum((e.details ->> 'output_bytes')::bigint), 0)::bigint
    FROM {{events}} e WHERE {_IN_HOUR} GROUP BY 1
"""
_RARE_BY_SOURCE = f"""
    SELECT e.source, c.key, sum(c.value::bigint)::bigint
    FROM {{events}} e, jsonb_each_text(e.details -> 'classes') c
    WHERE {_IN_HOUR} AND e.details ? 'classes' GROUP BY 1, 2
"""
# Sources that send manifests, and of the hours since their first the ones that their meter reported, without one.
_WITHOUT_MANIFEST = """
    SELECT known.meter_id, known.source, r.hour, known.sources = 1
    FROM (
        SELECT meter_id, source, min(hour) AS began, count(*) OVER (PARTITION BY meter_id) AS sources
        FROM metering_ingest_usagemanifest WHERE received_at >= %(since)s GROUP BY meter_id, source
    ) known
    JOIN metering_ingest_meter m ON m.id = known.meter_id AND m.closed_at IS NULL
    JOIN LATERAL (
        SELECT DISTINCT hour FROM usage_rollup
        WHERE meter_id = known.meter_id AND hour >= greatest(%(first)s, known.began) AND hour <= %(last)s AND events > 0
    ) r ON true
    WHERE NOT EXISTS (SELECT FROM metering_ingest_usagemanifest u
            WHERE u.meter_id = known.meter_id AND u.source = known.source AND u.hour = r.hour)
        AND NOT EXISTS (SELECT FROM metering_ingest_usagegap g
            WHERE g.meter_id = known.meter_id AND g.source = known.source AND g.hour = r.hour)
    ORDER BY 1, 2, 3
"""


class ManifestInvalid(BadRequest):
    """The body is no manifest."""

    code = "manifest-invalid"


class HourNotOver(BadRequest):
    """A manifest is about an hour that is over."""

    code = "hour-not-over"


class Checked(NamedTuple):
    """What became of a manifest: its row, the source's gaps in that hour, and how many events wait to be replayed."""

    manifest: UsageManifest
    gaps: list[UsageGap]
    set_aside: int


def record_manifest(*, meter: Meter, body: bytes, signature: bytes | None, now: datetime) -> Checked:
    """
    Store what a log says of an hour, and compare. The same, or a lower revision, again only compares anew.

    :param body: the manifest as it was sent, its signature checked already.
    :raises ManifestInvalid: it cannot be read.
    :raises HourNotOver: its hour is not over.
    """
    assert_in_transaction()
    try:
        manifest = rule.decode_manifest(body)
    except rule.ManifestUnreadable as error:
        raise ManifestInvalid(str(error), field=error.field) from None
    if manifest.hour + rule.HOUR > now + AHEAD:
        raise HourNotOver("A manifest is sent when its hour is over.", field="hour")
    Meter.objects.select_for_update(no_key=True).get(pk=meter.pk)
    values: dict[str, Any] = {
        "revision": manifest.revision, "events": manifest.events, "sums": manifest.sums, "body": body,
        "signature": signature, "received_at": now,
    }  # fmt: skip
    row, new = UsageManifest.objects.get_or_create(
        meter=meter, hour=manifest.hour, source=manifest.source, log=manifest.log,
        defaults={**values, "state": UsageManifest.State.COMPLETE, "checked_at": now},
    )  # fmt: skip
    if not new and row.revision < manifest.revision:
        UsageManifest.objects.filter(pk=row.pk).update(**values)
    check_hour(meter=meter, hour=manifest.hour, now=now)
    row.refresh_from_db()
    gaps = UsageGap.objects.filter(meter=meter, hour=manifest.hour, source=manifest.source, closed_at__isnull=True)
    found = list(gaps.order_by("token_class"))
    return Checked(row, found, found[0].set_aside if found else 0)


def check_hour(*, meter: Meter, hour: datetime, now: datetime) -> int:
    """
    Compare the manifests of a meter's hour with what has arrived; open, change and close its gaps.

    :returns: how many classes are short, over all sources.
    """
    assert_in_transaction()
    rows = list(UsageManifest.objects.filter(meter=meter, hour=hour).order_by("source", "log"))
    if not rows:
        return UsageGap.objects.filter(meter=meter, hour=hour, closed_at__isnull=True).count()
    expected: dict[str, dict[str, int]] = {}
    for row in rows:
        said = {name: count for name, count in {rule.EVENTS: row.events, **row.sums}.items() if count}
        expected[row.source] = rule.added(expected.get(row.source, {}), said)
    received = _received(meter.pk, hour, expected)
    open_gaps = 0
    for source, said in expected.items():
        state, gaps = rule.compare(said, received.get(source, {}))
        UsageManifest.objects.filter(meter=meter, hour=hour, source=source).update(state=state, checked_at=now)
        _put_gaps(meter, source, hour, gaps, now)
        open_gaps += len(gaps)
    return open_gaps


def miss_manifests(*, now: datetime) -> int:
    """
    Open a gap of the class `manifest` for every hour in which a source reported events and of which no manifest came,
    where that source sends them. It is closed by the manifest. Noticed once.

    :returns: how many were opened.
    """
    assert_in_transaction()
    last = (now - DUE - rule.HOUR).replace(minute=0, second=0, microsecond=0)
    values = {"since": now - WATCHED, "first": last - LOOKED_BACK, "last": last}
    with connection.cursor() as cursor:
        cursor.execute(_WITHOUT_MANIFEST, values)
        candidates = cursor.fetchall()
    opened = 0
    meters = Meter.objects.in_bulk({meter_id for meter_id, *_ in candidates})
    for meter_id, source, hour, alone in candidates:
        if alone or _reported(meter_id, source, hour):
            _put_gaps(meters[meter_id], source, hour, [rule.Gap(rule.MANIFEST, 1, 0)], now)
            opened += 1
    return opened


def _reported(meter_id: int, source: str, hour: datetime) -> bool:
    """Whether a source of a meter that has several reported anything in that hour."""
    values: dict[str, Any] = {
        "meter": meter_id, "source": source, "first": UUID(bytes=first_key(milliseconds(hour))),
        "last": UUID(bytes=first_key(milliseconds(hour + rule.HOUR))),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM usage_event e WHERE {_IN_HOUR} AND e.source = %(source)s LIMIT 1", values)
        return cursor.fetchone() is not None


def _put_gaps(meter: Meter, source: str, hour: datetime, gaps: list[rule.Gap], now: datetime) -> None:
    known = {row.token_class: row for row in UsageGap.objects.filter(meter=meter, source=source, hour=hour)}
    was_open = any(row.closed_at is None for row in known.values())
    short = {gap.token_class: gap for gap in gaps}
    closing = [row.pk for name, row in known.items() if name not in short and row.closed_at is None]
    UsageGap.objects.filter(pk__in=closing).update(closed_at=now)
    if not gaps:
        return
    waiting = _set_aside(meter.pk, source, hour)
    for gap in gaps:
        row = known.get(gap.token_class)
        since = now if row is None or row.closed_at is not None else row.opened_at
        UsageGap.objects.update_or_create(
            meter=meter, source=source, hour=hour, token_class=gap.token_class,
            defaults={
                "expected": gap.expected, "received": gap.received, "set_aside": waiting, "opened_at": since,
                "closed_at": None,
            },
        )  # fmt: skip
    if not was_open:
        data = {
            "meter": meter.pk, "source": source, "hour": hour.isoformat(), "set_aside": waiting,
            "gaps": [{"class": g.token_class, "expected": g.expected, "received": g.received,
                      "missing": g.expected - g.received} for g in gaps],
        }  # fmt: skip
        publish_on_commit(f"organization.{meter.organization_id}", {"type": "usage_missing", **data})
        emit(
            organization_id=meter.organization_id, type="usage.missing",
            key=f"manifest:{meter.pk}:{source}:{hour.isoformat()}:{now.isoformat()}", data=data, now=now,
        )  # fmt: skip


def _received(meter_id: int, hour: datetime, expected: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """
    Return what has arrived by source, voided events included.

    The rollup knows no sources, and reading it costs next to nothing: where the meter has one source and the sums are
    those of its manifests, as they mostly are, all has arrived. Only otherwise the hour's events are counted: one
    source's surplus must not hide what another lacks.
    """
    values: dict[str, Any] = {
        "meter": meter_id,
        "hour": hour,
        "first": UUID(bytes=first_key(milliseconds(hour))),
        "last": UUID(bytes=first_key(milliseconds(hour + rule.HOUR))),
    }
    everything: dict[str, int] = {}
    for said in expected.values():
        everything = rule.added(everything, said)
    with connection.cursor() as cursor:
        cursor.execute(_VOIDED, values)
        if not cursor.fetchone()[0] and len(expected) == 1:
            cursor.execute(_ROLLED_UP, values)
            rolled: dict[str, int] = {}
            for code, quantity, events in cursor.fetchall():
                rolled[NAMES[code]] = quantity
                if code == REQUESTS:
                    rolled[rule.EVENTS] = events
            if {name: n for name, n in rolled.items() if n} == everything:
                return {source: dict(said) for source, said in expected.items()}
        events = events_between(values["first"], values["last"])  # an old hour's may be archived
        cursor.execute(_BY_SOURCE.format(events=events), values)
        found = {
            source: dict(zip((rule.EVENTS, *COLUMN_CLASSES, "input_bytes", "output_bytes"), counts, strict=True))
            for source, *counts in cursor.fetchall()
        }
        cursor.execute(_RARE_BY_SOURCE.format(events=events), values)
        for source, name, count in cursor.fetchall():
            found[source][name] = count
    return {source: {name: n for name, n in counts.items() if n} for source, counts in found.items()}


class _Timed(msgspec.Struct):
    time: datetime | None = None


_timed = msgspec.json.Decoder(_Timed)


def _set_aside(meter_id: int, source: str, hour: datetime) -> int:
    """Return how many rejected events of that source and hour wait to be replayed."""
    found = 0
    rows = RejectedEvent.objects.filter(meter_id=meter_id, source=source, resolved_at__isnull=True)
    for body in rows.values_list("body", flat=True)[:MOST_SET_ASIDE]:
        try:
            time = _timed.decode(bytes(body)).time
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        found += time is not None and time.tzinfo is not None and hour <= time < hour + rule.HOUR
    return found
