"""What the exchange keeps of Stripe: customers, payments asked for, and events as they came."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.models.payments import Deposit


class StripeCustomer(models.Model):
    """An organization at Stripe: as a payer, with its saved card and automatic top-up; as a payee by Connect."""

    organization = models.OneToOneField("identity.Organization", models.PROTECT, related_name="stripe")
    customer = models.CharField(max_length=60, blank=True)
    connect_account = models.CharField(max_length=60, blank=True)
    payment_method = models.CharField(max_length=60, blank=True)
    top_up_below_micro = models.BigIntegerField(null=True)
    top_up_micro = models.BigIntegerField(null=True)
    paused_reason = models.CharField(max_length=200, blank=True, help_text="Why automatic top-ups have stopped.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="stripe_top_up_is_whole",
                condition=Q(top_up_below_micro=None, top_up_micro=None)
                | Q(top_up_below_micro__gte=0, top_up_micro__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id}: {self.customer}"


class StripePayment(models.Model):
    """A payment that we asked Stripe to take. Its id is our reference there and the idempotency key."""

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")
        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        MISMATCH = "mismatch", _("Does not match")

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="stripe_payments")
    kind = models.CharField(max_length=10, help_text="checkout or auto.")
    amount_micro = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    session = models.CharField(max_length=100, blank=True)
    url = models.TextField(blank=True)
    intent = models.CharField(max_length=100, blank=True)
    deposit = models.OneToOneField(Deposit, models.PROTECT, null=True, related_name="stripe_payment")
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="stripe_payment_positive", condition=Q(amount_micro__gt=0)),
            models.CheckConstraint(
                name="stripe_payment_succeeds_with_its_deposit",
                condition=Q(state="succeeded", deposit__isnull=False) | (~Q(state="succeeded") & Q(deposit=None)),
            ),
            models.UniqueConstraint(
                fields=["organization"], condition=Q(kind="auto", state="pending"), name="stripe_one_top_up_at_a_time"
            ),
        ]

    def __str__(self) -> str:
        return f"payment-{self.pk}"


class StripeEvent(models.Model):
    """An event as Stripe announced it: stored first, handled once."""

    event = models.CharField(max_length=100, unique=True)
    type = models.CharField(max_length=100)
    object_kind = models.CharField(max_length=60)
    object_id = models.CharField(max_length=100)
    happened_at = models.DateTimeField()
    received_at = models.DateTimeField()
    healed = models.BooleanField(default=False, help_text="Found by reconciliation; its webhook never came.")
    handled_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=200, blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["id"], name="stripe_event_unhandled", condition=Q(handled_at=None)),
        ]

    def __str__(self) -> str:
        return self.event
