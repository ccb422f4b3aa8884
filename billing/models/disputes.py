"""What a buyer objects to on an invoice, how it is reminded of what is due, and what follows when it does not pay."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.models.invoices import Invoice, InvoiceLine


class Dispute(models.Model):
    """
    An objection to a line of an invoice. While it is open `held_micro` of what the invoice has due is not due; decided,
    `credit_micro` comes on a credit note. Amounts are whole fen, VAT included.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        ACCEPTED = "accepted", _("Accepted")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    line = models.ForeignKey(InvoiceLine, models.PROTECT, related_name="disputes")
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="disputes")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    amount_micro = models.BigIntegerField()
    held_micro = models.BigIntegerField(help_text="What of the amount was due and is not, while this is open.")
    credit_micro = models.BigIntegerField(default=0)
    settled_micro = models.BigIntegerField(default=0, help_text="What of the credit settled what was due.")
    reason = models.CharField(max_length=500)
    opened_at = models.DateTimeField()
    opened_by = models.CharField(max_length=40)
    decision = models.CharField(max_length=500, blank=True)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["line"], condition=Q(state="open"), name="dispute_open_once_per_line"),
            models.CheckConstraint(name="dispute_amount_above_zero", condition=Q(amount_micro__gt=0)),
            models.CheckConstraint(
                name="dispute_holds_at_most_its_amount",
                condition=Q(held_micro__gte=0, held_micro__lte=F("amount_micro")),
            ),
            models.CheckConstraint(
                name="dispute_credits_at_most_its_amount",
                condition=Q(credit_micro__gte=0, credit_micro__lte=F("amount_micro"))
                & Q(settled_micro__gte=0, settled_micro__lte=F("credit_micro")),
            ),
            models.CheckConstraint(
                name="dispute_credit_fits_state", condition=Q(state="accepted", credit_micro__gt=0) | Q(credit_micro=0)
            ),
        ]

    def __str__(self) -> str:
        return f"dispute {self.pk}"


class Reminder(models.Model):
    """That an organization was reminded of an invoice, once per step: days after (negative: before) its due day."""

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="reminders")
    step_days = models.SmallIntegerField()
    owed_micro = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["invoice", "step_days"], name="reminder_once_per_step"),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.step_days:+d}"


class PaymentHold(models.Model):
    """An organization that is too long overdue: while this lasts its new orders are refused."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="payment_holds")
    overdue_micro = models.BigIntegerField(help_text="What was overdue when it began.")
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization"], condition=Q(ended_at=None), name="payment_hold_once"),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} since {self.since:%Y-%m-%d}"


class WriteOff(models.Model):
    """What of an invoice was given up as uncollectible."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, related_name="write_off")
    amount_micro = models.BigIntegerField()
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(name="write_off_above_zero", condition=Q(amount_micro__gt=0))]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.amount_micro}"
