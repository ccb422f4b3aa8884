"""Webhook endpoints: made, changed, rotated, tested, replayed."""

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from core import clock
from core.errors import BadRequest, Conflict, NotFound
from core.ids import new_id
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.domain.addresses import AddressRefused, check_url
from identity.domain.webhooks import EVENT_TYPES, SECRET_BYTES, new_secret
from identity.models import WebhookDelivery, WebhookEndpoint, WebhookEvent

MOST_ENDPOINTS = 20
MOST_REPLAYED = 10_000
State = WebhookDelivery.State


class BadEndpoint(BadRequest):
    """An endpoint cannot be so."""

    code = "bad-webhook"


class EndpointNotFound(NotFound):
    """No such endpoint, delivery or event of this organization."""

    code = "webhook-not-found"


class EndpointDisabled(Conflict):
    """Nothing is sent to an endpoint that is switched off."""

    code = "webhook-disabled"


class TooManyEndpoints(Conflict):
    """An organization has all the endpoints that it may have."""

    code = "too-many-webhooks"


def create_endpoint(
    *, organization_id: int, url: str, events: Collection[str], description: str, now: datetime, actor: Actor
) -> WebhookEndpoint:
    """
    Make an endpoint with a new secret. `events` empty: all types.

    :raises BadEndpoint: a URL that is not https or not public, or an unknown event type.
    :raises TooManyEndpoints: the organization has 20 already.
    """
    assert_in_transaction()
    _check(url, events)
    if WebhookEndpoint.objects.filter(organization_id=organization_id).count() >= MOST_ENDPOINTS:
        raise TooManyEndpoints(f"An organization has at most {MOST_ENDPOINTS} webhooks. Delete one first.")
    endpoint = WebhookEndpoint.objects.create(
        organization_id=organization_id,
        url=url,
        events=sorted(set(events)),
        description=description.strip(),
        secret=new_secret(secrets.token_bytes(SECRET_BYTES)),
        created_at=now,
    )
    _note("webhook.create", endpoint, actor, now)
    return endpoint


def change_endpoint(
    *, organization_id: int, endpoint_id: int, changes: dict[str, Any], now: datetime, actor: Actor
) -> WebhookEndpoint:
    """
    Change `url`, `events`, `description` or `enabled`; switched on again, it begins afresh.

    :raises EndpointNotFound: no such endpoint of this organization.
    :raises BadEndpoint: as when it is made.
    """
    assert_in_transaction()
    endpoint = _lock(organization_id, endpoint_id)
    _check(changes.get("url", endpoint.url), changes.get("events", endpoint.events))
    endpoint.url = changes.get("url", endpoint.url)
    endpoint.events = sorted(set(changes.get("events", endpoint.events)))
    endpoint.description = changes.get("description", endpoint.description).strip()
    enabled = changes.get("enabled")
    if enabled is True:
        endpoint.disabled_at, endpoint.disabled_reason, endpoint.failing_since = None, "", None
    elif enabled is False and endpoint.disabled_at is None:
        endpoint.disabled_at, endpoint.disabled_reason = now, "switched off"
    endpoint.save()
    _note("webhook.change", endpoint, actor, now)
    return endpoint


def delete_endpoint(*, organization_id: int, endpoint_id: int, now: datetime, actor: Actor) -> WebhookEndpoint:
    """
    Delete an endpoint with its log.

    :raises EndpointNotFound: no such endpoint of this organization.
    """
    assert_in_transaction()
    endpoint = _lock(organization_id, endpoint_id)
    _note("webhook.delete", endpoint, actor, now)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()
    return endpoint


def rotate_secret(
    *, organization_id: int, endpoint_id: int, overlap: timedelta, now: datetime, actor: Actor
) -> WebhookEndpoint:
    """
    Give an endpoint a new secret; for `overlap` of real time messages bear the signatures of both.

    :raises EndpointNotFound: no such endpoint of this organization.
    """
    assert_in_transaction()
    endpoint = _lock(organization_id, endpoint_id)
    endpoint.previous_secret, endpoint.previous_until = endpoint.secret, clock.real_now() + overlap
    endpoint.secret = new_secret(secrets.token_bytes(SECRET_BYTES))
    endpoint.save(update_fields=["secret", "previous_secret", "previous_until"])
    _note("webhook.rotate", endpoint, actor, now)
    return endpoint


def send_test(*, organization_id: int, endpoint_id: int, now: datetime) -> WebhookDelivery:
    """
    Queue a `webhook.test` event for one endpoint, whatever types it asked for; it goes out within a second or two.

    :raises EndpointNotFound: no such endpoint of this organization.
    :raises EndpointDisabled: it is switched off.
    """
    assert_in_transaction()
    endpoint = _lock(organization_id, endpoint_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabled("This webhook is switched off; switch it on first.")
    event = WebhookEvent(
        id=new_id(), organization_id=organization_id, type="webhook.test", data={"webhook": endpoint.pk},
        occurred_at=now,
    )  # fmt: skip
    event.key = f"test:{event.id}"
    event.save(force_insert=True)
    return WebhookDelivery.objects.create(id=new_id(), event=event, endpoint=endpoint, next_try_at=clock.real_now())


def replay_delivery(*, organization_id: int, delivery_id: Any) -> WebhookDelivery:
    """
    Send one event to its endpoint again, with the same id, whether it arrived or not.

    :raises EndpointNotFound: no such delivery of this organization.
    :raises EndpointDisabled: its endpoint is switched off.
    """
    assert_in_transaction()
    delivery = (
        WebhookDelivery.objects.select_for_update(of=("self",))
        .select_related("endpoint", "event")
        .filter(pk=delivery_id, endpoint__organization_id=organization_id)
        .first()
    )
    if delivery is None:
        raise EndpointNotFound("This organization has no delivery with that id.")
    if delivery.endpoint.disabled_at is not None:
        raise EndpointDisabled("This webhook is switched off; switch it on first.")
    delivery.state, delivery.tries, delivery.next_try_at = State.PENDING, 0, clock.real_now()
    delivery.save(update_fields=["state", "tries", "next_try_at"])
    return delivery


def replay_since(*, organization_id: int, endpoint_id: int, since: datetime, only_failed: bool) -> int:
    """
    Send the events since `since` (product time) to an endpoint again: those that failed, or all it wants. Events that
    happened before the endpoint was made are among them, where another endpoint kept them. Returns how many.

    :raises EndpointNotFound: no such endpoint of this organization.
    :raises EndpointDisabled: it is switched off.
    :raises BadEndpoint: more than 10,000 events: choose a later time.
    """
    assert_in_transaction()
    endpoint = _lock(organization_id, endpoint_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabled("This webhook is switched off; switch it on first.")
    due = clock.real_now()
    rows = WebhookDelivery.objects.filter(endpoint=endpoint, event__occurred_at__gte=since)
    if only_failed:
        return rows.filter(state=State.FAILED).update(state=State.PENDING, tries=0, next_try_at=due)
    events = WebhookEvent.objects.filter(organization_id=organization_id, occurred_at__gte=since)
    events = events.filter(type__in=endpoint.events) if endpoint.events else events.exclude(type="webhook.test")
    wanted = list(events.order_by("id").values_list("id", flat=True)[: MOST_REPLAYED + 1])
    if len(wanted) > MOST_REPLAYED:
        raise BadEndpoint(f"That is more than {MOST_REPLAYED} events; choose a later time.", field="since")
    WebhookDelivery.objects.bulk_create(
        [WebhookDelivery(id=new_id(), event_id=id_, endpoint=endpoint, next_try_at=due) for id_ in wanted],
        ignore_conflicts=True,
    )
    return rows.filter(event__in=wanted).update(state=State.PENDING, tries=0, next_try_at=due)


def _check(url: str, events: Collection[str]) -> None:
    try:
        check_url(url, settings.WEBHOOK_NETWORKS)
    except AddressRefused as error:
        raise BadEndpoint(str(error), field="url") from None
    unknown = sorted(set(events) - set(EVENT_TYPES))
    if unknown:
        raise BadEndpoint(
            f"“{unknown[0]}” is no event type. They are: {', '.join(sorted(EVENT_TYPES))}.", field="events"
        )


def _lock(organization_id: int, endpoint_id: int) -> WebhookEndpoint:
    endpoint = (
        WebhookEndpoint.objects.select_for_update(no_key=True)
        .filter(pk=endpoint_id, organization_id=organization_id)
        .first()
    )
    if endpoint is None:
        raise EndpointNotFound("This organization has no webhook with that id.")
    return endpoint


def _note(verb: str, endpoint: WebhookEndpoint, actor: Actor, now: datetime) -> None:
    after = {"url": endpoint.url, "events": endpoint.events, "disabled": endpoint.disabled_at is not None}
    audit.record(actor=actor, verb=verb, subject=f"webhook:{endpoint.pk}", now=now, after=after)
