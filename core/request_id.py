"""The request's id: taken from X-Request-ID or made, bound to every log line, sent along with tasks."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

HEADER = "X-Request-ID"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")

current: ContextVar[str] = ContextVar("request_id", default="")


def accept(given: str | None) -> str:
    """`given` if it is a sensible id, else a new one."""
    return given if given and _ACCEPTABLE.fullmatch(given) else secrets.token_hex(8)
