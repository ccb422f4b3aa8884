"""
`emit`: say, in the transaction in which it happens, that something happened to an organization.

The row is the outbox: it commits with its cause or not at all, and a worker brings it to the organization's endpoints.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Q

from core import clock
from core.ids import new_id
from core.transactions import assert_in_transaction
from identity.domain.webhooks import EVENT_TYPES
from identity.models import WebhookDelivery, WebhookEndpoint, WebhookEvent


class Event(NamedTuple):
    """
    Something that happened to an organization.

    `key` names its cause within the type, such as `auction:12`: the same event is sent once however often its action
    is repeated. `data` is what the API shows of the thing: JSON values, amounts and prices as decimal text.
    """

    organization_id: int
    type: str
    key: str
    data: dict[str, Any]


def emit(*, organization_id: int, type: str, key: str, data: dict[str, Any], now: datetime) -> None:
    """Tell an organization's endpoints of one event: see `emit_all`."""
    emit_all([Event(organization_id, type, key, data)], now=now)


def emit_all(events: Sequence[Event], *, now: datetime) -> None:
    """
    Store events, and a delivery for each endpoint that wants them, in the caller's transaction. It locks nothing that
    others write, so it may stand anywhere in an action.

    An organization without an endpoint costs nothing: its events are not stored. Emitting the same again changes
    nothing.

    :raises ValueError: a type that EVENT_TYPES does not list: a defect of the caller.
    """
    assert_in_transaction()
    for event in events:
        if event.type not in EVENT_TYPES:
            raise ValueError(f"{event.type} is no event type; add it to identity/domain/webhooks.py")
    if not events:
        return
    endpoints: dict[int, list[WebhookEndpoint]] = {}
    for endpoint in WebhookEndpoint.objects.filter(
        organization_id__in={event.organization_id for event in events}, disabled_at=None
    ):
        endpoints.setdefault(endpoint.organization_id, []).append(endpoint)
    wanted = [event for event in events if event.organization_id in endpoints]
    if not wanted:
        return
    rows = {
        (event.organization_id, event.type, event.key): WebhookEvent(
            id=new_id(),
            organization_id=event.organization_id,
            type=event.type,
            key=event.key,
            data=event.data,
            occurred_at=now,
        )
        for event in wanted
    }
    WebhookEvent.objects.bulk_create(rows.values(), ignore_conflicts=True)
    fresh = set(WebhookEvent.objects.filter(pk__in=[row.pk for row in rows.values()]).values_list("pk", flat=True))
    due = clock.real_now()
    WebhookDelivery.objects.bulk_create(
        [
            WebhookDelivery(id=new_id(), event=row, endpoint=endpoint, next_try_at=due)
            for row in rows.values()
            if row.pk in fresh
            for endpoint in endpoints[row.organization_id]
            if not endpoint.events or row.type in endpoint.events
        ]
    )


def forget_old_events(*, before: datetime) -> int:
    """Delete events of before that time which no delivery waits for, with their log; return how many."""
    assert_in_transaction()
    waiting = WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING).values("event")
    rows = WebhookEvent.objects.filter(occurred_at__lt=before).exclude(Q(pk__in=waiting))
    return rows.delete()[1].get("identity.WebhookEvent", 0)
