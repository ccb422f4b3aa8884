"""The pure rules of postings, against a ledger too simple to be wrong."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.accounts import AccountKind, AccountRef, available, bank, escrow, payable, receivable
from billing.domain.bulk import Bulk, check_bulk, net_bulk
from billing.domain.postings import InvalidPosting, Posting, Stage, check_all, net, split, touched, transfer_id

AT = datetime(2026, 11, 20, 4, 0, 0, 123_000, tzinfo=UTC)
ACCOUNTS = [available(1), available(2), receivable(1), escrow("market:1"), payable(2), bank()]


def posting(**fields):
    given_ = {"key": "k", "kind": "test", "stage": Stage.POSTED, "debit": available(1), "credit": available(2),
              "amount_micro": 5}
    return Posting(**(given_ | fields))


@st.composite
def any_posting(draw):
    debit, credit = draw(st.lists(st.sampled_from(ACCOUNTS), min_size=2, max_size=2, unique=True))
    stage = draw(st.sampled_from(Stage))
    return posting(
        stage=stage, debit=debit, credit=credit, amount_micro=draw(st.integers(1, 10**12)),
        excess_micro=draw(st.integers(0, 10**6)) if stage is Stage.POST else 0,
        pending_id=uuid4() if stage >= Stage.POST else None)


class DictLedger:
    """One posting at a time, one rule a line."""

    def __init__(self):
        self.posted = defaultdict(int)
        self.held = defaultdict(int)

    def post(self, p):
        if p.stage == Stage.PENDING:
            self.held[p.debit] += p.amount_micro
        if p.stage in (Stage.POST, Stage.RELEASE):
            self.held[p.debit] -= p.amount_micro
            self.held[p.debit] -= p.excess_micro
        if p.stage in (Stage.POSTED, Stage.POST):
            self.posted[p.debit] -= p.amount_micro
            self.posted[p.credit] += p.amount_micro


@given(st.lists(any_posting(), max_size=30))
def test_netting_agrees_with_posting_one_by_one_and_sums_to_zero(postings):
    naive = DictLedger()
    check_all(postings)
    for p in postings:
        naive.post(p)
    deltas = net(postings)
    assert sum(delta.posted_micro for delta in deltas.values()) == 0
    assert deltas.keys() == touched(postings)
    for account in ACCOUNTS:
        delta = deltas.get(account, (0, 0))
        assert delta == (naive.posted[account], naive.held[account])


@given(st.integers(1, 10**9), st.lists(st.integers(-100, 10**9), min_size=2, max_size=2))
def test_fallbacks_pay_in_turn_and_the_last_pays_the_rest(amount, free):
    asked = posting(amount_micro=amount, credit=payable(2), fallbacks=(AccountRef(AccountKind.GIFT, 1), receivable(1)))
    balances = dict(zip((asked.debit, asked.fallbacks[0]), free, strict=True)) | {receivable(1): 0}
    before = dict(balances)
    parts = split(asked, balances)
    assert sum(part.amount_micro for part in parts) == amount
    assert [part.key for part in parts] == ["k", "k+1", "k+2"][: len(parts)]
    paid = {part.debit: part.amount_micro for part in parts}
    for source in (asked.debit, asked.fallbacks[0]):
        assert paid.get(source, 0) <= max(before[source], 0)
        assert balances[source] == before[source] - paid.get(source, 0)
    if paid.get(receivable(1)):
        assert all(balances[source] <= 0 for source in (asked.debit, asked.fallbacks[0]))


@pytest.mark.parametrize("wrong", [
    {"amount_micro": 0}, {"amount_micro": -1}, {"amount_micro": 10**18 + 1}, {"key": ""}, {"key": "k" * 101},
    {"kind": ""}, {"kind": "k" * 25},
    {"credit": available(1)}, {"excess_micro": 1}, {"pending_id": uuid4()}, {"stage": Stage.POST},
    {"stage": Stage.RELEASE}, {"stage": Stage.PENDING, "fallbacks": (receivable(1),)},
    {"stage": Stage.POST, "pending_id": uuid4(), "amount_micro": 0},
])
def test_what_cannot_be_booked_is_refused(wrong):
    with pytest.raises(InvalidPosting):
        check_all([posting(), posting(**wrong)])


def test_a_transfers_id_is_its_key_and_time_and_sorts_by_time():
    assert transfer_id("a", AT) == transfer_id("a", AT)
    assert transfer_id("a", AT) != transfer_id("b", AT)
    assert transfer_id("z", AT) < transfer_id("a", AT + timedelta(milliseconds=1))
    assert transfer_id("a", AT).version == 8
    assert transfer_id("a", AT).int >> 80 == int(AT.timestamp() * 1000)


@st.composite
def any_bulk(draw):
    stage = draw(st.sampled_from(Stage))
    size = draw(st.integers(1, 30))
    pair = st.lists(st.integers(0, 5), min_size=2, max_size=2, unique=True)
    pairs = draw(st.lists(pair, min_size=size, max_size=size))
    numbers = draw(st.lists(st.integers(0, 2**62 - 1), min_size=size, max_size=size, unique=True))
    amounts = draw(st.lists(st.integers(1, 10**12), min_size=size, max_size=size))
    posts = stage is Stage.POST
    return Bulk(
        "trade:", "trade", stage, ACCOUNTS, np.array(numbers), np.full(size, 1_763_600_000_000 + size),
        np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]), np.array(amounts),
        np.array(draw(st.lists(st.integers(0, 10**6), min_size=size, max_size=size))) if posts else None,
        np.frombuffer(b"".join(uuid4().bytes for _ in range(size)), "V16") if stage >= Stage.POST else None)


@given(any_bulk())
def test_a_bulk_is_its_postings(bulk):
    check_bulk(bulk)
    postings = list(bulk.postings())
    check_all(postings)
    assert net_bulk(bulk) == net(postings)
    assert [UUID(bytes=id_.tobytes()) for id_ in bulk.ids()] == [p.id for p in postings]
    assert bulk.keys().tolist() == [p.key.encode() for p in postings]
    assert all(p.id.version == 8 and p.id.variant == RFC_4122 for p in postings)


@pytest.mark.parametrize("wrong", [
    {"amount_micro": np.array([5, 0])}, {"amount_micro": np.array([-1, 5])}, {"numbers": np.array([1, -1])},
    {"credit": np.array([0, 0])}, {"excess_micro": np.array([0, 1])}, {"stage": Stage.POST}, {"kind": ""},
    {"prefix": "交易:"}, {"prefix": "k" * 90}, {"amount_micro": np.array([5, 10**18 + 1])},
])
def test_a_bulk_that_cannot_be_booked_is_refused(wrong):
    fine = Bulk("trade:", "trade", Stage.POSTED, ACCOUNTS, np.array([1, 2]), np.array([1, 1]), np.array([0, 0]),
                np.array([1, 2]), np.array([5, 6]))
    check_bulk(fine)
    with pytest.raises(InvalidPosting):
        check_bulk(fine._replace(**wrong))
