"""Money received: it pays what the organization owes and does not dispute, and the rest is free to spend."""

from datetime import datetime

from django.db import IntegrityError, transaction

from billing import queries
from billing.actions import ledger
from billing.actions.paid_documents import note_paid
from billing.domain.accounts import AccountRef, available, bank, receivable
from billing.domain.postings import LARGEST_AMOUNT_MICRO
from billing.domain.principal import receive
from billing.models import Deposit
from core.errors import BadRequest, Conflict
from core.money import format_yuan
from core.transactions import assert_in_transaction
from identity.actions.events import emit


class DepositChanged(Conflict):
    """The reference was recorded before, for another organization or amount."""

    code = "deposit-changed"


class BadDeposit(BadRequest):
    """An amount that cannot be received."""

    code = "bad-deposit"


def record_deposit(
    *, organization_id: int, amount_micro: int, reference: str, now: datetime, method: str = "bank",
    debit: AccountRef | None = None,
) -> Deposit:
    """
    Record money received, once per method and reference; a repeat returns the first one's row. `debit` is where the
    money stands already, such as suspense; without it, it comes from outside.

    :raises DepositChanged: the reference exists with another organization or amount.
    :raises BadDeposit: an amount that is not above zero, or is beyond any account.
    """
    assert_in_transaction()
    if not 0 < amount_micro <= LARGEST_AMOUNT_MICRO:
        raise BadDeposit("A deposit is above ¥0 and at most ¥1,000,000,000,000.", field="amount")
    row = Deposit.objects.filter(method=method, reference=reference).first()
    if row is None:
        accounts = debit or bank(method), receivable(organization_id), available(organization_id)
        balances = ledger.lock_accounts(accounts)
        owed = -balances[accounts[1]].posted_micro - queries.open_disputed_micro(organization_id)
        debt = min(max(owed, 0), amount_micro)
        row = _insert(Deposit(
            organization_id=organization_id, amount_micro=amount_micro, method=method, reference=reference,
            settled_debt_micro=debt, received_at=now))
        if row.pk is not None:
            ledger.post_all(
                receive(key=f"deposit:{row.pk}", organization_id=organization_id, amount_micro=amount_micro,
                        debt_micro=debt, source=method, label=reference, debit=debit), now=now)
            note_paid(by=row, organization_id=organization_id, amount_micro=debt, now=now)
            emit(organization_id=organization_id, type="payment.received", key=f"deposit:{row.pk}", now=now, data={
                "id": row.pk, "amount": format_yuan(amount_micro), "method": method, "reference": reference,
                "settled_debt": format_yuan(debt)})
            return row
        row = Deposit.objects.get(method=method, reference=reference)
    if (row.organization_id, row.amount_micro) != (organization_id, amount_micro):
        raise DepositChanged(
            f"The payment “{reference}” is recorded already, for another organization or amount. Check the reference.",
            field="reference")
    return row


def _insert(row: Deposit) -> Deposit:
    """Insert it, or leave it without a primary key when another worker has just recorded the reference."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        row.pk = None
    return row
