"""
Usage events from lines of a log: NDJSON of our own, CloudEvents, or what LiteLLM logs.

Only what usage needs is taken from a line; prompts and answers that a logger put beside it are dropped unread. An event
without an id gets one from the line and its place, so that reading the same log again counts nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

_CLOUD_EVENT = ("specversion", "type", "id", "source", "subject", "time", "data")
_LITELLM_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class BadLine(ValueError):
    """A line that no event can be made of; the message says why."""


def event_of_line(line: bytes, *, place: str, subject: str | None = None) -> dict[str, Any]:
    """
    A CloudEvent, without `source` where the line has none.

    :param place: where the line stands in its log, the same whenever it is read.
    :param subject: for lines that name none.
    :raises BadLine: for what is no usage.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadLine(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise BadLine(f"an object is expected, not {row!r:.40}")
    if "specversion" in row:
        event = {name: row[name] for name in _CLOUD_EVENT if name in row}
    elif "prompt_tokens" in row and ("startTime" in row or "endTime" in row):
        event = _of_litellm(row)
    else:
        event = _of_flat(row)
    event["subject"] = str(event.get("subject") or subject or "")
    if not event["subject"]:
        raise BadLine("the line names no subject (a contract, or an alias of the buyer); --subject gives one for all")
    if not event.get("id"):
        event["id"] = blake2b(place.encode() + b"\0" + line.strip(), digest_size=16).hexdigest()
    event.setdefault("time", None)
    if not isinstance(event.get("data"), dict) or not event["data"]:
        raise BadLine("the line says nothing of usage: input_tokens, output_tokens, usage with its format, or classes")
    return event


def _of_flat(row: Mapping[str, Any]) -> dict[str, Any]:
    event = {name: row[name] for name in ("id", "source", "subject", "time", "type") if row.get(name) is not None}
    data = row.get("data")
    event["data"] = data if isinstance(data, dict) else {k: v for k, v in row.items() if k not in _CLOUD_EVENT}
    return event


def _of_litellm(row: Mapping[str, Any]) -> dict[str, Any]:
    """A StandardLoggingPayload, or a row of the spend log."""
    metadata = row.get("metadata") or {}
    if isinstance(metadata, str):  # the spend log keeps it as text
        try:
            metadata = json.loads(metadata)
        except ValueError as error:
            raise BadLine(f"metadata is not JSON: {error}") from None
    if not isinstance(metadata, Mapping):
        raise BadLine("metadata must be an object")
    usage: dict[str, Any] = {name: row[name] for name in _LITELLM_COUNTS if row.get(name) is not None}
    inner = metadata.get("usage_object")
    if isinstance(inner, Mapping):
        usage["metadata"] = {"usage_object": dict(inner)}
    data: dict[str, Any] = {"format": "litellm", "usage": usage}
    if row.get("model"):
        data["model"] = str(row["model"])
    if row.get("status"):
        data["status"] = str(row["status"])
    subject = row.get("end_user") or metadata.get("user_api_key_alias") or row.get("api_key")
    return {
        "id": row.get("id") or row.get("request_id"),
        "subject": subject,
        "time": _time(row.get("endTime") or row.get("startTime")),
        "data": data,
    }


def _time(value: Any) -> str:
    """LiteLLM writes seconds since 1970, or ISO text that means UTC where it names no zone."""
    try:
        moment = datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError, OSError):
        raise BadLine(f"{value!r} is no time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
