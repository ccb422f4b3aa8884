"""At gate closure every token sold meets a token bought, and the escrow is exactly what the sellers are owed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.domain.assignment import PriceLot, Unbalanced, assign
from exchange.domain.netting import Netting, OpenLot, TradeFact, net

A, B, C, D = 1, 2, 3, 4


@st.composite
def trade_lists(draw, members=6):
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(1, members), st.integers(1, members), st.integers(1, 50), st.integers(1, 10_000)
            ).filter(lambda row: row[0] != row[1]),
            max_size=40,
        )
    )
    return [TradeFact(n, buyer, seller, lots * 1_000, price) for n, (buyer, seller, lots, price) in enumerate(rows, 1)]


def value_micro(lots) -> int:
    return sum(lot.quantity_tokens * lot.price_nano for lot in lots) // 1_000


def test_a_plain_market_opens_everything():
    assert net([TradeFact(1, A, B, 3_000, 20), TradeFact(2, C, B, 1_000, 20)]) == Netting(
        [OpenLot(1, A, 3_000, 20), OpenLot(2, C, 1_000, 20)], [OpenLot(1, B, 3_000, 20), OpenLot(2, B, 1_000, 20)], {}
    )


def test_resale_offsets_the_oldest_purchase_first():
    trades = [
        TradeFact(1, A, B, 2_000, 10), TradeFact(2, A, B, 2_000, 30),  # A buys cheap, then dear
        TradeFact(3, C, A, 3_000, 50),  # and resells three lots
    ]
    netted = net(trades)
    assert netted.open_buys == [OpenLot(2, A, 1_000, 30), OpenLot(3, C, 3_000, 50)]
    assert netted.open_sells == [OpenLot(1, B, 2_000, 10), OpenLot(2, B, 2_000, 30)]
    assert netted.offset_proceeds_micro == {A: 150}


def test_buying_back_leaves_the_later_sales_open():
    netted = net([TradeFact(1, A, B, 2_000, 10), TradeFact(2, C, B, 2_000, 20), TradeFact(3, B, A, 1_000, 5)])
    assert netted.open_sells == [OpenLot(1, B, 1_000, 10), OpenLot(2, B, 2_000, 20)]
    assert netted.open_buys == [OpenLot(1, A, 1_000, 10), OpenLot(2, C, 2_000, 20)]
    assert netted.offset_proceeds_micro == {A: 5, B: 10}


def test_two_pointers_join_equal_prices_and_keep_both_sides_own():
    buys = [OpenLot(1, A, 3_000, 10), OpenLot(2, C, 2_000, 30)]
    sells = [OpenLot(1, B, 1_000, 10), OpenLot(2, B, 1_000, 10), OpenLot(3, D, 3_000, 30)]
    assert assign(buys, sells).contracts == {
        (A, B): [PriceLot(2_000, 10, 10)], (A, D): [PriceLot(1_000, 10, 30)], (C, D): [PriceLot(2_000, 30, 30)],
    }


def test_sides_that_differ_are_refused():
    with pytest.raises(Unbalanced):
        assign([OpenLot(1, A, 1_000, 10)], [])


def test_an_exclusion_reroutes_an_earlier_assignment():
    buys = [OpenLot(1, A, 1_000, 10), OpenLot(2, C, 1_000, 10)]
    sells = [OpenLot(1, B, 1_000, 10), OpenLot(2, D, 1_000, 10)]
    assert assign(buys, sells, {C: {D}}).contracts.keys() == {(A, D), (C, B)}


def test_what_exclusions_keep_apart_is_returned():
    assignment = assign([OpenLot(1, A, 2_000, 10)], [OpenLot(1, B, 2_000, 10)], {A: {B}})
    assert assignment.contracts == {}
    assert assignment.unplaced.buys == [OpenLot(1, A, 2_000, 10)]
    assert assignment.unplaced.sells == [OpenLot(1, B, 2_000, 10)]


@given(trade_lists())
def test_quantities_and_escrow_are_conserved(trades):
    netted = net(trades)
    contracts = assign(netted.open_buys, netted.open_sells).contracts
    position = Counter()
    for trade in trades:
        position[trade.buyer_id] += trade.quantity_tokens
        position[trade.seller_id] -= trade.quantity_tokens
    delivered = Counter()
    for (buyer, seller), lots in contracts.items():
        assert buyer != seller
        assert position[buyer] > 0 > position[seller]
        delivered[buyer] += sum(lot.quantity_tokens for lot in lots)
        delivered[seller] -= sum(lot.quantity_tokens for lot in lots)
    assert +delivered == +position
    assert -delivered == -position

    escrow = sum(trade.quantity_tokens * trade.price_nano for trade in trades) // 1_000
    owed = sum(lot.quantity_tokens * lot.seller_price_nano for lots in contracts.values() for lot in lots) // 1_000
    assert escrow - sum(netted.offset_proceeds_micro.values()) == owed == value_micro(netted.open_sells)
    bought = sum(lot.quantity_tokens * lot.buyer_price_nano for lots in contracts.values() for lot in lots) // 1_000
    assert bought == value_micro(netted.open_buys)


@given(trade_lists(), st.dictionaries(st.integers(1, 6), st.sets(st.integers(1, 6), max_size=3)))
def test_exclusions_hold_and_nothing_is_lost(trades, excluded):
    netted = net(trades)
    assignment = assign(netted.open_buys, netted.open_sells, excluded)
    assert all(seller not in excluded.get(buyer, ()) for buyer, seller in assignment.contracts)
    total = sum(lot.quantity_tokens for lots in assignment.contracts.values() for lot in lots)
    assert total + sum(lot.quantity_tokens for lot in assignment.unplaced.buys) == sum(
        lot.quantity_tokens for lot in netted.open_buys
    )
    assert sum(lot.quantity_tokens for lot in assignment.unplaced.buys) == sum(
        lot.quantity_tokens for lot in assignment.unplaced.sells
    )
    left_buyers = {lot.member_id for lot in assignment.unplaced.buys}
    left_sellers = {lot.member_id for lot in assignment.unplaced.sells}
    assert all(seller in excluded.get(buyer, ()) for buyer in left_buyers for seller in left_sellers)
