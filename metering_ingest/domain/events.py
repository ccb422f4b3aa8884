"""
Decoding: from the bytes of a request to typed events, each bad one with its reason, the good ones untouched by it.

The shape is CloudEvents 1.0 in JSON, one object or an array. A batch is decoded in one typed pass; only when that
fails is it taken apart, item by item, to find out which and why.
"""

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

MAX_TEXT = 256
MAX_EVENTS = 10_000
MAX_REQUEST_TOKENS = 1_000_000_000

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Count = Annotated[int, Meta(ge=0, le=MAX_REQUEST_TOKENS)]
Milliseconds = Annotated[int, Meta(ge=0, le=10**9)]

USAGE, VOID, AMEND = "ciyuan.usage", "ciyuan.usage.void", "ciyuan.usage.amend"


class Reference(Struct, forbid_unknown_fields=True, gc=False):
    """The event that a void or an amendment is about, as its meter named it; without `time` if it came without one."""

    id: Text
    source: Text | None = None
    time: Annotated[datetime, Meta(tz=True)] | None = None


class Totals(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The plain totals of a request: `input_tokens` includes the cached ones, `output_tokens` the reasoning ones."""

    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    output_tokens: Count = 0
    reasoning_tokens: Count = 0


class Data(Totals, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """
    What a request used.

    Either the plain totals, or our classes by name in `classes`, or a vendor's usage object in `usage` with its
    `format`; and what else its meter knows of it. `tokenizer` names the pinned vocabulary of a canonical count.
    """

    classes: dict[str, Any] | None = None
    format: str | None = None
    usage: dict[str, Any] | None = None
    status: Text | None = None
    ttft_ms: Milliseconds | None = None
    duration_ms: Milliseconds | None = None
    attempt_id: Text | None = None
    model: Text | None = None
    tags: dict[Text, Text] | None = None
    input_bytes: Count | None = None
    output_bytes: Count | None = None
    tokenizer: Text | None = None
    refers_to: Reference | None = None


class Event(Struct, gc=False):
    """
    One CloudEvent. Its `time` is the request's end; other attributes that CloudEvents allows are read over.

    `time` may be absent: then the exchange enters the identity with the time it was first given.
    """

    id: Text
    source: Text
    data: Data
    specversion: Literal["1.0"]
    type: Literal["ciyuan.usage", "ciyuan.usage.void", "ciyuan.usage.amend"] = "ciyuan.usage"
    subject: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    time: Annotated[datetime, Meta(tz=True)] | None = None


class _PlainEvent(Event, gc=False):
    """An event that reports totals and nothing else, as most do: a quarter less to decode, and nothing to look for."""

    data: Totals  # type: ignore[assignment]
    type: Literal["ciyuan.usage"] = "ciyuan.usage"


class Rejection(Struct):
    """Why an event was not stored. `raw` is what was sent; `code` is stable; `detail` is for a person."""

    index: int
    code: str
    detail: str
    field: str | None = None
    id: str | None = None
    source: str | None = None
    raw: bytes = b""


class MalformedBody(ValueError):
    """The body as a whole cannot be read as events."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Decoded(Struct):
    """Events by their place in the body (None where rejected), the rejections, and how to answer (by protocol)."""

    events: list[Event | None]
    rejections: list[Rejection]
    style: str = ""


_plain_batch = msgspec.json.Decoder(list[_PlainEvent])
_plain_one = msgspec.json.Decoder(_PlainEvent)
_batch = msgspec.json.Decoder(list[Event])
_one = msgspec.json.Decoder(Event)
_raw_batch = msgspec.json.Decoder(list[msgspec.Raw])
_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED = re.compile(r"field `([^`]+)`")


class _Identity(Struct):
    id: Any = None
    source: Any = None


_identity = msgspec.json.Decoder(_Identity)


def decode(body: bytes) -> Decoded:
    """
    Return the events of a JSON body: one object or an array of them.

    :raises MalformedBody: when the body is no JSON, not UTF-8, no object or array, empty or too long a batch.
    """
    start = body.lstrip()[:1]
    if start not in (b"[", b"{"):
        raise MalformedBody("malformed-json", "The body must be one CloudEvents object or an array of them, in JSON.")
    many = start == b"["
    if b"\\u0000" not in body:
        for batch, one in ((_plain_batch, _plain_one), (_batch, _one)):
            try:
                events = batch.decode(body) if many else [one.decode(body)]
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            _limit(len(events))
            return Decoded(list(events), [])
    return _item_by_item(body, many)


def _limit(count: int) -> None:
    if count > MAX_EVENTS:
        raise MalformedBody("too-many-events", f"A batch may have {MAX_EVENTS:,} events; this one has {count:,}.")


def _item_by_item(body: bytes, many: bool) -> Decoded:
    try:
        body.decode()
        items = _items(body) if many else [body]
    except RecursionError:
        raise MalformedBody("malformed-json", "The body is nested too deeply to be events.") from None
    except UnicodeDecodeError as error:
        raise MalformedBody("invalid-utf-8", f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    except msgspec.DecodeError as error:
        raise MalformedBody("malformed-json", f"The body is not valid JSON: {error}.") from None
    _limit(len(items))
    decoded = Decoded([], [])
    for index, raw in enumerate(items):
        try:
            if b"\\u0000" in raw and has_null(msgspec.json.decode(raw)):
                raise msgspec.ValidationError("Text may not contain the character U+0000")
            decoded.events.append(_one.decode(raw))
        except msgspec.ValidationError as error:
            decoded.events.append(None)
            decoded.rejections.append(rejection_of(error, index, raw))
        except msgspec.DecodeError as error:
            if not _is_half(raw):
                raise MalformedBody("malformed-json", f"Event {index} is not valid JSON: {error}.") from None
            detail = "A text has half of a surrogate pair in it: it was cut in the middle of a character."
            decoded.events.append(None)
            decoded.rejections.append(Rejection(index, "invalid-text", detail, raw=raw))
        except RecursionError:
            decoded.events.append(None)
            decoded.rejections.append(Rejection(index, "invalid-event", "The event is nested too deeply.", raw=raw))
    return decoded


def _items(body: bytes) -> list[bytes]:
    """
    Cut an array into its items. Half of a surrogate pair, which a careless cut of a text leaves behind, is JSON by its
    grammar and no text: an item that has one is kept as it is, for its own rejection; its neighbours are not to blame.
    """
    try:
        return [bytes(raw) for raw in _raw_batch.decode(body)]
    except msgspec.DecodeError:
        if b"\\u" not in body:
            raise
        try:
            items = json.loads(body)
        except ValueError:
            items = None
        if not isinstance(items, list):
            raise
        return [json.dumps(item).encode() for item in items]


def _is_half(raw: bytes) -> bool:
    """Whether a JSON value has half of a surrogate pair in it."""
    try:
        json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except ValueError:
        return False
    return False


def has_null(value: Any) -> bool:
    """Whether any text in a decoded JSON value contains U+0000, which the database cannot store."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(has_null(key) or has_null(item) for key, item in value.items())
    return isinstance(value, list) and any(has_null(item) for item in value)


def rejection_of(error: msgspec.ValidationError, index: int, raw: bytes) -> Rejection:
    """Return the rejection that says what the decoder found, with the field's path as the sender wrote it."""
    message = str(error)
    path = _PATH.search(message)
    text = message[: path.start()] if path else message
    named = _NAMED.search(text)
    field = ".".join(part for part in ((path.group(1) if path else ""), (named.group(1) if named else "")) if part)
    code = "invalid-event"
    if "unknown field" in text:
        code = "unknown-field"
    elif "missing required field" in text:
        code = "missing-field"
    elif ">= 0" in text:
        code = "negative-count"
    elif "<= 1000000000" in text or "out of range" in text:
        code = "count-too-large"
    id_, source = identity_of(raw)
    detail = f"{text}{f' ({field})' if field and field not in text else ''}."
    return Rejection(index, code, detail, field or None, id_, source, raw)


def identity_of(raw: bytes) -> tuple[str | None, str | None]:
    """Return id and source of an event that may be wrong elsewhere, where they can be read."""
    try:
        found = _identity.decode(raw)
    except msgspec.DecodeError:
        return None, None
    return _readable(found.id), _readable(found.source)


def _readable(value: Any) -> str | None:
    return value[:MAX_TEXT].replace("\0", "�") if isinstance(value, str) else None


def encode_json(value: Any) -> bytes:
    """Return JSON values or events as a body that `decode` reads."""
    return msgspec.json.encode(value)
