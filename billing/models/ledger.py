"""Ledger accounts with their balances, and the transfers that made them."""

from typing import ClassVar

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import Exact

from billing.domain.accounts import AccountKind, AccountRef
from billing.domain.postings import LONGEST_KEY, LONGEST_KIND, Stage

RANDOM_ID = Q(Exact(
    models.Func(F("id"), function="uuid_extract_version", output_field=models.SmallIntegerField()), 7))


class Account(models.Model):
    """
    A ledger account. The ledger makes it at first need and alone changes its balances.

    `posted_micro` is credits − debits; `held_micro` is what open holds have put aside of it.
    """

    kind = models.CharField(max_length=20, choices=[(kind.value, kind.value) for kind in AccountKind])
    organization = models.ForeignKey(
        "identity.Organization", null=True, on_delete=models.PROTECT, related_name="accounts", db_index=False)
    scope = models.CharField(max_length=64, default="", blank=True)
    may_overdraw = models.BooleanField()
    posted_micro = models.BigIntegerField(default=0)
    held_micro = models.BigIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(Coalesce("organization_id", 0), "kind", "scope", name="account_unique"),
            models.CheckConstraint(
                condition=Q(may_overdraw=True) | Q(posted_micro__gte=F("held_micro")), name="account_not_overdrawn"),
            models.CheckConstraint(condition=Q(held_micro__gte=0), name="account_held_not_negative"),
        ]

    def __str__(self) -> str:
        return str(self.ref)

    @property
    def ref(self) -> AccountRef:
        """Return the name by which postings know this account."""
        return AccountRef(AccountKind(self.kind), self.organization_id, self.scope)

    @property
    def free_micro(self) -> int:
        """Return what could be spent now."""
        return self.posted_micro - self.held_micro


class Transfer(models.Model):
    """
    One movement, never changed. Narrow, because an auction writes hundreds of thousands in one transaction.

    Its id carries the time of its cause in front, so a batch lands at the end of the one b-tree. A transfer whose id
    is derived from its key (UUIDv8) is unique by that id; one whose id is random (UUIDv7) is unique by its key, in a
    partial index. Account, hold and day are found by one block-range index, which costs an insert little.
    """

    id = models.UUIDField(primary_key=True)
    debit = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="debits", db_constraint=False, db_index=False)
    credit = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="credits", db_constraint=False, db_index=False)
    amount_micro = models.BigIntegerField()
    excess_micro = models.BigIntegerField()
    pending_id = models.UUIDField(null=True)
    booked_at = models.DateTimeField()
    booked_on = models.DateField()  # the day whose journal it stands in (Asia/Shanghai), sealed when the day is over
    stage = models.SmallIntegerField(choices=[(stage.value, stage.name.lower()) for stage in Stage])
    kind = models.CharField(max_length=LONGEST_KIND)
    key = models.CharField(max_length=LONGEST_KEY)
    label = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], condition=RANDOM_ID, name="transfer_key_unique"),
            models.CheckConstraint(
                condition=Q(amount_micro__gt=0) | Q(stage=Stage.POST.value, amount_micro=0, excess_micro__gt=0),
                name="transfer_amount_positive"),
        ]
        indexes: ClassVar = [
            BrinIndex(
                fields=["debit", "credit", "pending_id", "booked_on"], name="transfer_blocks", pages_per_range=32,
                opclasses=["int8_bloom_ops", "int8_bloom_ops", "uuid_bloom_ops", "date_minmax_ops"],
                autosummarize=True),
        ]

    def __str__(self) -> str:
        return self.key
