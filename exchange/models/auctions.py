"""What an auction gave, why, and the book that anyone can recompute it from."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from exchange.models.markets import Market


class AuctionCall(models.Model):
    """
    The end of a call: when it closes, how much longer it may run, and the seed that decides it.

    Markets of one tick and margin rule whose calls close at the same moment share one, so that they end together. One
    that a collar, an extension or a resumption opened is one market's own. The seed is published once `ended_at` is
    set.
    """

    class Cause(models.TextChoices):
        SCHEDULE = "schedule", _("Schedule")
        VOLATILITY = "volatility", _("A collar in continuous trading")
        EXTENSION = "extension", _("The price left its collar at the end")
        RESUMPTION = "resumption", _("Trading resumed after its end")

    cause = models.CharField(max_length=10, choices=Cause)
    market = models.ForeignKey(Market, models.PROTECT, null=True, related_name="calls")
    closes_at = models.DateTimeField()
    random_seconds = models.PositiveIntegerField()
    tick_nano = models.BigIntegerField()
    margin = models.CharField(max_length=10)
    extensions = models.PositiveSmallIntegerField(default=0, help_text="How often it was extended to this end.")
    seed = models.BinaryField(max_length=32)
    seed_hash = models.CharField(max_length=64, help_text="SHA-256 of the seed, published when the call opens.")
    ends_at = models.DateTimeField(help_text="Secret until it has passed.")
    opened_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["closes_at", "random_seconds", "tick_nano", "margin"], condition=Q(market__isnull=True),
                name="call_shared_once",
            ),
            models.CheckConstraint(
                name="call_scheduled_is_shared",
                condition=Q(cause="schedule", market__isnull=True) | (~Q(cause="schedule") & Q(market__isnull=False)),
            ),
            models.CheckConstraint(name="call_ends_after_closing", condition=Q(ends_at__gte=F("closes_at"))),
        ]

    def __str__(self) -> str:
        return f"call until {self.closes_at:%Y-%m-%d %H:%M:%S}"


class AuctionResult(models.Model):
    """The outcome of one uncross. `figures` are those of each rule applied, as the price determination gave them."""

    class Kind(models.TextChoices):
        OPENING = "opening", _("Opening")
        OFF_PEAK = "off_peak", _("Off-peak")
        VOLATILITY = "volatility", _("Volatility")

    market = models.ForeignKey(Market, models.PROTECT, related_name="auctions")
    sequence = models.BigIntegerField(help_text="The journal entry that is this auction.")
    kind = models.CharField(max_length=10, choices=Kind)
    call = models.ForeignKey(AuctionCall, models.PROTECT, null=True, related_name="auctions")
    price_nano = models.BigIntegerField(null=True)
    volume_tokens = models.BigIntegerField()
    surplus_tokens = models.BigIntegerField(help_text="Left over at the price; positive: bids.")
    rule = models.CharField(max_length=30)
    reference_price_nano = models.BigIntegerField(null=True)
    best_bid_nano = models.BigIntegerField(null=True)
    best_ask_nano = models.BigIntegerField(null=True)
    offered_tokens = models.BigIntegerField()
    wanted_tokens = models.BigIntegerField()
    buyers = models.PositiveIntegerField()
    sellers = models.PositiveIntegerField()
    largest_seller_thousandths = models.PositiveSmallIntegerField()
    thin = models.BooleanField(help_text="Fewer than two buyers or two sellers: it feeds no index.")
    reserve_price_nano = models.BigIntegerField(
        null=True, help_text="The lowest reserve price of the capacity on offer: a thin auction trades at no less."
    )
    figures = models.JSONField()
    cleared_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["market", "sequence"], name="auction_once"),
            models.CheckConstraint(
                name="auction_price_with_volume",
                condition=Q(price_nano__isnull=True, volume_tokens=0) | Q(price_nano__gt=0, volume_tokens__gt=0),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["cleared_at"], name="auction_time")]

    def __str__(self) -> str:
        return f"auction {self.pk} of market {self.market_id}"


class Annulment(models.Model):
    """
    An auction taken back: asked for by one operator, confirmed by another, carried out by its market's worker.

    `sequence` is the journal entry that reversed its trades; an annulment that could not be done has none, and the
    reason stands on its intervention.
    """

    auction = models.OneToOneField(AuctionResult, models.PROTECT, primary_key=True, related_name="annulment")
    market = models.ForeignKey(Market, models.PROTECT, related_name="annulments")
    auction_sequence = models.BigIntegerField()
    reason = models.CharField(max_length=300)
    requested_by = models.CharField(max_length=40, help_text="user:… or key:…")
    requested_at = models.DateTimeField()
    confirmed_by = models.CharField(max_length=40, blank=True)
    confirmed_at = models.DateTimeField(null=True)
    intervention = models.OneToOneField(
        "exchange.Intervention", models.PROTECT, null=True, related_name="annulment"
    )
    sequence = models.BigIntegerField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["market", "auction_sequence"], name="annulment_once"),
            models.CheckConstraint(
                name="annulment_by_two",
                condition=Q(confirmed_by="", confirmed_at__isnull=True, sequence__isnull=True)
                | (~Q(confirmed_by="") & Q(confirmed_at__isnull=False) & ~Q(confirmed_by=F("requested_by"))),
            ),
        ]

    def __str__(self) -> str:
        return f"annulment of auction {self.auction_id}"


class AuctionBook(models.Model):
    """The anonymised book of an auction: zstd of the JSON that `manage.py clear_book` reads."""

    auction = models.OneToOneField(AuctionResult, models.PROTECT, primary_key=True, related_name="book")
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"book of auction {self.auction_id}"
