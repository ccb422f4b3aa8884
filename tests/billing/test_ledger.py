"""The ledger through its one door, `post_all`, on the real database."""

from collections import defaultdict

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.actions import ledger
from billing.actions.ledger import InsufficientFunds, TransferKeyReused, post_all
from billing.domain.accounts import available, bank, escrow, payable, receivable
from billing.domain.bulk import Bulk
from billing.domain.postings import Posting, Stage, transfer_id
from billing.models import Account, Transfer
from tests.given import NOW, given_organization

pytestmark = pytest.mark.django_db

MARKET = escrow("market:1")


def move(key, debit, credit, amount, stage=Stage.POSTED, **fields):
    return Posting(key, "test", stage, debit, credit, amount, **fields)


def hold(key, debit, amount):
    return move(key, debit, MARKET, amount, Stage.PENDING, id=transfer_id(key, NOW))


def post(*postings):
    with transaction.atomic():
        return post_all(postings, now=NOW)


def balance(ref):
    row = Account.objects.filter(kind=ref.kind, organization_id=ref.organization_id, scope=ref.scope).first()
    return (row.posted_micro, row.held_micro) if row else (0, 0)


@pytest.fixture
def buyer():
    buyer = available(given_organization().pk)
    post(move("deposit:1", bank(), buyer, 1_000))
    return buyer


def test_a_hold_is_posted_in_parts_and_the_rest_released(buyer):
    hold_id, = post(hold("order:1", buyer, 600))
    assert balance(buyer) == (1_000, 600)
    post(move("trade:1", buyer, MARKET, 200, Stage.POST, excess_micro=50, pending_id=hold_id))
    assert balance(buyer) == (800, 350)
    assert balance(MARKET) == (200, 0)
    post(move("release:1", buyer, MARKET, 350, Stage.RELEASE, pending_id=hold_id))
    assert balance(buyer) == (800, 0)
    assert sum(Account.objects.values_list("posted_micro", flat=True)) == 0


def test_nobody_spends_what_he_has_not_got_and_the_refusal_leaves_nothing(buyer):
    post(hold("order:1", buyer, 600))
    before = Transfer.objects.count()
    with transaction.atomic():
        with pytest.raises(InsufficientFunds) as refused:
            post_all([move("a", buyer, MARKET, 100), hold("order:2", buyer, 301)], now=NOW)
        post_all([hold("order:3", buyer, 400)], now=NOW)  # the caller may go on
    assert (refused.value.needed_micro, refused.value.available_micro) == (401, 400)
    assert refused.value.account == buyer
    assert Transfer.objects.count() == before + 1
    assert balance(buyer) == (1_000, 1_000)


@pytest.mark.parametrize("derived", [True, False])
def test_the_same_key_books_once_and_other_content_is_refused(buyer, derived):
    def again(amount):
        return move("pay:1", buyer, MARKET, amount, id=transfer_id("pay:1", NOW) if derived else None)

    first = post(again(100))
    assert post(again(100)) == first
    assert post(move("pay:2", buyer, MARKET, 1), again(100))[1:] == first
    with pytest.raises(TransferKeyReused):
        post(again(101), move("pay:3", buyer, MARKET, 1))
    assert balance(buyer) == (899, 0)
    assert not Transfer.objects.filter(key="pay:3").exists()


def test_a_repeat_of_a_payment_in_parts_changes_nothing(buyer):
    owed = receivable(buyer.organization_id)
    pay = move("usage:1", buyer, payable(buyer.organization_id), 1_500, fallbacks=(owed,))
    first = post(pay)
    assert (balance(buyer), balance(owed)) == ((0, 0), (-500, 0))
    post(move("deposit:2", bank(), buyer, 700))
    assert post(pay) == first
    assert (balance(buyer), balance(owed)) == ((700, 0), (-500, 0))
    assert list(Transfer.objects.filter(key__startswith="usage:1").order_by("key").values_list("key", flat=True)) == [
        "usage:1", "usage:1+1"]


def test_a_large_batch_books_as_small_ones_do(buyer):
    other = available(given_organization().pk)
    post(move("deposit:2", bank(), buyer, 10**6))
    holds = [hold(f"order:{number}", buyer, 10 + number) for number in range(300)]
    assert post(*holds) == [h.id for h in holds]
    batch = [move(f"trade:{h.key}", buyer, MARKET, 7, Stage.POST, pending_id=h.id, excess_micro=3) for h in holds]
    batch += [move(f"fee:{number}", MARKET, other, 1, label="费" * (number % 3), id=transfer_id(f"fee:{number}", NOW))
              for number in range(300)]
    first = post(*batch)
    assert post(*batch) == first
    assert (balance(buyer), balance(MARKET), balance(other)) == (
        (1_001_000 - 2_100, sum(range(300))), (1_800, 0), (300, 0))
    assert Transfer.objects.filter(kind="test", label="费费").count() == 100
    with pytest.raises(InsufficientFunds):
        post(*[move(f"more:{number}", other, MARKET, 2) for number in range(300)])
    assert Transfer.objects.filter(key__startswith="more").count() == 0


def test_a_bulk_books_as_its_postings_do(buyer):
    other = available(given_organization().pk)
    holds = [hold(f"order:{number}", buyer, 10) for number in range(50)]
    post(*holds)
    size = len(holds)
    trades = Bulk(
        "trade:", "trade", Stage.POST, [buyer, MARKET, other], np.arange(size), np.full(size, 1_763_600_000_000),
        np.zeros(size, int), np.ones(size, int), np.full(size, 7), np.full(size, 2),
        np.frombuffer(b"".join(h.id.bytes for h in holds), "V16"))
    fees = Bulk("fee:", "fee", Stage.POSTED, [MARKET, other], np.arange(size), np.full(size, 1_763_600_000_000),
                np.zeros(size, int), np.ones(size, int), np.arange(size) % 3 + 1)
    paid = int(fees.amount_micro.sum())
    for again in range(3):
        with transaction.atomic():
            post_all([move("bonus", bank(), other, 5)], bulks=[trades, fees], now=NOW)
        assert (balance(buyer), balance(MARKET), balance(other)) == (
            (650, 50), (350 - paid, 0), (paid + 5, 0)), again
    post(*trades.postings())  # one by one they are the same transfers
    assert balance(buyer) == (650, 50)
    row = Transfer.objects.get(key="trade:0000000000000000049")
    assert (row.kind, row.stage, row.amount_micro, row.excess_micro, row.pending_id, row.label, row.booked_at) == (
        "trade", Stage.POST, 7, 2, holds[49].id, "", NOW)
    assert (row.debit.ref, row.credit.ref, row.booked_on) == (buyer, MARKET, NOW.date())
    with pytest.raises(TransferKeyReused), transaction.atomic():
        post_all([], bulks=[fees._replace(amount_micro=fees.amount_micro + 1)], now=NOW)
    with pytest.raises(InsufficientFunds), transaction.atomic():
        post_all([], bulks=[fees._replace(prefix="more:", amount_micro=fees.amount_micro * 9)], now=NOW)


def test_transfers_are_never_changed_or_deleted(buyer):
    for change in (lambda: Transfer.objects.update(amount_micro=1), lambda: Transfer.objects.all().delete()):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def test_the_database_refuses_the_overdraft_that_the_code_forgot(buyer):
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.filter(kind="available").update(posted_micro=-1)


def test_accounts_are_locked_without_order_of_asking(buyer):
    with transaction.atomic():
        locked = ledger.lock_accounts([MARKET, buyer])
        assert locked[buyer].free_micro == 1_000
        post_all([hold("order:1", buyer, locked[buyer].free_micro)], now=NOW)
    assert balance(buyer) == (1_000, 1_000)


def naive_post(state, batch):
    """The same ledger as two dictionaries; returns False, changing nothing, where an account would be overdrawn."""
    posted, held = state[0].copy(), state[1].copy()
    for p in batch:
        if p.stage == Stage.PENDING:
            held[p.debit] += p.amount_micro
        elif p.stage == Stage.RELEASE:
            held[p.debit] -= p.amount_micro
        else:
            if p.stage == Stage.POST:
                held[p.debit] -= p.amount_micro + p.excess_micro
            posted[p.debit] -= p.amount_micro
            posted[p.credit] += p.amount_micro
    if any(posted[a] < held[a] for a in posted | held if not a.kind.may_overdraw):
        return False
    state[0].update(posted)
    state[1].update(held)
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_sequence_of_postings_agrees_with_two_dictionaries(data):
    with transaction.atomic():
        one, two = available(given_organization().pk), available(given_organization().pk)
        state = defaultdict(int), defaultdict(int)
        holds = []  # [id, account, left]
        number = 0
        for _ in range(data.draw(st.integers(1, 12))):
            batch, opened = [], []
            for _ in range(data.draw(st.integers(1, 4))):
                number += 1
                key, amount = f"k:{number}", data.draw(st.integers(1, 1_000))
                what = data.draw(st.sampled_from(["deposit", "move", "hold", "post", "release"]))
                if what == "deposit":
                    batch.append(move(key, bank(), data.draw(st.sampled_from([one, two])), amount))
                elif what == "move":
                    batch.append(move(key, one, two, amount))
                elif what == "hold":
                    batch.append(hold(key, data.draw(st.sampled_from([one, two])), amount))
                    opened.append([batch[-1].id, batch[-1].debit, amount])
                elif holds:
                    chosen = data.draw(st.sampled_from(holds))
                    part = min(amount, chosen[2])
                    if part and what == "post":
                        excess = min(chosen[2] - part, amount // 7)
                        batch.append(move(key, chosen[1], MARKET, part, Stage.POST, excess_micro=excess,
                                          pending_id=chosen[0]))
                        chosen[2] -= part + excess
                    elif part:
                        batch.append(move(key, chosen[1], MARKET, part, Stage.RELEASE, pending_id=chosen[0]))
                        chosen[2] -= part
            if naive_post(state, batch):
                post_all(batch, now=NOW)
                holds += opened
            else:
                with pytest.raises(InsufficientFunds):
                    post_all(batch, now=NOW)
                for chosen in holds:  # what the refused batch would have used is open still
                    chosen[2] += sum(p.amount_micro + p.excess_micro for p in batch if p.pending_id == chosen[0])
            for account in (one, two, MARKET, bank()):
                assert balance(account) == (state[0][account], state[1][account])
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
def test_a_hundred_at_once_cannot_overdraw(race):
    buyer = available(given_organization().pk)
    post(move("deposit", bank(), buyer, 30 * 7))

    def spend(number):
        def run():
            return post(hold(f"order:{number}", buyer, 7))
        return run

    results = race(*(spend(number) for number in range(100)))
    assert sum(isinstance(result, InsufficientFunds) for result in results) == 70
    assert sum(isinstance(result, list) for result in results) == 30
    assert balance(buyer) == (210, 210)


@pytest.mark.django_db(transaction=True)
def test_the_same_command_at_once_from_many_books_once(race):
    buyer, other = available(given_organization().pk), available(given_organization().pk)
    post(move("deposit", bank(), buyer, 1_000))

    def pay():
        return post(move("pay", buyer, other, 10), move("fee", other, MARKET, 1, id=transfer_id("fee", NOW)))

    results = race(*[pay] * 20)
    assert all(result == results[0] for result in results), results
    assert (balance(buyer), balance(other)) == ((990, 0), (9, 0))


@pytest.mark.django_db(transaction=True)
def test_opposite_directions_at_once_do_not_deadlock(race):
    one, two = available(given_organization().pk), available(given_organization().pk)
    post(move("deposit:1", bank(), one, 1_000), move("deposit:2", bank(), two, 1_000))

    def swap(number):
        there, back = (one, two) if number % 2 else (two, one)
        return lambda: [
            post(move(f"{number}:{i}", there, back, 1), move(f"{number}:{i}:new", there, escrow(f"m:{i}"), 1))
            for i in range(5)]

    results = race(*(swap(number) for number in range(20)))
    assert not [result for result in results if isinstance(result, Exception)]
    assert sum(balance(ref)[0] for ref in (one, two)) == 2_000 - 100
