"""Why the gateway does not serve a request, in the shape of OpenAI's errors."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from ciyuan.gateway.choice import Refusal as NoRoute
from ciyuan.gateway.choice import Why
from ciyuan.guard.refusals import DENIED, FAILED, INVALID, LIMITED, Refusal

__all__ = ["DENIED", "FAILED", "INVALID", "LIMITED", "Refusal", "of_no_route"]

_SAID: dict[Why, tuple[int, str, str]] = {
    Why.MODEL: (404, INVALID, "You have no contract for this model; GET /v1/models lists those that you have."),
    Why.CONTEXT: (400, INVALID, "The request is longer than the context of any of your contracts."),
    Why.SERVICE_CLASS: (404, INVALID, "None of your contracts has this service class."),
    Why.WINDOW: (429, "insufficient_quota", "None of your contracts for this model is in its window."),
    Why.USED_UP: (429, "insufficient_quota", "Your contracts for this model are used up."),
    Why.RATE: (429, LIMITED, "The rates of your contracts are used up."),
    Why.FAILING: (503, FAILED, "None of the providers of your contracts answers."),
}


def of_no_route(refused: NoRoute, now: float, *, beginning: float | None = None) -> Refusal:
    """
    :param beginning: when the next window begins, where that is known.
    """
    status, kind, message = _SAID[refused.why]
    at = refused.retry_at if refused.retry_at is not None else beginning
    wait = 0 if at is None or status == 404 else max(1, math.ceil(at - now))
    if refused.why in (Why.WINDOW, Why.USED_UP):
        message += " The next window begins at " + _time(at) + "." if at else " No further window is bought."
    elif wait:
        message += f" Try again in {wait} s."
    elif status == 503 and beginning:
        message += " The next window begins at " + _time(beginning) + "."
    return Refusal(status, refused.why.value, message, kind=kind, retry_after=wait)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
