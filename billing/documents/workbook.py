"""Documents as spreadsheets: figures as numbers, the same rows as CSV, the same bytes each time."""

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import xlsxwriter

from billing.documents.table import CHARGE_COLUMNS, INVOICE_COLUMNS, charge_rows, invoice_rows
from billing.models import Invoice
from core.periods import SHANGHAI

#: Columns whose cells are figures; everything else is text, which a spreadsheet never takes for a formula.
NUMBERS = frozenset({
    "line", "revision", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "standard_tokens",
    "price", "price_per_million", "vat_percent", "amount_exact", "amount", "debit", "credit", "balance", "held",
})  # fmt: skip
_FORMATS = {
    "price": "0.000000000",
    "amount": "#,##0.00",
    "amount_exact": "#,##0.000000",
    "price_per_million": "0.00####",
}
WIDEST = 40

Sheet = tuple[str, Sequence[str], Iterable[Mapping[str, Any]]]


def workbook(sheets: Iterable[Sheet], *, made_at: datetime) -> bytes:
    """Return a workbook of sheets (name, columns, rows), written row by row; `made_at` stands in its properties."""
    out = io.BytesIO()
    book = xlsxwriter.Workbook(out, {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    book.set_properties({"created": made_at.astimezone(SHANGHAI).replace(tzinfo=None), "author": "Ciyuan"})
    heading = book.add_format({"bold": True, "bottom": 1, "bg_color": "#F4F6F9"})
    formats = {name: book.add_format({"num_format": text}) for name, text in _FORMATS.items()}
    for name, columns, rows in sheets:
        sheet = book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        for column, title in enumerate(columns):
            sheet.set_column(column, column, min(max(len(title) + 2, 12), WIDEST))
        sheet.write_row(0, 0, columns, heading)
        for number, row in enumerate(rows, start=1):
            for column, title in enumerate(columns):
                _write(sheet, number, column, title, row.get(title), formats)
    book.close()
    return out.getvalue()


def _write(sheet: Any, row: int, column: int, title: str, value: Any, formats: Mapping[str, Any]) -> None:
    if value is None or value == "":
        return
    if title in NUMBERS:
        try:
            sheet.write_number(row, column, Decimal(str(value)), formats.get(title))
        except InvalidOperation:
            sheet.write_string(row, column, str(value))
    else:
        sheet.write_string(row, column, value.isoformat() if isinstance(value, datetime) else str(value))


def document_workbook(invoice: Invoice) -> bytes:
    """Return a document with a sheet of its lines and one of the charges behind them."""
    return workbook(
        [("lines", INVOICE_COLUMNS, invoice_rows(invoice)), ("charges", CHARGE_COLUMNS, charge_rows(invoice))],
        made_at=invoice.issued_at,
    )
