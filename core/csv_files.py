"""CSV that spreadsheets read rightly: UTF-8 with a mark, and no cell that is taken for a formula."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpResponse


def safe(value: Any) -> str:
    """Return a cell's text; what a spreadsheet would take for a formula gets an apostrophe in front."""
    text = "" if value is None else value.isoformat() if isinstance(value, datetime) else str(value)
    return f"'{text}" if text[:1] in ("=", "+", "@", "\t", "\r") else text


def as_csv(columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> str:
    """Return rows as CSV with a byte-order mark, by which spreadsheets know it is UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([safe(row.get(column)) for column in columns] for row in rows)
    return "\ufeff" + out.getvalue()


def csv_response(columns: Sequence[str], rows: Iterable[dict[str, Any]], *, name: str) -> HttpResponse:
    """Return rows as a CSV file to download."""
    response = HttpResponse(as_csv(columns, rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response
