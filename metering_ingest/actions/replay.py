"""Rejected events go through the pipeline again, once the cause is mended."""

from collections.abc import Iterable
from datetime import datetime

import psycopg

from core import clock
from metering_ingest.actions.attribution import access_of, route_book_of
from metering_ingest.actions.store import ingest
from metering_ingest.domain.events import Decoded, MalformedBody, decode
from metering_ingest.models import Meter, RejectedEvent

Connection = psycopg.Connection[object]


def replay(connection: Connection, rows: Iterable[RejectedEvent], *, now: datetime) -> dict[str, int]:
    """
    Ingest rejected events anew, meter by meter, and mark those resolved that are stored now (or were already).

    :param connection: as for `ingest`; the rows are marked on the ORM's connection afterwards, so that a crash
        between the two leaves an event stored and listed, and the next replay finds it a duplicate.
    :returns: how many of each result.
    """
    by_meter: dict[int, list[RejectedEvent]] = {}
    for row in rows:
        by_meter.setdefault(row.meter_id, []).append(row)
    counts: dict[str, int] = {}
    meters = Meter.objects.select_related("deployment__grade__model_card").in_bulk(by_meter)
    for meter_id, mine in sorted(by_meter.items()):
        access = access_of(meters[meter_id])
        decoded = Decoded([], [])
        for row in mine:
            one = _decoded(bytes(row.body))
            for rejection in one.rejections:
                rejection.index = len(decoded.events)
            decoded.events += one.events
            decoded.rejections += one.rejections
        results = ingest(connection, decoded, meter=access.facts, route_book=route_book_of(access), clock=clock.now)
        for row, result in zip(mine, results, strict=True):
            counts[result.status] = counts.get(result.status, 0) + 1
            if result.rejection is None:
                RejectedEvent.objects.filter(meter_id=meter_id, digest=row.digest).update(resolved_at=now)
    return counts


def _decoded(body: bytes) -> Decoded:
    """Return the one event of a kept body; what was kept may be no JSON at all."""
    try:
        return decode(body)
    except MalformedBody:
        return decode(b"[" + body + b"]")
