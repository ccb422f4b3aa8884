"""
The finance reports of any day (Asia/Shanghai, at its end): each section sums to what the ledger has on its accounts.

Amounts in micro-yuan. What documents do not explain stands in a column of its own (`unbilled`, `rest`), never left out.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, TypedDict

from django.db import connection

from billing.domain.accounts import AccountKind
from billing.journal_queries import trial_balance
from core.periods import shanghai_day

LIABILITIES = (AccountKind.AVAILABLE, AccountKind.GIFT, AccountKind.BUNDLE, AccountKind.ESCROW, AccountKind.DISPUTE)
BUCKETS = ("not_due", "days_1_30", "days_31_60", "days_61_90", "over_90")


class Section(TypedDict):
    """A report: its rows, what they come to, and what the ledger says."""

    rows: list[dict[str, Any]]
    total_micro: int
    ledger_micro: int


_OWED = """
SELECT i.organization_id, i.due_on,
       sum(i.due_micro - coalesce(p.paid, 0) - coalesce(d.settled, 0) - coalesce(w.given, 0))
FROM billing_invoice i
LEFT JOIN LATERAL (SELECT sum(amount_micro) AS paid FROM billing_invoicepayment
                   WHERE invoice_id = i.id AND at < %(end)s) p ON true
LEFT JOIN LATERAL (SELECT sum(settled_micro) AS settled FROM billing_dispute
                   WHERE invoice_id = i.id AND decided_at < %(end)s) d ON true
LEFT JOIN LATERAL (SELECT sum(amount_micro) AS given FROM billing_writeoff
                   WHERE invoice_id = i.id AND at < %(end)s) w ON true
WHERE i.side = 'buyer' AND i.issued_at < %(end)s AND i.due_micro > 0
  AND NOT EXISTS (SELECT FROM billing_invoicestate s WHERE s.invoice_id = i.id AND s.state = 'withdrawn'
                  AND s.at < %(end)s)
GROUP BY 1, 2
"""
_WITHOUT = """
SELECT i.organization_id, sum(i.total_micro), sum(i.tax_micro) FROM billing_invoice i
WHERE i.side = 'provider' AND i.issued_at < %(end)s AND i.total_micro > 0
  AND NOT EXISTS (SELECT FROM billing_supplierinvoice s WHERE s.statement_id = i.id AND s.differences = '[]'::jsonb
                  AND s.uploaded_at < %(end)s)
GROUP BY 1
"""
_VAT = """
WITH months AS (
    SELECT date_trunc('month', i.issued_at AT TIME ZONE 'Asia/Shanghai')::date AS month, sum(t.tax_micro) AS documented,
           0::numeric AS invoiced, 0::numeric AS red, 0::numeric AS input, 0::numeric AS input_waiting
    FROM billing_invoice i JOIN billing_invoicetax t ON t.invoice_id = i.id AND t.section = 'supply'
    WHERE i.side = 'buyer' AND i.issued_at < %(end)s
      AND NOT EXISTS (SELECT FROM billing_invoicestate s WHERE s.invoice_id = i.id AND s.state = 'withdrawn'
                      AND s.at < %(end)s)
    GROUP BY 1
    UNION ALL
    SELECT date_trunc('month', issued_on)::date, 0, sum(tax_micro), 0, 0, 0 FROM billing_taxinvoice
    WHERE issued_on <= %(day)s GROUP BY 1
    UNION ALL
    SELECT date_trunc('month', issued_on)::date, 0, 0, sum(tax_micro), 0, 0 FROM billing_redinvoice
    WHERE issued_on <= %(day)s GROUP BY 1
    UNION ALL
    SELECT date_trunc('month', s.issued_on)::date, 0, 0, 0, sum(s.tax_micro), 0 FROM billing_supplierinvoice s
    WHERE s.differences = '[]'::jsonb AND s.uploaded_at < %(end)s GROUP BY 1
    UNION ALL
    SELECT date_trunc('month', i.issued_at AT TIME ZONE 'Asia/Shanghai')::date, 0, 0, 0, 0, sum(i.tax_micro)
    FROM billing_invoice i WHERE i.side = 'provider' AND i.issued_at < %(end)s
      AND NOT EXISTS (SELECT FROM billing_supplierinvoice s WHERE s.statement_id = i.id AND s.differences = '[]'::jsonb
                      AND s.uploaded_at < %(end)s)
    GROUP BY 1)
SELECT month, sum(documented)::bigint, sum(invoiced)::bigint, sum(red)::bigint, sum(input)::bigint,
       sum(input_waiting)::bigint
FROM months GROUP BY 1 ORDER BY 1
"""
_REVENUE = """
SELECT date_trunc('month', charged_at AT TIME ZONE 'Asia/Shanghai')::date,
       coalesce(sum(buyer_amount_micro)
           FILTER (WHERE kind NOT IN ('compensation', 'replacement', 'from_bond', 'from_default', 'probe')), 0)::bigint,
       coalesce(sum(round(buyer_amount_micro * vat_thousandths::numeric / (1000 + vat_thousandths)))
           FILTER (WHERE kind NOT IN ('compensation', 'replacement', 'from_bond', 'from_default', 'probe')), 0)::bigint,
       sum(seller_amount_micro - fee_micro)::bigint, sum(fee_micro)::bigint
FROM billing_charge WHERE charged_at < %(end)s GROUP BY 1 ORDER BY 1
"""
# Fees as they were booked, from the transfers themselves: what the charges' fees must come to.
_FEES = """
SELECT coalesce(sum(CASE WHEN kind IN ('fee', 'fee_vat') THEN amount_micro ELSE -amount_micro END), 0)::bigint
FROM billing_transfer WHERE kind IN ('fee', 'fee_vat', 'fee_back', 'fee_vat_back') AND booked_at < %(end)s
"""


def _rows(sql: str, **given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return list(cursor.fetchall())


def reports(day: date) -> dict[str, Section]:
    """Return all sections as of the end of a day."""
    end = shanghai_day(day).end
    totals = trial_balance(day)

    def by_owner(kinds: Iterable[AccountKind]) -> dict[int | None, int]:
        wanted, sums = set(kinds), dict[int | None, int]()
        for row in totals:
            if row.ref.kind in wanted and row.posted_micro:
                sums[row.ref.organization_id] = sums.get(row.ref.organization_id, 0) + row.posted_micro
        return sums

    return {
        "revenue": _revenue(end),
        "contract_liabilities": _liabilities(totals),
        "receivables": _receivables(by_owner([AccountKind.RECEIVABLE]), day, end),
        "payables": _payables(by_owner([AccountKind.PAYABLE, AccountKind.PAYOUT]), end),
        "vat": _vat(day, end),
    }


def _revenue(end: datetime) -> Section:
    rows = [
        {"month": month.isoformat(), "sales_micro": sold, "output_vat_micro": tax, "cost_micro": cost,
         "fees_micro": fees, "margin_micro": sold - cost}
        for month, sold, tax, cost, fees in _rows(_REVENUE, end=end)
    ]  # fmt: skip
    [(booked,)] = _rows(_FEES, end=end)
    return Section(rows=rows, total_micro=sum(row["fees_micro"] for row in rows), ledger_micro=booked)


def _liabilities(totals: Iterable[Any]) -> Section:
    sums: dict[tuple[str, int | None, str], int] = {}
    for row in totals:
        if row.ref.kind in LIABILITIES and row.posted_micro:
            key = row.ref.kind.value, row.ref.organization_id, row.ref.scope
            sums[key] = sums.get(key, 0) + row.posted_micro
    rows = [{"account": kind, "organization": owner, "scope": scope, "amount_micro": amount}
            for (kind, owner, scope), amount in sorted(sums.items(), key=str)]  # fmt: skip
    total = sum(sums.values())
    ledger = sum(row.posted_micro for row in totals if row.ref.kind in LIABILITIES)
    return Section(rows=rows, total_micro=total, ledger_micro=ledger)


def _receivables(stands: dict[int | None, int], day: date, end: datetime) -> Section:
    rows: dict[int | None, dict[str, Any]] = {}

    def row_of(organization: int | None) -> dict[str, Any]:
        empty = {"organization": organization, **{f"{name}_micro": 0 for name in BUCKETS}, "unbilled_micro": 0}
        return rows.setdefault(organization, empty)

    for organization, due_on, owed in _rows(_OWED, end=end):
        late = (day - due_on).days
        bucket = BUCKETS[0 if late <= 0 else min(1 + (late - 1) // 30, 4)]
        row_of(organization)[f"{bucket}_micro"] += int(owed)
    for organization in {*stands, *rows}:
        row = row_of(organization)
        documented = sum(row[f"{name}_micro"] for name in BUCKETS)
        row["unbilled_micro"] = -stands.get(organization, 0) - documented
    shown = [row for _, row in sorted(rows.items(), key=str) if any(
        bool(value) for name, value in row.items() if name.endswith("_micro"))]  # fmt: skip
    total = sum(value for row in shown for name, value in row.items() if name.endswith("_micro"))
    return Section(rows=shown, total_micro=total, ledger_micro=-sum(stands.values()))


def _payables(stands: dict[int | None, int], end: datetime) -> Section:
    without = {organization: (int(total), int(tax)) for organization, total, tax in _rows(_WITHOUT, end=end)}
    rows = []
    for organization in sorted({*stands, *without}, key=str):
        stand, (missing, tax) = stands.get(organization, 0), without.get(organization, (0, 0))
        rows.append({"organization": organization, "without_tax_invoice_micro": missing,
                     "vat_without_tax_invoice_micro": tax, "rest_micro": stand - missing})  # fmt: skip
    total = sum(row["without_tax_invoice_micro"] + row["rest_micro"] for row in rows)
    return Section(rows=rows, total_micro=total, ledger_micro=sum(stands.values()))


def _vat(day: date, end: datetime) -> Section:
    rows = [
        {"month": month.isoformat(), "output_documented_micro": documented, "output_invoiced_micro": invoiced,
         "output_red_micro": red, "input_invoiced_micro": got, "input_waiting_micro": waiting}
        for month, documented, invoiced, red, got, waiting in _rows(_VAT, day=day, end=end)
    ]  # fmt: skip
    documented = sum(row["output_documented_micro"] for row in rows)
    [(from_documents,)] = _rows(
        "SELECT coalesce(sum(i.tax_micro), 0)::bigint FROM billing_invoice i WHERE i.side = 'buyer' AND i.issued_at < "
        "%(end)s AND NOT EXISTS (SELECT FROM billing_invoicestate s WHERE s.invoice_id = i.id AND s.state = 'withdrawn'"
        " AND s.at < %(end)s)", end=end)  # fmt: skip
    return Section(rows=rows, total_micro=documented, ledger_micro=from_documents)
