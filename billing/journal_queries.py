"""Named reads of the books over time: a day's journal, a trial balance and an account's statement for any past day."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Max, Q

from billing.domain.accounts import AccountKind, AccountRef
from billing.models import Account, ClosedDay, DaySeal, Transfer
from core.periods import shanghai_day

SEALING_MARGIN = timedelta(minutes=5)
_REF = "concat_ws('/', {0}.kind, coalesce({0}.organization_id::text, '-'), nullif({0}.scope, ''))"
_JOURNAL = f"""
COPY (
    SELECT t.id, {_REF.format("d")}, {_REF.format("c")}, t.amount_micro, t.excess_micro, t.pending_id,
        to_char(t.booked_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), to_char(t.booked_on, 'YYYY-MM-DD'),
        t.stage, t.kind, t.key, t.label
    FROM billing_transfer t
    JOIN billing_account d ON d.id = t.debit_id JOIN billing_account c ON c.id = t.credit_id
    WHERE t.booked_on = '{{day}}' ORDER BY t.id
) TO STDOUT (FORMAT CSV)
"""
JOURNAL_COLUMNS = (
    "id", "debit", "credit", "amount_micro", "excess_micro", "hold", "booked_at", "booked_on", "stage", "kind", "key",
    "label",
)  # fmt: skip
# What transfers of the days after `since` up to `day` do to each account; without `since`, all up to `day`.
_MOVED = """
    SELECT account_id, sum(posted) AS posted, sum(held) AS held FROM (
        SELECT debit_id AS account_id,
               CASE WHEN stage IN (0, 2) THEN -amount_micro ELSE 0 END AS posted,
               CASE stage WHEN 1 THEN amount_micro WHEN 2 THEN -amount_micro - excess_micro
                          WHEN 3 THEN -amount_micro ELSE 0 END AS held
        FROM billing_transfer WHERE booked_on > %(since)s AND booked_on <= %(day)s
        UNION ALL
        SELECT credit_id, amount_micro, 0 FROM billing_transfer
        WHERE booked_on > %(since)s AND booked_on <= %(day)s AND stage IN (0, 2)
    ) AS movement GROUP BY account_id
"""
_BALANCES = f"""
WITH sealed AS (
    SELECT DISTINCT ON (account_id) account_id, posted_micro, held_micro FROM billing_daybalance
    WHERE day <= %(day)s ORDER BY account_id, day DESC
), moved AS ({_MOVED})
SELECT a.id, a.kind, a.organization_id, a.scope,
    (coalesce(s.posted_micro, 0) + coalesce(m.posted, 0))::bigint,
    (coalesce(s.held_micro, 0) + coalesce(m.held, 0))::bigint
FROM billing_account a LEFT JOIN sealed s ON s.account_id = a.id LEFT JOIN moved m ON m.account_id = a.id
WHERE (s.account_id IS NOT NULL OR m.account_id IS NOT NULL) {{only}}
ORDER BY a.kind, a.organization_id NULLS FIRST, a.scope, a.id
"""
_BEGINNING = date(1970, 1, 1)


class AccountTotal(NamedTuple):
    """An account at the end of a day: credits − debits, and what of it was held."""

    account_id: int
    ref: AccountRef
    posted_micro: int
    held_micro: int

    @property
    def debit_micro(self) -> int:
        """What stands in the debit column of a trial balance."""
        return -self.posted_micro if self.posted_micro < 0 else 0

    @property
    def credit_micro(self) -> int:
        """What stands in its credit column."""
        return max(self.posted_micro, 0)


class StatementLine(NamedTuple):
    """A movement on one account: its transfer, what it changed, and what stood there after it."""

    transfer: Transfer
    posted_micro: int
    held_micro: int
    balance_micro: int
    balance_held_micro: int


class AccountStatement(NamedTuple):
    """An account from the start of `first` to the end of `last`. The lines run from opening to closing."""

    ref: AccountRef
    first: date
    last: date
    opening: tuple[int, int]
    closing: tuple[int, int]
    lines: Iterator[StatementLine]


def journal_lines(day: date) -> Iterator[bytes]:
    """Yield a day's transfers in the order of their ids, each a line of CSV as it is hashed (JOURNAL_COLUMNS)."""
    with connection.cursor() as cursor, cursor.copy(_JOURNAL.format(day=day.isoformat())) as stream:
        for row in stream:
            yield bytes(row)


def next_day_to_close() -> date | None:
    """Return the first day that is not closed; None before anything was booked."""
    last: date | None = ClosedDay.objects.aggregate(last=Max("day"))["last"]
    if last is not None:
        return last + timedelta(days=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(booked_on) FROM billing_transfer")
        first: date | None = cursor.fetchone()[0]
    return first


def days_to_seal(now: datetime) -> list[date]:
    """Return the days that are over and not sealed, in order, at most a year of them."""
    unsealed = ClosedDay.objects.filter(dayseal__isnull=True).order_by("day").values_list("day", flat=True).first()
    day = unsealed or next_day_to_close()
    due: list[date] = []
    while day is not None and shanghai_day(day).end + SEALING_MARGIN <= now and len(due) < 366:
        due.append(day)
        day += timedelta(days=1)
    return due


def trial_balance(day: date, *, account_ids: list[int] | None = None) -> list[AccountTotal]:
    """
    Return what stood on each account that had moved by the end of a day (Asia/Shanghai), by kind and owner.

    It starts from the last sealed day, so that it costs what moved since, not all that ever did.
    """
    sealed = DaySeal.objects.filter(day_id__lte=day).aggregate(last=Max("day_id"))["last"]
    only = "" if account_ids is None else "AND a.id = ANY(%(accounts)s::bigint[])"
    with connection.cursor() as cursor:
        cursor.execute(
            _BALANCES.format(only=only), {"day": day, "since": sealed or _BEGINNING, "accounts": account_ids or []}
        )
        return [
            AccountTotal(id_, AccountRef(AccountKind(kind), organization_id, scope), posted, held)
            for id_, kind, organization_id, scope, posted, held in cursor.fetchall()
        ]


def account_statement(ref: AccountRef, *, first: date, last: date) -> AccountStatement:
    """Return an account's movements from the start of one day to the end of another, with opening and closing."""
    owner = Q(organization_id=ref.organization_id) if ref.organization_id else Q(organization=None)
    row = Account.objects.filter(owner, kind=ref.kind.value, scope=ref.scope).first()
    if row is None:
        return AccountStatement(ref, first, last, (0, 0), (0, 0), iter(()))
    opening, closing = (_total(row.pk, day) for day in (first - timedelta(days=1), last))
    return AccountStatement(ref, first, last, opening, closing, _lines(row.pk, first, last, opening))


def _total(account_id: int, day: date) -> tuple[int, int]:
    found = trial_balance(day, account_ids=[account_id])
    return (found[0].posted_micro, found[0].held_micro) if found else (0, 0)


def _lines(account_id: int, first: date, last: date, opening: tuple[int, int]) -> Iterator[StatementLine]:
    posted, held = opening
    days = Transfer.objects.filter(booked_on__range=(first, last)).select_related("debit", "credit")
    rows = days.filter(debit_id=account_id) | days.filter(credit_id=account_id)
    for row in rows.order_by("booked_on", "booked_at", "id").iterator(chunk_size=2_000):
        move, hold = effect(row, account_id)
        if move or hold:
            posted, held = posted + move, held + hold
            yield StatementLine(row, move, hold, posted, held)


def effect(row: Transfer, account_id: int) -> tuple[int, int]:
    """Return what a transfer does to what an account has, and to what is held of it."""
    if account_id == row.debit_id:
        posted = -row.amount_micro if row.stage in (0, 2) else 0
        held = {1: row.amount_micro, 2: -row.amount_micro - row.excess_micro, 3: -row.amount_micro}.get(row.stage, 0)
        return posted, held
    return (row.amount_micro if row.stage in (0, 2) else 0), 0


def seals(first: date | None = None) -> "list[tuple[Any, ...]]":
    """Return the chain: day, transfers, previous hash, hash, signature, key id and public key, in order."""
    rows = DaySeal.objects.order_by("day_id")
    if first is not None:
        rows = rows.filter(day_id__gte=first)
    return list(
        rows.values_list(
            "day_id", "transfers", "previous_hash", "hash", "signature", "key__kid", "key__public_key", "blocks"
        )
    )


def readable_ref(text: str) -> AccountRef:
    """
    Return the account that a text such as `available/7` or `escrow/-/market:12` names.

    :raises ValueError: when it names none.
    """
    kind, _, rest = text.partition("/")
    owner, _, scope = rest.partition("/")
    if owner != "-" and not (owner.isascii() and owner.isdigit() and len(owner) < 19):
        raise ValueError(f"“{text}” is no account: write kind/organization/scope, such as available/7 or vat/-.")
    try:
        return AccountRef(AccountKind(kind), None if owner == "-" else int(owner), scope)
    except ValueError:
        known = ", ".join(kind.value for kind in AccountKind)
        raise ValueError(f"“{kind}” is no kind of account; there are {known}.") from None
