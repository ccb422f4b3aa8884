"""What is published of a book, drain by drain, is the book: order by order, in their places, and by level."""

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.domain.book import Book
from exchange.domain.book_parts import NUMBER, OPEN
from exchange.domain.frames import Frame, Statistics, pack, pack_rows, stored, unpack, unpack_rows
from exchange.domain.orders import BUY, SELL, Kind, Phase
from exchange.domain.public_book import PublicBook, Published, checksum
from tests.exchange.book_flows import TERMS, buy, cancel, random_flow, replace, sell
from tests.exchange.naive_book import NaiveBook


def kraken_checksum(asks, bids):
    """Kraken's v2 book checksum as its guide words it, from levels of (price text, quantity text), the best first."""
    digits = ""
    for price, quantity in asks[:10] + bids[:10]:
        digits += price.replace(".", "").lstrip("0") + quantity.replace(".", "").lstrip("0")
    return zlib.crc32(digits.encode("ascii")) & 0xFFFFFFFF


def check_same(public, book):
    for side, rows in enumerate(book.each_order(10_000)):
        markets = [(one[NUMBER], 0, one[OPEN]) for one in book.sides[side].markets if one[OPEN]]
        assert [(number, price, lots) for number, _, price, lots in public.orders(side)] == markets + rows
    for side, levels in enumerate(book.depth(10_000)):
        assert [tuple(level) for level in public.side(side)] == levels
        assert public.side(side, 3) == public.side(side)[:3]


@settings(max_examples=20)
@given(TERMS, st.sampled_from([Phase.CONTINUOUS, Phase.CALL]), st.randoms(use_true_random=False))
def test_frames_make_the_book(terms, start, rng):
    book, naive = Book(terms, start), NaiveBook(terms, start)
    published, public, events, used = Published(book), PublicBook(), [], set()
    for command in random_flow(rng, naive, 120):
        if command[6] < Kind.CANCEL and command[2] in used:
            continue  # numbers are journal numbers: never given twice
        naive.apply(command)
        happened = book.apply(command)
        events += happened
        if command[6] < Kind.CANCEL and happened[0][0] != 2:
            used.add(command[2])
        if rng.random() < 0.3:
            rows, owned = published.changes(book, events)
            public.apply(rows)
            check_same(public, book)
            assert PublicBook(rows=list(public.rows.values())).levels == public.levels
            assert all(isinstance(numbers, list) for numbers in owned.values())
            events = []


def test_an_order_that_loses_its_place_is_taken_out_and_put_in_again():
    book = Book(phase=Phase.CONTINUOUS)
    published = Published(book)
    events = book.apply(buy(1, 100, 5)) + book.apply(buy(2, 100, 7))
    assert published.changes(book, events)[0] == [(1, BUY, 100, 5), (2, BUY, 100, 7)]
    assert published.changes(book, book.apply(replace(1, lots=3)))[0] == [(1, BUY, 100, 3)]
    assert published.changes(book, book.apply(replace(1, lots=9)))[0] == [(1, BUY, 100, 0), (1, BUY, 100, 9)]
    assert published.changes(book, book.apply(cancel(2)))[0] == [(2, BUY, 100, 0)]


def test_hidden_lots_stay_hidden_and_what_came_and_went_is_not_told():
    book = Book(phase=Phase.CONTINUOUS)
    published = Published(book)
    events = book.apply(sell(1, 100, 50, 1 << 6, display=10)) + book.apply(buy(2, 99, 1)) + book.apply(cancel(2))
    rows, owned = published.changes(book, events)
    assert rows == [(1, SELL, 100, 10)]
    assert owned == {1001: [1], 1002: [2, 2]}
    rows, _ = published.changes(book, book.apply(buy(3, 100, 10)))
    assert rows == [(1, SELL, 100, 0), (1, SELL, 100, 10)], "the next tip stands last"


@given(
    st.dictionaries(st.integers(1, 10**6), st.integers(1, 10**7), max_size=14),
    st.dictionaries(st.integers(1, 10**6), st.integers(1, 10**7), max_size=14),
    st.sampled_from([(1, 4), (5, 4), (100, 9), (1, 9), (25, 6)]),
)
def test_the_checksum_is_krakens(bids, asks, unit):
    price_unit, places = unit

    def text(price):
        scaled = price * price_unit
        return f"{scaled // 10**places}.{scaled % 10**places:0{places}d}"

    rows = [(n, BUY, price, lots) for n, (price, lots) in enumerate(bids.items())]
    rows += [(n + 100, SELL, price, lots) for n, (price, lots) in enumerate(asks.items())]
    shown = [
        [(text(price), str(lots * 1_000)) for price, lots in sorted(side.items(), reverse=side is bids)]
        for side in (asks, bids)
    ]
    assert checksum(PublicBook(rows), price_unit=price_unit, lot_tokens=1_000) == kraken_checksum(*shown)


@given(st.lists(st.lists(st.tuples(st.just(1), st.integers(1, 99), st.integers(1, 9), st.just(1)), max_size=5)))
def test_statistics_fold(frames):
    folded = Statistics()
    for trades in frames:
        folded = folded.after(trades)
    prices = [price for trades in frames for _, price, _, _ in trades]
    assert folded.trades == len(prices)
    if prices:
        assert (folded.open, folded.high, folded.low, folded.last) == (
            prices[0], max(prices), min(prices), prices[-1])  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_a_frame_reads_the_same_as_sent_and_as_stored(count):
    rows = [(number, BUY, 100, number % 7) for number in range(1, count + 1)]
    sent = pack(Frame(1, 2, 3, 3, False, rows, [], Statistics()))
    assert unpack(stored(sent)) == unpack(sent)
    assert unpack(sent).rows == unpack_rows(pack_rows(rows)) == rows
    assert len(stored(sent)) < max(len(sent), 2_000)
