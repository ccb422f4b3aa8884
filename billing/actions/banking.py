"""
Bank statements come in: lines are stored first, then each is booked in a transaction of its own.

A line is stored once per bank reference and booked once per line, so the same file twice, two files that overlap, or a
kill between storing and booking change nothing: a sweep books what has no booking yet.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing import queries
from billing.actions import ledger, payouts
from billing.actions.deposits import record_deposit
from billing.domain.accounts import bank
from billing.domain.bank_files import BadFile, BadLine, StatementLine, decoded, read_statement, references_in
from billing.domain.matching import Match, Payer, match, plain_name
from billing.domain.payouts import suspense
from billing.domain.postings import Posting, Stage
from billing.models import BankLine, BankLineBooking, BankStatement, BillingProfile, Payout
from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from identity.models import Organization

State = BankLineBooking.State
PAYOUT_NUMBER = re.compile(r"PO(\d{8,18})(?!\d)")


class BadStatement(BadRequest):
    """A file that is no bank statement."""

    code = "bad-bank-statement"


class LineNotFound(NotFound):
    """No such bank line on the work list."""

    code = "bank-line-not-found"


class LineResolved(Conflict):
    """Somebody dealt with this line already, in another way."""

    code = "bank-line-resolved"


def import_statement(*, content: bytes, name: str, now: datetime) -> BankStatement:
    """
    Store a statement's lines; the same file again returns the first one's row. Lines that were stored before are
    counted as repeated; one whose bank reference says something else now is rejected, as are those that cannot be read.

    :raises BadStatement: the file as a whole is no statement.
    """
    assert_in_transaction()
    digest = sha256(content).digest()
    known = BankStatement.objects.filter(digest=digest).first()
    if known is not None:
        return known
    try:
        lines, bad = read_statement(decoded(content))
    except BadFile as error:
        raise BadStatement(str(error), field="content") from None
    try:
        with transaction.atomic():
            statement = BankStatement.objects.create(
                digest=digest, name=name, imported_at=now, lines_added=0, lines_repeated=0, rejected=[]
            )
    except IntegrityError:  # another worker imported the same file at the same time, and has committed now
        return BankStatement.objects.get(digest=digest)
    added, repeated, changed = _store(statement, lines)
    statement.lines_added, statement.lines_repeated = added, repeated
    statement.rejected = [entry._asdict() for entry in (*bad, *changed)]
    statement.save(update_fields=["lines_added", "lines_repeated", "rejected"])
    return statement


def _store(statement: BankStatement, lines: Sequence[StatementLine]) -> tuple[int, int, list[BadLine]]:
    """Insert the lines in the order of their references, so that two files at once wait in one order."""
    by_reference: dict[str, StatementLine] = {}
    changed: list[BadLine] = []
    repeated = 0
    for line in lines:
        first = by_reference.setdefault(line.reference, line)
        if first is not line:
            repeated += 1
            if first != line:
                changed.append(BadLine(0, f"The bank reference {line.reference} stands twice, with other content."))
    rows = [BankLine(statement=statement, **by_reference[reference]._asdict()) for reference in sorted(by_reference)]
    BankLine.objects.bulk_create(rows, ignore_conflicts=True, batch_size=2_000)
    stored = {row.reference: row for row in BankLine.objects.filter(reference__in=by_reference)}
    added = 0
    for reference, line in by_reference.items():
        row = stored[reference]
        if row.statement_id == statement.pk:
            added += 1
        else:
            repeated += 1
            if (row.amount_micro, row.payer_account) != (line.amount_micro, line.payer_account):
                changed.append(BadLine(0, f"The bank reference {reference} is known with another amount or payer."))
    return added, repeated, changed


def book_line(*, line_id: int, now: datetime) -> BankLineBooking:
    """
    Book a line, once: to whom it belongs, or to suspense with a place on the work list. A repeat returns the first.

    :raises LineNotFound: no such line.
    """
    assert_in_transaction()
    line = BankLine.objects.select_for_update(no_key=True).filter(pk=line_id).first()
    if line is None:
        raise LineNotFound("There is no bank line with that id.")
    booking = BankLineBooking.objects.filter(line=line).first()
    if booking is not None:
        return booking
    payout = _payout_of(line)
    if payout is not None:
        return _book_payout(line, payout, now)
    if line.amount_micro < 0:
        return BankLineBooking.objects.create(
            line=line, state=State.UNEXPLAINED, reason="money went out, and no payout of ours names it", booked_at=now
        )
    found = _match(line)
    if found.organization_id is None:
        ledger.post_all([Posting(
            f"bankline:{line.pk}", "suspense", Stage.POSTED, bank(), suspense(), line.amount_micro, label=line.reference
        )], now=now)  # fmt: skip
        return BankLineBooking.objects.create(
            line=line, state=State.SUSPENSE, reason=found.reason, suggestion_id=found.suggestion_id, booked_at=now
        )
    deposit = record_deposit(
        organization_id=found.organization_id, amount_micro=line.amount_micro, reference=line.reference, now=now
    )
    return BankLineBooking.objects.create(
        line=line, state=State.MATCHED, reason=found.reason, organization_id=found.organization_id, deposit=deposit,
        booked_at=now,
    )  # fmt: skip


def resolve_line(*, line_id: int, organization_id: int, now: datetime) -> BankLineBooking:
    """
    Say whose money a line in suspense is: it becomes that organization's deposit. The same again changes nothing.

    :raises LineNotFound: no such line, or it is not booked yet.
    :raises LineResolved: it went to somebody else, or back.
    :raises NotFound: there is no such organization.
    """
    booking = _lock_booking(line_id)
    if booking.state == State.RESOLVED and booking.organization_id == organization_id:
        return booking
    if booking.state != State.SUSPENSE:
        raise LineResolved(f"This line is {booking.get_state_display().lower()} already.")
    if not Organization.objects.filter(pk=organization_id).exists():
        raise NotFound(f"There is no organization {organization_id}.", field="organization")
    line = booking.line
    booking.deposit = record_deposit(
        organization_id=organization_id, amount_micro=line.amount_micro, reference=line.reference, now=now,
        debit=suspense(),
    )  # fmt: skip
    booking.state, booking.organization_id, booking.resolved_at = State.RESOLVED, organization_id, now
    booking.save(update_fields=["state", "organization", "deposit", "resolved_at"])
    return booking


def return_line(*, line_id: int, by: str, now: datetime) -> BankLineBooking:
    """
    Send the money of a line in suspense back to the account it came from. The same again changes nothing.

    :raises LineNotFound: no such line, or it is not booked yet.
    :raises LineResolved: it was resolved.
    :raises payouts.NoAccount: the statement names no account of the payer.
    """
    booking = _lock_booking(line_id)
    if booking.state == State.RETURNED:
        return booking
    if booking.state != State.SUSPENSE:
        raise LineResolved(f"This line is {booking.get_state_display().lower()} already.")
    booking.payout = payouts.return_to_payer(line=booking.line, by=by, now=now)
    booking.state, booking.resolved_at = State.RETURNED, now
    booking.save(update_fields=["state", "payout", "resolved_at"])
    return booking


def _lock_booking(line_id: int) -> BankLineBooking:
    assert_in_transaction()
    booking = (
        BankLineBooking.objects.select_for_update(no_key=True, of=("self",))
        .select_related("line")
        .filter(pk=line_id)
        .first()
    )
    if booking is None:
        raise LineNotFound("There is no such line on the work list.")
    return booking


def _payout_of(line: BankLine) -> Payout | None:
    """Return the payout that a line names and whose amount it is: it left, or came back."""
    numbers = {int(found) for found in PAYOUT_NUMBER.findall(line.purpose.upper())}
    rows = Payout.objects.filter(pk__in=numbers, amount_micro=abs(line.amount_micro), method="bank")
    if line.amount_micro < 0:
        rows = rows.filter(state__in=[Payout.State.SENT, Payout.State.PAID])
    else:
        rows = rows.filter(state__in=[Payout.State.SENT, Payout.State.PAID, Payout.State.FAILED])
    return rows.first() if len(numbers) == 1 else None


def _book_payout(line: BankLine, payout: Payout, now: datetime) -> BankLineBooking:
    if line.amount_micro < 0:
        payouts.settle(payout_id=payout.pk, paid=True, reason="", outside_reference=line.reference, now=now)
        reason = "a payout of ours left"
    else:
        payouts.settle(payout_id=payout.pk, paid=False, reason="the bank returned it", outside_reference="", now=now,
                       arrived_back=True)  # fmt: skip
        reason = "a payout of ours came back"
    return BankLineBooking.objects.create(
        line=line, state=State.MATCHED, reason=reason, organization_id=payout.organization_id, payout=payout,
        booked_at=now,
    )  # fmt: skip


def _match(line: BankLine) -> Match:
    named = references_in(line.purpose)
    candidates = Organization.objects.filter(
        Q(pk__in=named)
        | Q(pk__in=_earlier_payers(line.payer_account))
        | (_names_like(line.payer) if line.payer else Q(pk__in=()))
    ).exclude(kind=Organization.Kind.OPERATOR)
    payers = {row.pk: _payer(row) for row in candidates.distinct()}
    return match(
        purpose=line.purpose, payer=line.payer, payer_account=line.payer_account, amount_micro=line.amount_micro,
        payers=payers,
    )  # fmt: skip


def _names_like(payer: str) -> Q:
    found = Q()
    for text in {
        payer.strip(),
        payer.replace("（", "(").replace("）", ")"),
        payer.replace("(", "（").replace(")", "）"),
    }:
        found |= Q(name__iexact=text) | Q(name_zh__iexact=text) | Q(billing_profile__legal_name__iexact=text)
    return found


def _earlier_payers(account: str) -> list[int]:
    if not account:
        return []
    rows = BankLineBooking.objects.filter(
        line__payer_account=account, state__in=[State.MATCHED, State.RESOLVED], deposit__isnull=False
    )
    return [id_ for id_ in rows.values_list("organization_id", flat=True).distinct() if id_ is not None]


def _payer(organization: Organization) -> Payer:
    profile = BillingProfile.objects.filter(organization=organization).first()
    names = (organization.name, organization.name_zh, profile.legal_name if profile else "")
    owed = [row.due_micro - row.paid_micro - row.disputed_micro for row in queries.open_invoices(organization.pk)]
    accounts = BankLineBooking.objects.filter(
        organization=organization, state__in=[State.MATCHED, State.RESOLVED], deposit__isnull=False
    ).values_list("line__payer_account", flat=True)
    return Payer(
        organization.pk, frozenset(plain_name(name) for name in names if name), frozenset(filter(None, accounts)),
        frozenset([*owed, sum(owed)]) - {0},
    )  # fmt: skip
