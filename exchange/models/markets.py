"""A market is a grade for one delivery window; a position is what a member holds in it."""

from typing import ClassVar

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.db import models
from django.db.models import F, Func, Q
from django.utils.translation import gettext_lazy as _

from core.periods import Period
from identity.models import Organization
from providers.models import Grade


class TsTzRange(Func):
    """Postgres `tstzrange(start, end, '[)')`."""

    function = "TSTZRANGE"
    output_field = DateTimeRangeField()


class Market(models.Model):
    """
    A grade × one delivery window.

    Its phase moves forwards only, except `continuous ⇄ call` around a volatility auction; a halt is a flag beside it.
    `last_sequence` numbers the journal and `last_trade` the trades: both move under the market's lock alone.
    """

    class Phase(models.TextChoices):
        SCHEDULED = "scheduled", _("Scheduled")
        CALL = "call", _("Call")
        CONTINUOUS = "continuous", _("Continuous")
        CLOSED = "closed", _("Closed")
        DELIVERING = "delivering", _("Delivering")
        SETTLED = "settled", _("Settled")

    class Mode(models.TextChoices):
        AUCTION = "auction", _("Sealed-bid auction")
        EXCHANGE = "exchange", _("Continuous book")

    class Margin(models.TextChoices):
        TIME = "time", _("By time")
        PRO_RATA = "pro_rata", _("Pro rata")

    grade = models.ForeignKey(Grade, models.PROTECT, related_name="markets")
    window_kind = models.CharField(max_length=20, help_text="Such as night, midday, evening, day_off, or custom.")
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    mode = models.CharField(max_length=10, choices=Mode)
    margin = models.CharField(max_length=10, choices=Margin, default=Margin.TIME)
    phase = models.CharField(max_length=12, choices=Phase, default=Phase.SCHEDULED)
    halted = models.BooleanField(default=False)
    call_opens_at = models.DateTimeField()
    call_closes_at = models.DateTimeField()
    gate_closes_at = models.DateTimeField()
    call = models.ForeignKey(
        "exchange.AuctionCall", models.PROTECT, null=True, related_name="markets", help_text="The present call's end."
    )
    tick_nano = models.BigIntegerField()
    min_order_tokens = models.BigIntegerField()
    cap_price_nano = models.BigIntegerField(null=True, help_text="Fixed before the call: no higher limit is accepted.")
    reference_price_nano = models.BigIntegerField(null=True, help_text="Fixed when the call opens.")
    random_end_seconds = models.PositiveIntegerField(default=0, help_text="How much longer a call may run; 0: not.")
    volatility_call_seconds = models.PositiveIntegerField(
        default=120, help_text="How long a call lasts that a collar opened, and an extension."
    )
    static_collar_thousandths = models.PositiveIntegerField(
        default=0, help_text="How far from the reference price trades may be; 0: no collar."
    )
    dynamic_collar_thousandths = models.PositiveIntegerField(
        default=0, help_text="How far from the last trade before the order trades may be; 0: no collar."
    )
    last_sequence = models.BigIntegerField(default=0)
    last_trade = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()
    gate_closed_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True, help_text="Preliminary: claims may still be ruled on.")
    finalized_at = models.DateTimeField(null=True, help_text="When its settlement became final.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="market_times_in_order",
                condition=Q(call_opens_at__lte=F("call_closes_at"))
                & Q(call_closes_at__lte=F("gate_closes_at"))
                & Q(gate_closes_at__lte=F("window_start"))
                & Q(window_start__lt=F("window_end")),
            ),
            models.CheckConstraint(
                name="market_cap_fixed_before_call",
                condition=~Q(phase__in=["call", "continuous"]) | Q(cap_price_nano__isnull=False),
            ),
            models.CheckConstraint(
                name="market_prices_positive",
                condition=Q(tick_nano__gt=0)
                & (Q(cap_price_nano__isnull=True) | Q(cap_price_nano__gt=0))
                & (Q(reference_price_nano__isnull=True) | Q(reference_price_nano__gt=0)),
            ),
            models.CheckConstraint(
                name="market_phase_known",
                condition=Q(phase__in=["scheduled", "call", "continuous", "closed", "delivering", "settled"]),
            ),
            models.CheckConstraint(
                name="market_gate_before_delivery",
                condition=~Q(phase__in=["delivering", "settled"]) | Q(gate_closed_at__isnull=False),
            ),
            models.CheckConstraint(
                name="market_settled_has_its_time",
                condition=Q(phase="settled", settled_at__isnull=False)
                | (~Q(phase="settled") & Q(settled_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="market_final_after_settlement",
                condition=Q(finalized_at__isnull=True) | Q(settled_at__isnull=False, finalized_at__gte=F("settled_at")),
            ),
            ExclusionConstraint(
                name="market_windows_of_a_grade_never_overlap",
                expressions=[
                    ("grade", RangeOperators.EQUAL),
                    (
                        TsTzRange("window_start", "window_end", RangeBoundary()),
                        RangeOperators.OVERLAPS,
                    ),
                ],
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["call_opens_at"], condition=Q(phase="scheduled"), name="market_to_open"),
            models.Index(fields=["phase", "window_start"], name="market_phase_window"),
            models.Index(
                fields=["settled_at"],
                condition=Q(phase="settled", finalized_at__isnull=True),
                name="market_to_finalize",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.grade} {self.window_start:%Y-%m-%d %H:%M}–{self.window_end:%H:%M}"

    @property
    def window(self) -> Period:
        """The delivery window."""
        return Period(self.window_start, self.window_end)

    @property
    def scope(self) -> str:
        """How the ledger names this market."""
        return f"market:{self.pk}"


class MarketPosition(models.Model):
    """
    What an organization may sell and has traded in a market.

    `position_tokens` is bought minus sold; `open_sell_tokens` are in open sell orders. The constraint is the promise
    that the same capacity is never sold twice.
    """

    market = models.ForeignKey(Market, models.PROTECT, related_name="positions")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="positions")
    capacity_tokens = models.BigIntegerField(default=0)
    position_tokens = models.BigIntegerField(default=0)
    open_sell_tokens = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["market", "organization"], name="position_once"),
            models.CheckConstraint(
                name="position_never_oversold",
                condition=Q(capacity_tokens__gte=0)
                & Q(open_sell_tokens__gte=0)
                & Q(open_sell_tokens__lte=F("capacity_tokens") + F("position_tokens")),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "market"], name="position_of_organization")]

    def __str__(self) -> str:
        return f"{self.organization}: {self.position_tokens} in market {self.market_id}"

    @property
    def sellable_tokens(self) -> int:
        """What may still be offered."""
        return self.capacity_tokens + self.position_tokens - self.open_sell_tokens
