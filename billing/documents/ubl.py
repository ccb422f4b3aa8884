"""
Documents as UBL 2.1 by EN 16931, for buyers abroad: a pure reading of what was issued, the same bytes each time.

EN 16931 counts lines without VAT: each net amount is split over its lines in proportion to their gross amounts by
largest remainder, so that lines add up to the net, and net and tax to the total, to the fen. A price is that of
a million standard tokens without VAT. A credit note is written with positive amounts, as the standard has it.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from xml.etree import ElementTree

from billing.documents.terms import Language, term
from billing.models import Invoice, InvoiceLine, InvoiceTax
from core.money import MICRO_PER_FEN, exact_decimal, format_tokens, format_yuan, largest_remainder, round_half_up
from core.periods import shanghai_date

CBC = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
CAC = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
ROOTS = {name: f"urn:oasis:names:specification:ubl:schema:xsd:{name}-2" for name in ("Invoice", "CreditNote")}
CUSTOMIZATION = "urn:cen.eu:en16931:2017"
CURRENCY = "CNY"
INVOICE_CODE, CREDIT_CODE = "380", "381"
UNIT = "C62"  # one: a standard token
MILLION = 1_000_000
_PRICE_SCALE = 10**8
_PLACES = ("contract", "lot", "market", "auction")

ElementTree.register_namespace("cbc", CBC)
ElementTree.register_namespace("cac", CAC)


class _Writer:
    """Appends elements of the two common namespaces."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def text(self, name: str, text: str, **attributes: str) -> None:
        ElementTree.SubElement(self.element, f"{{{CBC}}}{name}", attributes).text = text

    def amount(self, name: str, amount_micro: int) -> None:
        self.text(name, format_yuan(amount_micro), currencyID=CURRENCY)

    def group(self, name: str) -> "_Writer":
        return _Writer(ElementTree.SubElement(self.element, f"{{{CAC}}}{name}"))


def as_ubl(invoice: Invoice) -> bytes:
    """
    Return a buyer's document as a UBL 2.1 Invoice or CreditNote.

    :raises ValueError: for a provider's statement, which asks for an invoice and is none.
    """
    if invoice.side != "buyer":
        raise ValueError("a settlement statement is no invoice")
    credit = invoice.total_micro < 0
    sign = -1 if credit else 1
    root_name = "CreditNote" if credit else "Invoice"
    root = ElementTree.Element(f"{{{ROOTS[root_name]}}}{root_name}")
    taxes = list(invoice.taxes.order_by("-section", "-vat_thousandths"))
    lines = list(invoice.lines.order_by("number"))
    writer = _Writer(root)
    _head(writer, invoice, credit=credit)
    _party(writer.group("AccountingSupplierParty"), invoice.issuer)
    _party(writer.group("AccountingCustomerParty"), invoice.customer)
    _means(writer, invoice, credit=credit)
    _taxes(writer, taxes, invoice, sign)
    _totals(writer, invoice, sign)
    for line, net_micro in net_lines(lines, taxes):
        _line(writer, line, sign * net_micro, credit=credit)
    ElementTree.indent(root)
    ElementTree.register_namespace("", ROOTS[root_name])
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def net_lines(lines: Sequence[InvoiceLine], taxes: Sequence[InvoiceTax]) -> Iterator[tuple[InvoiceLine, int]]:
    """Yield each line with its amount without VAT, in whole fen; the lines of a rate add up to its net amount."""
    nets: dict[int, int] = {}
    for tax in taxes:
        part = [line for line in lines if (line.section, line.vat_thousandths) == (tax.section, tax.vat_thousandths)]
        weights = [abs(line.printed_micro) for line in part]
        signs = [-1 if line.printed_micro < 0 else 1 for line in part]
        if len({sign for sign, weight in zip(signs, weights, strict=True) if weight}) > 1 or not any(weights):
            split = _mixed(part, tax)
        else:
            total_fen = abs(tax.net_micro) // MICRO_PER_FEN
            sign = -1 if tax.net_micro < 0 else 1
            split = [sign * fen * MICRO_PER_FEN for fen in largest_remainder(weights, total_fen)]
        nets |= {line.pk: net for line, net in zip(part, split, strict=True)}
    for line in lines:
        yield line, nets[line.pk]


def _mixed(part: Sequence[InvoiceLine], tax: InvoiceTax) -> list[int]:
    """Lines of both signs: each by its own rate, and what is left of the net on the largest."""
    rate = 1_000 + tax.vat_thousandths
    split = [round_half_up(line.printed_micro * 1_000, rate * MICRO_PER_FEN) * MICRO_PER_FEN for line in part]
    if split:
        largest = max(range(len(split)), key=lambda place: abs(split[place]))
        split[largest] += tax.net_micro - sum(split)
    return split


def _head(writer: _Writer, invoice: Invoice, *, credit: bool) -> None:
    writer.text("CustomizationID", CUSTOMIZATION)
    writer.text("ID", invoice.number)
    writer.text("IssueDate", shanghai_date(invoice.issued_at).isoformat())
    if not credit:
        writer.text("DueDate", invoice.due_on.isoformat())
    writer.text("CreditNoteTypeCode" if credit else "InvoiceTypeCode", CREDIT_CODE if credit else INVOICE_CODE)
    writer.text("Note", term("note.prices", Language.EN, version="ST"))
    writer.text("DocumentCurrencyCode", CURRENCY)
    writer.text("BuyerReference", str(invoice.customer["id"]))
    period = writer.group("InvoicePeriod")
    period.text("StartDate", _day(invoice.period_start))
    period.text("EndDate", _day(invoice.period_end))
    if invoice.refers_to is not None:
        reference = writer.group("BillingReference").group("InvoiceDocumentReference")
        reference.text("ID", invoice.refers_to.number)
        reference.text("IssueDate", _day(invoice.refers_to.issued_at))


def _day(moment: Any) -> str:
    day: date = shanghai_date(moment)
    return day.isoformat()


def _party(writer: _Writer, facts: dict[str, Any]) -> None:
    party = writer.group("Party")
    party.group("PartyName").text("Name", facts["name"])
    address = party.group("PostalAddress")
    if facts["address"]:
        address.text("StreetName", facts["address"])
    address.group("Country").text("IdentificationCode", "CN")
    if facts["tax_number"]:
        scheme = party.group("PartyTaxScheme")
        scheme.text("CompanyID", f"CN{facts['tax_number']}")
        scheme.group("TaxScheme").text("ID", "VAT")
    legal = party.group("PartyLegalEntity")
    legal.text("RegistrationName", facts["legal_name"])
    legal.text("CompanyID", facts["tax_number"] or str(facts["id"]))
    if facts["phone"]:
        party.group("Contact").text("Telephone", facts["phone"])


def _means(writer: _Writer, invoice: Invoice, *, credit: bool) -> None:
    """Bank transfer; without a bank account on file, an instrument not defined."""
    means = writer.group("PaymentMeans")
    account = invoice.issuer["bank_account"]
    means.text("PaymentMeansCode", "30" if account else "1")
    means.text("PaymentID", invoice.number)
    if account:
        payee = means.group("PayeeFinancialAccount")
        payee.text("ID", account)
        payee.text("Name", invoice.issuer["legal_name"])
    if not credit:
        writer.group("PaymentTerms").text("Note", f"Due on {invoice.due_on.isoformat()}; prepaid as far as stated.")


def _taxes(writer: _Writer, taxes: Sequence[InvoiceTax], invoice: Invoice, sign: int) -> None:
    total = writer.group("TaxTotal")
    total.amount("TaxAmount", sign * invoice.tax_micro)
    for tax in taxes:
        subtotal = total.group("TaxSubtotal")
        subtotal.amount("TaxableAmount", sign * tax.net_micro)
        subtotal.amount("TaxAmount", sign * tax.tax_micro)
        _category(subtotal.group("TaxCategory"), tax.vat_thousandths, with_reason=True)


def _category(writer: _Writer, vat_thousandths: int, *, with_reason: bool = False) -> None:
    """S where VAT is in it; E, exempt, for what is no taxable service."""
    writer.text("ID", "S" if vat_thousandths else "E")
    writer.text("Percent", f"{vat_thousandths / 10:g}")
    if with_reason and not vat_thousandths:
        writer.text("TaxExemptionReason", "Not a taxable service: penalty, compensation or trading difference")
    writer.group("TaxScheme").text("ID", "VAT")


def _totals(writer: _Writer, invoice: Invoice, sign: int) -> None:
    totals = writer.group("LegalMonetaryTotal")
    due_micro = -(-invoice.due_micro // MICRO_PER_FEN) * MICRO_PER_FEN
    totals.amount("LineExtensionAmount", sign * invoice.net_micro)
    totals.amount("TaxExclusiveAmount", sign * invoice.net_micro)
    totals.amount("TaxInclusiveAmount", sign * invoice.total_micro)
    totals.amount("PrepaidAmount", sign * invoice.total_micro - due_micro)
    totals.amount("PayableAmount", due_micro)


def _line(writer: _Writer, line: InvoiceLine, net_micro: int, *, credit: bool) -> None:
    element = writer.group("CreditNoteLine" if credit else "InvoiceLine")
    element.text("ID", str(line.number))
    # A price is never negative: a line that takes away has a negative quantity, and without a price it is one piece.
    quantity, price_micro = _quantity_and_price(line, net_micro)
    element.text("CreditedQuantity" if credit else "InvoicedQuantity", quantity, unitCode=UNIT)
    element.amount("LineExtensionAmount", net_micro)
    period = element.group("InvoicePeriod")
    period.text("StartDate", _day(line.occurred_start))
    period.text("EndDate", _day(line.occurred_end))
    item = element.group("Item")
    title = term(f"kind.{line.kind}", Language.EN)
    places = [f"{name} {line.labels[name]}" for name in _PLACES if line.labels.get(name) is not None]
    item.text("Description", ", ".join(places) or title)
    item.text("Name", " - ".join(str(part) for part in (line.labels.get("model"), title) if part))
    _category(item.group("ClassifiedTaxCategory"), line.vat_thousandths)
    price = element.group("Price")
    price.text("PriceAmount", price_micro, currencyID=CURRENCY)
    price.text("BaseQuantity", "1" if quantity in ("1", "-1") else str(MILLION), unitCode=UNIT)


def _quantity_and_price(line: InvoiceLine, net_micro: int) -> tuple[str, str]:
    if line.quantity_micro_st <= 0 or not net_micro:
        quantity = "-1" if net_micro < 0 else "1"
        return quantity, format_yuan(abs(net_micro))
    # ¥ net for a million tokens such that quantity × price is the line, to eight decimals.
    per_million = round_half_up(abs(net_micro) * _PRICE_SCALE * MILLION, line.quantity_micro_st)
    return format_tokens(line.quantity_micro_st if net_micro > 0 else -line.quantity_micro_st), exact_decimal(
        per_million, _PRICE_SCALE
    )
