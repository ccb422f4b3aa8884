"""Budgets, what of them is reserved and used in each of their periods, and the authorizations that reserve it."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from exchange.models import DeliveryContract
from identity.models import Organization


class Budget(models.Model):
    """
    A limit on what an organization uses: as a whole, by one key, or by one tag; per day or month in Shanghai, or per
    contract. `limit` is in micro-standard-tokens or micro-yuan. A hard one refuses authorizations beyond it.
    """

    class Subject(models.TextChoices):
        ORGANIZATION = "organization", _("Organization")
        KEY = "key", _("Key")
        TAG = "tag", _("Tag")

    class PeriodKind(models.TextChoices):
        DAY = "day", _("Day")
        MONTH = "month", _("Month")
        CONTRACT = "contract", _("Contract")

    class Unit(models.TextChoices):
        TOKENS = "tokens", _("Standard tokens")
        YUAN = "yuan", _("Yuan")

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="budgets")
    subject = models.CharField(max_length=12, choices=Subject)
    tag = models.CharField(max_length=256, blank=True, help_text="Of a key's budget “key”; of a tag's its name.")
    value = models.CharField(max_length=256, blank=True)
    period = models.CharField(max_length=8, choices=PeriodKind)
    unit = models.CharField(max_length=6, choices=Unit)
    limit = models.BigIntegerField(help_text="Micro-standard-tokens or micro-yuan.")
    hard = models.BooleanField(default=False)
    alert_thousandths = ArrayField(models.PositiveSmallIntegerField(), default=list)
    created_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "subject", "tag", "value", "period", "unit"],
                condition=Q(closed_at__isnull=True), name="budget_once",
            ),
            models.CheckConstraint(name="budget_limit_not_negative", condition=Q(limit__gte=0)),
            models.CheckConstraint(
                name="budget_names_its_subject",
                condition=Q(subject="organization", tag="", value="") | (Q(subject="key", tag="key") & ~Q(value=""))
                | (Q(subject="tag") & ~Q(tag="")),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"budget {self.pk}"


class BudgetWindow(models.Model):
    """
    One period of a budget. All amounts in the budget's unit.

    `held` is reserved by open authorizations, `settled` what settled ones used, `overrun` what of that exceeded its
    reservation, `metered` what the meters say was used. What counts is the larger of settled and metered, and the held.
    """

    budget = models.ForeignKey(Budget, models.PROTECT, related_name="windows")
    start = models.DateTimeField()
    contract_id = models.BigIntegerField(default=0)
    cap = models.BigIntegerField(help_text="The highest limit under which anything was reserved in it.")
    hard = models.BooleanField()
    held = models.BigIntegerField(default=0)
    settled = models.BigIntegerField(default=0)
    overrun = models.BigIntegerField(default=0)
    metered = models.BigIntegerField(default=0)
    metered_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["budget", "start", "contract_id"], name="budget_window_once"),
            models.CheckConstraint(
                name="budget_window_not_negative",
                condition=Q(held__gte=0, settled__gte=0, overrun__gte=0, overrun__lte=F("settled"), metered__gte=0),
            ),
            models.CheckConstraint(
                name="budget_window_never_overspent",
                condition=Q(hard=False) | Q(held__lte=F("cap") - F("settled") + F("overrun")),
            ),
        ]

    def __str__(self) -> str:
        return f"budget {self.budget_id} from {self.start:%Y-%m-%d}"

    @property
    def used(self) -> int:
        """What was used, by authorizations or by the meters, whichever says more."""
        return max(self.settled, self.metered)


class Authorization(models.Model):
    """A gateway's permission to use so much before a time; reserved in every budget that it falls under."""

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        SETTLED = "settled", _("Settled")
        EXPIRED = "expired", _("Expired")

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    contract = models.ForeignKey(DeliveryContract, models.PROTECT, null=True, related_name="+")
    key = models.CharField(max_length=256)
    tags = models.JSONField()
    quantity_micro_st = models.BigIntegerField()
    price_nano = models.BigIntegerField(null=True)
    state = models.CharField(max_length=7, choices=State, default=State.OPEN)
    used_micro_st = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="authorization_of_its_state",
                condition=Q(state="open", used_micro_st__isnull=True, closed_at__isnull=True)
                | Q(state="settled", used_micro_st__gte=0, closed_at__isnull=False)
                | Q(state="expired", used_micro_st__isnull=True, closed_at__isnull=False),
            ),
            models.CheckConstraint(name="authorization_of_something", condition=Q(quantity_micro_st__gt=0)),
        ]
        indexes: ClassVar = [
            models.Index(fields=["expires_at"], condition=Q(state="open"), name="authorization_to_expire"),
            models.Index(fields=["organization", "-id"], name="authorization_of_buyer"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.state}"


class AuthorizationHold(models.Model):
    """What an authorization reserved in one window, in the budget's unit."""

    authorization = models.ForeignKey(Authorization, models.PROTECT, related_name="holds")
    window = models.ForeignKey(BudgetWindow, models.PROTECT, related_name="holds")
    amount = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["authorization", "window"], name="authorization_hold_once"),
        ]

    def __str__(self) -> str:
        return f"{self.authorization_id} {self.amount}"


class BudgetAlert(models.Model):
    """A share of a budget was reached in one of its periods: said once. Insert-only."""

    window = models.ForeignKey(BudgetWindow, models.PROTECT, related_name="alerts")
    share_thousandths = models.PositiveSmallIntegerField()
    used = models.BigIntegerField(help_text="Used and held when it was noticed, in the budget's unit.")
    limit = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["window", "share_thousandths"], name="budget_alert_once"),
        ]

    def __str__(self) -> str:
        return f"{self.window_id} at {self.share_thousandths}‰"
