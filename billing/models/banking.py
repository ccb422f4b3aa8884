"""The bank's side of money: statements and their lines, accounts, payouts and the batches in which they leave."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from billing.models.invoices import Invoice
from billing.models.payments import Deposit


class BankStatement(models.Model):
    """A file of bank lines, known by its digest: the same file again is the same statement."""

    digest = models.BinaryField(max_length=32, unique=True)
    name = models.CharField(max_length=120, blank=True)
    imported_at = models.DateTimeField()
    lines_added = models.PositiveIntegerField()
    lines_repeated = models.PositiveIntegerField()
    rejected = models.JSONField(help_text="Lines that could not be read: number and reason.")

    def __str__(self) -> str:
        return self.name or f"statement {self.pk}"


class BankLine(models.Model):
    """One movement at the bank, once per bank reference. Insert-only."""

    statement = models.ForeignKey(BankStatement, models.PROTECT, related_name="lines")
    reference = models.CharField(max_length=64, unique=True, help_text="The bank's own number of the movement.")
    booked_at = models.DateTimeField()
    amount_micro = models.BigIntegerField(help_text="Positive: money that came in.")
    payer = models.CharField(max_length=120, blank=True, help_text="Of money that went out: the payee.")
    payer_account = models.CharField(max_length=40, blank=True)
    payer_bank = models.CharField(max_length=120, blank=True)
    purpose = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="bank_line_not_zero", condition=~Q(amount_micro=0)),
        ]
        indexes: ClassVar = [models.Index(fields=["payer_account"], name="bank_line_payer_account")]

    def __str__(self) -> str:
        return self.reference


class BankLineBooking(models.Model):
    """What a line was taken for. A line without this row is not booked yet; one in suspense waits for a person."""

    class State(models.TextChoices):
        MATCHED = "matched", _("Matched")
        SUSPENSE = "suspense", _("In suspense")
        RESOLVED = "resolved", _("Resolved")
        RETURNED = "returned", _("Returned")
        UNEXPLAINED = "unexplained", _("Unexplained")

    line = models.OneToOneField(BankLine, models.PROTECT, primary_key=True, related_name="booking")
    state = models.CharField(max_length=12, choices=State)
    reason = models.CharField(max_length=200)
    suggestion = models.ForeignKey("identity.Organization", models.PROTECT, null=True, related_name="+")
    organization = models.ForeignKey("identity.Organization", models.PROTECT, null=True, related_name="+")
    deposit = models.OneToOneField(Deposit, models.PROTECT, null=True, related_name="bank_booking")
    payout = models.ForeignKey("billing.Payout", models.PROTECT, null=True, related_name="bank_bookings")
    booked_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="bank_booking_has_its_money",
                condition=Q(state__in=["suspense", "unexplained"], deposit=None, payout=None)
                | Q(state__in=["matched", "resolved"], deposit__isnull=False, payout=None)
                | Q(state__in=["matched", "returned", "resolved"], payout__isnull=False, deposit=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.line_id}: {self.state}"


class BankAccount(models.Model):
    """A bank account that an organization is paid to, once the operator has verified it."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="bank_accounts")
    holder = models.CharField(max_length=120)
    number = models.CharField(max_length=40)
    bank = models.CharField(max_length=120)
    created_at = models.DateTimeField()
    verified_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    closed_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization", "number"], condition=Q(closed_at=None), name="bank_account_open_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.bank} …{self.number[-4:]}"


class SupplierInvoice(models.Model):
    """A provider's tax invoice against its settlement statement; `differences` is empty where they match."""

    statement = models.ForeignKey(Invoice, models.PROTECT, related_name="supplier_invoices")
    number = models.CharField(max_length=20)
    issued_on = models.DateField()
    seller_name = models.CharField(max_length=120)
    seller_tax_number = models.CharField(max_length=20)
    buyer_name = models.CharField(max_length=120)
    buyer_tax_number = models.CharField(max_length=20)
    total_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()
    document = models.BinaryField(blank=True, default=b"", help_text="The file as uploaded; empty without one.")
    differences = models.JSONField()
    uploaded_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["number"], condition=Q(differences=[]), name="supplier_invoice_number_matches_once"
            ),
            models.UniqueConstraint(
                fields=["statement"], condition=Q(differences=[]), name="supplier_invoice_one_match_per_statement"
            ),
        ]

    def __str__(self) -> str:
        return self.number


class PayoutBatch(models.Model):
    """Payouts that left in one bank file."""

    created_at = models.DateTimeField()
    total_micro = models.BigIntegerField()

    def __str__(self) -> str:
        return f"batch {self.pk}"


class Payout(models.Model):
    """Money going out: a provider's proceeds, a refund to where a deposit came from, or a return from suspense."""

    class Kind(models.TextChoices):
        PROCEEDS = "proceeds", _("Proceeds")
        REFUND = "refund", _("Refund")
        RETURN = "return", _("Return to the payer")

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting for approval")
        APPROVED = "approved", _("Approved")
        SENT = "sent", _("Sent")
        PAID = "paid", _("Paid")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")

    kind = models.CharField(max_length=10, choices=Kind)
    method = models.CharField(max_length=12, default="bank", help_text="bank or stripe.")
    organization = models.ForeignKey("identity.Organization", models.PROTECT, null=True, related_name="payouts")
    amount_micro = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State)
    payee = models.CharField(max_length=120)
    payee_account = models.CharField(max_length=60)
    payee_bank = models.CharField(max_length=120, blank=True)
    account = models.ForeignKey(BankAccount, models.PROTECT, null=True, related_name="payouts")
    deposit = models.ForeignKey(Deposit, models.PROTECT, null=True, related_name="refunds")
    batch = models.ForeignKey(PayoutBatch, models.PROTECT, null=True, related_name="payouts")
    approvals_needed = models.PositiveSmallIntegerField()
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=40)
    ended_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, blank=True)
    outside_reference = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="payout_above_zero", condition=Q(amount_micro__gt=0)),
            models.CheckConstraint(
                name="payout_has_its_owner", condition=Q(kind="return") | Q(organization__isnull=False)
            ),
            models.CheckConstraint(
                name="payout_ended_with_its_state",
                condition=Q(state__in=["paid", "failed", "cancelled"], ended_at__isnull=False)
                | Q(state__in=["waiting", "approved", "sent"], ended_at=None),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "-id"], name="payout_of_organization")]

    def __str__(self) -> str:
        return f"PO{self.pk:08d}"


class PayoutApproval(models.Model):
    """That somebody of the operator let a payout go."""

    payout = models.ForeignKey(Payout, models.PROTECT, related_name="approvals")
    by = models.CharField(max_length=40)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["payout", "by"], name="payout_approved_once_by_each")]

    def __str__(self) -> str:
        return f"{self.payout_id}: {self.by}"


class PayoutStatement(models.Model):
    """Which settlement statement a payout pays: each once, and again only where the payout came back."""

    payout = models.ForeignKey(Payout, models.PROTECT, related_name="statements")
    statement = models.ForeignKey(Invoice, models.PROTECT, related_name="payouts")
    counts = models.BooleanField(default=True, help_text="False where the payout came back.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["statement"], condition=Q(counts=True), name="statement_paid_out_once"),
        ]

    def __str__(self) -> str:
        return f"{self.payout_id}: {self.statement_id}"
