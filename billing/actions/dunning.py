"""What is due is reminded of, step by step; what stays overdue stops new orders; what nobody will pay is given up."""

from datetime import date, datetime, timedelta

from django.conf import settings

from billing import dunning_queries
from billing.actions import ledger
from billing.actions.withdrawals import lock_documents
from billing.domain.accounts import available, default_fund, receivable
from billing.domain.postings import Posting, Stage
from billing.models import Dispute, InvoiceState, PaymentHold, Reminder, WriteOff
from billing.queries import invoices_readable
from core.errors import BadRequest, Conflict
from core.money import format_yuan
from core.periods import shanghai_date
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.actions.events import Event, emit_all
from identity.models import Organization


class NothingOwed(Conflict):
    """Nothing is owed on the document, or a dispute about it is open."""

    code = "nothing-owed"


def remind(*, invoice_id: int, now: datetime) -> Reminder | None:
    """
    Remind of an invoice by the last step that its due day has reached; None where that was done or nothing is owed.

    Steps that were missed are left out: nobody is reminded twice at once.
    """
    lock_documents([invoice_id])
    row = invoices_readable(Organization.objects.all()).get(pk=invoice_id)
    owed_micro = dunning_queries.owed_micro(row)
    step = step_reached(row.due_on, shanghai_date(now))
    if step is None or owed_micro <= 0 or row.state != InvoiceState.State.OPEN:
        return None
    if row.reminders.filter(step_days__gte=step).exists():
        return None
    made = Reminder.objects.create(invoice=row, step_days=step, owed_micro=owed_micro, at=now)
    emit_all([Event(row.organization_id, "invoice.overdue" if step > 0 else "invoice.due", f"{row.pk}:{step}", {
        "id": row.pk, "number": row.number, "due_on": row.due_on.isoformat(), "owed": format_yuan(owed_micro),
        "days_overdue": max((shanghai_date(now) - row.due_on).days, 0)})], now=now)  # fmt: skip
    return made


def step_reached(due_on: date, today: date) -> int | None:
    """Return the last step of `DUNNING_STEPS_DAYS` that a due day has reached; None for none."""
    late = (today - due_on).days
    return max((step for step in settings.DUNNING_STEPS_DAYS if step <= late), default=None)


def settle_hold(*, organization_id: int, now: datetime) -> PaymentHold | None:
    """
    Begin or end an organization's hold, by what is overdue longer than `DUNNING_HOLD_AFTER_DAYS`; return the one that
    lasts. Again, it changes nothing.
    """
    assert_in_transaction()
    # whoever accepts orders holds this lock and looks for holds after it: an order is before it or refused
    ledger.lock_accounts([available(organization_id)])
    row = PaymentHold.objects.select_for_update(no_key=True).filter(
        organization_id=organization_id, ended_at=None).first()  # fmt: skip
    before = shanghai_date(now) - timedelta(days=settings.DUNNING_HOLD_AFTER_DAYS)
    overdue_micro = dunning_queries.overdue_micro(organization_id, due_before=before)
    held = overdue_micro > settings.DUNNING_HOLD_ABOVE_MICRO
    if held == (row is not None):
        return row
    if row is None:
        row = PaymentHold.objects.create(organization_id=organization_id, overdue_micro=overdue_micro, since=now)
        type_ = "organization.payment_hold"
    else:
        row.ended_at = now
        row.save(update_fields=["ended_at"])
        type_ = "organization.payment_hold_ended"
    audit.record(actor=None, verb="payment-hold.begin" if held else "payment-hold.end", now=now,
                 subject=f"organization:{organization_id}", after={"overdue": format_yuan(overdue_micro)})  # fmt: skip
    emit_all([Event(organization_id, type_, f"hold:{row.pk}", {"overdue": format_yuan(overdue_micro)})], now=now)
    return row if held else None


def write_off(*, invoice_id: int, reason: str, by: str, now: datetime, actor: Actor | None) -> WriteOff:
    """
    Give up what is owed on an invoice: it is uncollectible, and the loss is the operator's. Again, the first one's row.

    :raises NotFound: there is no such document.
    :raises NothingOwed: it is paid or withdrawn, or a dispute about it is open (decide that first).
    """
    invoice = lock_documents([invoice_id])[0]
    done = WriteOff.objects.filter(invoice=invoice).first()
    if done is not None:
        return done
    if not reason.strip():
        raise BadRequest("Say why it is given up; the auditor asks.", field="reason")
    owes = receivable(invoice.organization_id)
    ledger.lock_accounts([owes, default_fund()])
    row = invoices_readable(Organization.objects.all()).get(pk=invoice.pk)
    if row.disputes.filter(state=Dispute.State.OPEN).exists():
        raise NothingOwed("A dispute about this invoice is open: decide it first.")
    left = row.due_micro - row.paid_micro
    if row.state != InvoiceState.State.OPEN or left <= 0:
        raise NothingOwed(f"Nothing is owed on {row.number}.")
    done = WriteOff.objects.create(invoice=invoice, amount_micro=left, reason=reason.strip()[:200], by=by, at=now)
    InvoiceState.objects.create(invoice=invoice, state=InvoiceState.State.UNCOLLECTIBLE, at=now, reason=done.reason)
    audit.record(actor=actor, verb="invoice.write-off", subject=f"invoice:{invoice.pk}", now=now,
                 after={"amount": format_yuan(left), "reason": done.reason})  # fmt: skip
    emit_all([Event(row.organization_id, "invoice.uncollectible", f"invoice:{row.pk}", {
        "id": row.pk, "number": row.number, "amount": format_yuan(left)})], now=now)  # fmt: skip
    ledger.post_all([Posting(f"write_off:{invoice.pk}", "write_off", Stage.POSTED, default_fund(), owes, left,
                             label=row.number)], now=now)  # fmt: skip
    return done
