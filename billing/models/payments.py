"""Money from and to the outside."""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class Deposit(models.Model):
    """Money received for an organization, once per reference. Insert-only."""

    organization = models.ForeignKey("identity.Organization", on_delete=models.PROTECT, related_name="deposits")
    amount_micro = models.BigIntegerField()
    method = models.CharField(max_length=12, default="bank")
    reference = models.CharField(max_length=64, help_text="The bank's or payment service's own number of the payment.")
    settled_debt_micro = models.BigIntegerField(help_text="What of it paid debts; the rest became available.")
    received_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["method", "reference"], name="deposit_once"),
            models.CheckConstraint(condition=Q(amount_micro__gt=0), name="deposit_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.method}/{self.reference}"
