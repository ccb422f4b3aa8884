"""
What happened in a market, in order. Insert-only; ids are `(market << 32) | number`, so a market's rows lie together.
"""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchange.domain.numbering import market_of, number_of
from exchange.models.markets import Market
from exchange.models.orders import Command
from identity.models import Organization


class JournalEntry(models.Model):
    """
    One input to a market's book: a command as it was taken up, or an entry of the system.

    Replaying the entries in order gives the same book, trades and ends of orders, and nothing else is needed.
    Some have a `state_hash`, which a replay compares.
    """

    class Kind(models.IntegerChoices):
        LIMIT = 1, _("Limit")
        MARKET = 2, _("Market")
        STOP = 3, _("Stop")
        STOP_LIMIT = 4, _("Stop limit")
        CANCEL = 10, _("Cancel")
        REPLACE = 11, _("Replace")
        MASS_CANCEL = 12, _("Cancel all")
        LEASE_EXPIRED = 13, _("Lease expired")
        EXPIRE = 20, _("Expiry")
        PHASE = 21, _("Phase")
        UNCROSS = 22, _("Uncross")
        HALT = 23, _("Halt")
        RESUME = 24, _("Resume")
        REFERENCE = 25, _("Reference price")
        EXTEND = 26, _("Extended call")
        ANNUL = 27, _("Annulled auction")

    id = models.BigIntegerField(primary_key=True)
    kind = models.SmallIntegerField(choices=Kind)
    command = models.ForeignKey(Command, models.DO_NOTHING, null=True, db_constraint=False, db_index=False)
    occurred_at = models.DateTimeField()
    outcome = models.SmallIntegerField(help_text="0, or the book's reason why the command was refused.")
    content = models.JSONField(null=True, help_text="The fields of a system entry that are not zero.")
    state_hash = models.BinaryField(max_length=16, null=True)

    class Meta:
        verbose_name_plural = "journal entries"

    def __str__(self) -> str:
        return f"{self.market_id}/{self.sequence} {self.kind}"

    @property
    def market_id(self) -> int:
        """The market it belongs to."""
        return market_of(self.id)

    @property
    def sequence(self) -> int:
        """Its number within the market, from 1."""
        return number_of(self.id)


class BookSnapshot(models.Model):
    """A market's book after a journal entry, so that catching up need not begin at the beginning."""

    market = models.ForeignKey(Market, models.PROTECT, related_name="snapshots")
    sequence = models.BigIntegerField()
    content = models.BinaryField()
    state_hash = models.BinaryField(max_length=16)
    taken_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["market", "sequence"], name="snapshot_once")]

    def __str__(self) -> str:
        return f"{self.market_id}/{self.sequence}"


class Trade(models.Model):
    """
    A buy and a sell that met: the stored fact.

    There are no B-tree indexes but the key, because those would cost as much as the rows: a market's trades lie
    together, and within them block-range Bloom filters find those of an order or a member.
    """

    class Aggressor(models.IntegerChoices):
        BOTH = 0, _("Both")
        BUYER = 1, _("Buyer")
        SELLER = 2, _("Seller")
        ANNULMENT = 3, _("Annulment: a trade back")

    id = models.BigIntegerField(primary_key=True)
    sequence = models.BigIntegerField(help_text="The journal entry that caused it.")
    buyer = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="purchases"
    )
    seller = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="sales"
    )
    buy_order = models.ForeignKey(
        Command, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="buy_trades"
    )
    sell_order = models.ForeignKey(
        Command, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="sell_trades"
    )
    quantity_tokens = models.BigIntegerField()
    price_nano = models.BigIntegerField()
    bond_micro = models.BigIntegerField(help_text="What the seller's bond took for it.")
    aggressor = models.SmallIntegerField(choices=Aggressor, help_text="Who took what was on offer; both in an auction.")
    occurred_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="trade_positive", condition=Q(quantity_tokens__gt=0, price_nano__gt=0, bond_micro__gte=0)
            ),
        ]
        indexes: ClassVar = [
            # A filter per column and range of 32 pages: more, and its entry would not fit an index page.
            BrinIndex(
                fields=["buyer", "seller"],
                opclasses=["int8_bloom_ops", "int8_bloom_ops"],
                autosummarize=True,
                pages_per_range=32,
                name="trade_members",
            ),
            BrinIndex(
                fields=["buy_order", "sell_order"],
                opclasses=["uuid_bloom_ops", "uuid_bloom_ops"],
                autosummarize=True,
                pages_per_range=32,
                name="trade_orders",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.market_id}/{self.number}: {self.quantity_tokens} at {self.price_nano}"

    @property
    def market_id(self) -> int:
        """The market it was made in."""
        return market_of(self.id)

    @property
    def number(self) -> int:
        """Its number within the market, from 1."""
        return number_of(self.id)


class OrderEvent(models.Model):
    """
    What happened to an order besides trading. An order's state is a fold: its command, its trades, and these.

    `quantity_tokens` is what the event took out of the order: what was left of it when it ended, the part that
    self-trade prevention removed; of a replacement it is the new total, with the new limit in `price_nano`.
    """

    class Kind(models.IntegerChoices):
        REFUSED = 2, _("Refused")
        CANCELLED = 4, _("Cancelled")
        EXPIRED = 5, _("Expired")
        REDUCED = 6, _("Reduced")
        REPLACED = 7, _("Replaced")
        TRIGGERED = 8, _("Triggered")

    ENDS = (Kind.REFUSED, Kind.CANCELLED, Kind.EXPIRED)

    pk = models.CompositePrimaryKey("order_id", "entry_id", "kind")
    order = models.ForeignKey(Command, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="events")
    entry_id = models.BigIntegerField(help_text="The journal entry that caused it.")
    kind = models.SmallIntegerField(choices=Kind)
    reason = models.SmallIntegerField(help_text="The book's reason, which has a stable code.")
    quantity_tokens = models.BigIntegerField()
    price_nano = models.BigIntegerField()
    occurred_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="order_event_not_negative", condition=Q(quantity_tokens__gte=0))
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.get_kind_display()}"
