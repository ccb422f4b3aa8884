"""
OpenMeter's and Lago's APIs, which share an address: CloudEvents of any type, or `{"event": …}`, `{"events": […]}`.

Their clients look at the status alone, and resend nothing that was refused: so events that cannot be counted are kept
aside with their reason, to be listed and replayed, and only a body that cannot be read is an error.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from metering_ingest.actions.store import Result
from metering_ingest.dialects.base import Dialect, Reply
from metering_ingest.dialects.foreign import Untranslatable, data_of, event, parse, refused, text_of, time_of
from metering_ingest.domain.event_key import milliseconds
from metering_ingest.domain.events import MAX_EVENTS, Decoded, Event, MalformedBody, Rejection

LAGO_SOURCE = "lago"


def decode(body: bytes) -> Decoded:
    """
    Return the events of either protocol.

    :raises MalformedBody: when the body is neither.
    """
    value = parse(body)
    if isinstance(value, dict) and ("event" in value or "events" in value):
        items = value["events"] if "events" in value else [value["event"]]
        translate, style = _from_lago, "lago"
    else:
        items = value if isinstance(value, list) else [value]
        translate, style = _from_openmeter, "openmeter"
    if not isinstance(items, list):
        raise MalformedBody("malformed-json", "“events” must be an array.")
    if len(items) > MAX_EVENTS:
        raise MalformedBody("too-many-events", f"A batch may have {MAX_EVENTS:,} events; this one has {len(items):,}.")
    events: list[Event | None] = []
    rejections: list[Rejection] = []
    for index, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise Untranslatable("invalid-event", "An event must be an object.")
            events.append(translate(item))
        except Untranslatable as error:
            named = item.get("id") or item.get("transaction_id") if isinstance(item, dict) else None
            events.append(None)
            rejections.append(refused(index, error, item, named, LAGO_SOURCE if style == "lago" else None))
    return Decoded(events, rejections, "lago-batch" if isinstance(value, dict) and "events" in value else style)


def _from_openmeter(item: dict[str, Any]) -> Event:
    return event(
        id_=text_of(item.get("id"), "id"),
        source=text_of(item.get("source"), "source"),
        subject=text_of(item.get("subject"), "subject", needed=False),
        time=time_of(item.get("time"), "time"),
        data=data_of(item.get("data")),
    )


def _from_lago(item: dict[str, Any]) -> Event:
    return event(
        id_=text_of(item.get("transaction_id"), "transaction_id"),
        source=LAGO_SOURCE,
        subject=text_of(item.get("external_subscription_id"), "external_subscription_id", needed=False),
        time=time_of(item.get("timestamp"), "timestamp"),
        data=data_of(item.get("properties"), where="properties"),
    )


def answer(decoded: Decoded, results: Sequence[Result]) -> Reply:
    """Answer as the protocol does; how many were kept aside stands in a header."""
    aside = sum(result.rejection is not None for result in results)
    headers = ((b"ciyuan-rejected", str(aside).encode()),) if aside else ()
    if decoded.style == "openmeter":
        return Reply(204, b"", headers=headers)
    shown = [
        _shown(event.id, event)
        if event is not None
        else _shown(result.rejection.id if result.rejection else None, None)
        for event, result in zip(decoded.events, results, strict=True)
    ]
    if not shown:
        return Reply(200, b'{"events":[]}', headers=headers)
    body = {"events": shown} if decoded.style == "lago-batch" else {"event": shown[0]}
    return Reply(200, msgspec.json.encode(body), headers=headers)


def _shown(id_: str | None, event: Event | None) -> dict[str, Any]:
    """An event as Lago's client parses it back."""
    time = event.time if event is not None else None
    return {
        "lago_id": None, "transaction_id": id_ or "", "lago_customer_id": None, "lago_subscription_id": None,
        "external_subscription_id": event.subject if event is not None else "", "code": "tokens",
        "timestamp": str(milliseconds(time) // 1_000) if time else "0", "precise_total_amount_cents": None,
        "properties": {}, "created_at": time.isoformat() if time else None,
    }  # fmt: skip


CLOUDS = Dialect(
    "openmeter-lago",
    ("/api/v1/events", "/api/v1/events/batch"),
    ("application/cloudevents+json", "application/cloudevents-batch+json", "application/json"),
    decode,
    answer,
)
