"""The task class of the whole product, and the heartbeat by which /readyz knows that workers take work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery import current_app, shared_task
from celery.contrib.django.task import DjangoTask
from django.conf import settings
from django.core.cache import cache

from core import request_id

HEARTBEAT_SECONDS = 5


class RequestTask(DjangoTask):  # type: ignore[type-arg]  # generic for the type checker alone
    """A task that carries the id of the request that sent it, so that its log lines bear it too."""

    abstract = True

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        if identifier := request_id.current.get():
            kwargs["headers"] = {"ciyuan_request_id": identifier, **(kwargs.get("headers") or {})}
        return super().apply_async(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        sent = getattr(self.request, "ciyuan_request_id", None) or (self.request.headers or {}).get("ciyuan_request_id")
        token = request_id.current.set(sent or self.request.id or "")
        try:
            return super().__call__(*args, **kwargs)
        finally:
            request_id.current.reset(token)


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
