"""Deployments, the capacity that they offer by window, list prices, and how well a provider delivered."""

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q
from django.utils.translation import gettext_lazy as _

from core.money import LOT_TOKENS
from core.periods import Period
from identity.models import Organization
from providers.domain.roofline import Roofline, roofline
from providers.models.catalogue import PRECISIONS, Accelerator, Grade


class Deployment(models.Model):
    """A provider's running model: it serves one grade at one address. What it runs on never changes in place."""

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        RETIRED = "retired", _("Retired")

    provider = models.ForeignKey(Organization, models.PROTECT, related_name="deployments")
    name = models.CharField(max_length=80)
    grade = models.ForeignKey(Grade, models.PROTECT, related_name="deployments")
    accelerator = models.ForeignKey(Accelerator, models.PROTECT, related_name="deployments")
    accelerator_count = models.PositiveIntegerField()
    engine = models.CharField(max_length=60, help_text="With its version, such as vLLM 0.11.")
    precision = models.CharField(max_length=10, choices=PRECISIONS)
    region = models.CharField(max_length=40)
    endpoint = models.CharField(max_length=500, help_text="Base address of its OpenAI-compatible API.")
    rated_tokens_per_minute = models.BigIntegerField(help_text="Standard tokens a minute, as the provider rates it.")
    certified_tokens_per_minute = models.BigIntegerField(null=True, help_text="As measured by a certificate.")
    certified_until = models.DateTimeField(null=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["provider", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "name"], name="deployment_name_once"),
            models.CheckConstraint(
                name="deployment_figures_positive",
                condition=Q(accelerator_count__gt=0, rated_tokens_per_minute__gt=0)
                & (Q(certified_tokens_per_minute__isnull=True) | Q(certified_tokens_per_minute__gt=0)),
            ),
            models.CheckConstraint(
                name="deployment_certificate_ends",
                condition=Q(certified_tokens_per_minute__isnull=True, certified_until__isnull=True)
                | Q(certified_tokens_per_minute__isnull=False, certified_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.grade})"

    def roofline(self) -> Roofline:
        """Return the most it could do, by the published numbers of its accelerators."""
        return roofline(
            self.grade.model_card.standard_card(),
            total_params=self.grade.model_card.total_params,
            hardware=self.accelerator.hardware(),
            count=self.accelerator_count,
            precision=self.precision,
        )


class Capacity(models.Model):
    """
    What one deployment offers in one window. Windows of a deployment never overlap, so nothing is offered twice.

    `quantity_tokens` is what was published; `withdrawn_tokens` of it were taken back before they were sold.
    """

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="capacities")
    grade = models.ForeignKey(Grade, models.PROTECT, related_name="capacities")
    provider = models.ForeignKey(Organization, models.PROTECT, related_name="capacities")
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    quantity_tokens = models.BigIntegerField()
    withdrawn_tokens = models.BigIntegerField(default=0)
    tokens_per_minute = models.BigIntegerField()
    reserve_price_nano = models.BigIntegerField()
    list_price_nano = models.BigIntegerField()
    wait = models.BooleanField(default=False, help_text="Not offered until the provider says so.")
    published_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, help_text="When all of it was taken back.")

    class Meta:
        ordering: ClassVar = ["-window_start", "-id"]
        verbose_name_plural = "capacities"
        constraints: ClassVar = [
            ExclusionConstraint(
                name="capacity_of_a_deployment_never_overlaps",
                expressions=[
                    ("deployment", RangeOperators.EQUAL),
                    (
                        Func("window_start", "window_end", function="tstzrange", output_field=DateTimeRangeField()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
                condition=Q(withdrawn_at__isnull=True),
            ),
            models.CheckConstraint(name="capacity_window_ends", condition=Q(window_end__gt=F("window_start"))),
            models.CheckConstraint(
                name="capacity_figures_positive",
                condition=Q(
                    quantity_tokens__gt=0,
                    quantity_tokens__exact=F("quantity_tokens") / LOT_TOKENS * LOT_TOKENS,
                    tokens_per_minute__gt=0,
                    reserve_price_nano__gt=0,
                    list_price_nano__gte=F("reserve_price_nano"),
                ),
            ),
            models.CheckConstraint(
                name="capacity_withdrawn_within",
                condition=Q(withdrawn_tokens__gte=0, withdrawn_tokens__lte=F("quantity_tokens"))
                & (Q(withdrawn_at__isnull=True) | Q(withdrawn_tokens=F("quantity_tokens"))),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["grade", "window_start"], name="capacity_by_grade_window")]

    def __str__(self) -> str:
        return f"{self.quantity_tokens:,} of {self.deployment_id} from {self.window_start:%Y-%m-%d %H:%M}"

    @property
    def window(self) -> Period:
        """When it is delivered."""
        return Period(self.window_start, self.window_end)

    @property
    def offered_tokens(self) -> int:
        """What is left of it to sell or sold: published less withdrawn."""
        return self.quantity_tokens - self.withdrawn_tokens


class ListPrice(models.Model):
    """A deployment's list price from a moment on; None ends it. Insert-only: what was in force stays known."""

    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="list_prices")
    price_nano = models.BigIntegerField(null=True)
    valid_from = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["deployment", "valid_from"], name="list_price_once_a_moment"),
            models.CheckConstraint(
                name="list_price_positive", condition=Q(price_nano__isnull=True) | Q(price_nano__gt=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.deployment_id}: {self.price_nano} from {self.valid_from:%Y-%m-%d %H:%M}"


class DeliveryRecord(models.Model):
    """
    How one provider delivered in one scope (a market), as a settlement found it: what was not made available, and of
    what came late the share of its price that went back. Insert-only: a later one is the next revision, and says the
    whole again.
    """

    provider = models.ForeignKey(Organization, models.PROTECT, related_name="delivery_records")
    scope = models.CharField(max_length=64)
    revision = models.PositiveIntegerField()
    contracts = models.PositiveIntegerField()
    contracted_tokens = models.BigIntegerField()
    undelivered_tokens = models.BigIntegerField()
    recorded_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "scope", "revision"], name="delivery_record_once"),
            models.CheckConstraint(
                name="delivery_record_within",
                condition=Q(undelivered_tokens__gte=0, contracted_tokens__gte=F("undelivered_tokens")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} in {self.scope} r{self.revision}"


class ProviderScore(models.Model):
    """
    How much of what a provider sold it made available. Recomputed from all its delivery records, never added to.

    Insert-only: each change is the next version, and the last one holds.
    """

    provider = models.ForeignKey(Organization, models.PROTECT, related_name="delivery_scores")
    version = models.PositiveIntegerField(default=1)
    contracts = models.PositiveIntegerField()
    contracted_tokens = models.BigIntegerField()
    undelivered_tokens = models.BigIntegerField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "version"], name="provider_score_version_once"),
            models.CheckConstraint(
                name="provider_score_within",
                condition=Q(undelivered_tokens__gte=0, contracted_tokens__gte=F("undelivered_tokens")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.delivered_thousandths / 10}%"

    @property
    def delivered_thousandths(self) -> int:
        """Delivered share in thousandths, rounded down: 1,000 only for a provider that never failed."""
        if self.contracted_tokens == 0:
            return 1_000
        return (self.contracted_tokens - self.undelivered_tokens) * 1_000 // self.contracted_tokens
