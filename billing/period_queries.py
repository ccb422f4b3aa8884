"""Named reads of months: what was delivered in one, what moved, what is waiting for a document."""

from datetime import date
from typing import Any

from django.db import connection
from django.db.models import Max

from billing.domain.periods import last_day
from billing.domain.vouchers import DEFAULT_CHART, Delivered, Movement
from billing.models import ChartAccount, PeriodClose

_MONTH = (
    "coalesce(c.booked_month, date_trunc('month', (c.occurred_end - interval '1 microsecond')"
    " AT TIME ZONE 'Asia/Shanghai')::date)"
)
_TAX = "round({0} * {1}::numeric / (1000 + {1}))::bigint"
_DELIVERED = f"""
WITH part AS (
    SELECT c.kind, c.buyer_amount_micro AS sold, c.seller_amount_micro - c.fee_micro AS bought,
           c.fee_micro + CASE WHEN c.kind = 'allowance' THEN c.buyer_amount_micro ELSE 0 END AS fee,
           c.vat_thousandths AS rate, c.provider_vat_thousandths AS provider_rate,
           EXISTS (SELECT FROM billing_waitingcharge w WHERE w.charge_id = c.id AND w.side = 'buyer') AS waits
    FROM billing_charge c WHERE {_MONTH} = %(month)s
)
SELECT count(*), coalesce(sum(sold) FILTER (WHERE kind <> ALL(%(provider_only)s)), 0),
       coalesce(sum({_TAX.format("sold", "rate")}) FILTER (WHERE kind <> ALL(%(provider_only)s)), 0),
       coalesce(sum({_TAX.format("sold", "rate")}) FILTER (WHERE waits AND kind <> ALL(%(provider_only)s)), 0),
       coalesce(sum(bought), 0), coalesce(sum({_TAX.format("bought", "provider_rate")}), 0), coalesce(sum(fee), 0),
       coalesce(sum({_TAX.format("fee", "%(fee_rate)s")}), 0)
FROM part
"""
_WAITING = f"""
SELECT w.organization_id, w.side,
       CASE w.side WHEN 'buyer' THEN c.vat_thousandths ELSE c.provider_vat_thousandths END AS rate, count(*),
       sum(CASE w.side WHEN 'buyer' THEN c.buyer_amount_micro ELSE c.seller_amount_micro - c.fee_micro END)::bigint
FROM billing_waitingcharge w JOIN billing_charge c ON c.id = w.charge_id
WHERE {_MONTH} <= %(month)s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_MOVED = """
SELECT t.kind, d.kind, c.kind, sum(t.amount_micro)::bigint
FROM billing_transfer t JOIN billing_account d ON d.id = t.debit_id JOIN billing_account c ON c.id = t.credit_id
WHERE t.booked_on BETWEEN %(first)s AND %(last)s AND t.stage IN (0, 2) AND t.amount_micro > 0 AND d.kind <> c.kind
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
_PROVIDER_ONLY = ["compensation", "replacement", "from_bond", "from_default", "probe"]


def _rows(sql: str, **given: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return list(cursor.fetchall())


def last_closed_month() -> date | None:
    """Return the first day of the last month that is closed; None before the first."""
    found: date | None = PeriodClose.objects.filter(closed_at__isnull=False).aggregate(last=Max("month"))["last"]
    return found


def first_month() -> date | None:
    """Return the month of the first charge; None before any."""
    return _rows(f"SELECT min({_MONTH}) FROM billing_charge c")[0][0]  # type: ignore[no-any-return]


def delivered(month: date, *, fee_vat_thousandths: int) -> tuple[int, Delivered]:
    """Return how many charges count in a month and what they come to."""
    [row] = _rows(_DELIVERED, month=month, provider_only=_PROVIDER_ONLY, fee_rate=fee_vat_thousandths)
    return int(row[0]), Delivered(*(int(value) for value in row[1:]))


def waiting_by(month: date) -> list[tuple[int, str, int, int, int]]:
    """Return what was delivered by a month's end and waits for a document: organization, side, rate, count, gross."""
    return [(int(a), str(b), int(c), int(d), int(e)) for a, b, c, d, e in _rows(_WAITING, month=month)]


def moved(month: date) -> list[Movement]:
    """Return what the ledger moved between kinds of accounts on a month's days."""
    return [Movement(*row) for row in _rows(_MOVED, first=month, last=last_day(month))]


def chart() -> dict[str, tuple[str, str]]:
    """Return the operator's chart of accounts, by our keys."""
    own = {row.key: (row.code, row.name) for row in ChartAccount.objects.all()}
    return DEFAULT_CHART | own
