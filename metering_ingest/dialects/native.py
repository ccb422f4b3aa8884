"""Our own protocol: CloudEvents 1.0 in JSON, answered event by event."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from metering_ingest.actions.store import Result
from metering_ingest.dialects.base import Dialect, Reply
from metering_ingest.domain.events import Decoded, decode


class Item(Struct, omit_defaults=True):
    """The result of one event."""

    id: str | None
    status: str
    code: str | None = None
    detail: str | None = None
    field: str | None = None


_encode = msgspec.json.Encoder().encode


def answer(decoded: Decoded, results: Sequence[Result]) -> Reply:
    """Return a result per event in the order sent, and how many there are of each."""
    items = [
        Item(event.id, result.status)
        if result.rejection is None and event is not None
        else _refused(result)
        for event, result in zip(decoded.events, results, strict=True)
    ]  # fmt: skip
    counts = Counter(result.status for result in results)
    body = {"results": items} | {name: counts[name] for name in ("accepted", "duplicate", "conflict", "rejected")}
    return Reply(200, _encode(body))


def _refused(result: Result) -> Item:
    rejection = result.rejection
    assert rejection is not None
    return Item(rejection.id, result.status, rejection.code, rejection.detail, rejection.field)


NATIVE = Dialect(
    "ciyuan",
    ("/v1/events",),
    ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json"),
    decode,
    answer,
)
