"""
Days of the ledger are closed and sealed.

A writer holds a shared advisory lock on the day that it books on, until it commits. Closing takes that lock
exclusively, so it waits for every writer of the day and for a moment holds up nobody but a straggler; from its commit
on, whoever would book on that day books on the next. Nothing can be added to a closed day, so sealing it needs no lock
and may take as long as it takes: the hash over its journal, chained to the day before, signed; and what each account
had at its end.
"""

from datetime import date, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import connection

from billing.domain.journal import GENESIS, hash_day, pack, statement
from billing.journal_queries import journal_lines, next_day_to_close
from billing.models import ClosedDay, DaySeal, JournalKey
from core import prepared
from core.errors import Conflict
from core.periods import shanghai_date, shanghai_day
from core.signing import new_key, readable
from core.transactions import assert_in_transaction

JOURNAL_LOCK = 0x4A6F7572  # the first half of the advisory locks of booking days; the second is the day's number
KEY_LOCK = 0x4A6B6579

_CLOSING_BALANCES = """
INSERT INTO billing_daybalance (account_id, day, posted_micro, held_micro)
SELECT m.account_id, %(day)s, coalesce(b.posted_micro, 0) + m.posted, coalesce(b.held_micro, 0) + m.held
FROM (
    SELECT account_id, sum(posted) AS posted, sum(held) AS held FROM (
        SELECT debit_id AS account_id,
               CASE WHEN stage IN (0, 2) THEN -amount_micro ELSE 0 END AS posted,
               CASE stage WHEN 1 THEN amount_micro WHEN 2 THEN -amount_micro - excess_micro
                          WHEN 3 THEN -amount_micro ELSE 0 END AS held
        FROM billing_transfer WHERE booked_on = %(day)s
        UNION ALL
        SELECT credit_id, amount_micro, 0 FROM billing_transfer WHERE booked_on = %(day)s AND stage IN (0, 2)
    ) AS movement GROUP BY account_id
) AS m
LEFT JOIN LATERAL (
    SELECT posted_micro, held_micro FROM billing_daybalance
    WHERE account_id = m.account_id AND day < %(day)s ORDER BY day DESC LIMIT 1
) AS b ON true
"""


class DayNotOver(Conflict):
    """The day is not over in Shanghai, or an earlier one is not closed or sealed yet."""

    code = "day-not-over"


def open_day(now: datetime) -> date:
    """
    Return the day in whose journal a transfer of `now` is booked, and keep it from being closed until commit.

    It is the day in Shanghai, or the first one after it that is not closed.
    """
    assert_in_transaction()
    day = shanghai_date(now)
    while True:
        # Two statements: the second looks after the first has waited.
        prepared.execute("SELECT pg_advisory_xact_lock_shared(%s::int, %s::int)", [JOURNAL_LOCK, day.toordinal()])
        (closed,) = prepared.one("SELECT max(day) FROM billing_closedday")
        if closed is None or closed < day:
            return day
        day = closed + timedelta(days=1)


def close_day(*, day: date, now: datetime) -> bool:
    """
    Close a day to further postings, once every transaction that books on it has ended; False when it is closed.

    :raises DayNotOver: it is not over, or is not the next one in order.
    """
    assert_in_transaction()
    if now < shanghai_day(day).end:
        raise DayNotOver(f"{day} is not over in Shanghai; its journal is still written.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [JOURNAL_LOCK, day.toordinal()])
    if ClosedDay.objects.filter(day=day).exists():
        return False
    following = next_day_to_close()
    if following is None or following != day:
        raise DayNotOver(f"The next day to close is {following}, not {day}: days are closed in order.")
    ClosedDay.objects.create(day=day, closed_at=now)
    return True


def seal_day(*, day: date, now: datetime) -> DaySeal:
    """
    Hash, chain and sign a closed day's journal, and keep the accounts' balances at its end. Sealed, it stays as it is.

    :raises DayNotOver: it is not closed, or the day before is not sealed.
    """
    assert_in_transaction()
    closed = ClosedDay.objects.select_for_update(no_key=True).filter(day=day).first()
    if closed is None:
        raise DayNotOver(f"{day} is not closed yet.")
    done = DaySeal.objects.filter(day=closed).first()
    if done is not None:
        return done
    before = day - timedelta(days=1)
    previous_hash = DaySeal.objects.filter(day_id=before).values_list("hash", flat=True).first() or GENESIS
    if previous_hash == GENESIS and ClosedDay.objects.filter(day__lt=day).exists():
        raise DayNotOver(f"{before} is not sealed yet: days are sealed in order.")
    found = hash_day(previous_hash, journal_lines(day))
    with connection.cursor() as cursor:
        cursor.execute(_CLOSING_BALANCES, {"day": day})
    key, private = _journal_key(now)
    return DaySeal.objects.create(
        day=closed,
        transfers=found.rows,
        previous_hash=previous_hash,
        hash=found.hash,
        blocks=pack(found.blocks),
        key=key,
        signature=private.sign(statement(day, found.hash)),
        sealed_at=now,
    )


def _journal_key(now: datetime) -> tuple[JournalKey, Ed25519PrivateKey]:
    """Return the newest key that can be read, or a new one; one is made, however many ask first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [KEY_LOCK])
    row = JournalKey.objects.order_by("-pk").first()
    private = readable(bytes(row.private_key)) if row else None
    if row is None or private is None:
        row = JournalKey.objects.create(created_at=now, **new_key()._asdict())
        private = readable(bytes(row.private_key))
        assert private is not None
    return row, private
