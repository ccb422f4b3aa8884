"""
LiteLLM's generic logger: an array of StandardLoggingPayload (one object, or a line per object, are taken too).

Only the members below are ever read: prompts and answers in the payload are skipped by the decoder, not even turned
into text.
"""

from typing import Any

import msgspec
from msgspec import Struct

from metering_ingest.dialects import native
from metering_ingest.dialects.base import Dialect
from metering_ingest.dialects.foreign import Untranslatable, event, refused, text_of, time_of
from metering_ingest.domain.events import MAX_EVENTS, MAX_TEXT, Data, Decoded, Event, MalformedBody, Rejection

SOURCE = "litellm"


class Metadata(Struct):
    """Who called, and the vendor's own usage object."""

    user_api_key_end_user_id: Any = None
    user_api_key_team_id: Any = None
    user_api_key_alias: Any = None
    user_api_key_hash: Any = None
    usage_object: Any = None


class Parameters(Struct):
    """The one parameter of the call that is read: whom it was made for."""

    user: Any = None


class Payload(Struct):
    """What is read of a StandardLoggingPayload."""

    id: Any = None
    status: Any = None
    model: Any = None
    startTime: Any = None
    endTime: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    end_user: Any = None
    request_tags: Any = None
    metadata: Metadata | None = None
    model_parameters: Parameters | None = None


_many = msgspec.json.Decoder(list[Payload])
_one = msgspec.json.Decoder(Payload)


def decode(body: bytes) -> Decoded:
    """
    Return the calls of a log.

    :raises MalformedBody: when it is no JSON of that shape.
    """
    try:
        start = body.lstrip()[:1]
        if start == b"[":
            payloads = _many.decode(body)
        else:
            payloads = [_one.decode(line) for line in body.splitlines() if line.strip()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBody("malformed-json", f"The body is no log of LiteLLM's: {error}.") from None
    if len(payloads) > MAX_EVENTS:
        raise MalformedBody("too-many-events", f"A batch may have {MAX_EVENTS:,} events, not {len(payloads):,}.")
    events: list[Event | None] = []
    rejections: list[Rejection] = []
    for index, payload in enumerate(payloads):
        try:
            events.append(_event(payload))
        except Untranslatable as error:
            events.append(None)
            rejections.append(refused(index, error, payload, payload.id, SOURCE))
    return Decoded(events, rejections)


def _event(payload: Payload) -> Event:
    metadata = payload.metadata or Metadata()
    candidates = (
        payload.end_user, metadata.user_api_key_end_user_id,
        # Without its proxy, LiteLLM tells the call's `user` nowhere else.
        payload.model_parameters.user if payload.model_parameters is not None else None,
        metadata.user_api_key_team_id, metadata.user_api_key_alias, metadata.user_api_key_hash,
    )  # fmt: skip
    subject = next((value for value in candidates if value), "")
    if payload.prompt_tokens is None:
        raise Untranslatable("unknown-usage", "prompt_tokens is missing.", "prompt_tokens")
    counts = {name: getattr(payload, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    usage = {name: count for name, count in counts.items() if count is not None}
    if isinstance(metadata.usage_object, dict):
        usage["metadata"] = {"usage_object": metadata.usage_object}
    tags = [str(tag)[:MAX_TEXT] for tag in payload.request_tags or [] if tag]
    data = Data(
        format="litellm", usage=usage, status=str(payload.status)[:MAX_TEXT] if payload.status else None,
        model=str(payload.model)[:MAX_TEXT] if payload.model else None,
        tags=dict.fromkeys(tags, "true") or None, duration_ms=_duration(payload),
    )  # fmt: skip
    return event(
        id_=text_of(payload.id, "id"), source=SOURCE, subject=text_of(subject, "end_user", needed=False),
        time=time_of(payload.endTime, "endTime"), data=data,
    )  # fmt: skip


def _duration(payload: Payload) -> int | None:
    if not isinstance(payload.startTime, int | float) or not isinstance(payload.endTime, int | float):
        return None
    milliseconds = round((payload.endTime - payload.startTime) * 1_000)
    return milliseconds if 0 <= milliseconds <= 10**9 else None


LITELLM = Dialect(
    "litellm", ("/v1/litellm",), ("application/json", "application/x-ndjson"), decode, native.answer
)  # fmt: skip
