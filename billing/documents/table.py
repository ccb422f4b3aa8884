"""Documents as tables for programs: a row per line, the same columns in every file."""

from collections.abc import Iterator
from typing import Any

from billing.domain.token_classes import ORDER, shown
from billing.models import Invoice, InvoiceCharge
from core.money import format_price, format_price_per_million, format_tokens, format_yuan

TOKEN_CLASSES = ORDER
LABELS = ("grade", "model", "market", "contract", "lot", "auction", "standard_version")
INVOICE_COLUMNS = (
    "invoice", "kind", "corrects", "organization", "issued_at", "period_start", "period_end", "line", "section", "item",
    "scope", *LABELS, "occurred_start", "occurred_end", *(f"{name}_tokens" for name in TOKEN_CLASSES), "other_tokens",
    "standard_tokens", "price", "price_per_million", "vat_percent", "amount_exact", "amount")
CHARGE_COLUMNS = (
    "invoice", "line", "charge", "source_key", "revision", "kind", "scope", *LABELS, "deployment", "trade",
    "occurred_start", "occurred_end", *(f"{name}_tokens" for name in TOKEN_CLASSES), "other_tokens", "standard_tokens",
    "price", "amount_exact")

#: What figures of charges are as typed columns (DuckDB's names); the rest is text.
CHARGE_TYPES = {
    "line": "INTEGER", "revision": "INTEGER", "occurred_start": "TIMESTAMP", "occurred_end": "TIMESTAMP",
    "standard_tokens": "DECIMAL(38, 6)", "price": "DECIMAL(38, 9)", "amount_exact": "DECIMAL(38, 6)",
    **{f"{name}_tokens": "BIGINT" for name in TOKEN_CLASSES},
}


def token_cells(tokens: dict[str, int]) -> dict[str, Any]:
    """Return raw tokens by class; classes without a column of their own stand together."""
    named = shown(tokens)
    cells: dict[str, Any] = {f"{name}_tokens": named.get(name, 0) for name in TOKEN_CLASSES}
    others = {name: count for name, count in named.items() if name not in TOKEN_CLASSES}
    return cells | {"other_tokens": " ".join(f"{name}={count}" for name, count in others.items())}


def invoice_rows(invoice: Invoice) -> Iterator[dict[str, Any]]:
    """Yield a document's lines; `amount` is whole fen and adds up to the total, `amount_exact` is before rounding."""
    head = {
        "invoice": invoice.number, "kind": invoice.kind, "organization": invoice.organization_id,
        "corrects": invoice.refers_to.number if invoice.refers_to else "", "issued_at": invoice.issued_at,
        "period_start": invoice.period_start, "period_end": invoice.period_end}
    for line in invoice.lines.order_by("number"):
        yield head | {name: line.labels.get(name) for name in LABELS} | token_cells(line.tokens) | {
            "line": line.number, "section": line.section, "item": line.kind, "scope": line.scope,
            "occurred_start": line.occurred_start, "occurred_end": line.occurred_end,
            "standard_tokens": format_tokens(line.quantity_micro_st), "price": format_price(line.price_nano),
            "price_per_million": format_price_per_million(line.price_nano),
            "vat_percent": f"{line.vat_thousandths / 10:g}", "amount_exact": format_yuan(line.amount_micro, places=6),
            "amount": format_yuan(line.printed_micro)}


def charge_rows(invoice: Invoice) -> Iterator[dict[str, Any]]:
    """Yield the charges behind a document's lines, one side of each."""
    buys = invoice.side == "buyer"
    taken = InvoiceCharge.objects.filter(line__invoice=invoice).select_related("charge", "line")
    for row in taken.order_by("line__number", "charge_id").iterator(chunk_size=2_000):
        charge = row.charge
        yield {name: charge.labels.get(name) for name in (*LABELS, "deployment", "trade")} | token_cells(
            charge.tokens) | {
            "invoice": invoice.number, "line": row.line.number, "charge": charge.id,
            "source_key": charge.source_key, "revision": charge.revision, "kind": charge.kind, "scope": charge.scope,
            "occurred_start": charge.occurred_start, "occurred_end": charge.occurred_end,
            "standard_tokens": format_tokens(charge.quantity_micro_st),
            "price": format_price(charge.buyer_price_nano if buys else charge.seller_price_nano),
            "amount_exact": format_yuan(
                charge.buyer_amount_micro if buys else charge.seller_amount_micro, places=6)}
