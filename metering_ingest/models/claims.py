"""What buyers claim was not delivered, and what was found of it."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchange.models import DeliveryContract
from identity.models import Organization


class Claim(models.Model):
    """
    A buyer's claim that requests of a contract failed, with the standard tokens that they would have been.

    Insert-only: what was decided of it is its ruling. `metered` is how many of the requests the provider's meters have
    on record as served: evidence for whoever decides.
    """

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="claims")
    quantity_tokens = models.BigIntegerField()
    metered = models.PositiveIntegerField(default=0)
    note = models.CharField(max_length=500, blank=True)
    made_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.CheckConstraint(name="claim_positive", condition=Q(quantity_tokens__gt=0)),
        ]

    def __str__(self) -> str:
        return f"claim {self.pk} on contract {self.contract_id}"


class ClaimedRequest(models.Model):
    """A failed request, by the id that its sender gave it. It is claimed once."""

    claim = models.ForeignKey(Claim, models.PROTECT, related_name="requests")
    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="+")
    request_id = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract", "request_id"], name="request_claimed_once"),
        ]

    def __str__(self) -> str:
        return self.request_id


class ClaimRuling(models.Model):
    """What was decided of a claim, once: accepted by the provider, upheld or rejected by the operator. Insert-only."""

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted", _("Accepted by the provider")
        UPHELD = "upheld", _("Upheld by the operator")
        REJECTED = "rejected", _("Rejected by the operator")

    claim = models.OneToOneField(Claim, models.PROTECT, primary_key=True, related_name="ruling")
    verdict = models.CharField(max_length=10, choices=Verdict)
    quantity_tokens = models.BigIntegerField(help_text="What of the claim was found undelivered.")
    by = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    note = models.CharField(max_length=500, blank=True)
    ruled_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="ruling_quantity_of_its_verdict",
                condition=Q(verdict="rejected", quantity_tokens=0)
                | (~Q(verdict="rejected") & Q(quantity_tokens__gt=0)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.claim_id}: {self.verdict}"
