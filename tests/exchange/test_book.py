"""The rules of the order book, one by one, told to the engine and to the naive book alike."""

import numpy as np
import pytest

from exchange.domain import orders as o
from exchange.domain.book import Book
from exchange.domain.orders import Event, Kind, MarketTerms, Phase, Reason
from tests.exchange.book_flows import buy, cancel, command, phase, replace, sell, uncross
from tests.exchange.naive_book import NaiveBook


@pytest.fixture(params=[Book, NaiveBook], ids=["engine", "naive"])
def make(request):
    return request.param


@pytest.fixture
def given_book(make):
    def build(*commands, phase=Phase.CONTINUOUS, **terms):
        book = make(MarketTerms(**terms), phase)
        for one in commands:
            events = book.apply(one)
            assert events[0][0] != Event.REFUSED, Reason(events[0][5])
        return book

    return build


def fills(events):
    """(buy order, sell order, price, lots) of each fill."""
    return [event[1:5] for event in events if event[0] == Event.FILL]


def ends(events):
    """(order, lots, reason) of each order that ended or shrank without trading."""
    gone = (Event.CANCELLED, Event.EXPIRED, Event.REDUCED)
    return [(event[1], event[4], Reason(event[5])) for event in events if event[0] in gone]


def refused(events):
    assert [event[0] for event in events] == [Event.REFUSED]
    return Reason(events[0][5])


# --- price and time ---------------------------------------------------------------------------------------------------


def test_takes_the_best_price_then_the_oldest(given_book):
    book = given_book(sell(1, 120, 50), sell(2, 100, 30), sell(3, 100, 30))
    assert fills(book.apply(buy(9, 110, 40))) == [(9, 2, 100, 30), (9, 3, 100, 10)]


def test_trades_at_the_resting_orders_price_and_rests_with_the_remainder(given_book):
    book = given_book(sell(1, 100, 5))
    events = book.apply(buy(2, 103, 8))
    assert events == [(Event.ACCEPTED, 2, 1002, 103, 8, Kind.LIMIT), (Event.FILL, 2, 1, 100, 5, o.Maker.SELL)]
    assert fills(book.apply(sell(3, 101, 3))) == [(2, 3, 103, 3)]


def test_events_make_a_table_of_integers(given_book):
    events = given_book(sell(1, 100, 5)).apply(buy(2, 103, 8))
    assert np.array(events, dtype=np.int64).shape == (2, 6)


def test_cancel_takes_the_rest_and_only_the_owner_may(given_book):
    book = given_book(sell(1, 100, 5), buy(2, 100, 2))
    assert refused(book.apply(cancel(1, owner=77))) is Reason.ORDER_NOT_OPEN
    assert ends(book.apply(cancel(1, owner=1001))) == [(1, 3, Reason.REQUESTED)]
    assert refused(book.apply(cancel(1, owner=1001))) is Reason.ORDER_NOT_OPEN
    assert fills(book.apply(buy(3, 100, 1))) == []


# --- at once or not at all --------------------------------------------------------------------------------------------


def test_market_order_takes_up_to_its_protection_and_never_rests(given_book):
    book = given_book(sell(1, 100, 5), sell(2, 104, 5), sell(3, 109, 5))
    events = book.apply(buy(9, 105, 12, kind=Kind.MARKET))
    assert fills(events) == [(9, 1, 100, 5), (9, 2, 104, 5)]
    assert ends(events) == [(9, 2, Reason.UNFILLED)]


def test_market_order_without_protection_has_the_markets(given_book):
    book = given_book(sell(1, 1000, 5), sell(2, 1020, 5), sell(3, 1021, 5), protection=20)
    assert fills(book.apply(buy(9, None, 12))) == [(9, 1, 1000, 5), (9, 2, 1020, 5)]


def test_immediate_or_cancel(given_book):
    events = given_book(sell(1, 100, 5)).apply(buy(2, 100, 8, o.IOC))
    assert fills(events) == [(2, 1, 100, 5)]
    assert ends(events) == [(2, 3, Reason.UNFILLED)]


@pytest.mark.parametrize(("lots", "filled"), [(8, True), (9, False)])
def test_fill_or_kill_is_all_or_nothing(given_book, lots, filled):
    book = given_book(sell(1, 100, 5), sell(2, 101, 3), sell(3, 103, 9))
    events = book.apply(buy(9, 101, lots, o.FOK))
    assert sum(fill[3] for fill in fills(events)) == (lots if filled else 0)
    assert bool(ends(events)) is not filled


def test_fill_or_kill_counts_what_icebergs_hide_but_not_its_own_groups_orders(given_book):
    book = given_book(sell(1, 100, 9, o.ICEBERG, display=2), sell(2, 100, 5, owner=7))
    own = {"owner": 7, "flags": o.FOK | o.STP_OLDEST}
    assert fills(book.apply(buy(8, 100, 10, **own))) == []
    assert sum(fill[3] for fill in fills(book.apply(buy(9, 100, 9, **own)))) == 9


def test_post_only_is_refused_where_it_would_take(given_book):
    book = given_book(sell(1, 100, 5))
    assert refused(book.apply(buy(2, 100, 1, o.POST_ONLY))) is Reason.WOULD_TAKE
    assert book.apply(buy(2, 99, 1, o.POST_ONLY))[0][0] == Event.ACCEPTED
    assert refused(book.apply(replace(2, price=100))) is Reason.WOULD_TAKE
    assert fills(book.apply(sell(3, 99, 1))) == [(2, 3, 99, 1)]


# --- replace ----------------------------------------------------------------------------------------------------------


def test_a_smaller_quantity_keeps_its_priority(given_book):
    book = given_book(sell(1, 100, 5), sell(2, 100, 5))
    assert book.apply(replace(1, lots=3)) == [(Event.REPLACED, 1, 1001, 100, 3, 1)]
    assert fills(book.apply(buy(9, 100, 4))) == [(9, 1, 100, 3), (9, 2, 100, 1)]


@pytest.mark.parametrize("change", [{"lots": 6}, {"price": 101}])
def test_anything_else_loses_it(given_book, change):
    book = given_book(sell(1, 100, 5), sell(2, 100, 5), sell(3, 101, 5))
    assert book.apply(replace(1, **change))[0][5] == 0
    assert [fill[1] for fill in fills(book.apply(buy(9, 101, 16)))][-1] == (3 if "lots" in change else 1)


def test_a_replaced_order_may_trade_at_once(given_book):
    book = given_book(sell(1, 100, 5), buy(2, 99, 5))
    assert fills(book.apply(replace(2, price=100, lots=7))) == [(2, 1, 100, 5)]


def test_replace_counts_what_is_filled(given_book):
    book = given_book(sell(1, 100, 10), buy(2, 100, 4))
    assert refused(book.apply(replace(1, lots=4))) is Reason.ALREADY_FILLED
    assert book.apply(replace(1, lots=7)) == [(Event.REPLACED, 1, 1001, 100, 3, 1)]
    book.apply(buy(3, 100, 3))
    assert refused(book.apply(replace(1, lots=20))) is Reason.ORDER_NOT_OPEN


# --- icebergs ---------------------------------------------------------------------------------------------------------


def test_the_next_tip_of_an_iceberg_goes_to_the_back(given_book):
    book = given_book(sell(1, 100, 10, o.ICEBERG, display=3), sell(2, 100, 4))
    events = book.apply(buy(9, 100, 9))
    assert fills(events) == [(9, 1, 100, 3), (9, 2, 100, 4), (9, 1, 100, 2)]
    assert (Event.REFRESHED, 1, 1001, 100, 3, 0) in events


def test_the_last_tip_is_what_is_left(given_book):
    book = given_book(sell(1, 100, 5, o.ICEBERG, display=3), buy(2, 100, 4))
    assert fills(book.apply(buy(3, 100, 9))) == [(3, 1, 100, 1)]


# --- stops ------------------------------------------------------------------------------------------------------------


def test_a_stop_waits_for_the_last_price(given_book):
    book = given_book(buy(5, 0, 4, kind=Kind.STOP, stop=102), sell(1, 101, 1), sell(2, 102, 1), sell(3, 103, 9))
    assert Event.TRIGGERED not in [event[0] for event in book.apply(buy(8, 101, 1))]
    events = book.apply(buy(9, 102, 1))
    assert (Event.TRIGGERED, 5, 1005, 102, 4, Kind.MARKET) in events
    assert fills(events) == [(9, 2, 102, 1), (5, 3, 103, 4)]


def test_a_stop_limit_rests_at_its_limit(given_book):
    book = given_book(sell(5, 100, 4, kind=Kind.STOP_LIMIT, stop=99), buy(1, 99, 1), sell(2, 99, 1))
    assert fills(book.apply(buy(3, 100, 4))) == [(3, 5, 100, 4)]


def test_triggers_cascade_in_waves(given_book):
    book = given_book(
        sell(11, 101, 2), sell(12, 102, 2), sell(13, 103, 2), sell(14, 104, 9),
        buy(1, 110, 2, kind=Kind.STOP_LIMIT, stop=102), buy(2, 110, 2, kind=Kind.STOP_LIMIT, stop=101),
        buy(3, 110, 2, kind=Kind.STOP_LIMIT, stop=103),
    )  # fmt: skip
    events = book.apply(buy(9, 101, 1))
    assert [event[1] for event in events if event[0] == Event.TRIGGERED] == [2, 1, 3]
    assert fills(events) == [(9, 11, 101, 1), (2, 11, 101, 1), (2, 12, 102, 1), (1, 12, 102, 1), (1, 13, 103, 1),
                             (3, 13, 103, 1), (3, 14, 104, 1)]  # fmt: skip


# --- all or none, minimum quantity ------------------------------------------------------------------------------------


def test_all_or_none_is_passed_by_until_it_can_be_filled_whole(given_book):
    book = given_book(sell(1, 100, 8, o.ALL_OR_NONE), sell(2, 101, 5))
    assert fills(book.apply(buy(3, 101, 4))) == [(3, 2, 101, 4)]
    assert fills(book.apply(buy(4, 101, 9))) == [(4, 1, 100, 8), (4, 2, 101, 1)]


def test_all_or_none_stands_behind_firm_orders_of_its_price(given_book):
    book = given_book(sell(1, 100, 3, o.ALL_OR_NONE), sell(2, 100, 3))
    assert fills(book.apply(buy(3, 100, 3))) == [(3, 2, 100, 3)]


def test_all_or_none_takes_several_orders_once_there_are_enough(given_book):
    book = given_book(buy(1, 105, 8, o.ALL_OR_NONE), sell(2, 100, 5))
    assert fills(book.apply(sell(3, 101, 2))) == []
    assert fills(book.apply(sell(4, 102, 1))) == [(1, 2, 100, 5), (1, 3, 101, 2), (1, 4, 102, 1)]


def test_minimum_quantity_is_of_each_match(given_book):
    book = given_book(buy(1, 100, 10, o.MINIMUM, minimum=4))
    assert fills(book.apply(sell(2, 100, 3, o.IOC))) == []
    assert fills(book.apply(sell(3, 100, 7, o.IOC))) == [(1, 3, 100, 7)]
    assert fills(book.apply(sell(4, 100, 3))) == [(1, 4, 100, 3)]  # what is left is less than its minimum


# --- self-trade prevention --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "traded", "gone"),
    [
        (0, [(9, 1, 100, 3), (9, 2, 100, 2)], []),
        (o.STP_NEWEST, [], [(9, 5, Reason.SELF_TRADE)]),
        (o.STP_OLDEST, [(9, 2, 100, 4)], [(1, 3, Reason.SELF_TRADE)]),
        (o.STP_BOTH, [], [(1, 3, Reason.SELF_TRADE), (9, 5, Reason.SELF_TRADE)]),
        (o.STP_DECREMENT, [(9, 2, 100, 2)], [(1, 3, Reason.SELF_TRADE), (9, 3, Reason.SELF_TRADE)]),
    ],
)
def test_self_trade_prevention(given_book, mode, traded, gone):
    book = given_book(sell(1, 100, 3, group=6), sell(2, 100, 4))
    events = book.apply(buy(9, 100, 5, mode, group=6))
    assert fills(events) == traded
    assert ends(events) == gone


def test_a_group_is_not_an_owner_of_the_same_number(given_book):
    book = given_book(sell(1, 100, 3, owner=6))
    assert fills(book.apply(buy(9, 100, 3, o.STP_NEWEST, group=6))) == [(9, 1, 100, 3)]


# --- phases -----------------------------------------------------------------------------------------------------------


def test_a_call_gathers_and_the_uncross_trades_at_one_price(given_book):
    book = given_book(phase(Phase.CALL), buy(1, 202, 200), buy(2, 201, 200), buy(3, 200, 300), sell(4, 200, 100),
                      sell(5, 198, 200), sell(6, 197, 400), phase=Phase.SCHEDULED)  # fmt: skip
    events = book.apply(uncross())
    assert events[0] == (Event.UNCROSSED, 0, 0, 200, 700, 0)
    assert {price for _, _, price, _ in fills(events)} == {200}
    assert sum(lots for *_, lots in fills(events)) == 700
    assert {event[5] for event in events if event[0] == Event.FILL} == {o.Maker.NEITHER}
    assert refused(book.apply(buy(7, 200, 1))) is Reason.WRONG_PHASE
    assert book.apply(phase(Phase.CONTINUOUS)) == [(Event.PHASE, Phase.CONTINUOUS, Phase.UNCROSS, 0, 0, 0)]


def test_market_orders_of_a_call_count_at_every_price_and_end_with_it(given_book):
    book = given_book(buy(1, None, 5), sell(2, 120, 3), phase=Phase.CALL)
    events = book.apply(uncross(reference=100))
    assert fills(events) == [(1, 2, 120, 3)]
    assert ends(events) == [(1, 2, Reason.UNFILLED)]


def test_a_session_names_the_fills(given_book):
    book = given_book(buy(1, 110, 5, o.ALL_OR_NONE), buy(2, 109, 5), sell(3, 100, 7), phase=Phase.CALL)
    events = book.apply(uncross(105, [(1, 5), (3, 6), (2, 1)]))
    assert fills(events) == [(1, 3, 105, 5), (2, 3, 105, 1)]


@pytest.mark.parametrize("bad", [[(1, 6), (3, 6)], [(1, 5), (3, 4)], [(1, 5), (9, 5)], [(2, 5), (3, 5)], [(1, 2)] * 2])
def test_fills_that_cannot_be_are_refused(given_book, bad):
    book = given_book(buy(1, 110, 5), buy(2, 104, 5), sell(3, 100, 7), phase=Phase.CALL)
    assert refused(book.apply(uncross(105, bad))) is Reason.BAD_FILLS


def test_auction_prevents_self_trades_before_its_price(given_book):
    book = given_book(buy(1, 110, 5, o.STP_NEWEST, owner=7), sell(2, 100, 3, o.STP_NEWEST, owner=7),
                      sell(3, 105, 5), phase=Phase.CALL)  # fmt: skip
    events = book.apply(uncross())
    assert ends(events) == [(2, 3, Reason.SELF_TRADE)]
    assert fills(events) == [(1, 3, 108, 5)]  # no reference: the middle of 105 and 110, rounded up


def test_displayed_comes_before_hidden_in_an_auction(given_book):
    book = given_book(sell(1, 100, 10, o.ICEBERG, display=2), sell(2, 100, 4), buy(3, 100, 7), phase=Phase.CALL)
    assert fills(book.apply(uncross())) == [(3, 1, 100, 3), (3, 2, 100, 4)]


def test_auction_only_and_continuous_only_wait_outside(given_book):
    book = given_book(sell(1, 100, 5, o.AUCTION_ONLY), buy(2, 100, 2))
    book.apply(phase(Phase.CALL))
    book.apply(buy(3, 100, 2, o.CONTINUOUS_ONLY))
    assert fills(book.apply(uncross())) == [(2, 1, 100, 2)]
    assert fills(book.apply(phase(Phase.CONTINUOUS))) == []
    assert fills(book.apply(sell(4, 100, 1))) == [(3, 4, 100, 1)]


def test_a_collar_opens_a_volatility_auction(given_book):
    book = given_book(sell(1, 1000, 1), buy(2, 1000, 1), sell(3, 1010, 5), sell(4, 1030, 5), dynamic_collar=20)
    events = book.apply(buy(9, 1040, 8))
    assert fills(events) == [(9, 3, 1010, 5)]
    assert events[-1] == (Event.PHASE, Phase.CALL, Phase.CONTINUOUS, 1030, 0, o.Cause.VOLATILITY)
    assert fills(book.apply(uncross())) == [(9, 4, 1030, 3)]
    assert book.apply(phase(Phase.CONTINUOUS))[0][0] == Event.PHASE


def test_the_static_collar_is_around_the_auctions_price(given_book):
    book = given_book(sell(1, 1000, 1), static_collar=50)
    assert book.apply(command(Kind.REFERENCE, price=900)) == []
    assert book.apply(buy(2, 1000, 1))[-1][0] == Event.PHASE


def test_a_halt_allows_cancels_only(given_book):
    book = given_book(sell(1, 100, 5), command(Kind.HALT))
    assert refused(book.apply(buy(2, 100, 1))) is Reason.HALTED
    assert refused(book.apply(replace(1, lots=2))) is Reason.HALTED
    assert ends(book.apply(cancel(1))) == [(1, 5, Reason.REQUESTED)]
    assert book.apply(command(Kind.RESUME))[0][:2] == (Event.HALTED, 0)
    assert book.apply(buy(2, 100, 1))[0][0] == Event.ACCEPTED


def test_gate_closure_expires_everything(given_book):
    book = given_book(sell(1, 100, 5), buy(2, 0, 1, kind=Kind.STOP, stop=120), buy(3, 90, 2, o.AUCTION_ONLY))
    closed = Reason.GATE_CLOSURE
    assert ends(book.apply(phase(Phase.CLOSED))) == [(1, 5, closed), (2, 1, closed), (3, 2, closed)]
    assert refused(book.apply(phase(Phase.CALL))) is Reason.WRONG_PHASE


def test_good_till_date(given_book):
    book = given_book(sell(1, 100, 5, o.GTD, expires_ns=50), sell(2, 100, 5, o.GTD, expires_ns=60))
    assert ends(book.apply(command(Kind.EXPIRE, at=50))) == [(1, 5, Reason.DUE)]
    assert refused(book.apply(sell(3, 100, 5, o.GTD, expires_ns=50, at=50))) is Reason.BAD_EXPIRY


def test_mass_cancel_and_the_lease_of_a_lost_connection(given_book):
    book = given_book(sell(1, 100, 5, owner=7), buy(2, 90, 5, o.CANCEL_ON_DISCONNECT, owner=7), buy(3, 90, 5, owner=7),
                      sell(4, 100, 5))  # fmt: skip
    assert ends(book.apply(command(Kind.LEASE_EXPIRED, owner=7))) == [(2, 5, Reason.DISCONNECTED)]
    assert ends(book.apply(command(Kind.MASS_CANCEL, owner=7, side=o.BUY))) == [(3, 5, Reason.MASS_CANCEL)]
    assert [end[0] for end in ends(book.apply(command(Kind.MASS_CANCEL, side=-1)))] == [1, 4]


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (command(99, 5, 1, 100, 1), Reason.BAD_KIND),
        (command(Kind.LIMIT, 5, 1, 100, 1, side=2), Reason.BAD_SIDE),
        (buy(5, 100, 0), Reason.BAD_QUANTITY),
        (buy(5, 100, 9), Reason.BELOW_MINIMUM),
        (buy(5, 100, 1001), Reason.ABOVE_MAXIMUM),
        (buy(5, 0, 10), Reason.BAD_PRICE),
        (buy(5, -3, 10), Reason.BAD_PRICE),
        (buy(5, 501, 10), Reason.ABOVE_CAP),
        (buy(5, 100, 10, o.ICEBERG, display=11), Reason.BAD_DISPLAY),
        (buy(5, 100, 10, o.ICEBERG), Reason.BAD_DISPLAY),
        (buy(5, 100, 10, display=2), Reason.BAD_DISPLAY),
        (buy(5, 100, 10, o.MINIMUM, minimum=11), Reason.BAD_MINIMUM),
        (buy(5, 100, 10, stop=4), Reason.BAD_STOP),
        (buy(5, 100, 10, kind=Kind.STOP_LIMIT), Reason.BAD_STOP),
        (buy(5, 100, 10, o.GTD), Reason.BAD_EXPIRY),
        (buy(5, 100, 10, expires_ns=5), Reason.BAD_EXPIRY),
        (buy(5, 100, 10, o.POST_ONLY | o.IOC), Reason.CONTRADICTORY_FLAGS),
        (buy(5, 100, 10, o.AUCTION_ONLY | o.CONTINUOUS_ONLY), Reason.CONTRADICTORY_FLAGS),
        (buy(5, 100, 10, o.ICEBERG | o.FOK, display=2), Reason.CONTRADICTORY_FLAGS),
        (buy(5, 100, 10, o.ALL_OR_NONE | o.MINIMUM, minimum=2), Reason.CONTRADICTORY_FLAGS),
        (buy(5, 100, 10, 1 << 14), Reason.CONTRADICTORY_FLAGS),
        (buy(1, 100, 10), Reason.DUPLICATE_ORDER),
    ],
)
def test_bad_orders_have_a_stable_reason_and_change_nothing(given_book, bad, reason):
    book = given_book(buy(1, 100, 10), cap=500, minimum_lots=10, maximum_lots=1000)
    assert refused(book.apply(bad)) is reason
    assert fills(book.apply(sell(8, 100, 10))) == [(1, 8, 100, 10)]
    assert reason.code == reason.name.lower()


def test_off_tick_and_off_lot():
    terms = MarketTerms(tick_nano=10_000, lot_tokens=1000)
    assert (terms.ticks(30_000), terms.ticks(30_001)) == (3, None)
    assert (terms.lots(5000), terms.lots(5001)) == (5, None)


@pytest.mark.parametrize("when", [Phase.SCHEDULED, Phase.UNCROSS, Phase.CLOSED])
def test_orders_meet_the_wrong_phase(given_book, when):
    assert refused(given_book(phase=when).apply(buy(1, 100, 1))) is Reason.WRONG_PHASE


def test_orders_that_trade_at_once_have_no_place_in_a_call(given_book):
    assert refused(given_book(phase=Phase.CALL).apply(buy(1, 100, 1, o.IOC))) is Reason.WRONG_PHASE
