"""What was paid of which open document: by a deposit, or by a payout that set off what its provider owed."""

from datetime import datetime

from billing import queries
from billing.models import Deposit, InvoicePayment, InvoiceState, Payout
from core.money import format_yuan
from core.transactions import assert_in_transaction
from identity.actions.events import emit


def note_paid(*, by: Deposit | Payout, organization_id: int, amount_micro: int, now: datetime) -> None:
    """
    Note that `amount_micro` of what an organization owes on documents was paid, the oldest first; of each at most what
    is due and not disputed. What is left pays charges that stand on no document yet. The caller has the ledger account
    locked, which serialises this.
    """
    assert_in_transaction()
    deposit, payout = (by, None) if isinstance(by, Deposit) else (None, by)
    reason = f"deposit {deposit.reference}" if deposit else f"set off in payout {by.pk}"
    left = amount_micro
    for invoice in queries.open_invoices(organization_id):
        if left <= 0:
            break
        part = min(left, invoice.due_micro - invoice.paid_micro - invoice.disputed_micro)
        if part <= 0:  # all that is left of it is disputed
            continue
        InvoicePayment.objects.create(
            invoice_id=invoice.pk, deposit=deposit, payout=payout, amount_micro=part, at=now
        )
        left -= part
        if part == invoice.due_micro - invoice.paid_micro:
            InvoiceState.objects.create(
                invoice_id=invoice.pk, state=InvoiceState.State.PAID, at=now, reason=reason
            )
            emit(
                organization_id=organization_id, type="invoice.paid", key=f"invoice:{invoice.pk}", now=now,
                data={"id": invoice.pk, "number": invoice.number, "total": format_yuan(invoice.total_micro)},
            )  # fmt: skip
