"""Who delivers what to whom, at which prices, from where; and what was not delivered."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.periods import Period
from exchange.models.markets import Market
from identity.models import Organization
from providers.models import Capacity, Deployment, Grade


class DeliveryContract(models.Model):
    """
    The duty of a provider to deliver to a buyer: `spot` in one market's window, or the standing `list` contract that
    takes usage outside any market, at list price and within the buyer's limit.
    """

    class Kind(models.TextChoices):
        SPOT = "spot", _("Spot")
        LIST = "list", _("List")

    kind = models.CharField(max_length=4, choices=Kind)
    market = models.ForeignKey(Market, models.PROTECT, null=True, related_name="contracts")
    grade = models.ForeignKey(Grade, models.PROTECT, related_name="contracts")
    buyer = models.ForeignKey(Organization, models.PROTECT, related_name="contracts_bought")
    provider = models.ForeignKey(Organization, models.PROTECT, related_name="contracts_sold")
    quantity_tokens = models.BigIntegerField()
    window_start = models.DateTimeField(null=True)
    window_end = models.DateTimeField(null=True)
    rate_tokens_per_minute = models.BigIntegerField(help_text="Twice the quantity over the window's minutes.")
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["market", "buyer", "provider"], condition=Q(kind="spot"), name="spot_contract_once"
            ),
            models.UniqueConstraint(
                fields=["grade", "buyer", "provider"], condition=Q(kind="list"), name="list_contract_once"
            ),
            models.CheckConstraint(
                name="contract_of_its_kind",
                condition=Q(
                    kind="spot", market__isnull=False, quantity_tokens__gt=0, window_start__isnull=False,
                    window_end__gt=F("window_start"),
                )
                | Q(kind="list", market__isnull=True, quantity_tokens=0, window_start__isnull=True),
            ),
            models.CheckConstraint(name="contract_between_two", condition=~Q(buyer=F("provider"))),
        ]
        indexes: ClassVar = [
            models.Index(fields=["grade", "buyer", "provider", "window_start"], name="contract_of_usage"),
        ]

    def __str__(self) -> str:
        return f"contract {self.pk}: {self.provider} → {self.buyer}"

    @property
    def window(self) -> Period | None:
        """The delivery window of a spot contract."""
        return Period(self.window_start, self.window_end) if self.window_start and self.window_end else None


class ContractLot(models.Model):
    """A quantity of a contract with what its buyer paid and what its provider sold at. Insert-only."""

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="lots")
    number = models.PositiveIntegerField()
    quantity_tokens = models.BigIntegerField()
    buyer_price_nano = models.BigIntegerField()
    seller_price_nano = models.BigIntegerField()

    class Meta:
        ordering: ClassVar = ["contract", "number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["contract", "number"], name="lot_once"),
            models.CheckConstraint(
                name="lot_positive", condition=Q(quantity_tokens__gt=0, buyer_price_nano__gt=0, seller_price_nano__gt=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contract_id}/{self.number}"


class Offer(models.Model):
    """
    What became of the wish to sell a published capacity: the sell order that offers it, or why there is none yet.

    A capacity published before its market's call waits here; opening the call offers it.
    """

    class State(models.TextChoices):
        WAITING = "waiting", _("Waits for the call")
        HELD_BACK = "held_back", _("Held back by the provider")
        OFFERED = "offered", _("Offered")
        FAILED = "failed", _("Could not be offered")
        WITHDRAWING = "withdrawing", _("Being withdrawn")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    capacity = models.OneToOneField(Capacity, models.PROTECT, primary_key=True, related_name="offer")
    market = models.ForeignKey(Market, models.PROTECT, null=True, related_name="offers")
    state = models.CharField(max_length=11, choices=State)
    order_id = models.UUIDField(null=True)
    reason = models.CharField(max_length=300, blank=True)
    rolls_over = models.BooleanField(default=False, help_text="What stays unsold is offered in the next call.")
    rolled_to = models.OneToOneField(
        Capacity, models.PROTECT, null=True, related_name="rolled_from", help_text="What its unsold rest became."
    )
    rolled_at = models.DateTimeField(null=True, help_text="When that was done, or found to be needless.")
    updated_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="offer_has_its_order", condition=~Q(state="offered") | Q(order_id__isnull=False)
            )
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["market"], condition=Q(state__in=["waiting", "withdrawing"]), name="offer_to_work_on"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.capacity_id}: {self.state}"


class ContractDeployment(models.Model):
    """Which deployment serves how much of a contract. A substitution ends one row and begins another."""

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="served_by")
    deployment = models.ForeignKey(Deployment, models.PROTECT, related_name="serves")
    capacity = models.ForeignKey(Capacity, models.PROTECT, null=True, related_name="serves")
    quantity_tokens = models.BigIntegerField()
    since = models.DateTimeField()
    until = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["contract", "deployment"], condition=Q(until__isnull=True), name="contract_deployment_once"
            ),
            models.CheckConstraint(name="contract_deployment_positive", condition=Q(quantity_tokens__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.contract_id} from {self.deployment}"


class Shortfall(models.Model):
    """
    Tokens of a contract that its provider did not make available, reported or found. Insert-only.

    `replaced_tokens` of them another provider delivers instead (see `Replacement`); for the rest the buyer gets its
    price back and `penalty_thousandths` of it on top.
    """

    class Cause(models.TextChoices):
        WITHDRAWN = "withdrawn", _("Withdrawn by the provider")
        CLAIM = "claim", _("Claimed by the buyer")

    contract = models.ForeignKey(DeliveryContract, models.PROTECT, related_name="shortfalls")
    cause = models.CharField(max_length=10, choices=Cause)
    quantity_tokens = models.BigIntegerField()
    replaced_tokens = models.BigIntegerField(default=0)
    penalty_thousandths = models.PositiveSmallIntegerField(default=200)
    reported_at = models.DateTimeField()
    begins_at = models.DateTimeField(null=True, help_text="From when on they are missing.")
    note = models.CharField(max_length=300, blank=True)
    source_key = models.CharField(max_length=120, unique=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="shortfall_positive", condition=Q(quantity_tokens__gt=0)),
            models.CheckConstraint(
                name="shortfall_replaced_within",
                condition=Q(replaced_tokens__gte=0, replaced_tokens__lte=F("quantity_tokens")),
            ),
            models.CheckConstraint(name="shortfall_penalty_is_a_share", condition=Q(penalty_thousandths__lte=1_000)),
        ]

    def __str__(self) -> str:
        return f"{self.contract_id}: {self.quantity_tokens} {self.cause}"

    @property
    def penalty_percent(self) -> str:
        """The penalty's share as percent."""
        return f"{self.penalty_thousandths / 10:g}"


class Replacement(models.Model):
    """
    A part of a contract's lot that another provider delivers instead, as a lot of another contract. Insert-only.

    The buyer pays its price as before. What the replacing provider's price is above the failing one's stands in
    `cost_micro` and is the failing one's to bear; below zero it went to the default account.
    """

    shortfall = models.ForeignKey(Shortfall, models.PROTECT, related_name="replacements")
    lot = models.ForeignKey(ContractLot, models.PROTECT, related_name="replaced_by")
    new_lot = models.OneToOneField(ContractLot, models.PROTECT, related_name="replaces")
    capacity = models.ForeignKey(Capacity, models.PROTECT, related_name="replacements")
    quantity_tokens = models.BigIntegerField()
    cost_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="replacement_positive", condition=Q(quantity_tokens__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.quantity_tokens} of lot {self.lot_id} by lot {self.new_lot_id}"


class BuyerExclusion(models.Model):
    """A provider that a buyer does not want to be served by; at most three, which the action sees to."""

    buyer = models.ForeignKey(Organization, models.PROTECT, related_name="exclusions")
    provider = models.ForeignKey(Organization, models.PROTECT, related_name="excluded_by")
    since = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["buyer", "provider"], name="exclusion_once"),
            models.CheckConstraint(name="exclusion_of_another", condition=~Q(buyer=F("provider"))),
        ]

    def __str__(self) -> str:
        return f"{self.buyer} without {self.provider}"


class Unplaced(models.Model):
    """
    A purchase and a sale that only each other were left for at gate closure, and that an exclusion kept apart.

    The buyer got back the lower of both prices, which is what the escrow holds for it at most. Insert-only.
    """

    market = models.ForeignKey(Market, models.PROTECT, related_name="unplaced")
    number = models.PositiveIntegerField()
    buyer = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    seller = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    quantity_tokens = models.BigIntegerField()
    buyer_price_nano = models.BigIntegerField()
    seller_price_nano = models.BigIntegerField()
    refund_micro = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "unplaced"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["market", "number"], name="unplaced_once"),
            models.CheckConstraint(
                name="unplaced_positive", condition=Q(quantity_tokens__gt=0, refund_micro__gt=0)
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["buyer", "-id"], name="unplaced_of_buyer"),
            models.Index(fields=["seller", "-id"], name="unplaced_of_seller"),
        ]

    def __str__(self) -> str:
        return f"{self.market_id}: {self.quantity_tokens}"


class SigningKey(models.Model):
    """
    An Ed25519 key that signs access tokens. The newest one signs; older ones stay published until their tokens end.
    """

    kid = models.CharField(max_length=32, unique=True)
    public_key = models.BinaryField(max_length=32)
    private_key = models.BinaryField(help_text="Encrypted with a key derived from SECRET_KEY.")
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.kid
