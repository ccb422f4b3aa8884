"""What must hold of sealed days, recomputed from the transfers: the chain, its signatures, the closing balances."""

from collections.abc import Iterator
from datetime import date, timedelta

from django.db import connection

from billing.domain.journal import GENESIS, first_difference, hash_day, statement, unpack
from billing.journal_queries import journal_lines, seals
from core.audit import Finding
from core.signing import verifies

_CLOSING = """
WITH movement (account_id, day, posted, held) AS (
    SELECT debit_id, booked_on,
           CASE WHEN stage IN (0, 2) THEN -amount_micro ELSE 0 END,
           CASE stage WHEN 1 THEN amount_micro WHEN 2 THEN -amount_micro - excess_micro
                      WHEN 3 THEN -amount_micro ELSE 0 END
    FROM billing_transfer WHERE booked_on <= (SELECT max(day) FROM billing_dayseal)
    UNION ALL
    SELECT credit_id, booked_on, amount_micro, 0 FROM billing_transfer
    WHERE stage IN (0, 2) AND booked_on <= (SELECT max(day) FROM billing_dayseal)
), daily AS (
    SELECT account_id, day, sum(sum(posted)) OVER before AS posted, sum(sum(held)) OVER before AS held
    FROM movement GROUP BY account_id, day WINDOW before AS (PARTITION BY account_id ORDER BY day)
)
SELECT concat_ws('/', a.kind, coalesce(a.organization_id::text, '-'), nullif(a.scope, '')), coalesce(d.day, b.day),
    d.posted, d.held, b.posted_micro, b.held_micro
FROM daily d FULL JOIN billing_daybalance b ON b.account_id = d.account_id AND b.day = d.day
LEFT JOIN billing_account a ON a.id = coalesce(d.account_id, b.account_id)
WHERE (d.posted, d.held) IS DISTINCT FROM (b.posted_micro::numeric, b.held_micro::numeric)
ORDER BY 2, 1
"""


def the_journal_is_sealed() -> Iterator[Finding]:
    """Each sealed day hashes to its seal, which continues the day before, and whose signature verifies."""
    name = "the-journal-is-sealed"
    previous_day: date | None = None
    previous_hash = GENESIS
    for day, transfers, chained, hash_, signature, kid, public_key, blocks in seals():
        if previous_day is not None and day != previous_day + timedelta(days=1):
            yield Finding(name, f"{day}", f"the day after {previous_day}", "days without a seal between")
        if chained != previous_hash:
            yield Finding(name, f"{day} previous hash", previous_hash, chained)
        if not verifies(bytes(public_key), bytes(signature), statement(day, hash_)):
            yield Finding(name, f"{day} signature", f"one by key {kid} of {hash_}", "another")
        found = hash_day(chained, journal_lines(day))
        if found.hash != hash_:
            place = first_difference(unpack(bytes(blocks)), found.blocks) or "in the hash itself"
            yield Finding(name, f"{day} {place}", f"{transfers} transfers, hash {hash_}", f"{found.rows}, {found.hash}")
        if previous_day is None:
            yield from _before(day)
        previous_day, previous_hash = day, hash_


def _before(first: date) -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id::text, booked_on FROM billing_transfer WHERE booked_on < %s ORDER BY id LIMIT 1", [first]
        )
        for id_, day in cursor.fetchall():
            yield Finding(
                "the-journal-is-sealed", f"transfer {id_}", f"none before the first sealed day {first}", f"{day}"
            )


def day_balances_are_transfers() -> Iterator[Finding]:
    """What an account had at the end of a sealed day is what its transfers up to that day add up to."""
    with connection.cursor() as cursor:
        cursor.execute(_CLOSING)
        for ref, day, posted, held, found_posted, found_held in cursor.fetchall():
            yield Finding(
                "day-balances-are-transfers",
                f"{ref} on {day}",
                f"posted {posted} held {held}",
                f"posted {found_posted} held {found_held}",
            )
