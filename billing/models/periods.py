"""Months that are closed, what was accrued then, statements that buyers confirm, the operator's chart of accounts."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.charges import SIDES


class PeriodClose(models.Model):
    """A calendar month (Asia/Shanghai) that one person proposed to close and another one closed, for good."""

    month = models.DateField(unique=True, help_text="Its first day.")
    proposed_by = models.CharField(max_length=40)
    proposed_at = models.DateTimeField()
    closed_by = models.CharField(max_length=40, blank=True)
    closed_at = models.DateTimeField(null=True)
    figures = models.JSONField(default=dict, help_text="What the month came to when it was closed, in micro-yuan.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="period_closed_by_another_person",
                condition=Q(closed_at=None, closed_by="")
                | (Q(closed_at__isnull=False) & ~Q(closed_by=F("proposed_by"))),
            ),
            models.CheckConstraint(name="period_is_a_month", condition=Q(month__day=1)),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class PeriodAccrual(models.Model):
    """What was delivered by the end of a closed month and stood on no document: by organization, side and VAT rate."""

    close = models.ForeignKey(PeriodClose, models.PROTECT, related_name="accruals")
    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="+")
    side = models.CharField(max_length=8, choices=SIDES)
    vat_thousandths = models.PositiveSmallIntegerField()
    charges = models.PositiveIntegerField()
    gross_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["close", "organization", "side", "vat_thousandths"], name="period_accrual_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.close_id}: {self.organization_id} {self.side}"


class StatementConfirmation(models.Model):
    """That an organization confirmed its reconciliation statement (对账单) of a month, or said what is wrong."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="confirmations")
    month = models.DateField()
    digest = models.CharField(max_length=64, help_text="SHA-256 of the statement's CSV, as it was answered.")
    agrees = models.BooleanField()
    comment = models.CharField(max_length=500, blank=True)
    by = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["organization", "month", "digest"], name="statement_answered_once"),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.month:%Y-%m}"


class ChartAccount(models.Model):
    """An account of the operator's chart to which the journal export maps one of ours; without one the default's."""

    key = models.CharField(max_length=24, unique=True)
    code = models.CharField(max_length=20)
    name = models.CharField(max_length=60)

    def __str__(self) -> str:
        return f"{self.key}: {self.code} {self.name}"
