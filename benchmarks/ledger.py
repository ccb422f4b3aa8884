"""
What the ledger costs: transfers a second in bulk against raw COPY, one hot account against a thousand, and growth.

*Raw COPY* is binary, one connection, a plain logged table of the same columns without index, same batch and commit,
encoding included (as psycopg documents it: `set_types` and `write_row`). A ledger batch is one `post_all`: accounts
found and locked, rows inserted with their keys checked, balances netted and updated, committed. In bulk the movements
are columns of numbers, as an auction's settlement has them; as postings they are objects, as single orders have them.

*hordak* is django-hordak, the ledger that Django projects install, in its own environment on a database of the same
server, one transaction and two legs a transfer as its documentation has it.
"""

import json
import os
import subprocess
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks import database
from benchmarks.harness import Case, environment, interleave, report, table
from benchmarks.peers import peers_python

if __name__ == "__main__":
    database.start()

from django.db import connection, transaction

BATCH, SMALL = 100_000, 1_000
FULL = os.environ.get("FULL") == "1"
PEER_BATCH = 100
GROWTH = (1_000_000, *((10_000_000,) if FULL else ()))
START_MS = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1000)
ACCOUNTS = 1_000
_numbers = count()


class Hordak:
    """The peer in a process of its own, on an empty database of the same server; it answers with its own seconds."""

    def __init__(self):
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE hordak")
        script = Path(__file__).with_name("baselines") / "hordak_transfers.py"
        url = os.environ["DATABASE_URL"].replace("/postgres?", "/hordak?")
        self.process = subprocess.Popen(
            [peers_python(), script, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.works = self.process.stdout.readline() == '"ready"\n'

    def seconds(self, transfers):
        self.process.stdin.write(f"{transfers}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.terminate()
        self.process.wait()


def movements(size, sources):
    """Return a bulk of trades: each from a source in turn to the market's escrow, a hundred a millisecond."""
    from billing.domain.accounts import escrow
    from billing.domain.bulk import Bulk
    from billing.domain.postings import Stage

    numbers = np.arange(size) + next(_numbers) * BATCH
    return Bulk("trade:", "trade", Stage.POSTED, [escrow("market:1"), *sources], numbers, START_MS + numbers // 100,
                1 + numbers % len(sources), np.zeros(size, np.int64), np.full(size, 1_000))


def main():
    from billing.actions.copy import COPY, TYPES
    from billing.actions.ledger import post_all
    from billing.domain.accounts import available, bank
    from billing.domain.postings import Posting, Stage
    from core.periods import shanghai_date
    from identity.models import Organization

    print(environment())
    now = datetime.now(UTC)
    organizations = Organization.objects.bulk_create([
        Organization(kind="buyer", name=f"Buyer {number}", created_at=now) for number in range(ACCOUNTS)])
    buyers = [available(organization.pk) for organization in organizations]
    with transaction.atomic():
        post_all([Posting(f"deposit:{number}", "deposit", Stage.POSTED, bank(), buyer, 10**14)
                  for number, buyer in enumerate(buyers)], now=now)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE plain (LIKE billing_transfer)")

    def raw_copy(rows):
        with (transaction.atomic(), connection.cursor() as cursor,
              cursor.copy(COPY.replace("billing_transfer", "plain")) as stream):
            stream.set_types(TYPES)
            for row in rows:
                stream.write_row(row)

    def rows_of(size):
        day = shanghai_date(now)
        return [(p.id, 1, 2, p.amount_micro, 0, None, now, day, 0, p.kind, p.key, "")
                for p in movements(size, buyers).postings()]

    def book(bulk):
        with transaction.atomic():
            post_all([], bulks=[bulk], now=now)

    def book_postings(batch):
        with transaction.atomic():
            post_all(batch, now=now)

    raw = Case(run=raw_copy, prepare=lambda: rows_of(BATCH))
    ledger = Case(run=book, prepare=lambda: movements(BATCH, buyers))
    timings = interleave({
        "raw COPY": raw, "ledger, in bulk": ledger,
        "ledger, postings": Case(run=book_postings, prepare=lambda: list(movements(BATCH, buyers).postings())),
    }, repeats=5)
    print(timings.table(f"{BATCH:,} transfers from {ACCOUNTS:,} accounts to one"))
    peer = Hordak()
    theirs = interleave({
        "hordak": Case(run=lambda: peer.seconds(PEER_BATCH)),
        "ledger, in bulk": Case(run=book, prepare=lambda: movements(BATCH, buyers)),
    }, repeats=5) if peer.works else None
    peer.close()
    if theirs:
        print(theirs.table(f"{PEER_BATCH:,} transfers by hordak, {BATCH:,} by the ledger"))
    hot = interleave({
        "one hot account": Case(run=book, prepare=lambda: movements(SMALL, buyers[:1])),
        f"{ACCOUNTS:,} accounts": Case(run=book, prepare=lambda: movements(SMALL, buyers)),
    }, repeats=15)
    print(hot.table(f"{SMALL:,} transfers"))
    figures = {
        "bulk_vs_copy": timings.ratio("raw COPY", "ledger, in bulk"),
        "bulk_per_second": timings.rate("ledger, in bulk", BATCH),
        "postings_vs_copy": timings.ratio("raw COPY", "ledger, postings"),
        "vs_hordak": theirs and theirs.rate("ledger, in bulk", BATCH) / theirs.rate("hordak", PEER_BATCH),
        "hordak_per_second": theirs and theirs.rate("hordak", PEER_BATCH),
        "hot_vs_spread": hot.ratio(f"{ACCOUNTS:,} accounts", "one hot account"),
    }
    rows = []
    for size in GROWTH:
        fill(size, now)
        grown = interleave({"ledger": ledger, "raw COPY": raw}, repeats=5)
        rows.append((f"{size:,}", f"{1e3 * grown.median('ledger'):,.1f}", f"{grown.ratio('raw COPY', 'ledger'):.2f}"))
        figures[f"bulk_vs_copy_after_{size}"] = grown.ratio("raw COPY", "ledger")
    print(table(f"{BATCH:,} transfers after so many in the ledger", ("transfers", "median ms", "÷ raw COPY"), rows))
    report(figures)


def fill(size, now):
    """Fill the ledger up to `size` transfers with earlier ones, in the order of their ids."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM billing_transfer")
        have = cursor.fetchone()[0]
        cursor.execute("""
            INSERT INTO billing_transfer (id, debit_id, credit_id, amount_micro, excess_micro, booked_at, booked_on,
                                          stage, kind, key, label)
            SELECT (lpad(to_hex(%s + g / 100), 12, '0') || '8' || substr(md5(g::text), 1, 3)
                    || '8' || substr(md5(g::text), 4, 15))::uuid,
                   1 + g %% 1000, 1001, 1000, 0, %s, %s, 0, 'trade', 'fill:' || g, ''
            FROM generate_series(%s::bigint, %s::bigint) g
        """, [START_MS - 10**9, now, now.date(), have + 1, size])
        # What so many rows in one statement leave to do behind (vacuum, checkpoint) is not the next batch's cost.
        cursor.execute("VACUUM (ANALYZE) billing_transfer")
        cursor.execute("CHECKPOINT")


if __name__ == "__main__":
    main()
