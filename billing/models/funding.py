"""What bundles and gifts paid towards a market, and what of it came back."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.credits import Credit


class MarketFunding(models.Model):
    """
    What one bundle or gift put into its owner's free money for purchases in one market (`scope`), and got back of it.

    Changed only by who has the owner's `available` locked.
    """

    credit = models.ForeignKey(Credit, models.PROTECT, related_name="fundings")
    scope = models.CharField(max_length=64)
    drawn_micro = models.BigIntegerField()
    returned_micro = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["credit", "scope"], name="market_funding_once"),
            models.CheckConstraint(
                name="market_funding_returns_at_most_what_it_drew",
                condition=Q(drawn_micro__gt=0, returned_micro__gte=0, returned_micro__lte=F("drawn_micro")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope}: {self.drawn_micro - self.returned_micro}"

    @property
    def outstanding_micro(self) -> int:
        """Return what it has in the market still."""
        return self.drawn_micro - self.returned_micro
