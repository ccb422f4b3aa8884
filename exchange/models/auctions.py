"""What an auction gave, why, and the book that anyone can recompute it from."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchange.models.markets import Market


class AuctionResult(models.Model):
    """The outcome of one uncross. `figures` are those of each rule applied, as the price determination gave them."""

    class Kind(models.TextChoices):
        OPENING = "opening", _("Opening")
        OFF_PEAK = "off_peak", _("Off-peak")
        VOLATILITY = "volatility", _("Volatility")

    market = models.ForeignKey(Market, models.PROTECT, related_name="auctions")
    sequence = models.BigIntegerField(help_text="The journal entry that is this auction.")
    kind = models.CharField(max_length=10, choices=Kind)
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


class AuctionBook(models.Model):
    """The anonymised book of an auction: zstd of the JSON that `manage.py clear_book` reads."""

    auction = models.OneToOneField(AuctionResult, models.PROTECT, primary_key=True, related_name="book")
    content = models.BinaryField()

    def __str__(self) -> str:
        return f"book of auction {self.auction_id}"
