"""What identity does by itself: bring webhooks to their endpoints, and forget old ones."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings

from core import clock
from core.transactions import durable
from identity.actions import deliveries, events
from identity.sending import send_all

KEPT = timedelta(days=60)


@shared_task
def deliver_webhooks() -> int:
    """Send what is due, a batch. It runs where tasks talk to the outside, so that nobody waits for a slow endpoint."""
    messages = durable(lambda: deliveries.take_due(real_now=clock.real_now()))
    if not messages:
        return 0
    outcomes = send_all(
        messages, allowed=settings.WEBHOOK_NETWORKS, timestamp=int(clock.real_now().timestamp())
    )  # no transaction is open here
    durable(lambda: deliveries.record_outcomes(outcomes, now=clock.now(), real_now=clock.real_now()))
    return len(outcomes)


@shared_task
def forget_old_webhooks() -> int:
    """Delete events that are older than sixty days, with their deliveries."""
    return durable(lambda: events.forget_old_events(before=clock.now() - KEPT))
