"""The heartbeat by which /readyz knows that workers take work."""

from __future__ import annotations

import time
from pathlib import Path

from celery import current_app, shared_task
from django.conf import settings
from django.core.cache import cache

HEARTBEAT_SECONDS = 5


def note_heartbeat(queue: str, *, lag_seconds: float) -> None:
    """Note that a worker takes messages of `queue` at this moment, `lag_seconds` after they were sent."""
    cache.set(f"heartbeat:{queue}", {"at": time.time(), "lag": lag_seconds}, timeout=3600)
    if settings.HEARTBEAT_FILE:
        Path(settings.HEARTBEAT_FILE).touch()


@shared_task(acks_late=True)
def heartbeat(queue: str, sent: float) -> None:
    """Note that a worker of `queue` took a message that was sent at the real time `sent`. Sent to each queue."""
    note_heartbeat(queue, lag_seconds=time.time() - sent)


@shared_task(acks_late=True)
def send_heartbeats() -> None:
    """Send a heartbeat into each queue. Beat sends this one."""
    for queue in current_app.amqp.queues:
        heartbeat.apply_async((queue, time.time()), queue=queue, expires=HEARTBEAT_SECONDS * 3)
