"""An invoice is withdrawn: what it charged waits for a document again, and its rounding line is mirrored."""

from datetime import datetime

from billing.actions import ledger
from billing.domain.accounts import receivable
from billing.domain.postings import Posting, Stage
from billing.models import (
    Invoice,
    InvoiceCharge,
    InvoiceState,
    PeriodClose,
    TaxInvoiceDocument,
    Transfer,
    WaitingCharge,
)
from core.errors import BadRequest, Conflict, NotFound
from core.periods import shanghai_date
from core.transactions import assert_in_transaction
from identity.access import Actor
from identity.actions import audit
from identity.actions.events import emit

State = InvoiceState.State


class NotWithdrawable(Conflict):
    """Something stands on the invoice that a withdrawal would contradict; `why` says what."""

    code = "invoice-not-withdrawable"


def withdraw_invoice(*, invoice_id: int, reason: str, now: datetime, actor: Actor | None) -> Invoice:
    """
    Withdraw an invoice to a buyer, so that its charges go on another one. Withdrawn already, it stays so.

    Only while no tax invoice exists for it, nothing was paid on it from later deposits, no note corrects it, nothing of
    it is disputed and its month is open; then a credit note is the way.

    :raises NotFound: there is no such invoice.
    :raises NotWithdrawable: see above.
    """
    invoice = lock_documents([invoice_id])[0]
    if not reason.strip():
        raise BadRequest("Say why the invoice is withdrawn; the buyer reads it.", field="reason")
    last = InvoiceState.objects.filter(invoice=invoice).latest("id")
    if last.state == State.WITHDRAWN:
        return invoice
    for why, stands, sentence in (
        ("kind", invoice.kind != Invoice.Kind.INVOICE or invoice.side != "buyer",
         "Only an invoice to a buyer can be withdrawn; notes and statements are corrected by notes."),
        ("tax-invoice", TaxInvoiceDocument.objects.filter(invoice=invoice, counts=True).exists(),
         "A tax invoice exists for this invoice, or is asked for: correct it by a credit note."),
        ("paid", invoice.payments.exists(), "Payments stand on this invoice: correct it by a credit note."),
        ("period", PeriodClose.objects.filter(
            closed_at__isnull=False, month__gte=shanghai_date(invoice.issued_at).replace(day=1)).exists(),
         "The month in which it was issued is closed: correct it by a credit note."),
        ("disputed", invoice.disputes.exclude(state="withdrawn").exists(),
         "A dispute stands on this invoice: decide that."),
        ("noted", invoice.notes.exists(), "Notes correct this invoice: correct it by another note."),
        ("state", last.state not in (State.OPEN, State.PAID), f"The invoice is {last.get_state_display().lower()}."),
    ):  # fmt: skip
        if stands:
            raise NotWithdrawable(sentence, why=why)
    InvoiceState.objects.create(invoice=invoice, state=State.WITHDRAWN, at=now, reason=reason.strip()[:200])
    charges = InvoiceCharge.objects.filter(line__invoice=invoice).values_list("charge_id", flat=True)
    WaitingCharge.objects.bulk_create(
        [WaitingCharge(charge_id=id_, organization_id=invoice.organization_id, side=invoice.side) for id_ in charges],
        batch_size=5_000,
    )
    audit.record(actor=actor, verb="invoice.withdraw", subject=f"invoice:{invoice.pk}", now=now,
                 after={"reason": reason.strip()[:200]})  # fmt: skip
    emit(organization_id=invoice.organization_id, type="invoice.withdrawn", key=f"invoice:{invoice.pk}", now=now,
         data={"id": invoice.pk, "number": invoice.number, "reason": reason.strip()[:200]})  # fmt: skip
    ledger.post_all(_mirror(invoice), now=now)
    return invoice


def lock_documents(ids: "list[int]") -> list[Invoice]:
    """
    Lock documents until commit, in the order of their ids: what decides on them (tax invoice, note, withdrawal) waits.

    :raises NotFound: one of them is not there.
    """
    assert_in_transaction()
    rows = list(Invoice.objects.select_for_update(no_key=True, of=("self",)).filter(pk__in=ids).order_by("pk"))
    if len(rows) != len(set(ids)):
        raise NotFound("There is no such document.")
    return rows


def _mirror(invoice: Invoice) -> list[Posting]:
    """Return the mirror of the transfers behind the rounding line; a buyer who has spent a part of a fen owes it."""
    key = f"rounding:{invoice.number}"
    postings: list[Posting] = []
    for row in Transfer.objects.filter(key__in=[key, f"{key}+1"]).select_related("debit", "credit").order_by("key"):
        taken_back_from = row.credit.ref
        debts = () if taken_back_from.organization_id is None else (receivable(invoice.organization_id),)
        postings.append(Posting(
            f"reverse:{row.key}", "invoice_rounding", Stage.POSTED, taken_back_from, row.debit.ref, row.amount_micro,
            label=invoice.number, fallbacks=tuple(debt for debt in debts if debt != taken_back_from),
        ))  # fmt: skip
    return postings
