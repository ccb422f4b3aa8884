"""What the engines' counters said, how the meters of an hour compare, and what is done where they disagree."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchange.models import DeliveryContract
from identity.models import Organization, User
from metering_ingest.models.meters import Meter

MAX_ATTACHMENT_BYTES = 1024 * 1024


class CounterReading(models.Model):
    """
    One counter of an engine as it stood at a moment. A fact: never changed, the same again changes nothing.

    What was counted in an hour is worked out from the readings around it (`domain.counters`), so that readings may
    come late and in any order.
    """

    pk = models.CompositePrimaryKey("meter_id", "series", "at")
    meter_id = models.BigIntegerField()
    series = models.BinaryField(max_length=16, help_text="BLAKE2b-128 of name, labels and start of the process.")
    at = models.DateTimeField()
    counts = models.CharField(max_length=12, help_text="prompt, cached, output or requests.")
    value = models.BigIntegerField()
    started_at = models.DateTimeField(null=True, help_text="When the counter stood at zero, where the engine says so.")
    received_at = models.DateTimeField()

    class Meta:
        db_table = "counter_reading"
        indexes: ClassVar = [models.Index(fields=["meter_id", "at"], name="counter_reading_meter_time")]
        constraints: ClassVar = [
            models.CheckConstraint(name="counter_reading_not_negative", condition=Q(value__gte=0)),
        ]

    def __str__(self) -> str:
        return f"meter {self.meter_id} {self.counts} {self.value}"


class MeterComparison(models.Model):
    """What the meters last counted of a contract, hour and class, where another than the provider's said something."""

    pk = models.CompositePrimaryKey("contract_id", "hour", "token_class")
    contract_id = models.BigIntegerField()
    hour = models.DateTimeField()
    token_class = models.CharField(max_length=12)
    provider_quantity = models.BigIntegerField()
    buyer_quantity = models.BigIntegerField(null=True)
    engine_quantity = models.BigIntegerField(null=True)
    tolerance_thousandths = models.PositiveSmallIntegerField()
    agrees = models.BooleanField()
    meters = ArrayField(models.BigIntegerField(), help_text="The meters behind the figures.")
    compared_at = models.DateTimeField()

    class Meta:
        db_table = "meter_comparison"
        indexes: ClassVar = [models.Index(fields=["hour"], name="meter_comparison_hour")]

    def __str__(self) -> str:
        return f"contract {self.contract_id} {self.hour:%Y-%m-%d %H} {self.token_class}"


class ReconciliationMark(models.Model):
    """Up to what a contract's period has been compared: it is looked at again when the fingerprint differs."""

    contract_id = models.BigIntegerField()
    period_start = models.DateTimeField()
    fingerprint = models.CharField(max_length=80)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract_id", "period_start"], name="reconciliation_mark_once"),
        ]

    def __str__(self) -> str:
        return f"contract {self.contract_id} {self.fingerprint}"


class Discrepancy(models.Model):
    """
    Meters of a contract, hour and class that are further apart than the grade tolerates.

    While it is open, `held_work_micro_st` is held back of the provider's count; decided, `denied_work_micro_st` is left
    out for good. Both are split by deployment in `by_deployment`. It says what its counts were when it was last looked
    at; a provider's count that changes after the decision opens it again.
    """

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        DECIDED = "decided", _("Decided")
        AGREED = "agreed", _("Agreed meanwhile")

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="discrepancies")
    hour = models.DateTimeField()
    token_class = models.CharField(max_length=12)
    state = models.CharField(max_length=7, choices=State, default=State.OPEN)
    provider_quantity = models.BigIntegerField()
    buyer_quantity = models.BigIntegerField(null=True)
    engine_quantity = models.BigIntegerField(null=True)
    tolerance_thousandths = models.PositiveSmallIntegerField()
    held_quantity = models.BigIntegerField()
    held_work_micro_st = models.BigIntegerField()
    accepted_quantity = models.BigIntegerField(null=True)
    denied_work_micro_st = models.BigIntegerField(default=0)
    by_deployment = models.JSONField(default=dict, help_text="Deployment → held or denied micro-ST.")
    opened_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "discrepancies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract", "hour", "token_class"], name="discrepancy_once"),
            models.CheckConstraint(
                name="discrepancy_of_its_state",
                condition=Q(state="open", accepted_quantity__isnull=True, denied_work_micro_st=0)
                | Q(state="decided", accepted_quantity__gte=0, held_work_micro_st=0, denied_work_micro_st__gte=0)
                | Q(state="agreed", accepted_quantity__isnull=True, held_work_micro_st=0, denied_work_micro_st=0),
            ),
            models.CheckConstraint(
                name="discrepancy_holds_what_was_reported",
                condition=Q(
                    held_quantity__gte=0, held_quantity__lte=models.F("provider_quantity"), held_work_micro_st__gte=0
                ),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "-id"], name="discrepancy_state")]

    def __str__(self) -> str:
        return f"discrepancy {self.pk}: {self.state}"


class DiscrepancyEntry(models.Model):
    """What happened about a discrepancy: opened with its evidence, said, attached, decided. Insert-only."""

    class Kind(models.TextChoices):
        OPENED = "opened", _("Opened")
        CHANGED = "changed", _("Counts changed")
        AGREED = "agreed", _("Meters agree")
        COMMENT = "comment", _("Comment")
        DECIDED = "decided", _("Decided")

    discrepancy = models.ForeignKey(Discrepancy, models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=8, choices=Kind)
    at = models.DateTimeField()
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+")
    user = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    text = models.TextField(blank=True, max_length=4_000)
    evidence = models.JSONField(null=True)
    attachment_name = models.CharField(max_length=200, blank=True)
    attachment_type = models.CharField(max_length=100, blank=True)
    attachment_sha256 = models.CharField(max_length=64, blank=True)
    attachment = models.BinaryField(null=True, max_length=MAX_ATTACHMENT_BYTES)

    class Meta:
        verbose_name_plural = "discrepancy entries"

    def __str__(self) -> str:
        return f"{self.discrepancy_id} {self.kind}"


class MeterScore(models.Model):
    """How often a meter was right of late: comparisons that agreed, or were decided as it had counted."""

    meter = models.OneToOneField(Meter, models.CASCADE, primary_key=True, related_name="score")
    compared = models.PositiveIntegerField()
    right = models.PositiveIntegerField()
    scored_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="meter_score_is_a_share", condition=Q(right__lte=models.F("compared"))),
        ]

    def __str__(self) -> str:
        return f"{self.meter_id}: {self.right}/{self.compared}"

    @property
    def thousandths(self) -> int | None:
        """The share that was right; None before the first comparison."""
        return self.right * 1_000 // self.compared if self.compared else None
