"""Builders for tax invoices."""

from functools import partial

from billing.actions.red_invoices import reverse
from billing.actions.tax_invoices import enter_number, make_export, request_tax_invoice
from billing.models import Invoice, InvoiceTitle
from core.periods import shanghai_date
from core.transactions import durable
from tests.given import NOW


def given_tax_invoice(buyer, number="1" * 20):
    """An issued tax invoice that is to be reversed, by the names of the addresses' parameters."""
    title = InvoiceTitle.objects.create(organization=buyer, name=buyer.name, created_at=NOW)
    invoices = list(Invoice.objects.filter(organization=buyer, side="buyer").values_list("pk", flat=True))
    ask = partial(request_tax_invoice, title=title, kind="82", invoice_ids=invoices, by="key:1", now=NOW)
    row = durable(ask)
    export = durable(partial(make_export, now=NOW))
    durable(partial(enter_number, tax_invoice_id=row.pk, number=number, issued_on=shanghai_date(NOW),
                    total_micro=row.total_micro, tax_micro=row.tax_micro, now=NOW))  # fmt: skip
    red = durable(partial(reverse, tax_invoice_id=row.pk, reason="x", now=NOW))
    return {"title_id": title.pk, "tax_invoice_id": row.pk, "red_id": red.pk, "export_id": export.pk}
