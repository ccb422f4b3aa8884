"""What the operator stops, what a lease guards, and how much an organization may order."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from exchange.models.markets import Market
from identity.models import Organization


class Intervention(models.Model):
    """
    Something that a market's worker is to enter into its journal and that neither a member nor the schedule asked for.

    A command received before `requested_at` is taken up before it. `sequence` is the journal entry that it became;
    until then it is due. One that could not be done has the reason in `refused`.
    """

    class Kind(models.IntegerChoices):
        MASS_CANCEL = 12, _("Cancel all")
        LEASE_EXPIRED = 13, _("Lease expired")
        HALT = 23, _("Halt")
        RESUME = 24, _("Resume")
        ANNUL = 27, _("Annul an auction")

    market = models.ForeignKey(Market, models.PROTECT, related_name="interventions")
    kind = models.SmallIntegerField(choices=Kind)
    organization = models.ForeignKey(
        Organization,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Whose orders it is about; without one, everybody's.",
    )
    requested_at = models.DateTimeField()
    sequence = models.BigIntegerField(null=True, help_text="Its journal entry; 0: refused.")
    refused = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="intervention_of_one", condition=~Q(kind=13) | Q(organization__isnull=False)),
        ]
        indexes: ClassVar = [
            models.Index(fields=["market", "id"], condition=Q(sequence__isnull=True), name="intervention_due"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} in market {self.market_id}"


class TradingStop(models.Model):
    """
    The kill switch of an organization: while it lasts its new orders are refused, in one market or in all.

    Cancelling stays possible. Its open orders are cancelled by interventions that are written with it.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="trading_stops")
    market = models.ForeignKey(
        Market, models.PROTECT, null=True, blank=True, related_name="+", help_text="Without one: all markets."
    )
    reason = models.CharField(max_length=300)
    since = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "market"],
                condition=Q(ended_at__isnull=True),
                nulls_distinct=False,
                name="trading_stop_once",
            ),
        ]

    def __str__(self) -> str:
        where = "all markets" if self.market_id is None else f"market {self.market_id}"
        return f"{self.organization}: {where}"


class Lease(models.Model):
    """
    A promise to be there: renewed by heartbeats, and when it runs out the orders under it are cancelled.

    Under it are the organization's open orders that asked for `cancel_on_disconnect`.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="lease")
    begun_at = models.DateTimeField()
    renewed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="lease_times_in_order", condition=Q(begun_at__lte=F("renewed_at"), renewed_at__lt=F("expires_at"))
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(ended_at__isnull=True), name="lease_to_expire"),
        ]

    def __str__(self) -> str:
        return f"{self.organization} until {self.expires_at:%Y-%m-%d %H:%M:%S}"


class TradingLimits(models.Model):
    """
    What an organization's orders may be at most; an empty field is no limit.

    The row without an organization is the house's, for all that have none of their own.
    """

    organization = models.OneToOneField(
        Organization, models.PROTECT, null=True, blank=True, related_name="trading_limits"
    )
    order_tokens = models.BigIntegerField(null=True, blank=True, help_text="The largest quantity of one order.")
    order_value_micro = models.BigIntegerField(null=True, blank=True, help_text="The largest value of one order.")
    price_distance_thousandths = models.IntegerField(
        null=True,
        blank=True,
        help_text="How far above the reference price a buy, and below it a sell, may name its price.",
    )
    orders_per_minute = models.IntegerField(null=True, blank=True)
    position_tokens = models.BigIntegerField(
        null=True, blank=True, help_text="The largest position in one market, open orders counted as if filled."
    )
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "trading limits"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(organization__isnull=True),
                nulls_distinct=False,
                name="trading_limits_of_the_house_once",
            ),
            models.CheckConstraint(
                name="trading_limits_positive",
                condition=(Q(order_tokens__isnull=True) | Q(order_tokens__gt=0))
                & (Q(order_value_micro__isnull=True) | Q(order_value_micro__gt=0))
                & (Q(price_distance_thousandths__isnull=True) | Q(price_distance_thousandths__gt=0))
                & (Q(orders_per_minute__isnull=True) | Q(orders_per_minute__gt=0))
                & (Q(position_tokens__isnull=True) | Q(position_tokens__gt=0)),
            ),
        ]

    def __str__(self) -> str:
        return "the house" if self.organization is None else str(self.organization)


class OrderRate(models.Model):
    """How many orders an organization with a rate limit may still send: a bucket that refills evenly."""

    organization = models.OneToOneField(Organization, models.PROTECT, primary_key=True, related_name="+")
    level_millionths = models.BigIntegerField()
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.organization}: {self.level_millionths // 1_000_000}"
