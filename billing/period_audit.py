"""What must hold of closed months and of the finance reports, recomputed from charges and transfers."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from billing.domain.accounts import AccountKind
from billing.domain.vouchers import vouchers
from billing.models import PeriodClose
from billing.period_queries import chart, delivered, moved
from billing.reports import LIABILITIES, reports
from core.audit import Finding
from core.money import format_yuan

_COUNTED = """
SELECT count(*), coalesce(sum(seller_amount_micro - fee_micro), 0)::bigint, coalesce(sum(fee_micro
       + CASE WHEN kind = 'allowance' THEN buyer_amount_micro ELSE 0 END), 0)::bigint
FROM billing_charge c
WHERE coalesce(c.booked_month, date_trunc('month', (c.occurred_end - interval '1 microsecond')
                                          AT TIME ZONE 'Asia/Shanghai')::date) = %s
"""
_KINDS = """
SELECT a.kind, sum(m.micro)::bigint FROM (
    SELECT credit_id AS id, amount_micro AS micro FROM billing_transfer WHERE stage IN (0, 2)
    UNION ALL SELECT debit_id, -amount_micro FROM billing_transfer WHERE stage IN (0, 2)) m
JOIN billing_account a ON a.id = m.id GROUP BY a.kind
"""
REPORTS, MONTHS = "reports-sum-to-the-ledger", "closed-months-stay"


def _rows(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given or None)
        return list(cursor.fetchall())


def reports_sum_to_the_ledger() -> Iterator[Finding]:
    """Each section of the reports of the last booked day comes to what all transfers add up to on its accounts."""
    [(day, first)] = _rows("SELECT max(booked_on), min(booked_on) FROM billing_transfer")
    if day is None:
        return
    sums = {kind: int(micro) for kind, micro in _rows(_KINDS)}
    sections = reports(day)
    expected = {
        "contract_liabilities": sum(sums.get(kind.value, 0) for kind in LIABILITIES),
        "receivables": -sums.get(AccountKind.RECEIVABLE.value, 0),
        "payables": sums.get(AccountKind.PAYABLE.value, 0) + sums.get(AccountKind.PAYOUT.value, 0),
    }
    for name, section in sections.items():
        for ledger in (section["ledger_micro"], expected.get(name, section["ledger_micro"])):
            if section["total_micro"] != ledger:
                yield Finding(REPORTS, f"{name} of {day}", format_yuan(ledger), format_yuan(section["total_micro"]))
    month = first.replace(day=1)
    _, given = delivered(month, fee_vat_thousandths=60)
    per_voucher: dict[int, int] = {}
    for line in vouchers(moved(month), given, chart()):
        per_voucher[line.voucher] = per_voucher.get(line.voucher, 0) + line.amount_micro
    for voucher, total in per_voucher.items():
        if total:
            yield Finding(REPORTS, f"voucher {voucher} of {month:%Y-%m}", "0.00", format_yuan(total))


def closed_months_stay() -> Iterator[Finding]:
    """A closed month's charges are those that it was closed with."""
    for row in PeriodClose.objects.filter(closed_at__isnull=False).order_by("month"):
        [found] = _rows(_COUNTED, row.month)
        expected = tuple(row.figures[name] for name in ("charges", "cost_micro", "fee_micro"))
        if tuple(found) != expected:
            yield Finding(MONTHS, str(row), f"charges, cost and fees {expected}", str(tuple(found)))
