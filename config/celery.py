"""
Celery: the broker is Valkey, which may be lost at any moment.

So a message is only ever a hint that something is due: each app's schedule sweeps for due rows, tasks are safe to run
twice, and what a dead worker held comes back after the visibility timeout. Queues go by app; `matching.0 … N-1` have
one process each. An app lists its periodic tasks as `BEAT` in `<app>/schedule.py`: plain data, because it is read
before Django has loaded its apps.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import Scheduler
from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun, worker_ready
from kombu import Queue

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from django.conf import settings
from django.db import close_old_connections, connection

from core import request_id

APPS = ("core", "identity", "providers", "billing", "exchange", "metering_ingest")
REQUEST_ID = "ciyuan_request_id"
# Tasks that wait for somebody else's server have a queue of their own, so that nothing of ours waits with them.
OUTSIDE = (
    "identity.tasks.deliver_webhooks",
    "billing.tasks.talk_with_stripe",
    "billing.tasks.reconcile_stripe",
    "metering_ingest.tasks.probe",
)
QUEUE_OF_APP = {"exchange": "exchange", "billing": "billing", "metering_ingest": "metering"}


def queue_names() -> list[str]:
    """Every queue, the matching ones first."""
    matching = [f"matching.{number}" for number in range(settings.MATCHING_WORKERS)]
    return [*matching, "exchange", "billing", "metering", "outside", "default"]


def _schedule() -> dict[str, dict[str, Any]]:
    """The periodic tasks of all apps. A sweep that nobody took in a few periods is dropped: the next does its work."""
    entries: dict[str, dict[str, Any]] = {}
    for app in APPS:
        if importlib.util.find_spec(f"{app}.schedule") is None:
            continue
        for name, entry in importlib.import_module(f"{app}.schedule").BEAT.items():
            options = dict(entry.get("options", {}))
            period = entry["schedule"]
            seconds = period.total_seconds() if isinstance(period, timedelta) else period
            if isinstance(seconds, int | float):
                options.setdefault("expires", max(5.0, 5.0 * seconds))
            entries[f"{app}.{name}"] = {**entry, "options": options}
    return entries


class InMemoryScheduler(Scheduler):
    """
    Beat without a schedule file: what is due stands in the rows, and a file torn by a kill would keep it from starting.

    Touches the heartbeat file, by which a container's health is known.
    """

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        if settings.HEARTBEAT_FILE:
            Path(settings.HEARTBEAT_FILE).touch()
        return super().tick(*args, **kwargs)


app = Celery("ciyuan", task_cls="celery.contrib.django.task:DjangoTask")
app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "visibility_timeout": settings.CELERY_VISIBILITY_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_default_queue="default",
    task_create_missing_queues=False,
    task_queues=[Queue(name) for name in queue_names()],
    task_routes=[
        {key: {"queue": "outside"} for key in OUTSIDE},
        {f"{name}.*": {"queue": queue} for name, queue in QUEUE_OF_APP.items()},
    ],
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_send_task_events=False,
    timezone="UTC",
    enable_utc=True,
    beat_schedule=_schedule(),
    beat_scheduler="config.celery:InMemoryScheduler",
    beat_max_loop_interval=1,
)
# Celery closes the database's connection after each task, and with it goes all that Postgres had prepared, planned and
# read of its catalogue: that took longer than a market's orders. Django keeps and checks it instead (see below).
app.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize
app.autodiscover_tasks()


@task_prerun.connect
def _look_after_connections(**_: object) -> None:
    """Drop a connection that is broken or old; Django asks the others whether they live before their first use."""
    if not connection.in_atomic_block:  # a task called in a test's transaction
        close_old_connections()


@before_task_publish.connect
def _send_request_id(headers: dict[str, Any], **_: object) -> None:
    """A task carries the id of the request that sent it."""
    if identifier := request_id.current.get():
        headers.setdefault(REQUEST_ID, identifier)


@task_prerun.connect
def _bind_request_id(task: Any, task_id: str, **_: object) -> None:
    """The task's log lines bear the request's id, its failure's too; without a request, the task's own."""
    request_id.current.set(getattr(task.request, REQUEST_ID, None) or task_id)


@task_postrun.connect
def _release_request_id(**_: object) -> None:
    request_id.current.set("")


@worker_ready.connect
def _report(sender: Any, **_: object) -> None:
    """A worker counts as there once it consumes, without waiting for beat's first heartbeat."""
    from core.tasks import note_heartbeat

    for queue in sender.task_consumer.queues:
        note_heartbeat(queue.name, lag_seconds=0.0)


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Django's settings have configured the logs; Celery shall not replace them."""
