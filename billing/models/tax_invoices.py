"""
Tax invoices (数电发票): titles to make them out to, each one with its lines, and the red ones that take them back.

They are issued outside; here stands what was asked for, and the number under which it exists.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from billing.models.invoices import Invoice


class TaxInvoiceKind(models.TextChoices):
    """The kinds of digital tax invoices, by their code."""

    SPECIAL = "81", _("Special (81): deductible")
    ORDINARY = "82", _("Ordinary (82)")


class InvoiceTitle(models.Model):
    """To whom a tax invoice is made out (发票抬头). Never changed: another content is another title."""

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="invoice_titles")
    name = models.CharField(max_length=120)
    tax_number = models.CharField(max_length=20, blank=True, help_text="Empty: a natural person.")
    address = models.CharField(max_length=200, blank=True)
    phone = models.CharField(max_length=40, blank=True)
    bank_name = models.CharField(max_length=120, blank=True)
    bank_account = models.CharField(max_length=40, blank=True)
    email = models.CharField(max_length=254, blank=True, help_text="Where the platform sends the tax invoice to.")
    monthly_kind = models.CharField(
        max_length=2, choices=TaxInvoiceKind, blank=True, help_text="Requested by itself after each month; else empty."
    )
    created_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(removed_at=None) & ~Q(monthly_kind=""),
                name="invoice_title_one_is_monthly",
            ),
            models.CheckConstraint(
                name="invoice_title_special_has_tax_number", condition=~Q(monthly_kind="81") | ~Q(tax_number="")
            ),
        ]

    def __str__(self) -> str:
        return self.name


class TaxExport(models.Model):
    """A file for the tax platform: the tax invoices and red ones that stood on it."""

    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"tax-invoices-{self.pk}"


class TaxInvoice(models.Model):
    """A tax invoice for one or several documents. Its content is what was asked for; only state and number change."""

    class State(models.TextChoices):
        REQUESTED = "requested", _("Requested")
        ISSUED = "issued", _("Issued")
        RED_PENDING = "red_pending", _("Red note pending")
        REVERSED = "reversed", _("Reversed")
        CANCELLED = "cancelled", _("Cancelled")

    organization = models.ForeignKey("identity.Organization", models.PROTECT, related_name="tax_invoices")
    kind = models.CharField(max_length=2, choices=TaxInvoiceKind)
    state = models.CharField(max_length=12, choices=State, default=State.REQUESTED)
    seller = models.JSONField(help_text="The operator as it was named when it was asked for.")
    title = models.JSONField(help_text="The buyer's title, as it was then.")
    net_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()
    total_micro = models.BigIntegerField()
    remark = models.CharField(max_length=230)
    requested_at = models.DateTimeField()
    requested_by = models.CharField(max_length=40)
    export = models.ForeignKey(TaxExport, models.PROTECT, null=True, related_name="tax_invoices")
    number = models.CharField(max_length=20, null=True, unique=True)
    issued_on = models.DateField(null=True)
    xml = models.BinaryField(blank=True, default=b"")
    pdf = models.BinaryField(blank=True, default=b"")
    refusal = models.CharField(max_length=200, blank=True, help_text="Why the platform refused it last.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="tax_invoice_total_is_net_and_tax", condition=Q(total_micro=F("net_micro") + F("tax_micro"))
            ),
            models.CheckConstraint(name="tax_invoice_above_zero", condition=Q(total_micro__gt=0)),
            models.CheckConstraint(
                name="tax_invoice_issued_with_its_number",
                condition=Q(state__in=["requested", "cancelled"], number=None, issued_on=None)
                | Q(state__in=["issued", "red_pending", "reversed"], number__isnull=False, issued_on__isnull=False),
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["organization", "-id"], name="tax_invoice_of_organization")]

    def __str__(self) -> str:
        return f"TI{self.pk:08d}"


class TaxInvoiceLine(models.Model):
    """One line; amounts in whole fen. Without quantity it is an amount only."""

    tax_invoice = models.ForeignKey(TaxInvoice, models.PROTECT, related_name="lines")
    number = models.PositiveSmallIntegerField()
    tax_code = models.CharField(max_length=19)
    item = models.CharField(max_length=100)
    specification = models.CharField(max_length=40, blank=True)
    quantity_micro_st = models.BigIntegerField()
    net_micro = models.BigIntegerField()
    vat_thousandths = models.PositiveSmallIntegerField()
    tax_micro = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tax_invoice", "number"], name="tax_invoice_line_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.tax_invoice_id}/{self.number}"


class TaxInvoiceDocument(models.Model):
    """Which document a tax invoice is for: each once, and again only after that one was cancelled or reversed."""

    tax_invoice = models.ForeignKey(TaxInvoice, models.PROTECT, related_name="documents")
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="tax_invoices")
    counts = models.BooleanField(default=True, help_text="False where the tax invoice was cancelled or reversed.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["invoice"], condition=Q(counts=True), name="tax_invoice_of_document_once"),
            models.UniqueConstraint(fields=["tax_invoice", "invoice"], name="tax_invoice_names_document_once"),
        ]

    def __str__(self) -> str:
        return f"{self.tax_invoice_id}: {self.invoice_id}"


class RedInvoice(models.Model):
    """
    A red tax invoice (红字发票) against a tax invoice: for a credit note, or for all that is left. It waits for its
    number. Amounts are negative, in whole fen.
    """

    tax_invoice = models.ForeignKey(TaxInvoice, models.PROTECT, related_name="reds")
    note = models.ForeignKey(Invoice, models.PROTECT, null=True, related_name="reds")
    reason = models.CharField(max_length=200)
    net_micro = models.BigIntegerField()
    tax_micro = models.BigIntegerField()
    total_micro = models.BigIntegerField()
    requested_at = models.DateTimeField()
    export = models.ForeignKey(TaxExport, models.PROTECT, null=True, related_name="reds")
    number = models.CharField(max_length=20, null=True, unique=True)
    issued_on = models.DateField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="red_invoice_total_is_net_and_tax", condition=Q(total_micro=F("net_micro") + F("tax_micro"))
            ),
            models.CheckConstraint(name="red_invoice_below_zero", condition=Q(total_micro__lt=0)),
            models.CheckConstraint(
                name="red_invoice_dated_with_its_number",
                condition=Q(number=None, issued_on=None) | Q(number__isnull=False, issued_on__isnull=False),
            ),
            models.UniqueConstraint(fields=["tax_invoice", "note"], name="red_invoice_of_note_once"),
        ]

    def __str__(self) -> str:
        return f"RD{self.pk:08d}"
