"""What a settlement statement's page shows of the provider's tax invoice: form, match and payout."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import payout_queries
from billing.actions.payouts import rules
from billing.models import Invoice
from core.form_fields import YuanField
from core.money import format_yuan
from identity.access import Actor
from identity.page_forms import OnceForm

MOST_FILE_BYTES = 1_500_000
FORMATS = {b"%PDF-": ("application/pdf", "pdf"), b"<": ("application/xml", "xml")}
#: What the fields of a tax invoice are called where it differs from the statement.
FIELDS = {
    "seller_name": gettext_lazy("Seller's name"),
    "seller_tax_number": gettext_lazy("Seller's tax number"),
    "buyer_name": gettext_lazy("Buyer's name"),
    "buyer_tax_number": gettext_lazy("Buyer's tax number"),
    "total": gettext_lazy("Total with tax, ¥"),
    "tax": gettext_lazy("Tax, ¥"),
}


class SupplierInvoiceForm(OnceForm):
    """A tax invoice as it was issued; who it is from and for stands there already, to be compared with the paper."""

    number = forms.CharField(
        max_length=40, label=gettext_lazy("Number of the tax invoice"), help_text=gettext_lazy("20 digits.")
    )
    issued_on = forms.DateField(
        label=gettext_lazy("Issued on"), widget=forms.DateInput(attrs={"type": "date"}),
    )  # fmt: skip
    total = YuanField(max_length=30, label=FIELDS["total"])
    tax = YuanField(allow_zero=True, max_length=30, label=FIELDS["tax"])
    seller_name = forms.CharField(max_length=120, label=FIELDS["seller_name"])
    seller_tax_number = forms.CharField(max_length=20, label=FIELDS["seller_tax_number"])
    buyer_name = forms.CharField(max_length=120, label=FIELDS["buyer_name"])
    buyer_tax_number = forms.CharField(max_length=20, label=FIELDS["buyer_tax_number"])
    document = forms.FileField(
        label=gettext_lazy("The file"), help_text=gettext_lazy("XML or PDF, at most 1.5 MB."),
        widget=forms.FileInput(attrs={"accept": ".xml,.pdf"}),
    )  # fmt: skip

    def clean_number(self) -> str:
        return str(self.cleaned_data["number"]).replace(" ", "")

    def clean_document(self) -> bytes:
        """The file's bytes, of a kind that a tax invoice has."""
        file = self.cleaned_data["document"]
        if file.size > MOST_FILE_BYTES:
            raise forms.ValidationError(_("The file is larger than 1.5 MB."))
        content = bytes(file.read())
        if format_of(content) is None:
            raise forms.ValidationError(_("This file is neither XML nor PDF."))
        return content


def format_of(content: bytes) -> tuple[str, str] | None:
    """Return a file's media type and suffix, or None for neither XML nor PDF."""
    start = content[:256].lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((kind for prefix, kind in FORMATS.items() if start.startswith(prefix)), None)


def context(actor: Actor, statement: Invoice, form: SupplierInvoiceForm | None = None) -> dict[str, Any]:
    """Return what a settlement statement's page shows of tax invoice and payout: three queries."""
    uploaded = list(payout_queries.supplier_invoices_of(statement))
    payout = payout_queries.payout_of(statement)
    matched = any(not row.differences for row in uploaded)
    own = actor.organization_id == statement.organization_id
    may_upload = own and "billing" in actor.scopes and not matched and statement.total_micro > 0
    return {
        "uploaded": uploaded, "payout": payout, "matched": matched, "difference_names": FIELDS,
        "needs_tax_invoice": rules().needs_tax_invoice and statement.total_micro > 0,
        "settled": payout is not None or payout_queries.is_settled(statement),
        "upload_form": (form or SupplierInvoiceForm(initial=_expected(statement))) if may_upload else None,
    }  # fmt: skip


def _expected(statement: Invoice) -> dict[str, Any]:
    seller, buyer = statement.customer, statement.issuer
    return {
        "total": format_yuan(statement.total_micro), "tax": format_yuan(statement.tax_micro),
        "seller_name": seller["legal_name"], "seller_tax_number": seller["tax_number"],
        "buyer_name": buyer["legal_name"], "buyer_tax_number": buyer["tax_number"],
    }  # fmt: skip
