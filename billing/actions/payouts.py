"""
Money goes out: a provider's proceeds by rule, refunds to where a deposit came from, returns from suspense.

A request sets the money aside at once; it leaves when the bank (or payment service) says so, and is back where it was
when the payout fails or is cancelled. Every step compares the state before it sets it, so that repeating it is
harmless.
"""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import Sum

from billing import payout_queries
from billing.actions import ledger
from billing.actions.funding import check_withdrawal
from billing.actions.paid_documents import note_paid
from billing.domain.accounts import AccountRef, available, bank, payable, receivable
from billing.domain.bank_files import BadFile, BadLine, decoded, read_results
from billing.domain.payouts import (
    PAYOUT_PREFIX,
    PayoutRules,
    Standing,
    comes_back,
    decide,
    leaves,
    on_its_way,
    set_aside,
    suspense,
)
from billing.domain.postings import Posting, Stage
from billing.models import (
    BankAccount,
    BankLine,
    BankLineBooking,
    Deposit,
    Payout,
    PayoutApproval,
    PayoutBatch,
    PayoutStatement,
)
from billing.queries import open_disputed_micro
from core.errors import BadRequest, Conflict, NotFound
from core.money import MICRO_PER_FEN, format_yuan
from core.transactions import assert_in_transaction
from identity.actions.events import Event, emit_all

State, Kind = Payout.State, Payout.Kind


class PayoutNotFound(NotFound):
    """No such payout, deposit or batch."""

    code = "payout-not-found"


class PayoutRefused(Conflict):
    """The rules allow no payout now; `code` in the answer says which."""

    code = "payout-refused"


class NoAccount(Conflict):
    """Nobody knows an account to pay to."""

    code = "no-bank-account"


class WrongState(Conflict):
    """The payout is further on, or ended."""

    code = "payout-state"


class SamePerson(Conflict):
    """Two different persons approve what is above the threshold."""

    code = "payout-needs-another-person"


class BadRefund(BadRequest):
    """More than is left of the deposit, or not in whole fen."""

    code = "bad-refund"


class BadResults(BadRequest):
    """A file that holds no results."""

    code = "bad-payout-results"


def rules() -> PayoutRules:
    """Return the operator's settings."""
    return PayoutRules(
        minimum_micro=settings.PAYOUT_MINIMUM_MICRO,
        approval_above_micro=settings.PAYOUT_APPROVAL_ABOVE_MICRO,
        needs_tax_invoice=settings.PAYOUT_NEEDS_TAX_INVOICE,
    )


def request_payout(*, organization_id: int, by: str, now: datetime, method: str = "bank") -> Payout:
    """
    Pay a provider what its settled statements come to, less what it owes: see `domain.payouts.decide`.

    :raises PayoutRefused: nothing may be paid out now; the sentence and `why` say what is in the way.
    """
    assert_in_transaction()
    accounts = payable(organization_id), receivable(organization_id), on_its_way(organization_id)
    balances = ledger.lock_accounts(accounts)
    account = payout_queries.payee_account(organization_id)
    destination = payout_queries.connect_account(organization_id) if method == "stripe" else ""
    statements, waiting_micro = payout_queries.statements_to_pay(organization_id, rules().needs_tax_invoice)
    # What is disputed of a document is not due, and so not set off.
    owed = max(-balances[accounts[1]].posted_micro - open_disputed_micro(organization_id), 0)
    decision = decide(
        Standing(
            statements_micro=sum(row.total_micro for row in statements),
            waiting_invoice_micro=waiting_micro,
            payable_micro=balances[accounts[0]].free_micro,
            owed_micro=owed,
            disputed_micro=payout_queries.disputed_micro(organization_id),
            has_account=bool(destination) if method == "stripe" else account is not None,
        ),
        rules(),
    )
    if not decision.amount_micro:
        raise PayoutRefused(decision.reason, why=decision.code)
    payout = _create(
        kind=Kind.PROCEEDS, method=method, organization_id=organization_id, amount_micro=decision.amount_micro,
        payee=account.holder if account and method == "bank" else "",
        payee_account=account.number if account and method == "bank" else destination,
        payee_bank=account.bank if account and method == "bank" else "",
        account=account if method == "bank" else None, by=by, now=now,
    )  # fmt: skip
    PayoutStatement.objects.bulk_create(PayoutStatement(payout=payout, statement=row) for row in statements)
    postings = [set_aside(payout.pk, "payout", accounts[0], organization_id, payout.amount_micro)]
    if owed:
        postings.append(Posting(f"payout:{payout.pk}:setoff", "setoff", Stage.POSTED, accounts[0], accounts[1], owed))
    ledger.post_all(postings, now=now)
    note_paid(by=payout, organization_id=organization_id, amount_micro=owed, now=now)
    return payout


def request_refund(*, deposit_id: int, amount_micro: int, by: str, now: datetime) -> Payout:
    """
    Send (part of) a deposit back to where it came from, out of what the organization has free.

    :raises PayoutNotFound: no such deposit.
    :raises BadRefund: not whole fen, or more than is left of that deposit.
    :raises NoAccount: the deposit was entered by hand and the organization has no verified account.
    :raises InsufficientFunds: the money is spent or held.
    """
    assert_in_transaction()
    deposit = Deposit.objects.select_for_update(no_key=True).filter(pk=deposit_id).first()
    if deposit is None:
        raise PayoutNotFound("There is no deposit with that id.")
    ended = [State.FAILED, State.CANCELLED]
    gone = deposit.refunds.exclude(state__in=ended).aggregate(micro=Sum("amount_micro"))["micro"] or 0
    if amount_micro <= 0 or amount_micro % MICRO_PER_FEN:
        raise BadRefund("A refund is above zero and in whole fen.", field="amount")
    if amount_micro > deposit.amount_micro - gone:
        raise BadRefund(f"Of this deposit ¥{format_yuan(deposit.amount_micro - gone)} is left.", field="amount")
    payee, number, bank_name, account = _origin(deposit)
    owner = deposit.organization_id
    check_withdrawal(ledger.lock_accounts([available(owner), on_its_way(owner)]), owner, amount_micro)
    payout = _create(
        kind=Kind.REFUND, method=deposit.method, organization_id=deposit.organization_id, amount_micro=amount_micro,
        payee=payee, payee_account=number, payee_bank=bank_name, account=account, deposit=deposit, by=by, now=now,
    )  # fmt: skip
    ledger.post_all([set_aside(payout.pk, "refund_out", available(deposit.organization_id), deposit.organization_id,
                               amount_micro)], now=now)  # fmt: skip
    return payout


def return_to_payer(*, line: BankLine, by: str, now: datetime) -> Payout:
    """
    Send a bank line's money back to its payer, out of suspense.

    :raises NoAccount: the line names no account.
    """
    assert_in_transaction()
    if not line.payer_account:
        raise NoAccount("The bank statement names no account of the payer.")
    payout = _create(
        kind=Kind.RETURN, method="bank", organization_id=None, amount_micro=line.amount_micro, payee=line.payer,
        payee_account=line.payer_account, payee_bank=line.payer_bank, account=None, by=by, now=now,
    )  # fmt: skip
    ledger.post_all([set_aside(payout.pk, "return", suspense(), None, line.amount_micro)], now=now)
    return payout


def approve(*, payout_id: int, by: str, now: datetime) -> Payout:
    """
    Let a payout go. Above the threshold it takes two persons, neither of whom has requested it; the same one again
    changes nothing.

    :raises PayoutNotFound: no such payout.
    :raises SamePerson: whoever requested it approves it.
    :raises WrongState: it has ended.
    """
    payout = lock(payout_id)
    if payout.state in (State.APPROVED, State.SENT, State.PAID):
        return payout
    if payout.state != State.WAITING:
        raise WrongState(f"This payout is {payout.get_state_display().lower()} already.")
    if by == payout.requested_by:
        raise SamePerson("Whoever requested a payout does not approve it: somebody else must.")
    PayoutApproval.objects.bulk_create([PayoutApproval(payout=payout, by=by, at=now)], ignore_conflicts=True)
    if payout.approvals.count() >= payout.approvals_needed:
        payout.state = State.APPROVED
        payout.save(update_fields=["state"])
    return payout


def cancel(*, payout_id: int, reason: str, now: datetime) -> Payout:
    """
    Take a payout back that has not been sent: its money is where it was. Again, it changes nothing.

    :raises PayoutNotFound: no such payout.
    :raises WrongState: it was sent, or has ended otherwise.
    """
    payout = lock(payout_id)
    if payout.state == State.CANCELLED:
        return payout
    if payout.state not in (State.WAITING, State.APPROVED):
        raise WrongState(f"This payout is {payout.get_state_display().lower()} already; it cannot be cancelled.")
    postings, events = _end(payout, State.CANCELLED, reason, "", now)
    emit_all(events, now=now)
    ledger.post_all(postings, now=now)
    return payout


def make_batch(*, now: datetime) -> PayoutBatch | None:
    """Take every approved payout by bank into a new batch, which is then sent; None where there is none."""
    assert_in_transaction()
    rows = list(
        Payout.objects.select_for_update(no_key=True, of=("self",), skip_locked=True)
        .filter(state=State.APPROVED, method="bank")
        .order_by("id")
    )
    if not rows:
        return None
    batch = PayoutBatch.objects.create(created_at=now, total_micro=sum(row.amount_micro for row in rows))
    Payout.objects.filter(pk__in=[row.pk for row in rows]).update(state=State.SENT, batch=batch)
    return batch


def import_results(*, content: bytes, now: datetime) -> dict[str, Any]:
    """
    Take in what the bank says of payouts: paid, or failed with the money back where it was. Lines that repeat what
    is known change nothing; lines that contradict it, or name another amount or no payout of ours, are answered
    one by one.

    :returns: `{"paid", "failed", "repeated", "rejected": [{"number", "detail"}]}`.
    :raises BadResults: the file as a whole holds no results.
    """
    assert_in_transaction()
    try:
        results, bad = read_results(decoded(content))
    except BadFile as error:
        raise BadResults(str(error), field="content") from None
    ids = [_payout_id(result.reference) for result in results]
    rows = {
        row.pk: row
        for row in Payout.objects.select_for_update(no_key=True, of=("self",))
        .filter(pk__in=[id_ for id_ in ids if id_], method="bank")
        .order_by("id")
    }
    counts = {"paid": 0, "failed": 0, "repeated": 0}
    postings: list[Posting] = []
    events: list[Event] = []
    for result, payout_id in zip(results, ids, strict=True):
        payout = rows.get(payout_id or 0)
        wanted = State.PAID if result.paid else State.FAILED
        if payout is None:
            bad.append(BadLine(result.number, f"“{result.reference}” is no payout of ours."))
        elif payout.amount_micro != result.amount_micro:
            bad.append(BadLine(result.number, f"{payout} is of ¥{format_yuan(payout.amount_micro)}, not of"
                                              f" ¥{format_yuan(result.amount_micro)}."))  # fmt: skip
        elif payout.state == wanted:
            counts["repeated"] += 1
        elif payout.state != State.SENT:
            bad.append(BadLine(result.number, f"{payout} is {payout.get_state_display().lower()}; it was not sent."))
        else:
            more, told = _end(payout, wanted, result.reason, result.bank_reference, now)
            postings += more
            events += told
            counts["paid" if result.paid else "failed"] += 1
            if not result.paid and result.account_is_closed and payout.account_id:
                BankAccount.objects.filter(pk=payout.account_id, closed_at=None).update(
                    closed_at=now, closed_reason=result.reason[:200]
                )
    emit_all(events, now=now)
    ledger.post_all(postings, now=now)
    return {**counts, "rejected": [entry._asdict() for entry in sorted(bad)]}


def settle(
    *, payout_id: int, paid: bool, reason: str, outside_reference: str, now: datetime, arrived_back: bool = False
) -> Payout:
    """
    Note that a sent payout was paid, or failed. `arrived_back`: money that had left is at the bank again.

    Repeating what is known changes nothing.

    :raises PayoutNotFound: no such payout.
    :raises WrongState: it was not sent, or has ended otherwise.
    """
    payout = lock(payout_id)
    wanted = State.PAID if paid else State.FAILED
    if payout.state == wanted:
        return payout
    if not (payout.state == State.SENT or (payout.state == State.PAID and arrived_back)):
        raise WrongState(f"This payout is {payout.get_state_display().lower()}.")
    postings, events = _end(payout, wanted, reason, outside_reference, now)
    emit_all(events, now=now)
    ledger.post_all(postings, now=now)
    return payout


def mark_sent(*, payout_id: int) -> bool:
    """Note that an approved payout by a payment service is on its way; False where another worker has taken it."""
    assert_in_transaction()
    return bool(Payout.objects.filter(pk=payout_id, state=State.APPROVED).update(state=State.SENT))


def lock(payout_id: int) -> Payout:
    """
    Lock a payout until commit.

    :raises PayoutNotFound: there is none.
    """
    assert_in_transaction()
    payout = Payout.objects.select_for_update(no_key=True, of=("self",)).filter(pk=payout_id).first()
    if payout is None:
        raise PayoutNotFound("There is no payout with that id.")
    return payout


def source_of(payout: Payout) -> AccountRef:
    """Return the account from which a payout's money was set aside."""
    if payout.kind == Kind.RETURN or payout.organization_id is None:
        return suspense()
    return payable(payout.organization_id) if payout.kind == Kind.PROCEEDS else available(payout.organization_id)


def _create(*, kind: str, amount_micro: int, by: str, now: datetime, **fields: Any) -> Payout:
    above = amount_micro > rules().approval_above_micro
    return Payout.objects.create(
        kind=kind, amount_micro=amount_micro, approvals_needed=2 if above else 0,
        state=State.WAITING if above else State.APPROVED, requested_at=now, requested_by=by, **fields,
    )  # fmt: skip


def _end(
    payout: Payout, state: Payout.State, reason: str, outside_reference: str, now: datetime
) -> tuple[list[Posting], list[Event]]:
    """Set a payout's last state, and return the postings and events of it."""
    before = payout.state
    payout.state, payout.ended_at, payout.reason = state, now, reason[:200]
    payout.outside_reference = outside_reference or payout.outside_reference
    payout.save(update_fields=["state", "ended_at", "reason", "outside_reference"])
    owner, amount = payout.organization_id, payout.amount_micro
    if state == State.PAID:
        postings = [leaves(payout.pk, owner, payout.method, amount)]
    elif before == State.PAID:
        postings = [Posting(f"payout:{payout.pk}:returned", "payout_back", Stage.POSTED, bank(payout.method),
                            source_of(payout), amount, label=str(payout))]  # fmt: skip
    else:
        postings = [comes_back(payout.pk, source_of(payout), owner, amount)]
    if state != State.PAID:
        payout.statements.update(counts=False)
        if payout.kind == Kind.RETURN:
            BankLineBooking.objects.filter(payout=payout, state="returned").update(
                state="suspense", payout=None, resolved_at=None, reason="it was returned, and came back"
            )
    return postings, _events(payout, state)


def _events(payout: Payout, state: Payout.State) -> list[Event]:
    if payout.organization_id is None or state == State.CANCELLED:
        return []
    type_ = "payout.failed" if state == State.FAILED else (
        "payment.refunded" if payout.kind == Kind.REFUND else "payout.paid")  # fmt: skip
    data = {
        "id": payout.pk,
        "reference": str(payout),
        "kind": payout.kind,
        "amount": format_yuan(payout.amount_micro),
        "reason": payout.reason,
    }
    return [Event(payout.organization_id, type_, f"payout:{payout.pk}", data)]


def _origin(deposit: Deposit) -> tuple[str, str, str, BankAccount | None]:
    """Return payee, account number, bank and, where we pay to one of its accounts, that account."""
    if deposit.method != "bank":
        return "", deposit.reference, "", None
    booking = BankLineBooking.objects.select_related("line").filter(deposit=deposit).first()
    if booking is not None and booking.line.payer_account:
        line = booking.line
        return line.payer, line.payer_account, line.payer_bank, None
    account = payout_queries.payee_account(deposit.organization_id)
    if account is None:
        raise NoAccount("Nobody knows from which account this deposit came; verify a bank account first.")
    return account.holder, account.number, account.bank, account


def _payout_id(reference: str) -> int | None:
    digits = reference.strip().upper().removeprefix(PAYOUT_PREFIX)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
