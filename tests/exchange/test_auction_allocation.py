"""Who is filled at the auction's price: priority, the margin, pro-rata, pairing into trades, self-trade prevention."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.domain.allocation import Margin, clear, in_time_order, pair, pro_rata
from exchange.domain.self_trades import GroupOrder, SelfTradeMode, prevent_self_trades
from exchange.domain.sides import INT64_MAX, MARKET, Side, asks, bids

M = None


def cleared(buying, selling, reference=None, margin=Margin.TIME):
    """Clear (lots, price) rows; return price, fills of the bids and of the asks."""
    result = clear(bids((p, q) for q, p in buying), asks((p, q) for q, p in selling), reference, margin=margin)
    return result.price.price_tick, result.bid_fills.tolist(), result.ask_fills.tolist()


class TestPriority:
    def test_price_goes_before_time(self):
        assert cleared([(5, 10), (5, 12), (5, 11)], [(10, 9)]) == (11, [0, 5, 5], [10])

    def test_market_orders_go_first(self):
        assert cleared([(5, 10), (5, M)], [(5, 10)]) == (10, [0, 5], [5])

    def test_at_one_price_the_earlier_goes_first_and_one_order_is_partly_filled(self):
        assert cleared([(5, 10), (5, 10), (5, 10)], [(7, 10)]) == (10, [5, 2, 0], [7])

    def test_among_more_market_orders_than_volume_time_decides(self):
        assert cleared([(5, M), (5, 30), (5, M)], [(7, 20)]) == (30, [5, 0, 2], [7])
        assert cleared([(5, M), (5, M)], [(7, M)], 20) == (20, [5, 2], [7])

    def test_time_is_the_sequence_where_one_is_given(self):
        buying = Side(np.full(3, 10), np.full(3, 5), sequence=np.array([30, 10, 20]))
        assert clear(buying, asks([(10, 7)]), None).bid_fills.tolist() == [0, 5, 2]

    def test_displayed_goes_before_hidden(self):
        buying = Side(np.full(3, 10), np.array([10, 5, 8]), displayed_lots=np.array([2, 5, 1]))
        fills = {volume: clear(buying, asks([(10, volume)]), None).bid_fills.tolist() for volume in (1, 7, 8, 10, 20)}
        assert fills == {1: [1, 0, 0], 7: [2, 5, 0], 8: [2, 5, 1], 10: [4, 5, 1], 20: [10, 5, 5]}


class TestProRata:
    def test_shares_are_proportional_and_the_largest_remainders_get_the_rest(self):
        assert pro_rata(np.array([100, 200, 300]), 60).tolist() == [10, 20, 30]
        assert pro_rata(np.array([1, 1, 1]), 2).tolist() == [1, 1, 0]
        assert pro_rata(np.array([10, 20, 30]), 7).tolist() == [1, 2, 4]

    def test_products_beyond_64_bits_are_exact(self):
        lots = np.array([2**61, 2**61 + 1, 2**61 - 1])
        assert pro_rata(lots, 3 * 2**60).tolist() == [2**60, 2**60 + 1, 2**60 - 1]
        assert int(pro_rata(lots, 3 * 2**60 + 7).sum()) == 3 * 2**60 + 7

    @given(st.lists(st.integers(1, 10**17), min_size=1, max_size=30), st.data())
    def test_sums_are_exact_and_nobody_is_a_lot_from_their_share(self, lots, data):
        rest = data.draw(st.integers(0, sum(lots)))
        shares = pro_rata(np.array(lots), rest).tolist()
        assert sum(shares) == rest
        for quantity, share in zip(lots, shares, strict=True):
            assert 0 <= share <= quantity
            assert abs(share - Fraction(quantity * rest, sum(lots))) < 1

    def test_only_the_margin_is_shared(self):
        assert cleared([(10, 12), (30, 11), (10, 11)], [(30, 11)], margin=Margin.PRO_RATA) == (11, [10, 15, 5], [30])


ROWS = st.lists(st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 10))), max_size=12)


@settings(max_examples=300)
@given(ROWS, ROWS, st.one_of(st.none(), st.integers(1, 10)), st.sampled_from(Margin))
def test_fills_keep_every_promise(buying, selling, reference, margin):
    price, bid_fills, ask_fills = cleared(buying, selling, reference, margin)
    assert sum(bid_fills) == sum(ask_fills)
    if price is None:
        assert not any(bid_fills) and not any(ask_fills)
        return
    for rows, fills, sign in ((buying, bid_fills, 1), (selling, ask_fills, -1)):
        worth = [float("inf") if limit is None else sign * limit for _, limit in rows]
        for (lots, limit), fill in zip(rows, fills, strict=True):
            assert 0 <= fill <= lots
            assert not fill or limit is None or sign * limit >= sign * price
        for i, (lots, _) in enumerate(rows):
            for j in range(len(rows)):
                ahead = worth[i] > worth[j] or (margin is Margin.TIME and worth[i] == worth[j] and i < j)
                assert not (ahead and fills[j] and fills[i] < lots), "an order was passed over"
        if margin is Margin.TIME:
            assert sum(0 < fill < lots for (lots, _), fill in zip(rows, fills, strict=True)) <= 1


@given(ROWS, ROWS, st.randoms(use_true_random=False))
def test_with_sequences_fills_do_not_depend_on_the_order_of_the_input(buying, selling, random):
    def side(rows, places, market):
        ticks = [market if rows[i][1] is None else rows[i][1] for i in places]
        lots = [rows[i][0] for i in places]
        return Side(*(np.array(column, dtype=np.int64) for column in (ticks, lots, lots, places)))

    def run(bid_places, ask_places):
        sides = side(buying, bid_places, MARKET), side(selling, ask_places, -MARKET)
        result = clear(*sides, 5)
        trades = pair(*sides, result.bid_fills, result.ask_fills)
        rows = zip(trades.bid.tolist(), trades.ask.tolist(), trades.lots.tolist(), strict=True)
        return (
            dict(zip(bid_places, result.bid_fills.tolist(), strict=True)),
            dict(zip(ask_places, result.ask_fills.tolist(), strict=True)),
            [(bid_places[bid], ask_places[ask], lots) for bid, ask, lots in rows],
        )

    shuffled = random.sample(range(len(buying)), len(buying)), random.sample(range(len(selling)), len(selling))
    assert run(list(range(len(buying))), list(range(len(selling)))) == run(*shuffled)


class TestPairing:
    def test_both_sides_are_walked_in_priority_order(self):
        buying, selling = bids([(10, 5), (12, 4)]), asks([(9, 3), (8, 6)])
        result = clear(buying, selling, None)
        trades = pair(buying, selling, result.bid_fills, result.ask_fills)
        assert list(zip(trades.bid.tolist(), trades.ask.tolist(), trades.lots.tolist(), strict=True)) == [
            (1, 1, 4), (0, 1, 2), (0, 0, 3)]

    @given(ROWS, ROWS)
    def test_trades_add_up_to_the_fills(self, buying, selling):
        sides = bids((p, q) for q, p in buying), asks((p, q) for q, p in selling)
        result = clear(*sides, 5)
        trades = pair(*sides, result.bid_fills, result.ask_fills)
        assert (trades.lots > 0).all()
        for places, fills in ((trades.bid, result.bid_fills), (trades.ask, result.ask_fills)):
            total = np.zeros_like(fills)
            np.add.at(total, places, trades.lots)
            assert (total == fills).all()
        assert len(trades.lots) <= max(0, np.count_nonzero(result.bid_fills) + np.count_nonzero(result.ask_fills) - 1)


def test_time_order_deals_to_the_last_lot():
    assert in_time_order(np.array([5, INT64_MAX - 10, 5]), INT64_MAX - 7).tolist() == [5, INT64_MAX - 12, 0]


def group_orders(*rows, mode=SelfTradeMode.DECREMENT):
    """Build orders of one group from (side, lots, tick) in order of time."""
    return [GroupOrder(i, 1, side == "buy", tick, lots, i, mode) for i, (side, lots, tick) in enumerate(rows)]


class TestSelfTradePrevention:
    @pytest.mark.parametrize(("mode", "left"), [
        (SelfTradeMode.CANCEL_NEWEST, [8, 0]), (SelfTradeMode.CANCEL_OLDEST, [0, 5]),
        (SelfTradeMode.CANCEL_BOTH, [0, 0]), (SelfTradeMode.DECREMENT, [3, 0]), (SelfTradeMode.NONE, [8, 5]),
    ])
    def test_each_mode(self, mode, left):
        orders = group_orders(("buy", 8, 11), ("sell", 5, 10), mode=mode)
        prevented = prevent_self_trades(orders)
        assert [order.lots for order in orders] == left
        assert [(p.bid_lots, p.ask_lots) for p in prevented] == ([] if mode == "none" else [(8 - left[0], 5 - left[1])])

    def test_best_prices_meet_first_and_the_oldest_among_equals(self):
        orders = group_orders(("buy", 1, 11), ("buy", 1, 12), ("buy", 1, 12), ("sell", 2, 10))
        assert [(p.bid, p.ask) for p in prevent_self_trades(orders)] == [(1, 3), (2, 3)]
        assert [order.lots for order in orders] == [1, 0, 0, 0]

    def test_groups_do_not_meet_and_what_does_not_cross_stays(self):
        orders = group_orders(("buy", 5, 11), ("sell", 5, 10))
        orders[1].group = 2
        assert prevent_self_trades(orders) == []
        assert prevent_self_trades(group_orders(("buy", 5, 9), ("sell", 5, 10))) == []

    @given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), st.integers(1, 5), st.integers(1, 8)), max_size=12),
           st.sampled_from([mode for mode in SelfTradeMode if mode != "none"]))
    def test_afterwards_no_group_crosses_itself(self, rows, mode):
        orders = group_orders(*rows, mode=mode)
        prevented = prevent_self_trades(orders)
        taken = sum(p.bid_lots + p.ask_lots for p in prevented)
        assert taken == sum(lots for _, lots, _ in rows) - sum(order.lots for order in orders)
        buys = [o.tick for o in orders if o.buying and o.lots]
        sells = [o.tick for o in orders if not o.buying and o.lots]
        assert not (buys and sells and max(buys) >= min(sells))
