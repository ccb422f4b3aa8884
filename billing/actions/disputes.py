"""
Disputes: a buyer objects to a line, which holds that slice and nothing else; a decision credits it or lets it fall due.

A credit is a charge of its own kind (an allowance, 销售折让) that refers to the line's charge, so that it comes on a
credit note; the operator bears it, out of revenue and the VAT on it.
"""

from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Sum

from billing.actions import ledger
from billing.actions.charges import push_charges
from billing.actions.withdrawals import lock_documents
from billing.domain.accounts import available, receivable, revenue, vat
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.principal import allow
from billing.models import Dispute, Invoice, InvoiceLine, InvoiceState
from billing.queries import invoices_readable
from core.errors import BadRequest, Conflict, NotFound
from core.money import MICRO_PER_FEN, format_yuan
from core.periods import Period
from core.transactions import assert_in_transaction
from identity.actions.events import Event, emit_all
from identity.models import Organization

State = Dispute.State


class DisputeNotFound(NotFound):
    """No such dispute, or line."""

    code = "dispute-not-found"


class BadDispute(BadRequest):
    """An amount that the line does not carry, or a credit beyond the dispute."""

    code = "bad-dispute"


class DisputeState(Conflict):
    """The line is disputed already, or the dispute is decided."""

    code = "dispute-state"


def open_dispute(
    *, invoice_id: int, line_number: int, amount_micro: int, reason: str, by: str, now: datetime
) -> Dispute:
    """
    Object to (part of) a line of an invoice: at once that slice is not due any more.

    :raises DisputeNotFound: no such line.
    :raises BadDispute: not whole fen, no taxable service, or more than the line less what was credited of it.
    :raises DisputeState: an open dispute stands on the line, or the invoice was withdrawn or given up.
    """
    invoice = lock_documents([invoice_id])[0]
    line = InvoiceLine.objects.filter(invoice=invoice, number=line_number, section="supply").first()
    if line is None or invoice.side != "buyer":
        raise DisputeNotFound("This invoice has no such line.", field="line")
    if invoice.kind == Invoice.Kind.CREDIT_NOTE or line.printed_micro <= 0 or not line.vat_thousandths:
        raise BadDispute("Only what charges for a taxable service can be disputed.", field="line")
    credited = line.disputes.aggregate(micro=Sum("credit_micro"))["micro"] or 0
    if amount_micro <= 0 or amount_micro % MICRO_PER_FEN or amount_micro > line.printed_micro - credited:
        raise BadDispute(f"Of this line ¥{format_yuan(line.printed_micro - credited)} can be disputed, in whole fen.",
                         field="amount")  # fmt: skip
    owes = receivable(invoice.organization_id)
    ledger.lock_accounts([owes])  # a deposit decides what it pays under this lock
    shown = invoices_readable(Organization.objects.all()).get(pk=invoice.pk)
    if shown.state not in (InvoiceState.State.OPEN, InvoiceState.State.PAID):
        raise DisputeState(f"{invoice.number} is {shown.state}: nothing of it is owed.")
    left = max(shown.due_micro - shown.paid_micro - shown.disputed_micro, 0)
    try:
        with transaction.atomic():
            row = Dispute.objects.create(
                line=line, invoice=invoice, amount_micro=amount_micro, held_micro=min(amount_micro, left),
                reason=reason.strip()[:500], opened_at=now, opened_by=by,
            )  # fmt: skip
    except IntegrityError:
        raise DisputeState("A dispute about this line is open already.", field="line") from None
    _tell(row, "dispute.opened", now)
    return row


def decide_dispute(*, dispute_id: int, credit_micro: int, decision: str, by: str, now: datetime) -> Dispute:
    """
    Decide a dispute: credit (part of) it, or with 0 reject it; what it held and was not credited is due again. The same
    decision again changes nothing. The credit settles what the invoice has due first; the rest is free to spend.

    :raises DisputeNotFound: there is none.
    :raises BadDispute: more than the dispute, not whole fen, or the buyer's VAT rate has changed since.
    :raises DisputeState: it was decided otherwise, or withdrawn.
    """
    row = _lock(dispute_id)
    wanted = State.ACCEPTED if credit_micro else State.REJECTED
    if row.state == wanted and row.credit_micro == credit_micro:
        return row
    if row.state != State.OPEN:
        raise DisputeState(f"This dispute is {row.get_state_display().lower()} already.")
    if credit_micro < 0 or credit_micro % MICRO_PER_FEN or credit_micro > row.amount_micro:
        raise BadDispute(f"Credit ¥0 to ¥{format_yuan(row.amount_micro)}, in whole fen.", field="credit")
    if not decision.strip():
        raise BadRequest("Say why; the buyer reads it.", field="decision")
    organization = row.invoice.organization
    if credit_micro and organization.vat_rate_thousandths != row.line.vat_thousandths:
        raise BadDispute("The buyer's VAT rate has changed since this invoice; set it back while you credit.",
                         field="credit")  # fmt: skip
    row.state, row.credit_micro, row.decision = wanted, credit_micro, decision.strip()[:500]
    row.decided_at, row.decided_by = now, by
    if credit_micro:
        push_charges([_allowance(row)], [], now=now)
        owes, free = receivable(organization.pk), available(organization.pk)
        ledger.lock_accounts([owes, free, revenue(), vat()])
        shown = invoices_readable(Organization.objects.all()).get(pk=row.invoice_id)
        is_open = shown.state == InvoiceState.State.OPEN
        others = shown.disputed_micro - row.held_micro
        left = max(shown.due_micro - shown.paid_micro - others, 0) if is_open else 0
        row.settled_micro = min(credit_micro, left)
        row.save()
        if is_open and row.settled_micro == shown.due_micro - shown.paid_micro:
            InvoiceState.objects.create(
                invoice=row.invoice, state=InvoiceState.State.PAID, at=now, reason=str(row))
    else:
        row.save()
    _tell(row, "dispute.decided", now)
    if credit_micro:
        ledger.post_all(allow(
            key=f"dispute:{row.pk}", organization_id=organization.pk, credit_micro=credit_micro,
            settled_micro=row.settled_micro, vat_thousandths=row.line.vat_thousandths), now=now)  # fmt: skip
    return row


def withdraw_dispute(*, dispute_id: int, now: datetime) -> Dispute:
    """
    Take an objection back: what it held is due again. Again, it changes nothing.

    :raises DisputeNotFound: there is none.
    :raises DisputeState: it was decided.
    """
    row = _lock(dispute_id)
    if row.state == State.WITHDRAWN:
        return row
    if row.state != State.OPEN:
        raise DisputeState(f"This dispute is {row.get_state_display().lower()} already.")
    row.state, row.decided_at = State.WITHDRAWN, now
    row.save(update_fields=["state", "decided_at"])
    return row


def _lock(dispute_id: int) -> Dispute:
    """Lock a dispute's document, then the dispute."""
    assert_in_transaction()
    found = Dispute.objects.filter(pk=dispute_id).values_list("invoice_id", flat=True).first()
    if found is None:
        raise DisputeNotFound("There is no dispute with that id.")
    lock_documents([found])
    rows = Dispute.objects.select_for_update(no_key=True, of=("self",))
    return rows.select_related("line", "invoice__organization").get(pk=dispute_id)


def _allowance(row: Dispute) -> ChargeInput:
    """Return the charge of a credit: its labels are the line's, so that the note says what it is about."""
    line = row.line
    taken = line.charges.select_related("charge").order_by("charge_id").first()
    assert taken is not None, "a line of a supply has its charges"
    charge = taken.charge
    return ChargeInput(
        source_key=f"dispute:{row.pk}", revision=1, kind=ChargeKind.ALLOWANCE, buyer_id=row.invoice.organization_id,
        provider_id=charge.provider_id, scope=line.scope, labels=line.labels | {"dispute": row.pk},
        quantity_micro_st=0, buyer_price_nano=0, seller_price_nano=0, buyer_amount_micro=-row.credit_micro,
        seller_amount_micro=0, fee_micro=0, tokens={}, occurred=Period(line.occurred_start, line.occurred_end),
        refers_to=charge.refers_to or charge.source_key,
    )  # fmt: skip


def _tell(row: Dispute, type_: str, now: datetime) -> None:
    emit_all([Event(row.invoice.organization_id, type_, f"dispute:{row.pk}", {
        "id": row.pk, "invoice": row.invoice.number, "line": row.line.number, "state": str(row.state),
        "amount": format_yuan(row.amount_micro), "held": format_yuan(row.held_micro),
        "credit": format_yuan(row.credit_micro)})], now=now)  # fmt: skip
