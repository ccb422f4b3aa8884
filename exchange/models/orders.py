"""What members ask of a market. A command is a fact: what became of it stands in journal, trades and order ends."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from exchange.models.markets import Market
from identity.models import Organization


class Command(models.Model):
    """
    An accepted command: an order, or a change to orders. Insert-only; its id is the order's id.

    `kind`, `side` and `flags` are the book's (`exchange.domain.orders`). Prices in nano-yuan and quantities in tokens,
    0 where there is none. `hold_micro` is the money held for it (a buy's limit value, a sell's bond) at
    `hold_price_nano`, and `covered_tokens` the part of a sell that its seller's position covered, for which no bond is
    held. Of a replacement, both say what it adds.
    """

    class Kind(models.IntegerChoices):
        LIMIT = 1, _("Limit")
        MARKET = 2, _("Market")
        STOP = 3, _("Stop")
        STOP_LIMIT = 4, _("Stop limit")
        CANCEL = 10, _("Cancel")
        REPLACE = 11, _("Replace")
        MASS_CANCEL = 12, _("Cancel all")

    class Side(models.IntegerChoices):
        NONE = -1, _("None")
        BUY = 0, _("Buy")
        SELL = 1, _("Sell")

    ORDER_KINDS = (Kind.LIMIT, Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT)

    id = models.UUIDField(primary_key=True)
    market = models.ForeignKey(Market, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="commands")
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="commands"
    )
    group_id = models.BigIntegerField(help_text="Orders of one control group never trade with each other.")
    queue_id = models.BigIntegerField(help_text="The queue row that carries it until it is drained.")
    kind = models.SmallIntegerField(choices=Kind)
    side = models.SmallIntegerField(choices=Side)
    flags = models.IntegerField()
    price_nano = models.BigIntegerField()
    stop_price_nano = models.BigIntegerField()
    quantity_tokens = models.BigIntegerField()
    display_tokens = models.BigIntegerField()
    min_quantity_tokens = models.BigIntegerField()
    target = models.UUIDField(null=True, help_text="The order that a cancel or replace is about.")
    expires_at = models.DateTimeField(null=True)
    hold_id = models.UUIDField(null=True, help_text="The transfer that holds; a request's orders share one a side.")
    hold_micro = models.BigIntegerField()
    hold_price_nano = models.BigIntegerField()
    covered_tokens = models.BigIntegerField()
    bond_thousandths = models.SmallIntegerField()
    capacity_id = models.BigIntegerField(null=True, help_text="The capacity that a sell order offers.")
    client_order_id = models.CharField(max_length=64)
    accepted_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="command_order_is_whole",
                condition=Q(kind__gte=10) | Q(side__in=[0, 1], quantity_tokens__gt=0, hold_price_nano__gt=0),
            ),
            models.CheckConstraint(
                name="command_change_has_target", condition=~Q(kind__in=[10, 11]) | Q(target__isnull=False)
            ),
            models.CheckConstraint(
                name="command_figures_not_negative",
                condition=Q(
                    price_nano__gte=0, stop_price_nano__gte=0, quantity_tokens__gte=0, hold_micro__gte=0,
                    covered_tokens__gte=0, covered_tokens__lte=F("quantity_tokens"),
                ),
            ),
            models.CheckConstraint(
                name="command_hold_has_its_transfer", condition=Q(hold_micro=0) | Q(hold_id__isnull=False)
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["organization", "id"], name="command_of_organization"),
            models.Index(fields=["capacity_id"], condition=Q(capacity_id__isnull=False), name="command_of_capacity"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.id}"


class CommandQueue(models.Model):
    """
    Accepted commands that a market's worker has not drained yet: one row per accepted request, deleted by the drain.

    `content` carries the commands packed as the worker reads them, so that draining ten thousand of them reads one row.
    It is a copy of the `Command` rows of the same transaction.
    """

    id = models.BigAutoField(primary_key=True)
    market = models.ForeignKey(Market, models.DO_NOTHING, db_constraint=False, related_name="queued")
    received_at = models.DateTimeField()
    content = models.BinaryField()

    class Meta:
        verbose_name_plural = "command queue"

    def __str__(self) -> str:
        return f"{self.id} for market {self.market_id}"
