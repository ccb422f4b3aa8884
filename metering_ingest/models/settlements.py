"""What has been settled of a contract, and what waits to be settled again."""

from typing import ClassVar

from django.db import models

from identity.models import Organization


class ContractSettlement(models.Model):
    """
    One settlement of a contract and period, whole, as the pure function returned it. Insert-only.

    A later revision holds the whole result again; what was pushed to billing is its difference from the one before.
    """

    contract_id = models.BigIntegerField()
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    revision = models.PositiveIntegerField()
    settled_at = models.DateTimeField()
    work_micro_st = models.BigIntegerField()
    overage_micro = models.BigIntegerField(default=0)
    lines = models.JSONField()
    inputs = models.JSONField(null=True, help_text="What the lines were rated from; none before it was kept.")
    escrow_micro = models.BigIntegerField()
    overage_limit_micro = models.BigIntegerField(default=0, help_text="What usage beyond the lots might cost then.")
    from_bond_micro = models.BigIntegerField(default=0, help_text="What of its losses the provider's bond has borne.")
    from_default_micro = models.BigIntegerField(default=0, help_text="What the operator's default account has borne.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["contract_id", "period_start", "revision"], name="settlement_revision_once"
            ),
        ]

    def __str__(self) -> str:
        return f"contract {self.contract_id} revision {self.revision}"


class LateUsage(models.Model):
    """An hour of a contract whose usage changed when it was due for settlement or after it: it is settled again."""

    pk = models.CompositePrimaryKey("contract_id", "hour")
    contract_id = models.BigIntegerField()
    hour = models.BigIntegerField(help_text="Hours since 1970.")
    since = models.DateTimeField()

    class Meta:
        db_table = "late_usage"
        verbose_name_plural = "late usage"

    def __str__(self) -> str:
        return f"contract {self.contract_id} hour {self.hour}"


class OverageMonth(models.Model):
    """What a buyer's usage beyond its contracts has cost in a Shanghai calendar month, against its limit."""

    buyer = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    month = models.DateField()
    spent_micro = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["buyer", "month"], name="overage_month_once"),
            models.CheckConstraint(name="overage_not_negative", condition=models.Q(spent_micro__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.buyer_id} {self.month}"
