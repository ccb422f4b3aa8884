"""Red tax invoices (红字发票): a credit note or a reversal waits for the number of one, and gets it."""

from datetime import date, datetime

from django.db import IntegrityError, transaction
from django.db.models import Sum

from billing.domain.tax_invoices import NUMBER
from billing.models import Invoice, InvoiceTax, RedInvoice, TaxInvoice, TaxInvoiceDocument
from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from identity.actions.events import Event, emit_all

State = TaxInvoice.State


class TaxInvoiceNotFound(NotFound):
    """No such tax invoice, red invoice or title."""

    code = "tax-invoice-not-found"


class BadTaxNumber(BadRequest):
    """No number of 20 digits."""

    code = "bad-tax-invoice"


class TaxNumberUsed(Conflict):
    """Another tax invoice has this number, or this one has another."""

    code = "tax-invoice-used"


class TaxInvoiceState(Conflict):
    """The tax invoice is further on, or ended."""

    code = "tax-invoice-state"


def taxable(invoice_ids: "list[int]") -> tuple[int, int]:
    """Return net and tax of what documents charge as taxable services, in micro-yuan."""
    rows = InvoiceTax.objects.filter(invoice__in=invoice_ids, vat_thousandths__gt=0, section="supply")
    sums = rows.aggregate(net=Sum("net_micro"), tax=Sum("tax_micro"))
    return int(sums["net"] or 0), int(sums["tax"] or 0)


def await_red_invoice(*, note: Invoice, now: datetime) -> RedInvoice | None:
    """
    Let a credit note wait for its red invoice, where a tax invoice exists (or is asked for) for what it corrects; else
    None. The caller holds the lock of the corrected document.
    """
    assert_in_transaction()
    if note.kind != Invoice.Kind.CREDIT_NOTE or note.side != "buyer" or note.refers_to_id is None:
        return None
    taken = TaxInvoiceDocument.objects.filter(invoice_id=note.refers_to_id, counts=True).first()
    net, tax = taxable([note.pk])
    if taken is None or net + tax >= 0:
        return None
    tax_invoice = lock_tax_invoice(taken.tax_invoice_id)
    red = RedInvoice.objects.create(
        tax_invoice=tax_invoice, note=note, reason="销售折让", net_micro=net, tax_micro=tax, total_micro=net + tax,
        requested_at=now,
    )  # fmt: skip
    settle_state(tax_invoice)
    return red


def reverse(*, tax_invoice_id: int, reason: str, now: datetime) -> RedInvoice:
    """
    Ask for a red invoice over all that is left of a tax invoice; once it has its number, its documents are free for
    another one. Asked for already, the first one is returned.

    :raises TaxInvoiceNotFound: there is none.
    :raises TaxInvoiceState: it was not issued, or nothing is left of it.
    """
    tax_invoice = lock_tax_invoice(tax_invoice_id)
    if not reason.strip():
        raise BadRequest("Say why it is reversed; the tax office asks.", field="reason")
    waiting = tax_invoice.reds.filter(note=None, number=None).first()
    if waiting is not None:
        return waiting
    if tax_invoice.state not in (State.ISSUED, State.RED_PENDING):
        raise TaxInvoiceState(f"This tax invoice is {tax_invoice.get_state_display().lower()}; it cannot be reversed.")
    gone = tax_invoice.reds.aggregate(net=Sum("net_micro"), tax=Sum("tax_micro"))
    net, tax = -tax_invoice.net_micro - (gone["net"] or 0), -tax_invoice.tax_micro - (gone["tax"] or 0)
    if net + tax >= 0:
        raise TaxInvoiceState("Nothing is left of this tax invoice: red invoices take back all of it.")
    red = RedInvoice.objects.create(
        tax_invoice=tax_invoice, reason=reason.strip()[:200], net_micro=net, tax_micro=tax, total_micro=net + tax,
        requested_at=now,
    )  # fmt: skip
    settle_state(tax_invoice)
    return red


def enter_red_number(*, red_id: int, number: str, issued_on: date, now: datetime) -> RedInvoice:
    """
    Enter the number under which a red invoice was issued; what waited for it waits no more. Again, it changes nothing.

    :raises TaxInvoiceNotFound: there is no such red invoice.
    :raises BadTaxNumber: not 20 digits, or a day to come.
    :raises TaxNumberUsed: it has another number, or another one has this.
    :raises TaxInvoiceState: the tax invoice that it takes back has no number yet.
    """
    assert_in_transaction()
    red = RedInvoice.objects.filter(pk=red_id).first()
    if red is None:
        raise TaxInvoiceNotFound("There is no red invoice with that id.")
    tax_invoice = lock_tax_invoice(red.tax_invoice_id)
    red.refresh_from_db()
    check_number(number, issued_on, now)
    if red.number is not None:
        if (red.number, red.issued_on) != (number, issued_on):
            raise TaxNumberUsed(f"This red invoice has the number {red.number} already.", field="number")
        return red
    if tax_invoice.number is None:
        raise TaxInvoiceState("The tax invoice that it takes back has no number yet; enter that first.")
    refuse_known_number(number)
    red.number, red.issued_on = number, issued_on
    try:
        with transaction.atomic():
            red.save(update_fields=["number", "issued_on"])
    except IntegrityError:
        raise TaxNumberUsed("Another red invoice has this number.", field="number") from None
    settle_state(tax_invoice)
    emit_all([Event(tax_invoice.organization_id, "tax_invoice.red", f"red:{red.pk}", {
        "id": tax_invoice.pk, "number": tax_invoice.number, "red_number": number, "state": tax_invoice.state})],
        now=now)  # fmt: skip
    return red


def lock_tax_invoice(tax_invoice_id: int) -> TaxInvoice:
    """
    Lock a tax invoice until commit.

    :raises TaxInvoiceNotFound: there is none.
    """
    assert_in_transaction()
    rows = TaxInvoice.objects.select_for_update(no_key=True, of=("self",))
    found = rows.filter(pk=tax_invoice_id).first()
    if found is None:
        raise TaxInvoiceNotFound("There is no tax invoice with that id.")
    return found


def settle_state(tax_invoice: TaxInvoice) -> None:
    """Set the state that number and red invoices make; wholly taken back, it frees its documents."""
    if tax_invoice.number is None:
        return
    reds = list(tax_invoice.reds.all())
    if any(red.number is None for red in reds):
        tax_invoice.state = State.RED_PENDING
    elif sum(red.total_micro for red in reds) == -tax_invoice.total_micro:
        tax_invoice.state = State.REVERSED
        tax_invoice.documents.update(counts=False)
    else:
        tax_invoice.state = State.ISSUED
    tax_invoice.save(update_fields=["state"])


def check_number(number: str, issued_on: date, now: datetime) -> None:
    """Raise BadTaxNumber for what is no number or date of a tax invoice."""
    if not NUMBER.fullmatch(number):
        raise BadTaxNumber("A tax invoice's number has 20 digits.", field="number")
    if issued_on > now.date() and (issued_on - now.date()).days > 1:
        raise BadTaxNumber("A tax invoice is not issued on a day to come.", field="issued_on")


def refuse_known_number(number: str) -> None:
    """Raise TaxNumberUsed where a tax invoice or a red one has that number."""
    blue = TaxInvoice.objects.filter(number=number).exists()
    if blue or RedInvoice.objects.filter(number=number).exists():
        raise TaxNumberUsed("Another tax invoice has this number.", field="number")
