"""The journal as packed records and as CSV: nothing is lost, and what is not a journal is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.domain.book import Book
from exchange.domain.journal_records import RECORD, BadJournal, Header, from_csv, pack, to_csv, unpack
from exchange.domain.orders import MarketTerms, Phase, Rare
from tests.exchange.test_book_flows import flow_of

U32, U64, PRICES = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1)
RARE = st.builds(Rare, stop=PRICES, display=U32, minimum=U32, expires_ns=U64, group=U32,
                 fills=st.lists(st.tuples(U32, U32), max_size=3).map(tuple))  # fmt: skip
COMMANDS = st.lists(
    st.tuples(U64, U32, U32, U32, PRICES, U32, st.integers(0, 253), st.integers(-1, 254), st.integers(0, 2**16 - 1),
              st.none() | RARE), max_size=20)  # fmt: skip
HEADER = Header("市场-1", 1000, 1000, {7: "order-七"}, {1: "org-1"})


def test_a_record_is_32_bytes():
    assert RECORD.itemsize == 32
    body = pack(HEADER, [(1, 2, 3, 4, 5, 6, 1, 1, 0, None)])[-32:]
    assert np.frombuffer(body, RECORD)[0].item() == (1, 2, 3, 4, 5, 6, 1, 1, 0)


@given(COMMANDS)
def test_nothing_is_lost(commands):
    assert unpack(pack(HEADER, commands)) == (HEADER, commands)
    assert from_csv(to_csv(commands)) == commands


def test_a_book_replayed_from_records_is_the_same():
    terms = MarketTerms(cap=2000)
    flow = [command for command in flow_of(terms, Phase.CONTINUOUS, seed=3)[0] if min(command[4:6]) >= 0]
    first, second = Book(terms, Phase.CONTINUOUS), Book(terms, Phase.CONTINUOUS)
    one_by_one = [first.apply(command) for command in flow]
    assert second.apply_all(unpack(pack(HEADER, flow))[1]) == one_by_one
    assert second.state_hash() == first.state_hash()


@pytest.mark.parametrize("bad", [b"", b"nonsense", pack(HEADER, [])[:-1], pack(HEADER, []) + b"x"])
def test_what_is_no_journal_is_refused(bad):
    with pytest.raises(BadJournal):
        unpack(bad)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", to_csv([]) + "1,2,x\n"])
def test_what_is_no_csv_journal_is_refused(text):
    with pytest.raises(BadJournal):
        from_csv(text)


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadJournal):
        pack(HEADER, [(1, 2, 3, 4, 2**31, 6, 1, 1, 0, None)])
