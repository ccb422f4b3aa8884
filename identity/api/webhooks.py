"""Webhooks over HTTP: endpoints, their deliveries, test and replay."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import StrictSerializer
from core.errors import BadRequest
from identity import queries
from identity.actions import webhooks
from identity.actions.webhooks import EndpointNotFound
from identity.api.base import ApiView
from identity.domain.webhooks import EVENT_TYPES
from identity.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint, WebhookEvent


class WebhookIn(StrictSerializer):
    url = serializers.CharField(max_length=500, help_text="https://…; a public address.")
    events = serializers.ListField(
        child=serializers.CharField(max_length=40), max_length=50, required=False, default=list,
        help_text="Event types; none: all.",
    )  # fmt: skip
    description = serializers.CharField(max_length=120, required=False, default="", allow_blank=True)


class WebhookChange(StrictSerializer):
    url = serializers.CharField(max_length=500, required=False)
    events = serializers.ListField(child=serializers.CharField(max_length=40), max_length=50, required=False)
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    enabled = serializers.BooleanField(required=False, help_text="Switched on again, it begins afresh.")


class RotateWebhookIn(StrictSerializer):
    overlap_seconds = serializers.IntegerField(
        min_value=0, max_value=30 * 86_400, default=86_400, help_text="How long messages bear both signatures."
    )


class WebhookReplayIn(StrictSerializer):
    since = serializers.DateTimeField(help_text="Events that happened from this time on.")
    only_failed = serializers.BooleanField(required=False, default=True)


class WebhookOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    organization = serializers.IntegerField()
    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    description = serializers.CharField()
    enabled = serializers.BooleanField()
    disabled_reason = serializers.CharField()
    failing_since = serializers.DateTimeField(allow_null=True)
    old_secret_until = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class NewWebhookOut(WebhookOut):
    secret = serializers.CharField(allow_null=True, help_text="whsec_…, shown once; a repeated request gets null.")


class WebhookPage(serializers.Serializer[Any]):
    items = WebhookOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class WebhookAttemptOut(serializers.Serializer[Any]):
    at = serializers.DateTimeField(help_text="Real time.")
    status = serializers.IntegerField(allow_null=True, help_text="The HTTP status; null where none came.")
    milliseconds = serializers.IntegerField()
    error = serializers.CharField()
    answer = serializers.CharField(help_text="The first thousand characters of the answer.")


class WebhookDeliveryOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    webhook = serializers.IntegerField()
    event = serializers.UUIDField(help_text="The message's `webhook-id`.")
    type = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    state = serializers.CharField(help_text="pending, delivered or failed.")
    tries = serializers.IntegerField()
    next_try_at = serializers.DateTimeField(allow_null=True, help_text="Real time; null where none follows.")
    delivered_at = serializers.DateTimeField(allow_null=True)


class WebhookDeliveryDetailOut(WebhookDeliveryOut):
    data = serializers.DictField()  # type: ignore[assignment]
    attempts = WebhookAttemptOut(many=True)


class WebhookDeliveryPage(serializers.Serializer[Any]):
    items = WebhookDeliveryOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class WebhookEventOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    type = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    data = serializers.DictField()  # type: ignore[assignment]


class WebhookEventPage(serializers.Serializer[Any]):
    items = WebhookEventOut(many=True)
    next_cursor = serializers.CharField(allow_null=True)


class EventTypeOut(serializers.Serializer[Any]):
    type = serializers.CharField()
    description = serializers.CharField()


class EventTypesOut(serializers.Serializer[Any]):
    items = EventTypeOut(many=True)


class ReplayedOut(serializers.Serializer[Any]):
    replayed = serializers.IntegerField()


def show_webhook(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": row.pk,
        "organization": row.organization_id,
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "enabled": row.disabled_at is None,
        "disabled_reason": row.disabled_reason,
        "failing_since": row.failing_since,
        "old_secret_until": row.previous_until if row.previous_secret else None,
        "created_at": row.created_at,
    }


def show_delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": row.pk,
        "webhook": row.endpoint_id,
        "event": row.event_id,
        "type": row.event.type,
        "occurred_at": row.event.occurred_at,
        "state": row.state,
        "tries": row.tries,
        "next_try_at": row.next_try_at if row.state == WebhookDelivery.State.PENDING else None,
        "delivered_at": row.delivered_at,
    }


def show_attempt(row: WebhookAttempt) -> dict[str, Any]:
    return {
        "at": row.at,
        "status": row.status,
        "milliseconds": row.milliseconds,
        "error": row.error,
        "answer": row.answer,
    }


def show_event(row: WebhookEvent) -> dict[str, Any]:
    return {"id": row.pk, "type": row.type, "occurred_at": row.occurred_at, "data": row.data}


class WebhookView(ApiView):
    """A view of the caller's own webhooks; writing takes what making keys takes, for a webhook sees everything."""

    def endpoint(self, webhook_id: int) -> WebhookEndpoint:
        found = queries.webhook_endpoints(self.actor).filter(pk=webhook_id).first()
        if found is None:
            raise EndpointNotFound("This organization has no webhook with that id.")
        return found


class Webhooks(WebhookView):
    scopes = {"GET": "read", "POST": "read"}

    @extend_schema(responses=WebhookPage)
    def get(self, request: Request) -> Response:
        """List the organization's webhooks, without their secrets."""
        return Response(page(request, queries.webhook_endpoints(self.actor), show_webhook))

    @extend_schema(request=WebhookIn, responses={201: NewWebhookOut})
    def post(self, request: Request) -> Response:
        """Have events sent to an address. The answer's `secret` is shown once; messages are signed with it."""
        self.actor.require_administration()
        fields = self.parse(WebhookIn)

        def make() -> dict[str, Any]:
            row = webhooks.create_endpoint(
                organization_id=self.actor.organization_id, **fields, now=self.now, actor=self.actor
            )
            return show_webhook(row) | {"secret": row.secret}

        return self.once(make, secret_fields=("secret",))


class WebhookDetail(WebhookView):
    scopes = {"GET": "read", "PATCH": "read", "DELETE": "read"}

    @extend_schema(responses=WebhookOut)
    def get(self, request: Request, webhook_id: int) -> Response:
        """One webhook."""
        return Response(show_webhook(self.endpoint(webhook_id)))

    @extend_schema(request=WebhookChange, responses=WebhookOut)
    def patch(self, request: Request, webhook_id: int) -> Response:
        """Change its address, types or description, or switch it off and on."""
        self.endpoint(webhook_id)
        self.actor.require_administration()
        changes = self.parse(WebhookChange)
        return self.once(
            lambda: show_webhook(
                webhooks.change_endpoint(
                    organization_id=self.actor.organization_id,
                    endpoint_id=webhook_id,
                    changes=changes,
                    now=self.now,
                    actor=self.actor,
                )
            ),
            status=200,
        )

    @extend_schema(request=None, responses=WebhookOut)
    def delete(self, request: Request, webhook_id: int) -> Response:
        """Delete it with its log."""
        self.actor.require_administration()
        return self.once(
            lambda: show_webhook(
                webhooks.delete_endpoint(
                    organization_id=self.actor.organization_id, endpoint_id=webhook_id, now=self.now, actor=self.actor
                )
            ),
            status=200,
        )


class WebhookRotate(WebhookView):
    scopes = {"POST": "read"}

    @extend_schema(request=RotateWebhookIn, responses={201: NewWebhookOut})
    def post(self, request: Request, webhook_id: int) -> Response:
        """Give it a new secret; for `overlap_seconds` messages bear the signatures of both."""
        self.endpoint(webhook_id)
        self.actor.require_administration()
        overlap = timedelta(seconds=self.parse(RotateWebhookIn)["overlap_seconds"])

        def rotate() -> dict[str, Any]:
            row = webhooks.rotate_secret(
                organization_id=self.actor.organization_id, endpoint_id=webhook_id, overlap=overlap, now=self.now,
                actor=self.actor,
            )  # fmt: skip
            return show_webhook(row) | {"secret": row.secret}

        return self.once(rotate, secret_fields=("secret",))


class WebhookTest(WebhookView):
    scopes = {"POST": "read"}

    @extend_schema(request=None, responses={201: WebhookDeliveryOut})
    def post(self, request: Request, webhook_id: int) -> Response:
        """Send a `webhook.test` event. Ask for the delivery in the answer to see what came of it."""
        self.endpoint(webhook_id)
        self.actor.require_administration()
        return self.once(
            lambda: show_delivery(
                webhooks.send_test(organization_id=self.actor.organization_id, endpoint_id=webhook_id, now=self.now)
            )
        )


class WebhookReplay(WebhookView):
    scopes = {"POST": "read"}

    @extend_schema(request=WebhookReplayIn, responses=ReplayedOut)
    def post(self, request: Request, webhook_id: int) -> Response:
        """Send the events since a time again: those that failed, or with `only_failed` false all that it wants."""
        self.endpoint(webhook_id)
        self.actor.require_administration()
        fields = self.parse(WebhookReplayIn)
        return self.once(
            lambda: {
                "replayed": webhooks.replay_since(
                    organization_id=self.actor.organization_id, endpoint_id=webhook_id, **fields
                )
            },
            status=200,
        )


class WebhookDeliveries(WebhookView):
    scopes = {"GET": "read"}

    @extend_schema(responses=WebhookDeliveryPage)
    def get(self, request: Request, webhook_id: int) -> Response:
        """What was sent or is to be, newest first; `state` filters."""
        rows = queries.webhook_deliveries(self.endpoint(webhook_id))
        state = request.query_params.get("state")
        if state is not None:
            if state not in WebhookDelivery.State.values:
                raise BadRequest("state is pending, delivered or failed.", field="state")
            rows = rows.filter(state=state)
        return Response(page(request, rows, show_delivery))


class DeliveryDetail(WebhookView):
    scopes = {"GET": "read"}

    @extend_schema(responses=WebhookDeliveryDetailOut)
    def get(self, request: Request, delivery_id: UUID) -> Response:
        """One delivery with what was sent and each attempt."""
        row = queries.webhook_delivery(self.actor, delivery_id)
        if row is None:
            raise EndpointNotFound("This organization has no delivery with that id.")
        attempts = [show_attempt(attempt) for attempt in row.attempts.order_by("id")]
        return Response(show_delivery(row) | {"data": row.event.data, "attempts": attempts})


class DeliveryReplay(WebhookView):
    scopes = {"POST": "read"}

    @extend_schema(request=None, responses=WebhookDeliveryOut)
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Send it again, with the same `webhook-id`."""
        if queries.webhook_delivery(self.actor, delivery_id) is None:
            raise EndpointNotFound("This organization has no delivery with that id.")
        self.actor.require_administration()
        return self.once(
            lambda: show_delivery(
                webhooks.replay_delivery(organization_id=self.actor.organization_id, delivery_id=delivery_id)
            ),
            status=200,
        )


class WebhookEvents(WebhookView):
    scopes = {"GET": "read"}

    @extend_schema(responses=WebhookEventPage)
    def get(self, request: Request) -> Response:
        """The events of the last sixty days, newest first: what a receiver that was away can catch up with."""
        rows = WebhookEvent.objects.filter(organization_id=self.actor.organization_id)
        return Response(page(request, rows, show_event))


class EventTypes(ApiView):
    public = True

    @extend_schema(responses=EventTypesOut)
    def get(self, request: Request) -> Response:
        """All event types."""
        return Response({"items": [{"type": name, "description": text} for name, text in EVENT_TYPES.items()]})
