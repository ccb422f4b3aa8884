"""Documents drawn up again from their charges, to be compared byte for byte with what was issued."""

import json
from collections.abc import Iterator
from typing import Any

from billing.actions.invoices import item_of
from billing.domain.documents import FEE, Line, draw_up
from billing.models import Invoice, InvoiceCharge, InvoiceLine
from core.audit import Finding

_FIELDS = (
    "section", "kind", "scope", "labels", "tokens", "quantity_micro_st", "price_nano", "amount_micro", "printed_micro",
    "vat_thousandths", "occurred_start", "occurred_end",
)  # fmt: skip
_TOTALS = ("exact_micro", "rounding_micro", "net_micro", "tax_micro", "total_micro")


def documents_are_drawn_up_again() -> Iterator[Finding]:
    """Each document's lines, taxes and totals are, byte for byte, what its charges give again; the first difference."""
    for invoice in Invoice.objects.order_by("pk").prefetch_related("lines", "taxes").iterator(chunk_size=200):
        if (difference := first_difference(invoice)) is not None:
            yield Finding("documents-are-drawn-up-again", f"{invoice.number} {difference[0]}", *difference[1:])


def first_difference(invoice: Invoice) -> tuple[str, str, str] | None:
    """Return where a document first differs from what its charges give: the place, what they give, what it says."""
    stored = sorted(invoice.lines.all(), key=lambda line: line.number)
    taken = list(
        InvoiceCharge.objects.filter(line__invoice=invoice).select_related("charge").order_by("line__number", "charge")
    )
    fee_vat = next((line.vat_thousandths for line in stored if line.section == FEE), 0)
    again = draw_up([item_of(row.charge, invoice.side) for row in taken], fee_vat_thousandths=fee_vat)
    of_line: dict[int, list[str]] = {}
    for row in taken:
        of_line.setdefault(row.line_id, []).append(str(row.charge_id))
    expected: list[tuple[str, str]] = [
        (f"line {number}", _bytes(line, [str(id_) for id_ in line.charge_ids]))
        for number, line in enumerate(again.lines, start=1)
    ]
    found = [(f"line {line.number}", _bytes(line, of_line.get(line.pk, []))) for line in stored]
    for tax, table in ((again.taxes, expected), (invoice.taxes.order_by("-section", "-vat_thousandths"), found)):
        for row_ in tax:
            figures = [row_.gross_micro, row_.net_micro, row_.tax_micro]
            table.append((f"tax {row_.section} {row_.vat_thousandths}‰", json.dumps(figures)))
    expected.append(("totals", json.dumps([getattr(again, name) for name in _TOTALS])))
    found.append(("totals", json.dumps([getattr(invoice, name) for name in _TOTALS])))
    for place in range(max(len(expected), len(found))):
        ours = expected[place] if place < len(expected) else ("nothing", "nothing")
        theirs = found[place] if place < len(found) else ("nothing", "nothing")
        if ours != theirs:
            return (theirs if place < len(found) else ours)[0], ours[1], theirs[1]
    return None


def _bytes(line: Line | InvoiceLine, charges: list[str]) -> str:
    """Return a line as one canonical text."""
    values: dict[str, Any] = {name: getattr(line, name) for name in _FIELDS}
    values |= {name: values[name].isoformat() for name in ("occurred_start", "occurred_end")}
    return json.dumps(values | {"charges": sorted(charges)}, sort_keys=True, ensure_ascii=False)
