"""Block orders over the markets of one call, and what became of them."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from exchange.models.auctions import AuctionCall
from exchange.models.markets import Market
from identity.models import Organization


class Block(models.Model):
    """
    An order that its call accepts whole, or at least `least_tokens` of it, or not at all. Insert-only.

    It has one limit for all its tokens on average, and a leg in each of its markets: an order there, which holds money
    or capacity for the worst that the leg may cost. At most one block of an exclusive group is accepted; a linked one
    only with its parent.
    """

    class Side(models.IntegerChoices):
        BUY = 0
        SELL = 1

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="blocks")
    call = models.ForeignKey(AuctionCall, models.PROTECT, related_name="blocks")
    side = models.SmallIntegerField(choices=Side)
    limit_price_nano = models.BigIntegerField()
    quantity_tokens = models.BigIntegerField()
    least_tokens = models.BigIntegerField()
    exclusive_group = models.UUIDField(null=True)
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="linked")
    tokens_per_minute = models.BigIntegerField(null=True, help_text="Of a reservation.")
    client_block_id = models.CharField(max_length=64, blank=True)
    accepted_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="block_is_sound",
                condition=Q(side__in=[0, 1], limit_price_nano__gt=0, least_tokens__gt=0)
                & Q(least_tokens__lte=F("quantity_tokens")),
            ),
            models.CheckConstraint(name="block_not_its_own_parent", condition=~Q(parent=F("id"))),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "id"], name="block_of_organization")]

    def __str__(self) -> str:
        return f"block {self.id}"


class BlockLeg(models.Model):
    """The part of a block in one market: an order that only the call's clearing fills. Insert-only."""

    block = models.ForeignKey(Block, models.PROTECT, related_name="legs")
    market = models.ForeignKey(Market, models.PROTECT, related_name="block_legs")
    order_id = models.UUIDField(unique=True)
    quantity_tokens = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["block", "market"], name="block_leg_once"),
            models.CheckConstraint(name="block_leg_positive", condition=Q(quantity_tokens__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.block_id} in market {self.market_id}"


class BlockResult(models.Model):
    """
    What the clearing of its call did to a block. Insert-only.

    `lost_surplus_micro` is what a block that was in the money at the prices would have gained by what it was not given.
    """

    class Outcome(models.TextChoices):
        ACCEPTED = "accepted"
        REJECTED = "rejected"
        REJECTED_IN_THE_MONEY = "rejected_in_the_money"
        WITHDRAWN = "withdrawn"
        SELF_TRADE = "self_trade"

    block = models.OneToOneField(Block, models.PROTECT, primary_key=True, related_name="result")
    outcome = models.CharField(max_length=24, choices=Outcome)
    accepted_tokens = models.BigIntegerField()
    cost_micro = models.BigIntegerField(help_text="What the accepted tokens cost or bring, at each market's price.")
    lost_surplus_micro = models.BigIntegerField()
    cleared_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="block_result_is_whole",
                condition=Q(outcome="accepted", accepted_tokens__gt=0)
                | (~Q(outcome="accepted") & Q(accepted_tokens=0, cost_micro=0)),
            ),
            models.CheckConstraint(name="block_lost_surplus", condition=Q(lost_surplus_micro__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.block_id}: {self.outcome}"
