"""Tax invoices (数电发票) are asked for, sent to the tax platform by file, and get number, date and documents."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from billing import tax_queries
from billing.actions.invoices import party
from billing.actions.red_invoices import (
    BadTaxNumber,
    TaxInvoiceNotFound,
    TaxInvoiceState,
    TaxNumberUsed,
    check_number,
    enter_red_number,
    lock_tax_invoice,
    refuse_known_number,
    settle_state,
)
from billing.actions.withdrawals import lock_documents
from billing.domain.bank_files import BadFile, BadLine, decoded
from billing.domain.tax_files import Answer, read_answers
from billing.domain.tax_invoices import ITEM, NotPositive, Taxed, TaxTotal, remark, tax_lines
from billing.models import (
    Invoice,
    InvoiceLine,
    InvoiceState,
    InvoiceTax,
    InvoiceTitle,
    RedInvoice,
    TaxExport,
    TaxInvoice,
    TaxInvoiceDocument,
    TaxInvoiceKind,
    TaxInvoiceLine,
)
from core.errors import BadRequest, Conflict, Problem
from core.money import format_yuan
from core.transactions import assert_in_transaction
from identity.actions.events import Event, emit_all
from identity.queries import operator_organization

State = TaxInvoice.State
MOST_DOCUMENTS = 500
MOST_FILE_BYTES = 2 * 2**20


class BadTaxRequest(BadRequest):
    """Documents that no tax invoice can be for."""

    code = "bad-tax-invoice"


class TaxInvoiceExists(Conflict):
    """One of the documents has its tax invoice already, or asks for one."""

    code = "tax-invoice-exists"


class BadAnswers(BadRequest):
    """A file that holds no answers."""

    code = "bad-tax-answers"


def request_tax_invoice(
    *, title: InvoiceTitle, kind: str, invoice_ids: Sequence[int], by: str, now: datetime
) -> TaxInvoice:
    """
    Ask for one tax invoice over documents of the title's organization, with the notes that correct them. Called with
    documents that have theirs, it is refused; so two at once make one.

    :raises BadTaxRequest: none or too many documents, another organization's, a credit note or a withdrawn invoice
        by itself, a special one without tax number, or nothing taxable.
    :raises TaxInvoiceExists: one of them has a tax invoice, or asks for one.
    """
    assert_in_transaction()
    if title.removed_at is not None:
        raise BadTaxRequest("This title was removed; use another one.", field="title")
    if kind == TaxInvoiceKind.SPECIAL and not title.tax_number:
        raise BadTaxRequest("A special tax invoice (81) needs a title with a tax number.", field="kind")
    if not 0 < len(invoice_ids) <= MOST_DOCUMENTS:
        raise BadTaxRequest(f"Name 1 to {MOST_DOCUMENTS} invoices.", field="invoices")
    own = Invoice.objects.filter(pk__in=invoice_ids, organization_id=title.organization_id, side="buyer")
    if own.count() != len(set(invoice_ids)):
        raise BadTaxRequest("One of these is no invoice of this organization.", field="invoices")
    asked = lock_documents(list(invoice_ids))
    withdrawn = set(InvoiceState.objects.filter(
        invoice__in=asked, state=InvoiceState.State.WITHDRAWN).values_list("invoice_id", flat=True))  # fmt: skip
    for row in asked:
        if row.kind == Invoice.Kind.CREDIT_NOTE:
            raise BadTaxRequest(f"{row.number} is a credit note; it goes with what it corrects.", field="invoices")
        if row.pk in withdrawn:
            raise BadTaxRequest(f"{row.number} was withdrawn.", field="invoices")
    rows = [*asked, *tax_queries.notes_to_take(asked)]
    lines = _lines(rows)
    net, tax = sum(line.net_micro for line in lines), sum(line.tax_micro for line in lines)
    if net + tax <= 0:
        raise BadTaxRequest("Nothing of these documents is a taxable service.", field="invoices")
    try:
        with transaction.atomic():
            made = TaxInvoice.objects.create(
                organization_id=title.organization_id, kind=kind, seller=party(operator_organization()),
                title=shown_title(title), net_micro=net, tax_micro=tax, total_micro=net + tax,
                remark=remark([row.number for row in rows]), requested_at=now, requested_by=by,
            )  # fmt: skip
            TaxInvoiceDocument.objects.bulk_create(TaxInvoiceDocument(tax_invoice=made, invoice=row) for row in rows)
    except IntegrityError:
        raise TaxInvoiceExists("One of these documents has its tax invoice already.", field="invoices") from None
    for line in lines:
        line.tax_invoice = made
    TaxInvoiceLine.objects.bulk_create(lines)
    return made


def _lines(rows: Sequence[Invoice]) -> list[TaxInvoiceLine]:
    printed = InvoiceLine.objects.filter(invoice__in=rows, section="supply", vat_thousandths__gt=0).order_by("id")
    totals = InvoiceTax.objects.filter(invoice__in=rows, section="supply")
    try:
        lines = tax_lines(
            [Taxed(line.vat_thousandths, _specification(line), line.quantity_micro_st, line.printed_micro)
             for line in printed],
            [TaxTotal(row.vat_thousandths, row.net_micro, row.tax_micro) for row in totals],
        )  # fmt: skip
    except NotPositive as error:
        raise BadTaxRequest(f"No tax invoice can be for these: {error}.", field="invoices") from None
    return [
        TaxInvoiceLine(
            number=number, tax_code=settings.TAX_CODE, item=ITEM, specification=line.specification,
            quantity_micro_st=line.quantity_micro_st, net_micro=line.net_micro, vat_thousandths=line.vat_thousandths,
            tax_micro=line.tax_micro,
        )
        for number, line in enumerate(lines, start=1)
    ]  # fmt: skip


def _specification(line: InvoiceLine) -> str:
    return str(line.labels.get("grade") or line.labels.get("model") or "")[:40]


def shown_title(title: InvoiceTitle) -> dict[str, str]:
    """Return a title as a tax invoice keeps it."""
    names = ("name", "tax_number", "address", "phone", "bank_name", "bank_account", "email")
    return {name: getattr(title, name) for name in names}


def request_monthly(*, title: InvoiceTitle, before: datetime, now: datetime) -> list[TaxInvoice]:
    """
    Ask for the tax invoices of what was issued to a title's organization before a time and has none: as many as it
    takes, each of at most 500 documents. Again, nothing waits and nothing is asked for.
    """
    assert_in_transaction()
    made: list[TaxInvoice] = []
    waiting = tax_queries.documents_without_tax_invoice(title.organization_id, before=before)
    for start in range(0, len(waiting), MOST_DOCUMENTS):
        made.append(request_tax_invoice(
            title=title, kind=title.monthly_kind, invoice_ids=waiting[start : start + MOST_DOCUMENTS], by="schedule",
            now=now))  # fmt: skip
    return made


def cancel_request(*, tax_invoice_id: int, by_operator: bool, now: datetime) -> TaxInvoice:
    """
    Take a request back. Once it stands on a file for the platform the operator alone can, who knows that it was not
    issued. Again, it changes nothing.

    :raises TaxInvoiceState: it was issued; a red invoice is the way. Or it is with the platform.
    """
    row = lock_tax_invoice(tax_invoice_id)
    if row.state == State.CANCELLED:
        return row
    if row.state != State.REQUESTED:
        raise TaxInvoiceState("This tax invoice was issued: it can be reversed, not cancelled.")
    if row.export_id is not None and not by_operator:
        raise TaxInvoiceState("The request is with the tax platform already; ask the operator.")
    row.state = State.CANCELLED
    row.save(update_fields=["state"])
    row.documents.update(counts=False)
    row.reds.all().delete()
    return row


def make_export(*, now: datetime) -> TaxExport | None:
    """Put every request that stands on no file yet on a new one, red ones of issued originals too; None for none."""
    assert_in_transaction()
    blues = TaxInvoice.objects.select_for_update(no_key=True, of=("self",), skip_locked=True).filter(
        state=State.REQUESTED, export=None)  # fmt: skip
    reds = RedInvoice.objects.select_for_update(no_key=True, of=("self",), skip_locked=True).filter(
        number=None, export=None, tax_invoice__number__isnull=False)  # fmt: skip
    ids, red_ids = [row.pk for row in blues.order_by("id")], [row.pk for row in reds.order_by("id")]
    if not ids and not red_ids:
        return None
    export = TaxExport.objects.create(created_at=now)
    TaxInvoice.objects.filter(pk__in=ids).update(export=export)
    RedInvoice.objects.filter(pk__in=red_ids).update(export=export)
    return export


def enter_number(
    *, tax_invoice_id: int, number: str, issued_on: date, total_micro: int, tax_micro: int, now: datetime
) -> TaxInvoice:
    """
    Enter under which number a tax invoice was issued. Again with the same figures, it changes nothing.

    :raises BadTaxNumber: not 20 digits, a day to come, or another total or tax than was asked for.
    :raises TaxNumberUsed: it has another number, or another one has this.
    :raises TaxInvoiceState: the request was cancelled.
    """
    row = lock_tax_invoice(tax_invoice_id)
    check_number(number, issued_on, now)
    for field, expected, found in (("total", row.total_micro, total_micro), ("tax", row.tax_micro, tax_micro)):
        if expected != found:
            raise BadTaxNumber(f"{row} was asked for with a {field} of ¥{format_yuan(expected)}, not"
                               f" ¥{format_yuan(found)}.", field=field)  # fmt: skip
    if row.number is not None:
        if (row.number, row.issued_on) != (number, issued_on):
            raise TaxNumberUsed(f"This tax invoice has the number {row.number} already.", field="number")
        return row
    if row.state != State.REQUESTED:
        raise TaxInvoiceState("This request was cancelled; what the platform issued for it has to be reversed there.")
    refuse_known_number(number)
    row.number, row.issued_on, row.refusal, row.state = number, issued_on, "", State.ISSUED
    try:
        with transaction.atomic():
            row.save(update_fields=["number", "issued_on", "refusal", "state"])
    except IntegrityError:
        raise TaxNumberUsed("Another tax invoice has this number.", field="number") from None
    settle_state(row)
    emit_all([Event(row.organization_id, "tax_invoice.issued", f"tax-invoice:{row.pk}", {
        "id": row.pk, "number": number, "kind": str(row.kind), "total": format_yuan(row.total_micro),
        "tax": format_yuan(row.tax_micro), "issued_on": issued_on.isoformat()})], now=now)  # fmt: skip
    return row


def import_answers(*, content: bytes, now: datetime) -> dict[str, Any]:
    """
    Take in what the platform answered (CSV). Lines that repeat what is known change nothing; those that contradict it
    are answered one by one.

    :returns: `{"issued", "red", "refused", "repeated", "rejected": [{"number", "detail"}]}`.
    :raises BadAnswers: the file as a whole holds no answers.
    """
    assert_in_transaction()
    try:
        answers, bad = read_answers(decoded(content))
    except BadFile as error:
        raise BadAnswers(str(error), field="content") from None
    counts = {"issued": 0, "red": 0, "refused": 0, "repeated": 0}
    for answer in sorted(answers, key=lambda answer: answer.reference.upper().startswith("RD")):  # the blue ones first
        try:
            with transaction.atomic():
                counts[_take(answer, now)] += 1
        except Problem as problem:
            bad.append(BadLine(answer.line, str(problem.detail)))
    return {**counts, "rejected": [entry._asdict() for entry in sorted(bad)]}


def _take(answer: Answer, now: datetime) -> str:
    prefix, digits = answer.reference.strip().upper()[:2], answer.reference.strip()[2:]
    if prefix not in ("TI", "RD") or not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise TaxInvoiceNotFound(f"“{answer.reference}” is no request of ours.")
    id_ = int(digits)
    if answer.refusal:
        if not TaxInvoice.objects.filter(pk=id_, state=State.REQUESTED).exists() or prefix != "TI":
            raise TaxInvoiceNotFound(f"“{answer.reference}” waits for no answer.")
        # not on a file any more: corrected, it goes out with the next
        TaxInvoice.objects.filter(pk=id_, state=State.REQUESTED).update(refusal=answer.refusal, export=None)
        return "refused"
    assert answer.issued_on is not None
    if prefix == "TI":
        before = TaxInvoice.objects.filter(pk=id_, number__isnull=False).exists()
        enter_number(tax_invoice_id=id_, number=answer.number, issued_on=answer.issued_on,
                     total_micro=answer.total_micro, tax_micro=answer.tax_micro, now=now)  # fmt: skip
        return "repeated" if before else "issued"
    red = RedInvoice.objects.filter(pk=id_).first()
    if red is None:
        raise TaxInvoiceNotFound(f"“{answer.reference}” is no request of ours.")
    if (red.total_micro, red.tax_micro) != (answer.total_micro, answer.tax_micro):
        raise BadTaxNumber(f"{red} was asked for with ¥{format_yuan(red.total_micro)} and a tax of"
                           f" ¥{format_yuan(red.tax_micro)}.", field="total")  # fmt: skip
    enter_red_number(red_id=id_, number=answer.number, issued_on=answer.issued_on, now=now)
    return "red" if red.number is None else "repeated"


def attach_file(*, tax_invoice_id: int, form: str, content: bytes) -> TaxInvoice:
    """
    Attach the XML or PDF of an issued tax invoice. The same again changes nothing.

    :param form: `xml` (it must name the number) or `pdf`.
    :raises TaxInvoiceState: it has no number yet, or another file stands there.
    :raises BadTaxRequest: no such file, or too large.
    """
    row = lock_tax_invoice(tax_invoice_id)
    if row.number is None:
        raise TaxInvoiceState("The tax invoice has no number yet: enter it first.")
    if not 0 < len(content) <= MOST_FILE_BYTES:
        raise BadTaxRequest("The file has 1 byte to 2 MiB.", field="content")
    if form == "pdf" and not content.startswith(b"%PDF-"):
        raise BadTaxRequest("This is no PDF.", field="content")
    is_xml = content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and row.number.encode() in content
    if form == "xml" and not is_xml:
        raise BadTaxRequest(f"This is no XML that names {row.number}.", field="content")
    there = bytes(getattr(row, form))
    if there and there != content:
        raise TaxInvoiceState("Another file is attached already.")
    setattr(row, form, content)
    row.save(update_fields=[form])
    return row

