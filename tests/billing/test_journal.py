"""Days are closed, sealed, chained and signed; what was changed behind the ledger's back is named."""

import hashlib
import threading
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, connections

from billing.actions.journal import DayNotOver, close_day, seal_day
from billing.actions.ledger import post_all
from billing.audit import day_balances_are_transfers, the_journal_is_sealed
from billing.domain.accounts import available, bank, escrow
from billing.domain.journal import GENESIS, Block, first_difference, hash_day, pack, statement, unpack
from billing.domain.postings import Posting, Stage, transfer_id
from billing.journal_queries import (
    account_statement,
    days_to_seal,
    journal_lines,
    next_day_to_close,
    readable_ref,
    trial_balance,
)
from billing.models import ClosedDay, DayBalance, DaySeal, Transfer
from billing.tasks import seal_journal
from core.periods import shanghai_day
from core.signing import verifies
from core.transactions import durable
from tests.billing.given import post
from tests.given import NOW, Api, given_api, given_organization

pytestmark = pytest.mark.django_db
DAY = date(2026, 11, 20)
TOMORROW = NOW + timedelta(days=1)
OVER = datetime(2026, 11, 22, 4, tzinfo=UTC)


def move(key, debit, credit, amount, **fields):
    return Posting(key, "test", Stage.POSTED, debit, credit, amount, **fields)


def given_days(buyer, *amounts, start=NOW):
    """A deposit on each day, one after the other."""
    for number, amount in enumerate(amounts):
        post(move(f"in:{buyer}:{number}", bank(), available(buyer), amount), now=start + timedelta(days=number))


def sealed(now=OVER):
    """Close and seal everything that is over."""
    for day in days_to_seal(now):
        durable(lambda day=day: close_day(day=day, now=now))
        durable(lambda day=day: seal_day(day=day, now=now))


@pytest.fixture
def afterwards(monkeypatch):
    """The doors' clock shows a time after the days of these tests."""
    monkeypatch.setattr("core.clock.now", lambda: OVER)


def behind_its_back(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql, values)
        cursor.execute("SET LOCAL session_replication_role = origin")


def test_the_hash_of_a_day_is_what_sha256sum_gives():
    buyer = given_organization().pk
    given_days(buyer, 100, 200)
    sealed()
    first, second = DaySeal.objects.order_by("day_id")
    journal = b"".join(journal_lines(DAY))
    assert journal.count(b"\n") == first.transfers == 1
    assert first.previous_hash == GENESIS
    assert first.hash == hashlib.sha256(GENESIS.encode() + b"\n" + journal).hexdigest()
    assert second.previous_hash == first.hash
    for seal in (first, second):
        assert verifies(bytes(seal.key.public_key), bytes(seal.signature), statement(seal.day_id, seal.hash))
    assert not verifies(bytes(first.key.public_key), bytes(first.signature), statement(DAY, second.hash))
    assert list(the_journal_is_sealed()) == list(day_balances_are_transfers()) == []


def test_a_posting_of_a_closed_day_is_booked_on_the_next():
    buyer = given_organization().pk
    given_days(buyer, 100)
    durable(lambda: close_day(day=DAY, now=TOMORROW))
    post(move("late", bank(), available(buyer), 5), now=NOW)
    late = Transfer.objects.get(key="late")
    assert (late.booked_at, late.booked_on) == (NOW, DAY + timedelta(days=1))
    durable(lambda: seal_day(day=DAY, now=TOMORROW))
    assert DaySeal.objects.get().transfers == 1


def test_days_are_closed_in_order_when_they_are_over_and_sealed_once():
    buyer = given_organization().pk
    assert next_day_to_close() is None and days_to_seal(OVER) == []
    given_days(buyer, 100)
    for day, now in ((DAY, NOW), (DAY + timedelta(days=1), OVER + timedelta(days=9))):
        with pytest.raises(DayNotOver):
            durable(lambda day=day, now=now: close_day(day=day, now=now))
    with pytest.raises(DayNotOver):
        durable(lambda: seal_day(day=DAY, now=OVER))
    sealed()
    assert list(DaySeal.objects.order_by("day_id").values_list("day_id", "transfers")) == [
        (DAY, 1),
        (DAY + timedelta(days=1), 0),
    ]  # a day without postings is sealed too, so that none can be left out
    assert not durable(lambda: close_day(day=DAY, now=OVER))
    before = DaySeal.objects.get(day_id=DAY)
    assert durable(lambda: seal_day(day=DAY, now=OVER + timedelta(days=1))).sealed_at == before.sealed_at


@pytest.mark.usefixtures("afterwards")
def test_the_task_seals_what_is_over_and_again_changes_nothing():
    given_days(given_organization().pk, 100, 50)
    assert seal_journal() == 2
    assert seal_journal() == 0
    assert ClosedDay.objects.count() == DaySeal.objects.count() == 2


@pytest.mark.parametrize(("sql", "says"), [
    ("UPDATE billing_transfer SET amount_micro = amount_micro + 1 WHERE key = 'x:01500'", "after transfer"),
    ("DELETE FROM billing_transfer WHERE key = 'x:00001'", "up to transfer"),
    ("UPDATE billing_transfer SET label = 'other' WHERE key = 'x:00001'", "up to transfer"),
    ("UPDATE billing_account SET scope = 'elsewhere' WHERE kind = 'external'", "up to transfer"),
    ("UPDATE billing_dayseal SET hash = repeat('1', 64) WHERE day = '2026-11-20'", "signature"),
    ("UPDATE billing_dayseal SET previous_hash = repeat('1', 64) WHERE day = '2026-11-21'", "previous hash"),
    ("DELETE FROM billing_dayseal WHERE day = '2026-11-20'", "previous hash"),
    ("UPDATE billing_transfer SET booked_on = '2026-11-19' WHERE key = 'x:00001'", "before the first sealed day"),
])  # fmt: skip
def test_the_audit_names_the_first_difference(sql, says):
    buyer = available(given_organization().pk)
    post(
        *[
            move(f"x:{number:05d}", bank(), buyer, 1, id=transfer_id(f"{number}", NOW + timedelta(seconds=number)))
            for number in range(2_000)
        ]
    )
    sealed()
    assert list(the_journal_is_sealed()) == []
    behind_its_back(sql)
    found = [str(finding) for finding in the_journal_is_sealed()]
    assert any(says in text for text in found), found
    assert "2026-11-2" in found[0]


def test_closing_balances_are_checked_against_transfers():
    buyer = given_organization().pk
    given_days(buyer, 100, 50)
    sealed()
    assert DayBalance.objects.count() == 4
    behind_its_back("UPDATE billing_daybalance SET posted_micro = posted_micro + 1 WHERE posted_micro = 150")
    [finding] = day_balances_are_transfers()
    assert finding.subject == f"available/{buyer} on 2026-11-21"
    assert (finding.expected, finding.found) == ("posted 150 held 0", "posted 151 held 0")


def test_blocks_survive_their_stored_form_and_name_what_differs():
    lines = [f"{transfer_id(str(n), NOW)},{n}\n".encode() for n in range(2_500)]
    whole = hash_day(GENESIS, lines)
    assert whole.rows == 2_500 and len(whole.blocks) == 3 and unpack(pack(whole.blocks)) == whole.blocks
    assert first_difference(whole.blocks, whole.blocks) == ""
    changed = hash_day(GENESIS, [*lines[:1_700], b"0" * 36 + b",x\n", *lines[1_701:]])
    assert first_difference(whole.blocks, changed.blocks) == (
        f"after transfer {whole.blocks[0].last_id}, up to {whole.blocks[1].last_id}"
    )
    assert first_difference(whole.blocks, whole.blocks[:2]).endswith(str(whole.blocks[2].last_id))
    assert isinstance(whole.blocks[0], Block)


def test_a_trial_balance_of_any_past_day_sealed_or_not():
    buyer, seller = given_organization().pk, given_organization("provider").pk
    given_days(buyer, 100, 50, 25)
    post(move("pay", available(buyer), escrow("market:1"), 30), now=TOMORROW)
    post(Posting("hold", "test", Stage.PENDING, available(buyer), escrow("market:1"), 7), now=NOW)

    def on(day):
        rows = {str(row.ref): (row.posted_micro, row.held_micro) for row in trial_balance(day)}
        assert sum(posted for posted, _ in rows.values()) == 0
        return rows

    def everything():
        return [on(DAY + timedelta(days=number)) for number in range(-1, 4)]

    before = everything()
    assert before[0] == {}
    assert before[1] == {"external/-/bank": (-100, 0), f"available/{buyer}": (100, 7)}
    assert before[2] == {"external/-/bank": (-150, 0), f"available/{buyer}": (120, 7), "escrow/-/market:1": (30, 0)}
    assert before[3][f"available/{buyer}"] == before[4][f"available/{buyer}"] == (145, 7)
    sealed(OVER)
    assert everything() == before
    sealed(OVER + timedelta(days=2))
    assert everything() == before
    assert account_statement(available(seller), first=DAY, last=DAY).closing == (0, 0)


def test_a_statement_runs_from_opening_to_closing():
    buyer = given_organization().pk
    given_days(buyer, 100, 50, 25)
    post(move("pay", available(buyer), escrow("market:1"), 30), now=TOMORROW)
    shown = account_statement(available(buyer), first=DAY + timedelta(days=1), last=DAY + timedelta(days=1))
    assert (shown.opening, shown.closing) == ((100, 0), (120, 0))
    assert [(line.posted_micro, line.balance_micro) for line in shown.lines] == [(50, 150), (-30, 120)]


@pytest.mark.parametrize("text", ["", "available", "available/x", "bank/7", "available/-5"])
def test_what_names_no_account_is_refused(text):
    with pytest.raises(ValueError):
        readable_ref(text)
    assert readable_ref("escrow/-/market:12") == escrow("market:12")


@pytest.mark.usefixtures("afterwards")
def test_operators_and_auditors_read_the_books_over_http_and_buyers_only_their_own_account():
    buyer, operator = given_organization(), given_organization("operator")
    given_days(buyer.pk, 100_000_000, 50_000_000)
    sealed()
    operator, own = given_api(operator), given_api(buyer)
    body = operator.get("/v1/trial-balance?day=2026-11-20").json()
    assert (body["debit"], body["credit"]) == ("100.00", "100.00")
    assert {row["account"]: (row["debit"], row["credit"]) for row in body["items"]} == {
        "external/-/bank": ("100.00", "0.00"),
        f"available/{buyer.pk}": ("0.00", "100.00"),
    }
    text = operator.get("/v1/trial-balance.csv?day=2026-11-20").content.decode()
    assert text.splitlines()[1:] == [
        f"2026-11-20,available/{buyer.pk},0.00,100.00,100.00,0.00",
        "2026-11-20,external/-/bank,100.00,0.00,-100.00,0.00",
    ]
    journal = operator.get("/v1/journal/2026-11-20.csv")
    assert b"".join(journal.streaming_content) == b"".join(journal_lines(DAY))
    seals = operator.get("/v1/journal").json()["items"]
    assert [seal["day"] for seal in seals] == ["2026-11-21", "2026-11-20"]
    keys = Api().get("/.well-known/ciyuan-journal.json").json()
    assert keys["latest"]["hash"] == seals[0]["hash"] == DaySeal.objects.get(day_id="2026-11-21").hash
    assert [key["kid"] for key in keys["keys"]] == [seals[0]["key"]]
    path = "/v1/account-statement?account=available&first=2026-11-21&last=2026-11-21"
    for answer in (own.get(path), operator.get(f"{path}&organization={buyer.pk}")):
        body = answer.json()
        assert (body["opening"], body["closing"]) == ("100.00", "150.00")
        assert [line["change"] for line in body["items"]] == ["50.00"]
    assert len(own.get(path.replace("statement?", "statement.csv?")).content.decode().splitlines()) == 2
    for refused in ("/v1/trial-balance", "/v1/trial-balance.csv", "/v1/journal", "/v1/journal/2026-11-20.csv"):
        assert own.get(refused).status_code == 404, refused
    assert own.get("/v1/account-statement?account=escrow").json()["items"] == []  # its own, of which it has none
    for bad in ("day=2026-13-01", "day=x", "day=2999-01-01"):
        answer = operator.get(f"/v1/trial-balance?{bad}")
        assert answer.status_code == 400 and answer.json()["field"] == "day", answer.content
    assert operator.get("/v1/journal/2026-11-22.csv").status_code == 404  # not sealed
    assert own.get("/v1/account-statement?account=purse").json()["field"] == "account"
    assert own.get("/v1/account-statement?account=available&first=2026-11-22&last=2026-11-20").json()["field"] == "last"


@pytest.mark.usefixtures("afterwards")
def test_commands_print_the_books():
    buyer = given_organization().pk
    given_days(buyer, 100_000_000)

    def run(*arguments):
        out = StringIO()
        call_command(*arguments, stdout=out)
        return out.getvalue()

    assert "sealed 2026-11-20: 1 transfers" in run("seal_journal")
    assert f"available/{buyer}" in run("trial_balance", "--day", "2026-11-20")
    assert run("trial_balance", "--day", "2026-11-20", "--csv").splitlines()[0].startswith("day,account")
    assert "100.00" in run("account_statement", f"available/{buyer}", "--first", "2026-11-20", "--last", "2026-11-20")
    assert run("journal", "2026-11-20").encode() == b"".join(journal_lines(DAY))


@pytest.mark.django_db(transaction=True)
def test_sealing_races_with_sixteen_writers_and_no_transfer_escapes_its_seal():
    buyer = given_organization().pk
    durable(lambda: post_all([move("first", bank(), available(buyer), 10**6)], now=NOW))
    last_moment = shanghai_day(DAY).end - timedelta(seconds=1)
    barrier, failures, batches = threading.Barrier(17), [], 12

    def write(writer):
        barrier.wait(30)
        for batch in range(batches):
            rows = [move(f"w{writer}:{batch}:{n}", bank(), escrow(f"market:{writer}"), 1) for n in range(20)]
            durable(lambda rows=rows: post_all(rows, now=last_moment))

    def seal():
        barrier.wait(30)
        durable(lambda: close_day(day=DAY, now=TOMORROW))
        durable(lambda: seal_day(day=DAY, now=TOMORROW))

    def run(work, *arguments):
        try:
            work(*arguments)
        except Exception as error:
            failures.append(error)
            barrier.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(write, number)) for number in range(16)]
    threads.append(threading.Thread(target=run, args=(seal,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert Transfer.objects.count() == 1 + 16 * batches * 20
    assert DaySeal.objects.get().transfers == Transfer.objects.filter(booked_on=DAY).count()
    assert Transfer.objects.filter(booked_on=DAY + timedelta(days=1)).exists()
    sealed()
    assert list(the_journal_is_sealed()) == list(day_balances_are_transfers()) == []
