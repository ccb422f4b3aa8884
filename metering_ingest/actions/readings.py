"""Readings of engine counters come in, and become what an engine counted in an hour."""

from collections.abc import Collection
from datetime import datetime, timedelta

from core.errors import BadRequest, Forbidden
from core.transactions import assert_in_transaction
from metering_ingest.domain import reconciliation as rule
from metering_ingest.domain.counters import (
    CACHED,
    OUTPUT,
    PROMPT,
    BadExposition,
    Point,
    counted,
    covers,
    parse_exposition,
)
from metering_ingest.domain.event_key import milliseconds
from metering_ingest.models import CounterReading, Meter

AHEAD = timedelta(minutes=5)
HOUR = timedelta(hours=1)


class NotAnEngine(Forbidden):
    """Counters are posted with the key of an engine's meter."""

    code = "not-an-engine"


class ReadingUnreadable(BadRequest):
    """The scrape cannot be read, or its time cannot be right."""

    code = "reading-unreadable"


def store_readings(*, meter: Meter, exposition: str, at: datetime, now: datetime) -> tuple[int, int]:
    """
    Store the known counters of one scrape; the same scrape again changes nothing.

    :returns: how many counters were found, and how many of them were new at that time.
    :raises NotAnEngine: another meter than an engine's.
    :raises ReadingUnreadable: no exposition text, none of the known counters, or a time more than 5 minutes ahead.
    """
    assert_in_transaction()
    if meter.role != Meter.Role.ENGINE:
        raise NotAnEngine("Counter readings are posted with the key of a meter whose role is “engine”.")
    if at > now + AHEAD:
        raise ReadingUnreadable("The time lies more than five minutes ahead of the exchange's clock.", field="at")
    try:
        readings = parse_exposition(exposition)
    except BadExposition as error:
        raise ReadingUnreadable(f"The exposition cannot be used: {error}.", field="exposition") from None
    before = CounterReading.objects.filter(meter_id=meter.pk, at=at).count()
    CounterReading.objects.bulk_create(
        [
            CounterReading(
                meter_id=meter.pk, series=reading.series, at=at, counts=reading.counts, value=reading.value,
                started_at=reading.started_at, received_at=now,
            )
            for reading in sorted(readings)
        ],
        ignore_conflicts=True,
    )  # fmt: skip
    return len(readings), CounterReading.objects.filter(meter_id=meter.pk, at=at).count() - before


def engine_counts(meter_ids: Collection[int], start: datetime, end: datetime) -> dict[int, dict[str, int]]:
    """
    Return what each meter's engine counted in [start, end) by billed class, for those whose readings cover it.

    An engine that publishes no cache counter is counted without one: all its input stands in `input`.
    """
    rows = CounterReading.objects.filter(meter_id__in=meter_ids, at__gte=start - HOUR, at__lte=end + HOUR).order_by(
        "meter_id", "series", "at"
    )
    points: dict[tuple[int, bytes], list[Point]] = {}
    kinds: dict[tuple[int, bytes], str] = {}
    times: dict[int, set[int]] = {}
    for row in rows:
        key = (row.meter_id, bytes(row.series))
        if key not in points:
            # A process that says when it started has counted from zero since then.
            points[key] = [Point(milliseconds(row.started_at), 0)] if row.started_at and row.started_at < row.at else []
            kinds[key] = row.counts
        points[key].append(Point(milliseconds(row.at), row.value))
        times.setdefault(row.meter_id, set()).add(milliseconds(row.at))
    first, last = milliseconds(start), milliseconds(end)
    totals: dict[int, dict[str, int]] = {meter: {} for meter, seen in times.items() if covers(seen, first, last)}
    for (meter, series), readings in points.items():
        if meter in totals:
            kind = kinds[meter, series]
            totals[meter][kind] = totals[meter].get(kind, 0) + counted(readings, first, last)
    return {meter: _by_class(kinds_counted) for meter, kinds_counted in totals.items()}


def _by_class(totals: dict[str, int]) -> dict[str, int]:
    found = {}
    if PROMPT in totals:
        found[rule.INPUT] = max(0, totals[PROMPT] - totals.get(CACHED, 0))
    if CACHED in totals:
        found[rule.CACHED_INPUT] = totals[CACHED]
    if OUTPUT in totals:
        found[rule.OUTPUT] = totals[OUTPUT]
    return found
