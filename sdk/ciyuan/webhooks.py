"""
Checks a webhook that arrived: that the exchange sent it, as it is, and lately.

    from ciyuan.webhooks import verify, WebhookRefused

    event = verify(request.body, request.headers, "whsec_…")     # {"id", "type", "timestamp", "organization", "data"}

Standard Webhooks' own libraries do as well. An event may arrive more than once and in any order: keep its `id`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

TOLERANCE_SECONDS = 300


class WebhookRefused(ValueError):
    """The message is not what the exchange signed, or not of this hour."""


def verify(
    body: bytes | str,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
    now: float | None = None,
) -> dict[str, Any]:
    """
    Return the event of a message whose signature and age are right.

    :param body: the request's body as it came, byte for byte.
    :param now: Unix seconds; the clock by default.
    :raises WebhookRefused: no, a wrong or an outdated signature, or a time in the future.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, stamp, signatures = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise WebhookRefused(f"the header {error.args[0]} is missing") from None
    if not (stamp.isascii() and stamp.isdigit()):
        raise WebhookRefused("webhook-timestamp is not a number of seconds")
    age = (time.time() if now is None else now) - int(stamp)
    if abs(age) > tolerance_seconds:
        raise WebhookRefused(f"the message is {age:.0f} seconds old" if age > 0 else "the message is of the future")
    raw = body.encode() if isinstance(body, str) else body
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise WebhookRefused("the secret is not one of this exchange's") from None
    expected = hmac.new(key, f"{message_id}.{stamp}.".encode() + raw, hashlib.sha256).digest()
    for signature in signatures.split():
        version, _, text = signature.partition(",")
        if version == "v1" and hmac.compare_digest(text.encode(), base64.b64encode(expected)):
            event = json.loads(raw)
            if not isinstance(event, dict):
                raise WebhookRefused("the message is not an event")
            return event
    raise WebhookRefused("no signature of the message is right")
