"""
Documents are issued: an organization's waiting charges become an invoice or statement, with a number and its postings.

Charges that revise ones already documented go on a credit or debit note that points at that document.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count

from billing.actions import ledger
from billing.actions.red_invoices import await_red_invoice
from billing.actions.withdrawals import lock_documents
from billing.domain.accounts import available, payable, receivable, revenue, rounding
from billing.domain.cycles import Batch, Cycle, batch_of
from billing.domain.documents import Document, Item, draw_up
from billing.domain.periods import month_of
from billing.domain.postings import Posting
from billing.domain.principal import round_invoice, round_statement
from billing.models import (
    BillingProfile,
    Charge,
    DocumentSeries,
    Invoice,
    InvoiceCharge,
    InvoiceLine,
    InvoiceState,
    InvoiceTax,
    SettledScope,
    WaitingCharge,
)
from billing.queries import open_due_micro, profile
from core.money import format_yuan
from core.periods import Period, shanghai_date
from core.transactions import assert_in_transaction
from identity.actions.events import Event, emit_all
from identity.models import Organization
from identity.queries import operator_organization

Kind = Invoice.Kind
PREFIX = {
    ("buyer", Kind.INVOICE): "INV", ("buyer", Kind.CREDIT_NOTE): "CRN", ("buyer", Kind.DEBIT_NOTE): "DBN",
    ("provider", Kind.STATEMENT): "STM", ("provider", Kind.CREDIT_NOTE): "SCN", ("provider", Kind.DEBIT_NOTE): "SDN",
}


class Draft(NamedTuple):
    """A document about to be issued."""

    side: str
    kind: Invoice.Kind
    batch: Batch
    refers_to_id: int | None
    document: Document

    @property
    def period(self) -> Period:
        """The calendar period it is for, or that of its charges."""
        return self.batch.period or Period(
            min(line.occurred_start for line in self.document.lines),
            max(line.occurred_end for line in self.document.lines))


def issue_invoices(*, organization_id: int, now: datetime) -> list[Invoice]:
    """
    Issue every document of an organization that is due: nothing waits on a second call, so it issues nothing.

    Called last in its transaction: it locks the document series and then ledger accounts.
    """
    assert_in_transaction()
    waiting = list(
        WaitingCharge.objects.select_for_update(of=("self",)).select_related("charge")
        .filter(organization_id=organization_id).order_by("id"))
    if not waiting:
        return []
    customer = Organization.objects.get(pk=organization_id)
    billed = profile(organization_id)
    taken, drafts = _drafts(waiting, Cycle(billed.cycle), now)
    if not drafts:
        return []
    lock_documents(sorted({draft.refers_to_id for draft in drafts if draft.refers_to_id}))
    numbers = _numbers(drafts, now)
    owes = receivable(organization_id)
    balances = ledger.lock_accounts([
        available(organization_id), owes, payable(organization_id), rounding(), revenue()])
    owed_micro = -balances[owes].posted_micro - open_due_micro(organization_id)
    parties = {"issuer": party(operator_organization()), "customer": party(customer)}
    issued: list[Invoice] = []
    postings: list[Posting] = []
    for draft, number in zip(drafts, numbers, strict=True):
        on_account = draft.side == "buyer" and owed_micro > 0
        postings += _rounding(draft, number, organization_id, on_account)
        due_micro = 0
        if on_account:
            owed_micro += draft.document.rounding_micro
            due_micro = max(0, min(owed_micro, draft.document.total_micro))
            owed_micro -= due_micro
        issued.append(_insert(draft, number, billed, parties, due_micro, now))
    WaitingCharge.objects.filter(pk__in=taken).delete()
    for note in issued:
        await_red_invoice(note=note, now=now)
    emit_all([_issued(invoice) for invoice in issued], now=now)
    ledger.post_all(postings, now=now)
    return issued


def _issued(invoice: Invoice) -> Event:
    return Event(invoice.organization_id, "invoice.issued", f"invoice:{invoice.pk}", {
        "id": invoice.pk, "number": invoice.number, "kind": str(invoice.kind), "side": invoice.side,
        "total": format_yuan(invoice.total_micro), "due": format_yuan(invoice.due_micro),
        "due_on": invoice.due_on.isoformat()})


def _drafts(waiting: Sequence[WaitingCharge], cycle: Cycle, now: datetime) -> tuple[list[int], list[Draft]]:
    """Return which waiting charges are due, and the documents they make."""
    settled = set(SettledScope.objects.filter(
        scope__in={row.charge.scope for row in waiting}).values_list("scope", flat=True))
    documented = _documented(waiting)
    groups: dict[tuple[str, Batch, int | None], list[WaitingCharge]] = {}
    for row in waiting:
        charge = row.charge
        batch = batch_of(cycle=cycle, scope=charge.scope, scope_is_settled=charge.scope in settled,
                         charged_at=charge.charged_at, now=now)
        if batch is not None:
            corrected = documented.get((row.side, charge.refers_to or charge.source_key))
            groups.setdefault((row.side, batch, corrected), []).append(row)
    fee_vat = operator_organization().vat_rate_thousandths
    drafts: list[Draft] = []
    for (side, batch, refers_to_id), rows in groups.items():
        document = draw_up([item_of(row.charge, side) for row in rows], fee_vat_thousandths=fee_vat)
        drafts.append(Draft(side, _kind(side, refers_to_id, document), batch, refers_to_id, document))
    return [row.pk for rows in groups.values() for row in rows], drafts


def _documented(waiting: Iterable[WaitingCharge]) -> dict[tuple[str, str], int]:
    """Return on which document each corrected charge's first revision stands, by side and source key."""
    keys = {row.charge.refers_to or row.charge.source_key for row in waiting if row.charge.revision}
    rows = InvoiceCharge.objects.filter(charge__source_key__in=keys, charge__revision=0).values_list(
        "side", "charge__source_key", "line__invoice_id").order_by("withdrawn")  # the last one holds
    documented = {(side, key): invoice_id for side, key, invoice_id in rows}
    withdrawn = set(InvoiceState.objects.filter(
        invoice__in=documented.values(), state=InvoiceState.State.WITHDRAWN).values_list("invoice_id", flat=True))
    return {place: invoice_id for place, invoice_id in documented.items() if invoice_id not in withdrawn}


def _kind(side: str, refers_to_id: int | None, document: Document) -> Invoice.Kind:
    if refers_to_id is None:
        return Kind.INVOICE if side == "buyer" else Kind.STATEMENT
    return Kind.DEBIT_NOTE if document.total_micro > 0 else Kind.CREDIT_NOTE


def item_of(charge: Charge, side: str) -> Item:
    """Return one side of a charge."""
    buys = side == "buyer"
    own = month_of(Period(charge.occurred_start, charge.occurred_end))
    late = {"late_month": f"{own:%Y-%m}"} if charge.booked_month and charge.booked_month > own else {}
    return Item(
        charge_id=charge.id, kind=charge.kind, scope=charge.scope, labels=charge.labels | late, tokens=charge.tokens,
        quantity_micro_st=charge.quantity_micro_st,
        price_nano=charge.buyer_price_nano if buys else charge.seller_price_nano,
        amount_micro=charge.buyer_amount_micro if buys else charge.seller_amount_micro,
        vat_thousandths=charge.vat_thousandths if buys else charge.provider_vat_thousandths,
        fee_micro=0 if buys else charge.fee_micro, occurred_start=charge.occurred_start,
        occurred_end=charge.occurred_end)


def _numbers(drafts: Sequence[Draft], now: datetime) -> list[str]:
    """Take the next numbers, with the series locked in the order of their names."""
    names = [f"{PREFIX[draft.side, draft.kind]}{shanghai_date(now).year}" for draft in drafts]
    DocumentSeries.objects.bulk_create([DocumentSeries(name=name) for name in sorted(set(names))],
                                       ignore_conflicts=True)
    series = {row.name: row for row in
              DocumentSeries.objects.select_for_update(no_key=True).filter(name__in=names).order_by("name")}
    numbers: list[str] = []
    for name in names:
        series[name].last_number += 1
        numbers.append(f"{name}-{series[name].last_number:06d}")
    for row in series.values():
        DocumentSeries.objects.filter(pk=row.pk).update(last_number=row.last_number)
    return numbers


def _rounding(draft: Draft, number: str, organization_id: int, on_account: bool) -> list[Posting]:
    difference_micro, key = draft.document.rounding_micro, f"rounding:{number}"
    if not difference_micro:
        return []
    if draft.side == "provider":
        return [round_statement(key=key, organization_id=organization_id, difference_micro=difference_micro)]
    return [round_invoice(key=key, organization_id=organization_id, difference_micro=difference_micro,
                          on_account=on_account)]


def _insert(
    draft: Draft, number: str, billed: BillingProfile, parties: dict[str, Any], due_micro: int, now: datetime
) -> Invoice:
    document, period = draft.document, draft.period
    invoice = Invoice.objects.create(
        kind=draft.kind, side=draft.side, number=number, organization_id=billed.organization_id,
        refers_to_id=draft.refers_to_id, cycle=draft.batch.cycle.value, period_start=period.start,
        period_end=period.end, issued_at=now, due_on=shanghai_date(now + timedelta(days=billed.payment_days)),
        exact_micro=document.exact_micro, rounding_micro=document.rounding_micro, net_micro=document.net_micro,
        tax_micro=document.tax_micro, total_micro=document.total_micro, due_micro=due_micro, **parties)
    lines = InvoiceLine.objects.bulk_create([
        InvoiceLine(
            invoice=invoice, number=line_number, section=line.section, kind=line.kind, scope=line.scope,
            labels=line.labels, tokens=line.tokens, quantity_micro_st=line.quantity_micro_st,
            price_nano=line.price_nano, amount_micro=line.amount_micro, printed_micro=line.printed_micro,
            vat_thousandths=line.vat_thousandths, occurred_start=line.occurred_start, occurred_end=line.occurred_end)
        for line_number, line in enumerate(document.lines, start=1)])
    InvoiceTax.objects.bulk_create([
        InvoiceTax(invoice=invoice, section=tax.section, vat_thousandths=tax.vat_thousandths,
                   gross_micro=tax.gross_micro, net_micro=tax.net_micro, tax_micro=tax.tax_micro)
        for tax in document.taxes])
    before = _withdrawn_before(draft)
    InvoiceCharge.objects.bulk_create([
        InvoiceCharge(charge_id=charge_id, side=draft.side, line=row, withdrawn=before.get(charge_id, 0))
        for row, line in zip(lines, document.lines, strict=True) for charge_id in line.charge_ids], batch_size=5_000)
    states = [InvoiceState.State.OPEN] if due_micro or draft.side == "provider" else [
        InvoiceState.State.OPEN, InvoiceState.State.PAID]
    InvoiceState.objects.bulk_create([InvoiceState(invoice=invoice, state=state, at=now) for state in states])
    return invoice


def _withdrawn_before(draft: Draft) -> dict[UUID, int]:
    """Return how many withdrawn documents took a charge before; most were taken by none."""
    ids = [charge_id for line in draft.document.lines for charge_id in line.charge_ids]
    taken = InvoiceCharge.objects.filter(charge__in=ids, side=draft.side).order_by().values("charge_id")
    return dict(taken.annotate(times=Count("pk")).values_list("charge_id", "times"))


def party(organization: Organization) -> dict[str, Any]:
    """Return an organization as a document names it; it stays so when the organization changes."""
    billed = profile(organization.pk)
    return {
        "id": organization.pk, "name": organization.name, "name_zh": organization.name_zh,
        "legal_name": billed.legal_name or organization.name_zh or organization.name,
        "tax_number": billed.tax_number, "address": billed.address, "phone": billed.phone,
        "bank_name": billed.bank_name, "bank_account": billed.bank_account,
    }
