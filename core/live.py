"""Live messages to browsers and clients, sent when the transaction has committed."""

import asyncio
import logging
import os
import threading
from typing import Any

from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
MOST_WAITING = 1_000


def publish_on_commit(group: str, message: dict[str, Any]) -> None:
    """
    Send `message` to every subscriber of `group` after commit, without waiting for it to have gone.

    Delivery is at most once and Valkey may be away: messages carry sequence numbers, and a client that sees a gap
    fetches what it missed. A failure is logged and never undoes what was committed.
    """
    transaction.on_commit(lambda: _sender().send(group.replace(":", "."), message), robust=True)


class Sender:
    """
    A thread with an event loop and one lasting connection.

    Whoever commits hands a message over in microseconds; making a loop and a connection for each would take
    milliseconds of a worker that has a market to match.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._waiting = 0
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="live-messages", daemon=True).start()

    def send(self, group: str, message: dict[str, Any]) -> None:
        """Hand over a message. More waiting than Valkey takes away are dropped, and that is logged."""
        if self._waiting >= MOST_WAITING:
            log.warning("live message to %s not sent: %s are waiting", group, self._waiting)
            return
        self._waiting += 1
        asyncio.run_coroutine_threadsafe(self._send(group, message), self._loop)

    async def _send(self, group: str, message: dict[str, Any]) -> None:
        try:
            layer = get_channel_layer()
            if layer is not None:
                await layer.group_send(group, {"type": "live.message", "message": message})
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("live message to %s not sent: %s", group, error)
        finally:
            self._waiting -= 1


_kept: Sender | None = None


def _sender() -> Sender:
    """Return this process's sender: a forked worker has none of its parent's threads."""
    global _kept
    if _kept is None or _kept.process != os.getpid():
        _kept = Sender()
    return _kept
