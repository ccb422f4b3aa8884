"""Days of the ledger that are closed and sealed, and what each account had at their ends."""

from typing import ClassVar

from django.db import models


class JournalKey(models.Model):
    """An Ed25519 key that seals days. The public half stays published for ever: old seals need it."""

    kid = models.CharField(max_length=16, unique=True)
    public_key = models.BinaryField()
    private_key = models.BinaryField(help_text="Encrypted with a key that SECRET_KEY gives.")
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.kid


class ClosedDay(models.Model):
    """A day (Asia/Shanghai) in whose journal nothing is booked any more. Days are closed in order, without a gap."""

    day = models.DateField(primary_key=True)
    closed_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.day.isoformat()


class DaySeal(models.Model):
    """What a closed day's journal hashes to, chained to the day before and signed. Insert-only."""

    day = models.OneToOneField(ClosedDay, on_delete=models.PROTECT, primary_key=True, db_column="day")
    transfers = models.BigIntegerField()
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)
    blocks = models.BinaryField(help_text="The running hash after every thousand transfers.")
    key = models.ForeignKey(JournalKey, on_delete=models.PROTECT, related_name="seals")
    signature = models.BinaryField()
    sealed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.day_id} {self.hash[:12]}"


class DayBalance(models.Model):
    """What an account had at the end of a sealed day on which it moved; later days without a row had the same."""

    pk = models.CompositePrimaryKey("account_id", "day")
    account_id = models.BigIntegerField()
    day = models.DateField()
    posted_micro = models.BigIntegerField()
    held_micro = models.BigIntegerField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["day"], name="day_balance_of_day")]

    def __str__(self) -> str:
        return f"{self.account_id} on {self.day}"
