"""What each drain of a market changed: for the public in one row, and a row for each member whose orders it touched."""

from typing import ClassVar

from django.db import models

from exchange.domain.numbering import market_of, number_of
from exchange.models.markets import Market
from identity.models import Organization


class MarketFrame(models.Model):
    """
    What one drain changed that the public may see (`exchange.domain.frames`), written by the drain's own transaction.

    Its id is that of the last journal entry it covers. With every so many comes the whole book after it, so that
    reading need not begin at the beginning. All of it follows from the journal.
    """

    id = models.BigIntegerField(primary_key=True)
    prev_sequence = models.BigIntegerField(help_text="The last journal entry that the frame before covers.")
    at = models.DateTimeField()
    new_phase = models.BooleanField(help_text="Whether a phase was entered.")
    content = models.BinaryField()
    book = models.BinaryField(null=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=models.Q(book__isnull=False), name="frame_with_book"),
            models.Index(fields=["id"], condition=models.Q(new_phase=True), name="frame_with_phase"),
        ]

    def __str__(self) -> str:
        return f"{self.market_id}/{self.prev_sequence}–{self.sequence}"

    @property
    def market_id(self) -> int:
        """The market it belongs to."""
        return market_of(self.id)

    @property
    def sequence(self) -> int:
        """The last journal entry that it covers."""
        return number_of(self.id)


class OwnFrame(models.Model):
    """
    Which of a member's orders one drain of a market touched, and between which of the market's trades its own lie.

    The frames of a member in a market, by sequence, are the chain that its drop copy can be checked against.
    """

    pk = models.CompositePrimaryKey("organization_id", "market_id", "sequence")
    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="own_frames"
    )
    market = models.ForeignKey(
        Market, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="own_frames"
    )
    sequence = models.BigIntegerField(help_text="The last journal entry of the drain.")
    at = models.DateTimeField()
    numbers = models.BinaryField(help_text="Numbers of the orders, each the journal entry that took it up: u32 each.")
    first_trade = models.BigIntegerField(help_text="The drain's trades are numbered from here …")
    last_trade = models.BigIntegerField(help_text="… to here; none if this is less.")

    def __str__(self) -> str:
        return f"{self.organization_id} in {self.market_id}/{self.sequence}"
