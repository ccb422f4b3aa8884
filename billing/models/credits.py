"""Bundles that buyers bought and gifts that they were given: money that only usage may take."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.domain.accounts import AccountRef, bundle, gift


class BundleOffer(models.Model):
    """A bundle at a fixed price: what it is worth in usage, and for how long. Withdrawn, it is sold no more."""

    name = models.CharField(max_length=80)
    price_micro = models.BigIntegerField(help_text="What it costs.")
    worth_micro = models.BigIntegerField(help_text="What usage it pays for, at least its price.")
    priority = models.PositiveSmallIntegerField(default=100, help_text="The lower is drawn first.")
    valid_days = models.PositiveSmallIntegerField()
    offered_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="bundle_offer_is_worth_its_price",
                condition=Q(price_micro__gt=0, worth_micro__gte=F("price_micro"), valid_days__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Credit(models.Model):
    """
    A bundle or a gift. Insert-only; what is left of it stands on its ledger account, `bundle` or `gift`.

    A bundle is worth at least what was paid for it: the difference is the operator's promotion.
    """

    class Kind(models.TextChoices):
        BUNDLE = "bundle", _("Bundle")
        GIFT = "gift", _("Gift")

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="credits")
    kind = models.CharField(max_length=8, choices=Kind)
    offer = models.ForeignKey(BundleOffer, models.PROTECT, null=True, related_name="sold")
    name = models.CharField(max_length=80)
    paid_micro = models.BigIntegerField(default=0)
    worth_micro = models.BigIntegerField()
    priority = models.PositiveSmallIntegerField(default=100)
    granted_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="credit_is_worth_what_was_paid",
                condition=Q(worth_micro__gt=0, paid_micro__gte=0, worth_micro__gte=F("paid_micro"))
                & (Q(kind="bundle", paid_micro__gt=0, offer__isnull=False) | Q(kind="gift", paid_micro=0)),
            ),
            models.CheckConstraint(name="credit_ends_after_it_begins", condition=Q(expires_at__gt=F("granted_at"))),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "expires_at"], name="credit_of_organization")]

    def __str__(self) -> str:
        return f"{self.name} ({self.pk})"

    @property
    def account(self) -> AccountRef:
        """Return the account that what is left of it stands on."""
        named = gift if self.kind == self.Kind.GIFT else bundle
        return named(self.organization_id, f"credit:{self.pk}")
