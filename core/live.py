"""Live messages to browsers and clients, sent when the transaction has committed."""

import logging
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

log = logging.getLogger(__name__)


def publish_on_commit(group: str, message: dict[str, Any]) -> None:
    """
    Send `message` to every subscriber of `group` after commit.

    Delivery is at most once and Valkey may be away: messages carry sequence numbers, and a client that sees a gap
    fetches a snapshot. A failure is logged and never undoes what was committed.
    """
    transaction.on_commit(lambda: _send(group, message), robust=True)


def _send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is None:
        return
    try:
        async_to_sync(layer.group_send)(group.replace(":", "."), {"type": "live.message", "message": message})
    except (ConnectionError, OSError, TimeoutError) as error:
        log.warning("live message to %s not sent: %s", group, error)
