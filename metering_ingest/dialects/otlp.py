"""
OpenTelemetry's OTLP over HTTP, protobuf and JSON: a span with the GenAI conventions is one request.

Its trace and span ids name it, its end is its time, `service.name` its source; the subject is the first there is of
`ciyuan.subject`, `enduser.id`, `user.id`, `gen_ai.conversation.id`, on the span or its resource. Spans that report no
usage are none of ours and are passed over. Metrics add requests up before they get here, and the work of a request
depends on its own length: `gen_ai.client.token.usage` is therefore refused with that reason, as partial success.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from metering_ingest.actions.store import Result
from metering_ingest.dialects import protobuf
from metering_ingest.dialects.base import Dialect, Reply
from metering_ingest.dialects.foreign import Untranslatable, event, parse, refused, text_of
from metering_ingest.domain.event_key import moment_of
from metering_ingest.domain.events import MAX_EVENTS, MAX_TEXT, Data, Decoded, Event, MalformedBody, Rejection

SUBJECTS = ("ciyuan.subject", "enduser.id", "user.id", "gen_ai.conversation.id")
USAGE = "gen_ai.usage."
PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Span(msgspec.Struct):
    """What is read of a span; attributes of its resource stand behind its own."""

    trace_id: str
    span_id: str
    end_ns: int
    start_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


def decode_protobuf(body: bytes) -> Decoded:
    """
    Return the usage in an ExportTraceServiceRequest.

    :raises MalformedBody: when it is none.
    """
    try:
        return _decoded(list(_spans(body)), "protobuf")
    except (protobuf.BadMessage, UnicodeDecodeError, ValueError, TypeError, AttributeError) as error:
        raise MalformedBody("malformed-protobuf", f"The body is no OTLP trace request: {error}.") from None


def decode_json(body: bytes) -> Decoded:
    """
    Return the usage in a trace request in JSON.

    :raises MalformedBody: when it is none.
    """
    value = parse(body)
    try:
        return _decoded(list(_spans_of_json(value)), "json")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedBody("malformed-json", f"The body is no OTLP trace request: {error}.") from None


def _decoded(spans: list[Span], style: str) -> Decoded:
    events: list[Event | None] = []
    rejections: list[Rejection] = []
    for span in spans:
        if not any(name.startswith(USAGE) for name in span.attributes):
            continue
        try:
            events.append(_event(span))
        except Untranslatable as error:
            rejections.append(refused(len(events), error, span, f"{span.trace_id}:{span.span_id}"))
            events.append(None)
    if len(events) > MAX_EVENTS:
        raise MalformedBody("too-many-events", f"A request may have {MAX_EVENTS:,} spans with usage.")
    return Decoded(events, rejections, style)


def _event(span: Span) -> Event:
    found = span.resource | span.attributes
    subject = next((found[name] for name in SUBJECTS if found.get(name)), "")
    model = found.get("gen_ai.response.model") or found.get("gen_ai.request.model")
    duration = (span.end_ns - span.start_ns) // 1_000_000
    if not span.end_ns:
        raise Untranslatable("missing-field", "The span has not ended.", "endTimeUnixNano")
    data = Data(
        format="otel", usage={name: n for name, n in span.attributes.items() if name.startswith(USAGE)},
        model=str(model)[:MAX_TEXT] if model else None,
        duration_ms=duration if span.start_ns and 0 <= duration <= 10**9 else None,
    )  # fmt: skip
    return event(
        id_=f"{span.trace_id}:{span.span_id}", source=text_of(found.get("service.name") or "otel", "service.name"),
        subject=text_of(subject, SUBJECTS[0], needed=False), time=moment_of(span.end_ns // 1_000_000), data=data,
    )  # fmt: skip


# --- protobuf: ExportTraceServiceRequest.resource_spans[1].scope_spans[2].spans[2] ---------------------------------


def _spans(message: bytes) -> Iterator[Span]:
    for number, resource_spans in protobuf.fields(message):
        if number != 1 or not isinstance(resource_spans, bytes):
            continue
        resource: dict[str, Any] = {}
        scopes = []
        for inner, value in protobuf.fields(resource_spans):
            if inner == 1 and isinstance(value, bytes):
                resource = _attributes(value, 1)
            elif inner == 2 and isinstance(value, bytes):
                scopes.append(value)
        for scope in scopes:
            for inner, value in protobuf.fields(scope):
                if inner == 2 and isinstance(value, bytes):
                    yield _span(value, resource)


def _span(message: bytes, resource: dict[str, Any]) -> Span:
    span = Span("", "", 0, 0, _attributes(message, 9), resource)
    for number, value in protobuf.fields(message):
        if number == 1 and isinstance(value, bytes):
            span.trace_id = value.hex()
        elif number == 2 and isinstance(value, bytes):
            span.span_id = value.hex()
        elif number == 7 and isinstance(value, int):
            span.start_ns = value
        elif number == 8 and isinstance(value, int):
            span.end_ns = value
    return span


def _attributes(message: bytes, number: int) -> dict[str, Any]:
    """KeyValue {key = 1, value = 2} under that number; AnyValue {string = 1, bool = 2, int = 3, double = 4}."""
    found: dict[str, Any] = {}
    for inner, pair in protobuf.fields(message):
        if inner != number or not isinstance(pair, bytes):
            continue
        key, value = "", None
        for part, content in protobuf.fields(pair):
            if part == 1 and isinstance(content, bytes):
                key = content.decode()
            elif part == 2 and isinstance(content, bytes):
                value = _any_value(content)
        if value is not None:
            found[key] = value
    return found


def _any_value(message: bytes) -> Any:
    for number, value in protobuf.fields(message):
        if number == 1 and isinstance(value, bytes):
            return value.decode()
        if isinstance(value, int):
            return (
                {2: bool(value), 3: protobuf.signed(value), 4: None}.get(number)
                if number != 4
                else protobuf.double(value)
            )
    return None


# --- JSON ----------------------------------------------------------------------------------------------------------


def _spans_of_json(value: Mapping[str, Any]) -> Iterator[Span]:
    for resource_spans in value.get("resourceSpans", []):
        resource = _json_attributes(resource_spans.get("resource", {}))
        for scope in resource_spans.get("scopeSpans", []):
            for span in scope.get("spans", []):
                yield Span(
                    str(span["traceId"]).lower(), str(span["spanId"]).lower(), int(span.get("endTimeUnixNano", 0)),
                    int(span.get("startTimeUnixNano", 0)), _json_attributes(span), resource,
                )  # fmt: skip


def _json_attributes(owner: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in owner.get("attributes", []):
        value = pair.get("value", {})
        if "intValue" in value:
            found[pair["key"]] = int(value["intValue"])
        else:
            known = (value[name] for name in ("stringValue", "doubleValue", "boolValue") if name in value)
            found[pair["key"]] = next(known, None)
    return {name: value for name, value in found.items() if value is not None}


# --- answers -------------------------------------------------------------------------------------------------------


def answer(decoded: Decoded, results: Sequence[Result]) -> Reply:
    """Return an ExportTraceServiceResponse: spans kept aside are a partial success, which is never resent."""
    aside = [result.rejection for result in results if result.rejection is not None]
    message = f"{aside[0].code}: {aside[0].detail}" if aside else ""
    return _reply(decoded.style, len(aside), message, "rejectedSpans")


def _reply(style: str, rejected: int, message: str, name: str) -> Reply:
    if style == "json":
        partial = {"partialSuccess": {name: str(rejected), "errorMessage": message}} if rejected else {}
        return Reply(200, msgspec.json.encode(partial))
    if not rejected:
        return Reply(200, b"", PROTOBUF)
    partial_bytes = protobuf.encode_field(1, rejected) + protobuf.encode_field(2, message.encode())
    return Reply(200, protobuf.encode_field(1, partial_bytes), PROTOBUF)


def _no_metrics(style: str) -> Any:
    def decode(body: bytes) -> Decoded:
        return Decoded([], [], style)

    return decode


def answer_metrics(decoded: Decoded, results: Sequence[Result]) -> Reply:
    """Say why added-up metrics cannot be usage."""
    message = "Usage needs each request's own counts: export spans with gen_ai.usage attributes to /v1/traces."
    return _reply(decoded.style, 1, message, "rejectedDataPoints")


OTLP = (
    Dialect("otlp", ("/v1/traces",), (PROTOBUF,), decode_protobuf, answer),
    Dialect("otlp-json", ("/v1/traces",), (JSON,), decode_json, answer),
    Dialect("otlp-metrics", ("/v1/metrics",), (PROTOBUF,), _no_metrics("protobuf"), answer_metrics),
    Dialect("otlp-metrics-json", ("/v1/metrics",), (JSON,), _no_metrics("json"), answer_metrics),
)
