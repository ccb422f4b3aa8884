"""Evidence of how contracts were served, and what was found by it. All of it is insert-only."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchange.models import DeliveryContract, Market
from identity.models import Organization
from metering_ingest.models.claims import Claim
from metering_ingest.models.meters import Meter
from providers.models import Deployment


class ServiceReport(models.Model):
    """A report as its meter sent it, with its signature."""

    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    run = models.CharField(max_length=64)
    body = models.BinaryField()
    signature = models.BinaryField(max_length=64, null=True)
    received_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.meter_id} at {self.received_at}"


class ServiceMinute(models.Model):
    """
    What a meter saw of a contract at a deployment in a minute; without a contract: that the guard was running.

    Times are the 95th percentile of the minute's; `…_late` counts those beyond the grade's promise.
    """

    report = models.ForeignKey(ServiceReport, models.PROTECT, related_name="+")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="+")
    run = models.CharField(max_length=64)
    contract = models.ForeignKey(DeliveryContract, models.PROTECT, null=True, related_name="+")
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="+")
    minute = models.DateTimeField()
    served = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    limited = models.PositiveIntegerField(default=0)
    first_measured = models.PositiveIntegerField(default=0)
    first_late = models.PositiveIntegerField(default=0)
    first_token_ms = models.PositiveIntegerField(null=True)
    token_measured = models.PositiveIntegerField(default=0)
    token_late = models.PositiveIntegerField(default=0)
    token_ms = models.PositiveIntegerField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["deployment", "minute", "meter", "run", "contract"], name="service_minute_once",
                nulls_distinct=False,
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["contract", "minute"], name="service_minute_of_contract")]

    def __str__(self) -> str:
        return f"{self.contract_id} at {self.minute}"


class Probe(models.Model):
    """A request of the exchange's own to a deployment, and how it was answered."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="+")
    contract = models.ForeignKey(
        DeliveryContract, models.PROTECT, null=True, related_name="+", help_text="Whose access token it bore."
    )
    at = models.DateTimeField()
    ok = models.BooleanField()
    reason = models.CharField(max_length=60, blank=True, help_text="Why it failed.")
    first_token_ms = models.PositiveIntegerField(null=True)
    token_ms = models.PositiveIntegerField(null=True)
    output_tokens = models.PositiveIntegerField(default=0)
    prompt = models.PositiveSmallIntegerField(help_text="Which of the fixed prompts.")
    answer = models.TextField(blank=True)
    alike_thousandths = models.PositiveSmallIntegerField(
        null=True, help_text="How like the reference the answer is; None without a reference."
    )

    class Meta:
        indexes: ClassVar = [models.Index(fields=["deployment", "-at"], name="probe_of_deployment")]

    def __str__(self) -> str:
        return f"{self.deployment_id} at {self.at}"


class ProbePayment(models.Model):
    """
    What the default account has paid a contract's provider for the exchange's own requests, the whole at each revision.

    `work_micro_st` is at most what so many requests can have taken; `price_nano` the mean of what the provider sold at.
    """

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="+")
    revision = models.PositiveIntegerField()
    work_micro_st = models.BigIntegerField()
    price_nano = models.BigIntegerField()
    amount_micro = models.BigIntegerField()
    paid_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract", "revision"], name="probe_payment_once"),
            models.CheckConstraint(
                name="probe_payment_not_negative", condition=Q(work_micro_st__gte=0, amount_micro__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"contract {self.contract_id} revision {self.revision}"


class ServiceReview(models.Model):
    """A market's evidence was looked at, once, after its window."""

    market = models.OneToOneField(Market, models.PROTECT, primary_key=True, related_name="+")
    reviewed_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.market_id)


class ServiceFinding(models.Model):
    """
    What the evidence shows of a contract at a deployment: minutes that were not delivered, and hours that were late.

    `minutes` are [{"minute", "gateway", "guard", "probe"}], each side failed (true), not (false) or without a say
    (null); `late_hours` likewise with "work_micro_st", what was used in them. Undelivered tokens are claimed for the
    buyer; its ruling and the finding's are made together.
    """

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="findings")
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="+")
    minutes = models.JSONField()
    quantity_tokens = models.BigIntegerField()
    late_hours = models.JSONField()
    late_work_micro_st = models.BigIntegerField()
    found_at = models.DateTimeField()
    decided_from = models.DateTimeField(help_text="When it stands, unless somebody objects before.")
    claim = models.OneToOneField(Claim, models.PROTECT, null=True, related_name="finding")

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract", "deployment"], name="service_finding_once"),
            models.CheckConstraint(
                name="service_finding_of_something",
                condition=Q(quantity_tokens__gte=0, late_work_micro_st__gte=0)
                & (Q(quantity_tokens__gt=0) | Q(late_work_micro_st__gt=0)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contract_id} at {self.deployment_id}"


class FindingObjection(models.Model):
    """A side disputes a finding: then the operator decides it."""

    finding = models.ForeignKey(ServiceFinding, models.PROTECT, related_name="objections")
    by = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    note = models.CharField(max_length=500)
    made_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["finding", "by"], name="objection_once"),
        ]

    def __str__(self) -> str:
        return f"{self.finding_id}: {self.note}"


class FindingRuling(models.Model):
    """What became of a finding, once."""

    class Verdict(models.TextChoices):
        UPHELD = "upheld", _("Upheld")
        REJECTED = "rejected", _("Rejected")

    finding = models.OneToOneField(ServiceFinding, models.PROTECT, primary_key=True, related_name="ruling")
    verdict = models.CharField(max_length=10, choices=Verdict)
    by = models.ForeignKey(Organization, models.PROTECT, null=True, related_name="+", help_text="None: unopposed.")
    note = models.CharField(max_length=500, blank=True)
    ruled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.finding_id}: {self.verdict}"


class ServiceWarning(models.Model):
    """An organization was told early of a contract or deployment that needs a look, once for each cause."""

    class Kind(models.TextChoices):
        LITTLE_USED = "little_used", _("Half of the window is over and under a quarter is used.")
        GUARD_SILENT = "guard_silent", _("The guard reports no more, though its window is open.")
        BELOW_RATE = "below_rate", _("Requests within the rate fail.")
        CERTIFICATE_ENDS = "certificate_ends", _("The certificate ends soon; measure again.")

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    kind = models.CharField(max_length=20, choices=Kind)
    contract = models.ForeignKey(DeliveryContract, models.PROTECT, null=True, related_name="+")
    deployment = models.ForeignKey(Deployment, models.PROTECT, null=True, related_name="+")
    until = models.DateTimeField(help_text="When it is over by itself: the window's or the certificate's end.")
    warned_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "kind", "contract", "deployment", "until"], name="service_warning_once",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization_id}: {self.kind}"
