"""Named reads of tax invoices and of the documents that wait for one."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet

from billing.domain.tax_files import Line, head_row, line_row
from billing.domain.tax_invoices import ITEM
from billing.models import (
    Invoice,
    InvoiceState,
    InvoiceTax,
    InvoiceTitle,
    RedInvoice,
    TaxExport,
    TaxInvoice,
    TaxInvoiceDocument,
)
from identity.models import Organization

Rows = list[dict[str, object]]


def titles_of(organization_id: int) -> "QuerySet[InvoiceTitle]":
    """Return an organization's titles that are in use."""
    return InvoiceTitle.objects.filter(organization_id=organization_id, removed_at=None)


def tax_invoices_readable(organizations: "QuerySet[Organization]") -> "QuerySet[TaxInvoice]":
    """Return these organizations' tax invoices."""
    return TaxInvoice.objects.filter(organization__in=organizations)


def reds_readable(organizations: "QuerySet[Organization]") -> "QuerySet[RedInvoice]":
    """Return the red invoices of these organizations' tax invoices."""
    return RedInvoice.objects.filter(tax_invoice__organization__in=organizations).select_related("tax_invoice", "note")


def notes_to_take(invoices: Sequence[Invoice]) -> list[Invoice]:
    """Return the notes that correct these documents, stand on no tax invoice and are not among them."""
    taken = TaxInvoiceDocument.objects.filter(invoice=OuterRef("pk"), counts=True)
    rows = Invoice.objects.filter(refers_to__in=invoices, side="buyer").exclude(pk__in=[row.pk for row in invoices])
    return list(rows.filter(~Exists(taken)).order_by("pk"))


def free_documents(organization_id: int) -> "QuerySet[Invoice]":
    """Return an organization's invoices and debit notes that have something taxable and no tax invoice."""
    taken = TaxInvoiceDocument.objects.filter(invoice=OuterRef("pk"), counts=True)
    withdrawn = InvoiceState.objects.filter(invoice=OuterRef("pk"), state=InvoiceState.State.WITHDRAWN)
    taxed = InvoiceTax.objects.filter(
        invoice=OuterRef("pk"), section="supply", vat_thousandths__gt=0, gross_micro__gt=0)  # fmt: skip
    rows = Invoice.objects.filter(organization_id=organization_id, side="buyer").exclude(kind="credit_note")
    return rows.filter(~Exists(taken), ~Exists(withdrawn), Exists(taxed))


def documents_without_tax_invoice(organization_id: int, *, before: datetime) -> list[int]:
    """Return those of them that were issued before a time and not eaten up by credit notes, oldest first."""
    rows = free_documents(organization_id).filter(issued_at__lt=before).order_by("pk")
    return [row.pk for row in rows if row.total_micro + sum(
        note.total_micro for note in notes_to_take([row]) if note.kind == Invoice.Kind.CREDIT_NOTE) > 0]  # fmt: skip


def monthly_titles() -> list[InvoiceTitle]:
    """Return the titles for which tax invoices are asked for by month."""
    return list(InvoiceTitle.objects.filter(~Q(monthly_kind=""), removed_at=None).order_by("pk"))


def export_rows(export: TaxExport) -> tuple[Rows, Rows]:
    """Return the two sheets of a file for the platform: heads and lines, the blue ones first."""
    heads: Rows = []
    lines: Rows = []
    for row in export.tax_invoices.order_by("pk").prefetch_related("lines"):
        heads.append(head_row(reference=str(row), kind=row.kind, title=row.title, remark=row.remark))
        for line in sorted(row.lines.all(), key=lambda line: line.number):
            lines.append(line_row(str(row), Line(
                line.item, line.tax_code, line.specification, line.quantity_micro_st, line.net_micro,
                line.vat_thousandths, line.tax_micro)))  # fmt: skip
    for red in export.reds.order_by("pk").select_related("tax_invoice", "note"):
        blue = red.tax_invoice
        remark = red.note.number if red.note else blue.remark
        heads.append(head_row(reference=str(red), kind=blue.kind, title=blue.title, remark=remark,
                              corrects=blue.number or "", reason=red.reason))  # fmt: skip
        lines += [line_row(str(red), line) for line in _red_lines(red)]
    return heads, lines


def _red_lines(red: RedInvoice) -> Iterable[Line]:
    """Yield a red invoice's lines: amounts by rate, without quantity, for a credit takes back money."""
    first = red.tax_invoice.lines.order_by("number").first()
    code = first.tax_code if first else ""
    if red.note is not None:
        taxes = InvoiceTax.objects.filter(invoice=red.note, section="supply", vat_thousandths__gt=0)
        for tax in taxes.order_by("-vat_thousandths"):
            yield Line(ITEM, code, "", 0, tax.net_micro, tax.vat_thousandths, tax.tax_micro)
        return
    left: dict[int, list[int]] = {}
    for line in red.tax_invoice.lines.all():
        entry = left.setdefault(line.vat_thousandths, [0, 0])
        entry[0], entry[1] = entry[0] - line.net_micro, entry[1] - line.tax_micro
    for other in red.tax_invoice.reds.filter(note__isnull=False, pk__lt=red.pk):
        for tax in InvoiceTax.objects.filter(invoice=other.note, section="supply", vat_thousandths__gt=0):
            entry = left.setdefault(tax.vat_thousandths, [0, 0])
            entry[0], entry[1] = entry[0] - tax.net_micro, entry[1] - tax.tax_micro
    for rate, (net, tax_micro) in sorted(left.items(), reverse=True):
        if net or tax_micro:
            yield Line(ITEM, code, "", 0, net, rate, tax_micro)
