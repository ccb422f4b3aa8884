"""
Deliveries of webhooks: taken with a lease, sent without any lock, their outcome written down.

A worker that dies with deliveries in hand loses nothing: its lease ends and another sends them again. So an event may
arrive twice; its `webhook-id` is the same each time.
"""

import json
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from core.transactions import assert_in_transaction
from identity.domain.webhooks import GIVE_UP_AFTER, retry_after
from identity.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint

LEASE = timedelta(seconds=60)
BATCH, BATCH_PER_ENDPOINT = 100, 10
GONE = 410
State = WebhookDelivery.State


class Message(NamedTuple):
    """One delivery in hand: where to, what, signed with which secrets."""

    delivery_id: UUID
    endpoint_id: int
    url: str
    secrets: tuple[str, ...]
    message_id: str
    body: bytes
    tries: int


class Outcome(NamedTuple):
    """What came of sending a message: a status, or why there is none."""

    message: Message
    status: int | None
    milliseconds: int
    error: str
    answer: str

    @property
    def arrived(self) -> bool:
        """Whether the endpoint said that it has it."""
        return self.status is not None and 200 <= self.status < 300


_TAKE = """
WITH due AS (
    SELECT d.id, row_number() OVER (PARTITION BY d.endpoint_id ORDER BY d.next_try_at, d.id) AS place
    FROM identity_webhookdelivery d JOIN identity_webhookendpoint e ON e.id = d.endpoint_id
    WHERE d.state = 'pending' AND d.next_try_at <= %(now)s AND e.disabled_at IS NULL
), taken AS (
    SELECT id FROM identity_webhookdelivery
    WHERE id IN (SELECT id FROM due WHERE place <= %(most)s ORDER BY place, id LIMIT %(batch)s)
      AND state = 'pending' AND next_try_at <= %(now)s
    FOR UPDATE SKIP LOCKED
)
UPDATE identity_webhookdelivery d SET next_try_at = %(until)s, tries = d.tries + 1
FROM taken WHERE d.id = taken.id RETURNING d.id
"""


def take_due(*, real_now: datetime) -> list[Message]:
    """Take deliveries that are due, a few of each endpoint, so that a slow one keeps nobody waiting."""
    assert_in_transaction()
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"now": real_now, "until": real_now + LEASE, "most": BATCH_PER_ENDPOINT, "batch": BATCH})
        taken = [row[0] for row in cursor.fetchall()]
    rows = WebhookDelivery.objects.select_related("event", "endpoint").filter(pk__in=taken).order_by("id")
    return [_message(row, real_now) for row in rows]


def record_outcomes(outcomes: Sequence[Outcome], *, now: datetime, real_now: datetime) -> None:
    """Write the attempts to the log, and what follows of them: delivered, tried again later, or failed."""
    assert_in_transaction()
    endpoints = {
        row.pk: row
        for row in WebhookEndpoint.objects.select_for_update(no_key=True)
        .filter(pk__in={outcome.message.endpoint_id for outcome in outcomes})
        .order_by("id")
    }
    for outcome in outcomes:
        message = outcome.message
        if message.endpoint_id not in endpoints:  # deleted meanwhile, with its log
            continue
        WebhookAttempt.objects.create(
            delivery_id=message.delivery_id,
            at=real_now,
            status=outcome.status,
            milliseconds=outcome.milliseconds,
            error=outcome.error[:200],
            answer=outcome.answer.replace("\x00", "")[:1000],
        )
        rows = WebhookDelivery.objects.filter(pk=message.delivery_id)
        if outcome.arrived:
            rows.update(state=State.DELIVERED, delivered_at=real_now)
        else:
            wait = retry_after(message.tries, jitter=random.random())
            if wait is None or outcome.status == GONE:
                rows.update(state=State.FAILED)
            else:
                rows.update(next_try_at=real_now + wait)
        _mark(endpoints[message.endpoint_id], outcome, now, real_now)
    for endpoint in endpoints.values():
        endpoint.save(update_fields=["failing_since", "disabled_at", "disabled_reason"])


def _mark(endpoint: WebhookEndpoint, outcome: Outcome, now: datetime, real_now: datetime) -> None:
    """Note how the endpoint does; one that is gone, or dead for days, is switched off."""
    if outcome.arrived:
        endpoint.failing_since = None
        return
    endpoint.failing_since = endpoint.failing_since or real_now
    if endpoint.disabled_at is not None:
        return
    if outcome.status == GONE:
        endpoint.disabled_at, endpoint.disabled_reason = now, "it answered 410 Gone"
    elif real_now - endpoint.failing_since > GIVE_UP_AFTER:
        endpoint.disabled_at, endpoint.disabled_reason = now, f"nothing arrived for {GIVE_UP_AFTER.days} days"


def _message(row: WebhookDelivery, real_now: datetime) -> Message:
    endpoint, event = row.endpoint, row.event
    secrets = [endpoint.secret]
    if endpoint.previous_secret and endpoint.previous_until and real_now < endpoint.previous_until:
        secrets.append(endpoint.previous_secret)
    body = {
        "id": str(event.id),
        "type": event.type,
        "timestamp": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "organization": event.organization_id,
        "data": event.data,
    }
    return Message(
        row.pk, endpoint.pk, endpoint.url, tuple(secrets), str(event.id),
        json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), row.tries,
    )  # fmt: skip
