"""
Webhooks out: endpoints of organizations, the events they asked for, and each attempt to deliver one.

Times of events are the product's; times of deliveries and attempts are real ones, for they are about the wire.
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class WebhookEndpoint(models.Model):
    """An address that an organization wants its events sent to."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="webhook_endpoints")
    url = models.CharField(max_length=500)
    description = models.CharField(max_length=120, blank=True)
    events = ArrayField(models.CharField(max_length=40), help_text="The types it wants; empty: all.")
    secret = models.CharField(max_length=64, help_text="whsec_…: known to both, for each message is signed with it.")
    previous_secret = models.CharField(max_length=64, blank=True)
    previous_until = models.DateTimeField(null=True, help_text="Until then messages bear both signatures. Real time.")
    created_at = models.DateTimeField()
    disabled_at = models.DateTimeField(null=True)
    disabled_reason = models.CharField(max_length=200, blank=True)
    failing_since = models.DateTimeField(null=True, help_text="Since when nothing has arrived. Real time.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="webhook_previous_secret_ends", condition=Q(previous_secret="") | Q(previous_until__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookEvent(models.Model):
    """What happened to an organization: written in the transaction in which it happened, once per key."""

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="+")
    type = models.CharField(max_length=40)
    key = models.CharField(max_length=120, help_text="Its cause: the same event is emitted once.")
    data = models.JSONField()
    occurred_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "type", "key"], name="webhook_event_once"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.key}"


class WebhookDelivery(models.Model):
    """The duty to bring one event to one endpoint."""

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        DELIVERED = "delivered", _("Delivered")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True)
    event = models.ForeignKey(WebhookEvent, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    tries = models.PositiveSmallIntegerField(default=0, help_text="Attempts since it was created or replayed.")
    next_try_at = models.DateTimeField(help_text="Real time; a worker that takes it moves this ahead, as its lease.")
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["event", "endpoint"], name="webhook_delivery_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_try_at"], name="webhook_delivery_due", condition=Q(state="pending")),
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_of"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}"


class WebhookAttempt(models.Model):
    """One attempt: what was answered, or why nothing was. The delivery log."""

    delivery = models.ForeignKey(WebhookDelivery, models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField()
    error = models.CharField(max_length=200, blank=True)
    answer = models.CharField(max_length=1000, blank=True, help_text="The beginning of the answer's body.")

    def __str__(self) -> str:
        return f"{self.delivery_id}: {self.status or self.error}"
