"""What surveillance found for the operator to look at."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchange.models.markets import Market
from identity.models import Organization


class SurveillanceScan(models.Model):
    """A market that has been looked through, once, after its gate closed."""

    market = models.OneToOneField(Market, models.PROTECT, primary_key=True, related_name="surveillance")
    scanned_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"market {self.market_id}"


class SurveillanceFinding(models.Model):
    """
    Something to look at: a suspicion, never a judgement. `figures` are those that the rule went by.

    The rules and their bounds are in `exchange.surveillance_queries`.
    """

    class Rule(models.TextChoices):
        LATE_WITHDRAWAL = "late_withdrawal", _("Late withdrawal")
        MATCHED_COUNTERPARTIES = "matched_counterparties", _("Matched counterparties")
        INDEX_WINDOW = "index_window", _("Trading around the index window")

    rule = models.CharField(max_length=24, choices=Rule)
    market = models.ForeignKey(Market, models.PROTECT, related_name="findings")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    counterparty = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+")
    figures = models.JSONField()
    found_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rule", "market", "organization", "counterparty"], nulls_distinct=False, name="finding_once"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["found_at"], name="finding_time")]

    def __str__(self) -> str:
        return f"{self.get_rule_display()}: {self.organization} in market {self.market_id}"
