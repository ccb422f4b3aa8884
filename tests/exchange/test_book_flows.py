"""Random flows of every order type: the engine and the naive book say the same, event by event, and break no rule."""

import random
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.domain import orders as o
from exchange.domain.book import Book
from exchange.domain.book_parts import FLAGS, OPEN, PRICE
from exchange.domain.orders import BUY, Event, Kind, Maker, Phase, Reason, fold
from tests.exchange.book_flows import TERMS, random_flow
from tests.exchange.naive_book import NaiveBook

STARTS = st.sampled_from([Phase.CONTINUOUS, Phase.CONTINUOUS, Phase.CALL])


def limits(book):
    """Return number: worst price accepted, of orders that have a limit."""
    return {number: order[PRICE] for number, order in book.orders.items() if order[PRICE]}


def check_rules(book, command, events, before):
    """What must hold whatever the flow: `before` are the limits of the orders that were open before the command."""
    if book.phase == Phase.CONTINUOUS and book.best_bid and book.best_ask:
        assert book.best_bid < book.best_ask, "crossed"
    named = (event for event in events[:1] if event[0] in (Event.ACCEPTED, Event.REPLACED))
    bounds = before | {number: price for _, number, _, price, *_ in named if price}  # the new or replaced order
    bounds |= limits(book)
    for event, buy, sell, price, lots, maker in events:
        if event == Event.FILL:
            assert lots > 0
            assert bounds.get(sell, price) <= price <= bounds.get(buy, price), "beyond a limit"
            if maker != Maker.NEITHER:
                resting = buy if maker == Maker.BUY else sell
                assert price == bounds[resting], "not at the resting order's price"
    if command[6] in (Kind.LIMIT, Kind.MARKET) and command[8] & o.TIME_IN_FORCE == o.FOK:
        filled = sum(event[4] for event in events if event[0] == Event.FILL and command[2] in event[1:3])
        assert filled in (0, command[5]), "fill-or-kill was filled in part"


def agree(terms, start, rng, size):
    """Play one flow on both books; return it with what happened, counted."""
    book, naive, open_lots, happened, flow = Book(terms, start), NaiveBook(terms, start), {}, Counter(), []
    for command in random_flow(rng, naive, size):
        flow.append(command)
        before = limits(book)
        events = book.apply(command)
        assert events == naive.apply(command), command
        assert (book.phase, book.halted, book.last, book.reference) == (
            naive.phase, naive.halted, naive.last, naive.reference)  # fmt: skip
        fold(events, open_lots)
        assert open_lots == naive.open_lots == {number: order[OPEN] for number, order in book.orders.items()}
        assert book.each_order(99) == naive.each_order()
        check_levels(book)
        check_rules(book, command, events, before)
        happened.update(Event(event[0]).name for event in events)
        happened.update(Reason(event[5]).name for event in events if event[0] in (2, 4, 5, 6))
    return flow, happened


def check_levels(book):
    for side, levels in zip(book.each_order(99), book.depth(99), strict=True):
        by_price = {}
        for _, price, lots in side:
            by_price.setdefault(price, []).append(lots)
        assert levels == [(price, sum(lots), len(lots)) for price, lots in by_price.items()]


@given(TERMS, STARTS, st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_agrees_with_the_naive_book(terms, start, rng):
    agree(terms, start, rng, size=40)


def test_agrees_with_the_naive_book_on_long_flows_in_which_everything_happens():
    happened = Counter()
    for seed in range(16):
        rng = random.Random(seed)
        terms = o.MarketTerms(cap=2000, maximum_lots=100, static_collar=rng.choice([0, 8]),
                              dynamic_collar=rng.choice([0, 5]), protection=rng.choice([0, 5]),
                              pro_rata=rng.random() < 0.5)  # fmt: skip
        happened += agree(terms, rng.choice([Phase.CONTINUOUS, Phase.CALL]), rng, size=200)[1]
    assert not {one.name for one in Event} - set(happened)
    assert min(happened[one.name] for one in Event) >= 10, happened


def test_what_a_collar_kept_from_trading_does_so_with_the_first_command_after_it_has_moved():
    """Even if that command is a plain one, which nothing else would follow from."""
    terms = o.MarketTerms(cap=2000, maximum_lots=100, static_collar=8)
    book, naive = Book(terms, Phase.CONTINUOUS), NaiveBook(terms, Phase.CONTINUOUS)
    said = [
        (book.apply(command), naive.apply(command))
        for command in (
            (1, 1, 0, 0, 1009, 0, Kind.REFERENCE, 0, 0, None),  # no trade below 1001
            (2, 2, 40, 4, 1000, 1, Kind.LIMIT, o.SELL, 0, None),
            (3, 3, 46, 5, 1008, 1, Kind.LIMIT, BUY, o.ALL_OR_NONE, None),  # has to wait
            (4, 4, 0, 0, 1006, 0, Kind.REFERENCE, 0, 0, None),  # no trade below 998
            (5, 5, 49, 1, 993, 4, Kind.LIMIT, BUY, 0, None),
        )
    ]
    assert said[-1][0] == said[-1][1] == [(Event.ACCEPTED, 49, 1, 993, 4, 1), (Event.FILL, 46, 40, 1000, 1, o.SELL)]
    assert all(ours == theirs for ours, theirs in said)


@pytest.mark.proof
@given(TERMS, STARTS, st.integers(0, 2**64))
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
def test_agrees_with_the_naive_book_at_length(terms, start, seed):
    agree(terms, start, random.Random(seed), size=250)


@given(TERMS, STARTS, st.integers(0, 2**64), st.integers(0, 120))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_snapshot_at_any_point_goes_on_as_if_nothing_had_been(terms, start, seed, at):
    flow, _ = flow_of(terms, start, seed)
    whole, first = Book(terms, start), Book(terms, start)
    for command in flow[:at]:
        whole.apply(command)
        first.apply(command)
    restored = Book.restore(first.snapshot())
    assert restored.state_hash() == whole.state_hash()
    for command in flow[at:]:
        assert restored.apply(command) == whole.apply(command)
        assert restored.state_hash() == whole.state_hash()


def flow_of(terms, start, seed, size=120):
    """A flow, made with the naive book to look at."""
    naive, flow = NaiveBook(terms, start), []
    for command in random_flow(random.Random(seed), naive, size):
        flow.append(command)
        naive.apply(command)
    return flow, naive


def test_the_hash_tells_states_apart_that_look_alike():
    terms = o.MarketTerms(cap=2000)
    book, seen = Book(terms, Phase.CONTINUOUS), set()
    for command in flow_of(terms, Phase.CONTINUOUS, seed=1)[0]:
        book.apply(command)
        seen.add(book.state_hash())
    assert len(seen) == 120


def test_hidden_lots_stops_and_the_halt_are_in_the_hash():
    def state(**changes):
        book = Book(o.MarketTerms(), Phase.CONTINUOUS)
        rare = o.Rare(display=2)
        book.apply((1, 1, 1, 1, 100, changes.get("lots", 9), int(Kind.LIMIT), BUY, o.ICEBERG, rare))
        book.apply((1, 2, 2, 1, 90, 5, int(Kind.STOP_LIMIT), BUY, 0, o.Rare(stop=changes.get("stop", 110))))
        if changes.get("halt"):
            book.halted = True
        return book.state_hash()

    assert len({state(), state(lots=10), state(stop=111), state(halt=True)}) == 4
    assert state() == state()


def test_cancelled_orders_do_not_pile_up():
    book = Book(o.MarketTerms(), Phase.CONTINUOUS)
    book.apply((1, 1, 1, 1, 100, 5, int(Kind.LIMIT), BUY, 0, None))
    for number in range(2, 30_000):
        book.apply((1, number, number, 1, 100, 5, int(Kind.LIMIT), BUY, 0, None))
        book.apply((1, number, number, 1, 0, 0, int(Kind.CANCEL), BUY, 0, None))
    assert len(book.bids.levels[-100]) < 9000
    assert book.depth(1)[0] == [(100, 5, 1)]
    assert book.orders[1][FLAGS] == 0
