"""One event's usage taken apart: our classes or a vendor's usage object as columns, and what is kept beside them."""

from typing import Any, NamedTuple

import msgspec
from ciyuan.usage import Usage, UsageError, parse_usage

from metering_ingest.domain.classes import COLUMN_CLASSES
from metering_ingest.domain.events import MAX_REQUEST_TOKENS, Data

_COLUMNS = frozenset(COLUMN_CLASSES)
#: One text for one content, whoever sends it.
encode = msgspec.json.Encoder(order="deterministic").encode


class Parts(NamedTuple):
    """Usage of one event by column, the rest by class, and what is kept beside it."""

    requests: int
    fresh: int
    cached: int
    visible: int
    reasoning: int
    inputs: int
    cached_inputs: int
    outputs: int
    extras: dict[str, int]


def take_apart(data: Data) -> Parts | None:
    """Return the classes of an event that names them, or None for plain totals. :raises UsageError: by field."""
    if data.classes is None and data.usage is None:
        if data.format is not None:
            raise UsageError("missing", "usage", "format is given, but no usage object")
        return None
    if data.input_tokens or data.cached_input_tokens or data.output_tokens or data.reasoning_tokens:
        raise UsageError("given_twice", "input_tokens", "give plain totals, classes or a usage object: one of them")
    if data.classes is not None and data.usage is not None:
        raise UsageError("given_twice", "classes", "give classes or a usage object, not both")
    if data.classes is not None:
        usage = parse_usage("ciyuan", data.classes)
    else:
        usage = parse_usage(data.format or "openai", data.usage)
    return parts_of(usage)


def parts_of(usage: Usage) -> Parts:
    """Return a usage by column. :raises UsageError: for more tokens than any request has."""
    if usage.total_tokens > MAX_REQUEST_TOKENS:
        raise UsageError("too_large", "total", f"{usage.total_tokens} tokens are more than any request has")
    tokens, counts = usage.tokens, usage.counts
    extras = {name: n for name, n in (*tokens.items(), *counts.items()) if name not in _COLUMNS}
    return Parts(
        min(counts.get("requests", 1), MAX_REQUEST_TOKENS),
        tokens.get("input.text", 0), tokens.get("input.text.cache_read", 0),
        tokens.get("output.text", 0), tokens.get("output.reasoning", 0),
        usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, extras,
    )  # fmt: skip


def details_of(data: Data, extras: dict[str, int] | None) -> bytes | None:
    kept: dict[str, Any] = {}
    if extras:
        kept["classes"] = extras
    for name in (
        "status",
        "ttft_ms",
        "duration_ms",
        "attempt_id",
        "model",
        "tags",
        "input_bytes",
        "output_bytes",
        "tokenizer",
    ):
        if (value := getattr(data, name)) is not None:
            kept[name] = value
    if data.refers_to is not None:
        kept["refers_to"] = data.refers_to
    return encode(kept) if kept else None
