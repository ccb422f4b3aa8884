"""The auction's price: the issue's worked cases, each rule by itself, and a brute-force oracle over every tick."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.domain.auction import RULE_NUMBER, Rule, determine_price
from exchange.domain.explain import explain
from exchange.domain.sides import INT64_MAX, LAST_TICK, BookTooLarge, InvalidBook, Side, asks, bids
from tests.exchange.oracle import auction_price

M = None


def determined(buying, selling, reference=None):
    """Clear a book given as (lots, price) pairs, the way a person writes 200@202."""
    return determine_price(bids((p, q) for q, p in buying), asks((p, q) for q, p in selling), reference)


@pytest.mark.parametrize(
    ("buying", "selling", "reference", "price", "volume", "surplus", "rule"),
    [
        (
            [(200, 202), (200, 201), (300, 200)], [(100, 200), (200, 198), (400, 197)], None,
            200, 700, 0, "highest_volume",
        ),
        ([(400, 202), (200, 201)], [(300, 199), (200, 198)], None, 201, 500, 100, "bid_surplus"),
        ([(300, 202), (200, 201)], [(400, 199), (200, 198)], None, 199, 500, -100, "ask_surplus"),
        ([(100, M), (100, 199)], [(100, M), (100, 202)], 199, 199, 100, 100, "nearest_to_reference"),
        ([(100, M), (100, 199)], [(100, M), (100, 202)], 200, 199, 100, 100, "nearest_to_reference"),
        ([(100, M), (100, 199)], [(100, M), (100, 202)], 201, 202, 100, -100, "nearest_to_reference"),
        ([(100, M), (100, 199)], [(100, M), (100, 202)], 202, 202, 100, -100, "nearest_to_reference"),
    ],
)
def test_the_worked_cases(buying, selling, reference, price, volume, surplus, rule):
    outcome = determined(buying, selling, reference)
    assert (outcome.price_tick, outcome.volume_lots) == (price, volume)
    assert (outcome.surplus_lots, outcome.rule) == (surplus, rule)


class TestReference:
    """Rule 5, where two prices are equally good."""

    BUYING, SELLING = [(100, M), (100, 199)], [(100, M), (100, 203)]

    @pytest.mark.parametrize(
        ("reference", "price"), [(1, 199), (200, 199), (201, 203), (202, 203), (10**15, 203), (-(10**15), 199)])
    def test_the_nearest_wins_and_exactly_in_the_middle_the_higher(self, reference, price):
        assert determined(self.BUYING, self.SELLING, reference).price_tick == price

    def test_without_a_reference_the_middle_decides_and_its_own_surplus_is_published(self):
        outcome = determined(self.BUYING, self.SELLING)
        assert (outcome.price_tick, outcome.volume_lots, outcome.surplus_lots) == (201, 100, 0)
        assert outcome.rule is Rule.MIDDLE

    def test_the_middle_is_rounded_up_to_the_tick(self):
        assert determined([(5, 10)], [(5, 7)]).price_tick == 9

    def test_without_any_surplus_the_lowest_and_the_highest_are_compared_not_those_between(self):
        buying, selling = [(100, 210)], [(100, 190)]
        assert determined([*buying, (1, 100)], [*selling, (1, 300)], 209).price_tick == 210
        assert determined([*buying, (1, 100)], [*selling, (1, 300)], 200).price_tick == 210
        assert determined([*buying, (1, 100)], [*selling, (1, 300)], 199).price_tick == 190

    def test_the_reference_is_no_candidate_where_there_are_limits(self):
        assert determined([(5, M), (5, 10)], [(5, M)], 50).price_tick == 10


class TestWithoutLimits:
    def test_market_orders_alone_trade_at_the_reference(self):
        outcome = determined([(7, M)], [(5, M)], 42)
        assert (outcome.price_tick, outcome.volume_lots, outcome.surplus_lots) == (42, 5, 2)
        assert outcome.rule is Rule.ONLY_MARKET_ORDERS

    @pytest.mark.parametrize(("buying", "selling", "reference"), [
        ([], [], 5), ([(1, M)], [], 5), ([], [(1, M)], 5), ([(1, M)], [(1, M)], None), ([(1, 5)], [], 5),
        ([], [(1, 5)], 5), ([(9, 10)], [(9, 11)], 10),
    ])
    def test_nothing_executable_gives_no_price(self, buying, selling, reference):
        outcome = determined(buying, selling, reference)
        assert (outcome.price_tick, outcome.volume_lots, outcome.rule) == (None, 0, Rule.NOTHING_EXECUTABLE)

    def test_the_best_bid_and_ask_are_published(self):
        outcome = determined([(1, 8), (1, 9)], [(1, 12), (1, 11)])
        assert (outcome.best_bid_tick, outcome.best_ask_tick) == (9, 11)


def books(prices, lots):
    """Draw (lots, price or None) rows of both sides and a reference."""
    rows = st.lists(st.tuples(lots, st.one_of(st.none(), prices, prices, prices)), max_size=12)
    return st.tuples(rows, rows, st.one_of(st.none(), prices))


SMALL = books(st.integers(1, 12), st.integers(1, 4))
WIDE = books(st.integers(-60, 3000), st.integers(1, 10**17))


@settings(max_examples=800)
@given(SMALL)
def test_agrees_with_the_oracle_where_ties_abound(book):
    _agrees(*book)


@settings(max_examples=100)
@given(WIDE)
def test_agrees_with_the_oracle_on_wide_books(book):
    _agrees(*book)


def _agrees(buying, selling, reference):
    outcome = determined(buying, selling, reference)
    expected = auction_price(buying, selling, reference)
    assert (outcome.price_tick, outcome.volume_lots, RULE_NUMBER[outcome.rule]) == expected
    if outcome.price_tick is not None:
        demand = sum(q for q, p in buying if p is None or p >= outcome.price_tick)
        supply = sum(q for q, p in selling if p is None or p <= outcome.price_tick)
        assert (outcome.volume_lots, outcome.surplus_lots) == (min(demand, supply), demand - supply)
    assert all(s.text(str, price=str, quantity=str) for s in explain(outcome))


@given(SMALL, st.randoms(use_true_random=False))
def test_does_not_depend_on_the_order_of_the_input(book, random):
    buying, selling, reference = book
    before = determined(buying, selling, reference)
    random.shuffle(buying)
    random.shuffle(selling)
    assert determined(buying, selling, reference) == before


@given(SMALL)
def test_dense_and_sparse_books_give_the_same_answer(book):
    buying, selling, reference = book
    apart = 10**9

    def stretch(rows):
        return [(q, None if p is None else p * apart) for q, p in rows]

    near = determined(buying, selling, None if reference is None else reference)
    far = determined(stretch(buying), stretch(selling), None if reference is None else reference * apart)
    assert (far.rule, far.volume_lots) == (near.rule, near.volume_lots)
    if near.rule is not Rule.MIDDLE and near.price_tick is not None:
        assert far.price_tick == near.price_tick * apart


class TestExtremes:
    def test_prices_at_both_ends_of_the_range(self):
        outcome = determined([(1, LAST_TICK)], [(1, -LAST_TICK)])
        assert (outcome.price_tick, outcome.volume_lots) == (0, 1)
        assert determined([(1, LAST_TICK)], [(1, -LAST_TICK)], 1).price_tick == LAST_TICK
        assert determined([(1, LAST_TICK)], [(1, -LAST_TICK)], -1).price_tick == -LAST_TICK

    def test_a_price_beyond_the_range_is_refused(self):
        with pytest.raises(InvalidBook):
            determined([(1, LAST_TICK + 1)], [(1, 1)])
        with pytest.raises(InvalidBook):
            determined([(1, 2**63)], [(1, 1)])

    def test_quantities_up_to_the_last_lot_are_exact(self):
        outcome = determined([(INT64_MAX - 1, 5), (1, 4)], [(INT64_MAX, 4)])
        assert (outcome.price_tick, outcome.volume_lots, outcome.surplus_lots) == (4, INT64_MAX, 0)
        outcome = determined([(2**53 + 1, 5)], [(INT64_MAX, 5)])
        assert (outcome.volume_lots, outcome.surplus_lots) == (2**53 + 1, 2**53 + 1 - INT64_MAX)

    @pytest.mark.parametrize(
        "rows", [[(INT64_MAX, 5), (1, 5)], [(INT64_MAX, M), (1, 4)], [(2**62, 5)] * 2, [(2**62, M)] * 5])
    def test_an_overflow_is_refused_never_wrapped(self, rows):
        with pytest.raises(BookTooLarge):
            determined(rows, [(1, 5)])
        with pytest.raises(BookTooLarge):
            determined([(1, 5)], rows)

    @pytest.mark.parametrize("lots", [0, -1])
    def test_an_order_of_less_than_a_lot_is_refused(self, lots):
        with pytest.raises(InvalidBook):
            determined([(lots, 5)], [(1, 5)])


@pytest.mark.parametrize(("buying", "selling", "reference", "texts"), [
    ([(500, 183), (100, 182)], [(416, 180), (84, 183)], None, [
        "At 183 the most trades: 500; the next best, 182, would trade 416."]),
    ([(300, 20), (100, 10)], [(300, 10)], None, [
        "10 and 20 would both trade 300, the most.",
        "Of these, 20 leaves least over: 0; 10 would leave 100."]),
    ([(400, 202), (200, 201)], [(300, 199), (200, 198)], None, [
        "199 and 201 would both trade 500, the most.",
        "Each of them leaves equally much over: 100.",
        "At each of them buyers are left over, so the highest decides: 201."]),
    ([(100, M), (100, 199)], [(100, M), (100, 202)], 200, [
        "199 and 202 would both trade 100, the most.",
        "Each of them leaves equally much over: 100.",
        "The one nearest to the reference price 200 decides: 199."]),
    ([(5, 10)], [(5, 7)], None, [
        "7 and 10 would both trade 5, the most.",
        "At each of them nothing is left over.",
        "There is no reference price, so the middle of the two decides, rounded up: 9."]),
    ([(9, 10)], [(9, 11)], None, ["Nothing trades: the highest bid, 10, is below the lowest offer, 11."]),
    ([(7, M)], [(5, M)], 42, ["There are only market orders, so they trade at the reference price 42: 5."]),
])
def test_the_reasoning_reads_as_sentences(buying, selling, reference, texts):
    assert [s.text(str, price=str, quantity=str) for s in explain(determined(buying, selling, reference))] == texts


def test_a_million_orders_are_added_up_exactly():
    rng = np.random.default_rng(7)
    ticks, lots = rng.integers(1, 2000, 400_000), rng.integers(1, 10**9, 400_000)
    half = 200_000
    outcome = determine_price(Side(ticks[:half], lots[:half]), Side(ticks[half:], lots[half:]), None)
    at = outcome.price_tick
    demand, supply = int(lots[:half][ticks[:half] >= at].sum()), int(lots[half:][ticks[half:] <= at].sum())
    assert (outcome.volume_lots, outcome.surplus_lots) == (min(demand, supply), demand - supply)
