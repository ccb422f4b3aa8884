"""Tax invoices (数电发票): titles, requests, the tax platform's files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date
from typing import Literal

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, decimal_text, given


class TaxInvoices(Resource[Mode]):
    @paged
    def titles(self, *, organization: int | None = None) -> Call[Page[r.InvoiceTitle]]:
        """The titles (发票抬头) in use."""
        return read("/v1/invoice-titles", page_of(r.InvoiceTitle), organization=organization)

    @endpoint
    def add_title(
        self,
        *,
        name: str,
        tax_number: str = "",
        address: str = "",
        phone: str = "",
        bank_name: str = "",
        bank_account: str = "",
        email: str = "",
        monthly_kind: str = "",
        organization: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[r.InvoiceTitle]:
        """With `monthly_kind` (81 or 82) a tax invoice is asked for by itself after each month."""
        body = given(
            name=name, tax_number=tax_number, address=address, phone=phone, bank_name=bank_name,
            bank_account=bank_account, email=email, monthly_kind=monthly_kind, organization=organization,
        )  # fmt: skip
        return write("POST", "/v1/invoice-titles", r.InvoiceTitle, body, idempotency_key=idempotency_key)

    @endpoint
    def remove_title(self, title: int, *, idempotency_key: str | None = None) -> Call[r.InvoiceTitle]:
        return write("DELETE", f"/v1/invoice-titles/{title}", r.InvoiceTitle, idempotency_key=idempotency_key)

    @paged
    def list(self, *, state: str | None = None, organization: int | None = None) -> Call[Page[r.TaxInvoice]]:
        return read("/v1/tax-invoices", page_of(r.TaxInvoice), state=state, organization=organization)

    @endpoint
    def get(self, tax_invoice: int) -> Call[r.TaxInvoice]:
        return read(f"/v1/tax-invoices/{tax_invoice}", r.TaxInvoice)

    @endpoint
    def request(
        self,
        *,
        title: int,
        kind: Literal["81", "82"],
        invoices: Sequence[int],
        idempotency_key: str | None = None,
    ) -> Call[r.TaxInvoice]:
        """Ask for one tax invoice over these invoices, with the notes that correct them."""
        body = {"title": title, "kind": kind, "invoices": [*invoices]}
        return write("POST", "/v1/tax-invoices", r.TaxInvoice, body, idempotency_key=idempotency_key)

    @endpoint
    def cancel(self, tax_invoice: int, *, idempotency_key: str | None = None) -> Call[r.TaxInvoice]:
        path = f"/v1/tax-invoices/{tax_invoice}/cancel"
        return write("POST", path, r.TaxInvoice, {}, idempotency_key=idempotency_key)

    @endpoint
    def file(self, tax_invoice: int, *, format: Literal["xml", "pdf"]) -> Call[bytes]:
        """The file as it was issued."""
        return Call("GET", f"/v1/tax-invoices/{tax_invoice}.{format}", bytes, binary=True)

    @endpoint
    def enter_number(
        self,
        tax_invoice: int,
        *,
        number: str,
        issued_on: date | str,
        total: Money,
        tax: Money,
        idempotency_key: str | None = None,
    ) -> Call[r.TaxInvoice]:
        """Enter by hand under which number it was issued (operator)."""
        body = given(number=number, issued_on=str(issued_on), total=decimal_text("total", total),
                     tax=decimal_text("tax", tax))  # fmt: skip
        path = f"/v1/tax-invoices/{tax_invoice}/number"
        return write("POST", path, r.TaxInvoice, body, idempotency_key=idempotency_key)

    @endpoint
    def attach(
        self, tax_invoice: int, content: bytes, *, format: Literal["xml", "pdf"], idempotency_key: str | None = None
    ) -> Call[r.TaxInvoice]:
        """Attach the issued XML or PDF (operator)."""
        body = {"format": format, "content": base64.b64encode(content).decode()}
        path = f"/v1/tax-invoices/{tax_invoice}/files"
        return write("POST", path, r.TaxInvoice, body, idempotency_key=idempotency_key)

    @endpoint
    def reverse(self, tax_invoice: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.RedInvoice]:
        """Ask for a red invoice over all that is left (operator)."""
        path = f"/v1/tax-invoices/{tax_invoice}/reverse"
        return write("POST", path, r.RedInvoice, {"reason": reason}, idempotency_key=idempotency_key)

    @paged
    def reds(self, *, waiting: bool | None = None, organization: int | None = None) -> Call[Page[r.RedInvoice]]:
        """Red invoices; `waiting`: those that have no number yet."""
        asked = "1" if waiting else None
        return read("/v1/red-invoices", page_of(r.RedInvoice), waiting=asked, organization=organization)

    @endpoint
    def enter_red_number(
        self, red: int, *, number: str, issued_on: date | str, idempotency_key: str | None = None
    ) -> Call[r.RedInvoice]:
        """Enter the number of a red invoice (operator)."""
        body = {"number": number, "issued_on": str(issued_on)}
        return write("POST", f"/v1/red-invoices/{red}/number", r.RedInvoice, body, idempotency_key=idempotency_key)

    @endpoint
    def make_export(self, *, idempotency_key: str | None = None) -> Call[r.TaxExport]:
        """Take every request that waits into a file for the tax platform (operator)."""
        return write("POST", "/v1/tax-invoice-exports", r.TaxExport, {}, idempotency_key=idempotency_key)

    @endpoint
    def export_file(self, export: int) -> Call[bytes]:
        return Call("GET", f"/v1/tax-invoice-exports/{export}.xlsx", bytes, binary=True)

    @endpoint
    def import_answers(self, content: str, *, idempotency_key: str | None = None) -> Call[r.Anything]:
        """Import what the tax platform answered, CSV as text (operator)."""
        body = {"content": content}
        return write("POST", "/v1/tax-invoice-answers", r.Anything, body, idempotency_key=idempotency_key)

    @endpoint
    def withdraw_invoice(self, invoice: int, *, reason: str, idempotency_key: str | None = None) -> Call[r.Anything]:
        """Withdraw an invoice that has no tax invoice; its charges go on another one (operator)."""
        path = f"/v1/invoices/{invoice}/withdraw"
        return write("POST", path, r.Anything, {"reason": reason}, idempotency_key=idempotency_key)
