"""The request's id: taken from X-Request-ID or made, bound to every log line, sent along with tasks."""

from __future__ import annotations

import os
import random
import re
from contextvars import ContextVar

HEADER = "X-Request-ID"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")

#: An id need not be unguessable, and asking the system for one costs a tenth of a small request.
_draw = random.Random()
os.register_at_fork(after_in_child=_draw.seed)

current: ContextVar[str] = ContextVar("request_id", default="")


def accept(given: str | None) -> str:
    """`given` if it is a sensible id, else a new one."""
    return given if given and _ACCEPTABLE.fullmatch(given) else f"{_draw.getrandbits(64):016x}"
