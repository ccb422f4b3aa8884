"""Rated lines, which of them wait for a document, and how each organization is billed."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.domain.charges import ChargeKind

SIDES = [("buyer", _("Buyer")), ("provider", _("Provider"))]


class BillingProfile(models.Model):
    """How an organization is billed, and what its documents print. Without one the defaults hold."""

    class Cycle(models.TextChoices):
        SETTLEMENT = "settlement", _("Per settlement")
        DAILY = "daily", _("Daily")
        WEEKLY = "weekly", _("Weekly")
        MONTHLY = "monthly", _("Monthly")

    organization = models.OneToOneField(
        "identity.Organization", on_delete=models.PROTECT, related_name="billing_profile")
    cycle = models.CharField(max_length=12, choices=Cycle, default=Cycle.SETTLEMENT)
    fee_thousandths = models.PositiveSmallIntegerField(
        default=20, help_text="The platform's fee on a provider's proceeds, VAT included: 20 is 2%.")
    payment_days = models.PositiveSmallIntegerField(
        default=15, help_text="Days from issue until what is owed on account falls due.")
    legal_name = models.CharField(max_length=120, blank=True, help_text="As registered; else its name.")
    tax_number = models.CharField(max_length=20, blank=True)
    address = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    bank_name = models.CharField(max_length=120, blank=True)
    bank_account = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(fee_thousandths__lte=500), name="billing_profile_fee_is_a_share"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.get_cycle_display()}"


class Charge(models.Model):
    """One rated line. Insert-only: a revision is a new row with the difference. Units as in `ChargeInput`."""

    id = models.UUIDField(primary_key=True)
    source_key = models.CharField(max_length=150)
    revision = models.PositiveIntegerField()
    refers_to = models.CharField(max_length=150, blank=True)
    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in ChargeKind])
    buyer = models.ForeignKey("identity.Organization", on_delete=models.PROTECT, related_name="charges_bought")
    provider = models.ForeignKey("identity.Organization", on_delete=models.PROTECT, related_name="charges_sold")
    scope = models.CharField(max_length=64, db_index=True)
    labels = models.JSONField()
    tokens = models.JSONField(help_text="Raw tokens by class.")
    quantity_micro_st = models.BigIntegerField()
    buyer_price_nano = models.BigIntegerField()
    seller_price_nano = models.BigIntegerField()
    buyer_amount_micro = models.BigIntegerField()
    seller_amount_micro = models.BigIntegerField()
    fee_micro = models.BigIntegerField()
    vat_thousandths = models.PositiveSmallIntegerField(help_text="The buyer's rate when it was charged; 0: not taxed.")
    provider_vat_thousandths = models.PositiveSmallIntegerField()
    occurred_start = models.DateTimeField()
    occurred_end = models.DateTimeField()
    charged_at = models.DateTimeField()
    booked_month = models.DateField(
        null=True, help_text="The first day of the month of account it counts in; null: that of its delivery."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source_key", "revision"], name="charge_once"),
            models.CheckConstraint(
                condition=Q(occurred_start__lt=F("occurred_end")), name="charge_occurred_in_a_period"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["buyer", "-id"], name="charge_of_buyer"),
            models.Index(fields=["provider", "-id"], name="charge_of_provider"),
        ]

    def __str__(self) -> str:
        return f"{self.source_key} r{self.revision}"


class WaitingCharge(models.Model):
    """A charge that stands on no document of one side yet. Taken off when a document takes it: work, not a fact."""

    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="waiting")
    organization = models.ForeignKey("identity.Organization", on_delete=models.PROTECT, related_name="+")
    side = models.CharField(max_length=8, choices=SIDES)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["charge", "side"], name="waiting_charge_once_per_side"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_id} ({self.side})"


class SettledScope(models.Model):
    """A market (or other scope) whose charges are complete and whose collecting accounts were swept."""

    scope = models.CharField(max_length=64, unique=True)
    settled_at = models.DateTimeField()
    sweeps = models.PositiveIntegerField(default=0, help_text="How often it was swept: later revisions fill it anew.")

    def __str__(self) -> str:
        return self.scope
