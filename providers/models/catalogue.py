"""Accelerators, model cards and grades: what can be served, and what of it is interchangeable."""

from typing import ClassVar

from ciyuan.standard_token import AttentionGroup
from ciyuan.standard_token import ModelCard as StandardCard
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.money import LOT_TOKENS
from core.trading_calendar import WindowSchedule
from providers.domain.roofline import BITS, Hardware

PRECISIONS = [(name, name.upper()) for name in BITS]


class Accelerator(models.Model):
    """
    A chip or card as its maker publishes it, or as it is reported where the maker is silent.

    Figures are per accelerator, dense (no sparsity). None means that no figure was found. A corrected figure replaces
    the old one with its source and date: nothing that was sold depends on it.
    """

    slug = models.SlugField(max_length=60, unique=True)
    vendor = models.CharField(max_length=60)
    vendor_zh = models.CharField(max_length=60, blank=True)
    name = models.CharField(max_length=80)
    memory_bytes = models.BigIntegerField(null=True, help_text="A vendor's GB is 2³⁰ bytes.")
    memory_kind = models.CharField(max_length=20, blank=True)
    bandwidth_bytes_per_second = models.BigIntegerField(null=True)
    gflops = models.JSONField(help_text="Dense operations per second ÷ 10⁹, by arithmetic (bf16, fp8, int8 …).")
    source = models.CharField(max_length=300)
    as_of = models.DateField(help_text="When the figures were published or reported.")
    unverified = ArrayField(
        models.CharField(max_length=40), default=list, blank=True, help_text="Fields reported by others than the maker."
    )
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering: ClassVar = ["vendor", "name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="accelerator_figures_positive",
                condition=(Q(memory_bytes__isnull=True) | Q(memory_bytes__gt=0))
                & (Q(bandwidth_bytes_per_second__isnull=True) | Q(bandwidth_bytes_per_second__gt=0)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vendor} {self.name}"

    def hardware(self) -> Hardware:
        """Return the numbers that bound what it can do."""
        return Hardware(
            gflops=self.gflops,
            memory_bytes=self.memory_bytes,
            bandwidth_bytes_per_second=self.bandwidth_bytes_per_second,
        )


class ModelCard(models.Model):
    """A model's published weights, with the numbers that its standard tokens follow from. Frozen once stored."""

    slug = models.CharField(max_length=80, unique=True)
    name = models.CharField(max_length=120)
    standard_version = models.CharField(max_length=20)
    active_params = models.BigIntegerField()
    active_weight_bytes = models.BigIntegerField()
    attention = models.JSONField(help_text="Groups of layers: layers, width, kv_bytes, span.")
    total_params = models.BigIntegerField(help_text="All weights, which an accelerator's memory must hold.")
    weights_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the published weights, where known.")
    source = models.CharField(max_length=300)
    as_of = models.DateField()

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="model_card_figures_positive",
                condition=Q(active_params__gt=0, active_weight_bytes__gt=0, total_params__gte=F("active_params")),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def standard_card(self) -> StandardCard:
        """Return the card as the published formula takes it."""
        return StandardCard(
            active_params=self.active_params,
            active_weight_bytes=self.active_weight_bytes,
            attention=tuple(AttentionGroup(**group) for group in self.attention),
            name=self.slug,
        )


class Grade(models.Model):
    """
    What is interchangeable, and on which terms it trades.

    The terms (model, precisions, service class, region, longest context and output, standard version, take-or-pay,
    cached share, grace, dispute days, tick, minimum order, service promise) are frozen once published: a trigger
    refuses to change them, and other terms are another grade. How it is run (mode, windows, times, reference price,
    status) may change.
    """

    class ServiceClass(models.TextChoices):
        REALTIME = "realtime", _("Real-time")
        BATCH = "batch", _("Batch")

    class Mode(models.TextChoices):
        AUCTION = "auction", _("Sealed-bid auctions, no resale")
        EXCHANGE = "exchange", _("Continuous book and resale")

    class MarginRule(models.TextChoices):
        TIME = "time", _("Price, then time")
        PRO_RATA = "pro_rata", _("Pro rata at the margin")

    class Status(models.TextChoices):
        ACTIVE = "active", _("Active")
        RETIRED = "retired", _("Retired")

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    name_zh = models.CharField(max_length=120, blank=True)
    # terms
    model_card = models.ForeignKey(ModelCard, models.PROTECT, related_name="grades")
    precisions = ArrayField(models.CharField(max_length=10, choices=PRECISIONS), help_text="What sellers may serve in.")
    service_class = models.CharField(max_length=10, choices=ServiceClass)
    region = models.CharField(max_length=40)
    data_terms = models.CharField(max_length=200, blank=True, help_text="What sellers promise about prompts.")
    standard_version = models.CharField(max_length=20)
    max_context_tokens = models.IntegerField()
    max_output_tokens = models.IntegerField()
    take_or_pay_thousandths = models.PositiveSmallIntegerField(default=1_000)
    cached_share_thousandths = models.PositiveSmallIntegerField(default=100)
    grace_seconds = models.IntegerField(default=72 * 3_600)
    dispute_days = models.PositiveSmallIntegerField(
        default=7, help_text="From settlement until it is final: claims are ruled on meanwhile."
    )
    tick_nano = models.BigIntegerField()
    min_order_tokens = models.BigIntegerField(default=LOT_TOKENS)
    first_token_p95_ms = models.PositiveIntegerField(
        null=True,
        help_text="Promised time to the first token, kept by 95 of 100 requests of an hour. None: no promise.",
    )
    per_token_p95_ms = models.PositiveIntegerField(null=True, help_text="Likewise per further token.")
    error_share_thousandths = models.PositiveSmallIntegerField(
        null=True, help_text="Share of a minute's requests that may fail; beyond it the minute counts as failed."
    )
    late_reduction_thousandths = models.PositiveSmallIntegerField(
        default=100, help_text="By how much an hour's used tokens are cheaper in which a promised time was missed."
    )
    # how it is run
    mode = models.CharField(max_length=10, choices=Mode, default=Mode.AUCTION)
    margin_rule = models.CharField(max_length=10, choices=MarginRule, default=MarginRule.TIME)
    window_schedule = models.JSONField()
    call_opens_before_seconds = models.IntegerField(default=24 * 3_600, help_text="Before the window starts.")
    call_closes_before_seconds = models.IntegerField(default=3_600)
    gate_closes_before_seconds = models.IntegerField(default=900)
    reference_price_nano = models.BigIntegerField(null=True, blank=True)
    random_end_seconds = models.PositiveIntegerField(
        default=0, help_text="By how much at most a call runs on beyond its closing, by a seed nobody knows before."
    )
    volatility_call_seconds = models.PositiveIntegerField(
        default=120, help_text="How long a call lasts that a collar opened, and each extension of a call."
    )
    static_collar_thousandths = models.PositiveIntegerField(
        default=0, help_text="Around the reference price; beyond it a call is extended, trading interrupted. 0: none."
    )
    dynamic_collar_thousandths = models.PositiveIntegerField(
        default=0, help_text="Around the last trade before an order, likewise. 0: none."
    )
    meter_tolerance_thousandths = models.PositiveSmallIntegerField(
        default=20, help_text="How far apart the meters of an hour may be before the difference is held back."
    )
    signed_usage = models.BooleanField(
        default=False, help_text="Whether its meters must sign what they send with the key that they registered."
    )
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["slug"]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="grade_shares_are_shares",
                condition=Q(take_or_pay_thousandths__lte=1_000, cached_share_thousandths__lte=1_000),
            ),
            models.CheckConstraint(
                name="grade_meter_tolerance_is_a_share", condition=Q(meter_tolerance_thousandths__lte=1_000)
            ),
            models.CheckConstraint(
                name="grade_limits_positive",
                condition=Q(
                    max_context_tokens__gt=0,
                    max_output_tokens__gt=0,
                    max_output_tokens__lte=F("max_context_tokens"),
                    grace_seconds__gte=0,
                    tick_nano__gt=0,
                ),
            ),
            models.CheckConstraint(
                name="grade_min_order_is_lots",
                condition=Q(
                    min_order_tokens__gt=0,
                    min_order_tokens__exact=F("min_order_tokens") / LOT_TOKENS * LOT_TOKENS,
                ),
            ),
            models.CheckConstraint(
                name="grade_times_in_order",
                condition=Q(
                    gate_closes_before_seconds__gte=0,
                    call_closes_before_seconds__gte=F("gate_closes_before_seconds"),
                    call_opens_before_seconds__gt=F("call_closes_before_seconds"),
                ),
            ),
            models.CheckConstraint(
                name="grade_reference_price_positive",
                condition=Q(reference_price_nano__isnull=True) | Q(reference_price_nano__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def schedule(self) -> WindowSchedule:
        """Return which parts of a day are delivery windows."""
        return WindowSchedule.from_json(self.window_schedule)

    def serves_region(self, region: str) -> bool:
        """Whether a deployment there may serve this grade: the same region or a part of it (cn ⊇ cn-north)."""
        return region == self.region or region.startswith(f"{self.region}-")
