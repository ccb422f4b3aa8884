"""The monthly reconciliation statement (对账单) of a buyer: what was billed, what it paid, what is left."""

import csv
import hashlib
import io
from datetime import date
from typing import Any

from billing.domain.periods import whole
from billing.models import Deposit, Invoice, InvoicePayment, InvoiceState, Payout, StatementConfirmation
from core.money import format_yuan
from core.periods import SHANGHAI

COLUMNS = ("time", "kind", "reference", "billed", "paid_in", "balance")


def rows_of(organization_id: int, month: date) -> list[dict[str, Any]]:
    """
    Return a month's statement: opening, each document and payment in the order of time, closing. `balance` is payments
    less documents since the beginning; amounts are decimal text. Money that went back is a payment below zero; what a
    payout kept of a provider's proceeds to pay its debts is one, too.
    """
    period = whole(month)
    withdrawn = InvoiceState.objects.filter(state=InvoiceState.State.WITHDRAWN).values("invoice")
    documents = Invoice.objects.filter(organization_id=organization_id, side="buyer", issued_at__lt=period.end)
    events = [(row.issued_at, str(row.kind), row.number, row.total_micro, 0)
              for row in documents.exclude(pk__in=withdrawn)]  # fmt: skip
    deposits = Deposit.objects.filter(organization_id=organization_id, received_at__lt=period.end)
    events += [(row.received_at, "payment", row.reference, 0, row.amount_micro) for row in deposits]
    refunds = Payout.objects.filter(
        organization_id=organization_id, kind=Payout.Kind.REFUND, state=Payout.State.PAID, ended_at__lt=period.end
    )
    events += [(row.ended_at or period.end, "refund", str(row), 0, -row.amount_micro) for row in refunds]
    set_off = InvoicePayment.objects.filter(
        invoice__organization_id=organization_id, payout__isnull=False, at__lt=period.end
    ).select_related("payout")
    events += [(row.at, "set_off", str(row.payout), 0, row.amount_micro) for row in set_off]
    events.sort(key=lambda event: (event[0], event[2]))
    balance = sum(paid - billed for at, _, _, billed, paid in events if at < period.start)
    rows = [_row("", "opening", "", None, None, balance)]
    billed_sum = paid_sum = 0
    for at, kind, reference, billed, paid in events:
        if at >= period.start:
            balance += paid - billed
            billed_sum, paid_sum = billed_sum + billed, paid_sum + paid
            when = at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
            rows.append(_row(when, kind, reference, billed, paid, balance))
    return [*rows, _row("", "closing", "", billed_sum, paid_sum, balance)]


def _row(time: str, kind: str, reference: str, billed: int | None, paid: int | None, balance: int) -> dict[str, Any]:
    amounts = ["" if amount is None else format_yuan(amount) for amount in (billed, paid)]
    return {"time": time, "kind": kind, "reference": reference, "billed": amounts[0], "paid_in": amounts[1],
            "balance": format_yuan(balance)}  # fmt: skip


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Return the statement as CSV; the same rows give the same bytes."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    for row in rows:
        name = row["reference"]
        # what begins like a formula would be run by a spreadsheet
        writer.writerow(row | {"reference": f"'{name}" if name.startswith(("=", "+", "-", "@")) else name})
    return "\ufeff" + out.getvalue()


def digest(rows: list[dict[str, Any]]) -> str:
    """Return what a confirmation names a statement by: the SHA-256 of its CSV."""
    return hashlib.sha256(as_csv(rows).encode()).hexdigest()


def confirmation_of(organization_id: int, month: date, of: str) -> StatementConfirmation | None:
    """Return the answer that was given to exactly this statement."""
    return StatementConfirmation.objects.filter(organization_id=organization_id, month=month, digest=of).first()
