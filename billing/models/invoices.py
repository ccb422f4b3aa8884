"""
Documents: invoices (账单) to buyers, settlement statements (结算单) to providers, notes that correct either.

Their content is insert-only; what happens to a document is a row per change of state.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.models.charges import SIDES, Charge


class DocumentSeries(models.Model):
    """A series of numbers without gaps: the next is taken from this row, locked, in the issuing transaction."""

    name = models.CharField(max_length=20, unique=True)
    last_number = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name}: {self.last_number}"


class Invoice(models.Model):
    """One document. Its figures follow from its lines, its lines from their charges. Units as the names say."""

    class Kind(models.TextChoices):
        INVOICE = "invoice", _("Invoice")
        STATEMENT = "statement", _("Settlement statement")
        CREDIT_NOTE = "credit_note", _("Credit note")
        DEBIT_NOTE = "debit_note", _("Debit note")

    kind = models.CharField(max_length=12, choices=Kind)
    side = models.CharField(max_length=8, choices=SIDES)
    number = models.CharField(max_length=30, unique=True)
    organization = models.ForeignKey("identity.Organization", on_delete=models.PROTECT, related_name="invoices")
    refers_to = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="notes")
    cycle = models.CharField(max_length=12)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    issued_at = models.DateTimeField()
    due_on = models.DateField()
    exact_micro = models.BigIntegerField(help_text="The sum of the charges.")
    rounding_micro = models.BigIntegerField(help_text="The rounding line: total − exact.")
    net_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()
    total_micro = models.BigIntegerField(help_text="In whole fen; a credit's is negative.")
    due_micro = models.BigIntegerField(help_text="What of the total is owed on account; the rest is paid.")
    issuer = models.JSONField(help_text="The operator as it was named at issue.")
    customer = models.JSONField(help_text="The organization as it was named at issue.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(total_micro=F("exact_micro") + F("rounding_micro")), name="invoice_total_is_its_parts"),
            models.CheckConstraint(
                condition=Q(total_micro=F("net_micro") + F("tax_micro")), name="invoice_total_is_net_and_tax"),
            models.CheckConstraint(condition=Q(due_micro__gte=0), name="invoice_due_not_negative"),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "-id"], name="invoice_of_organization")]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(models.Model):
    """One printed line."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    number = models.PositiveIntegerField()
    section = models.CharField(max_length=8)
    kind = models.CharField(max_length=20)
    scope = models.CharField(max_length=64, blank=True)
    labels = models.JSONField()
    tokens = models.JSONField(help_text="Raw tokens by class.")
    quantity_micro_st = models.BigIntegerField()
    price_nano = models.BigIntegerField()
    amount_micro = models.BigIntegerField(help_text="Exact.")
    printed_micro = models.BigIntegerField(help_text="Whole fen; the lines add up to the total.")
    vat_thousandths = models.PositiveSmallIntegerField()
    occurred_start = models.DateTimeField()
    occurred_end = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["invoice", "number"], name="invoice_line_number_once")]

    def __str__(self) -> str:
        return f"{self.invoice_id}/{self.number}"


class InvoiceTax(models.Model):
    """The total of one section at one VAT rate."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="taxes")
    section = models.CharField(max_length=8)
    vat_thousandths = models.PositiveSmallIntegerField()
    gross_micro = models.BigIntegerField()
    net_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["invoice", "section", "vat_thousandths"], name="invoice_tax_once"),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.section} {self.vat_thousandths}‰"


class InvoiceCharge(models.Model):
    """Which line took a charge: each stands on one line per side; on another only after that document's withdrawal."""

    charge = models.ForeignKey(Charge, on_delete=models.PROTECT, related_name="invoiced")
    side = models.CharField(max_length=8, choices=SIDES)
    line = models.ForeignKey(InvoiceLine, on_delete=models.PROTECT, related_name="charges")
    withdrawn = models.PositiveSmallIntegerField(default=0, help_text="How many withdrawn documents took it before.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["charge", "side", "withdrawn"], name="charge_invoiced_once_per_side"),
        ]

    def __str__(self) -> str:
        return f"{self.charge_id} on {self.line_id}"


class InvoiceState(models.Model):
    """A change of a document's state. The last one holds."""

    class State(models.TextChoices):
        DRAFT = "draft", _("Draft")
        OPEN = "open", _("Open")
        PAID = "paid", _("Paid")
        WITHDRAWN = "withdrawn", _("Withdrawn")
        UNCOLLECTIBLE = "uncollectible", _("Uncollectible")

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="states")
    state = models.CharField(max_length=14, choices=State)
    at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.state}"


class InvoicePayment(models.Model):
    """What a deposit paid of a document, or a payout by setting off what its provider owed."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    deposit = models.ForeignKey("billing.Deposit", null=True, on_delete=models.PROTECT, related_name="payments")
    payout = models.ForeignKey("billing.Payout", null=True, on_delete=models.PROTECT, related_name="payments")
    amount_micro = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["invoice", "deposit"], name="invoice_payment_once"),
            models.UniqueConstraint(fields=["invoice", "payout"], name="invoice_set_off_once"),
            models.CheckConstraint(
                condition=Q(deposit=None, payout__isnull=False) | Q(deposit__isnull=False, payout=None),
                name="invoice_payment_by_one"),
            models.CheckConstraint(condition=Q(amount_micro__gt=0), name="invoice_payment_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.invoice_id}: {self.amount_micro}"
