"""Where the exchange sends events, and what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import given, time_text


class Webhooks(Resource[Mode]):
    """Endpoints and their deliveries. Check what arrives with `ciyuan.webhooks.verify`."""

    @paged
    def list(self) -> Call[Page[r.Webhook]]:
        return read("/v1/webhooks", page_of(r.Webhook))

    @endpoint
    def get(self, webhook: int) -> Call[r.Webhook]:
        return read(f"/v1/webhooks/{webhook}", r.Webhook)

    @endpoint
    def create(
        self,
        url: str,
        *,
        events: Sequence[str] = (),
        description: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.NewWebhook]:
        """Have events sent to `url`; none named: all types. The answer's `secret` is shown this once."""
        body = given(url=url, events=[*events], description=description)
        return write("POST", "/v1/webhooks", r.NewWebhook, body, idempotency_key=idempotency_key)

    @endpoint
    def change(
        self,
        webhook: int,
        *,
        url: str | None = None,
        events: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.Webhook]:
        types = None if events is None else tuple(events)
        body = given(url=url, events=types, description=description, enabled=enabled)
        return write("PATCH", f"/v1/webhooks/{webhook}", r.Webhook, body, idempotency_key=idempotency_key)

    @endpoint
    def delete(self, webhook: int, *, idempotency_key: str | None = None) -> Call[r.Webhook]:
        return write("DELETE", f"/v1/webhooks/{webhook}", r.Webhook, idempotency_key=idempotency_key)

    @endpoint
    def rotate(
        self, webhook: int, *, overlap_seconds: int | None = None, idempotency_key: str | None = None
    ) -> Call[r.NewWebhook]:
        """Give it a new secret; during the overlap messages bear the signatures of both."""
        body = given(overlap_seconds=overlap_seconds)
        return write("POST", f"/v1/webhooks/{webhook}/rotate", r.NewWebhook, body, idempotency_key=idempotency_key)

    @endpoint
    def test(self, webhook: int, *, idempotency_key: str | None = None) -> Call[r.WebhookDelivery]:
        """Send a `webhook.test` event; ask for the delivery to see what came of it."""
        return write("POST", f"/v1/webhooks/{webhook}/test", r.WebhookDelivery, {}, idempotency_key=idempotency_key)

    @endpoint
    def replay(
        self,
        webhook: int,
        *,
        since: datetime | str,
        only_failed: bool = True,
        idempotency_key: str | None = None,
    ) -> Call[r.Anything]:
        """Send the events since then again; returns how many as `["replayed"]`."""
        body = {"since": time_text("since", since), "only_failed": only_failed}
        return write("POST", f"/v1/webhooks/{webhook}/replay", r.Anything, body, idempotency_key=idempotency_key)

    @paged
    def deliveries(self, webhook: int, *, state: str | None = None) -> Call[Page[r.WebhookDelivery]]:
        return read(f"/v1/webhooks/{webhook}/deliveries", page_of(r.WebhookDelivery), state=state)

    @endpoint
    def delivery(self, delivery: str) -> Call[r.WebhookDelivery]:
        """One delivery with its attempts."""
        return read(f"/v1/webhook-deliveries/{delivery}", r.WebhookDelivery)

    @endpoint
    def replay_delivery(self, delivery: str, *, idempotency_key: str | None = None) -> Call[r.WebhookDelivery]:
        path = f"/v1/webhook-deliveries/{delivery}/replay"
        return write("POST", path, r.WebhookDelivery, {}, idempotency_key=idempotency_key)

    @paged
    def events(self) -> Call[Page[r.WebhookEvent]]:
        """The events of the last sixty days, newest first: what a receiver that was away catches up with."""
        return read("/v1/webhook-events", page_of(r.WebhookEvent))
