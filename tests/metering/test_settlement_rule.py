"""The settlement of a contract, as a pure function: who gets what for each token, and that nothing is made or lost."""

from hypothesis import given
from hypothesis import strategies as st

from core.money import MICRO_PER_TOKEN, cost_micro
from metering_ingest.domain.settlement import (
    DeploymentUsage,
    LineKind,
    Lot,
    Pot,
    Terms,
    Undelivered,
    difference,
    settle,
)

LOT = Lot(1, 1_000, buyer_price_nano=3_000, seller_price_nano=3_000)


def used(tokens: float, deployment: int = 1, **more: int) -> DeploymentUsage:
    return DeploymentUsage(deployment, int(tokens * MICRO_PER_TOKEN), **more)


def test_all_used_pays_the_seller() -> None:
    result = settle([LOT], [used(1_000)], terms=Terms(take_or_pay_thousandths=1_000, fee_thousandths=20))
    assert [(line.kind, line.buyer_amount_micro, line.fee_micro) for line in result.lines] == [
        (LineKind.USED, 3_000, 60)
    ]
    assert result.pots() == {
        Pot.ESCROW: -3_000, Pot.PROVIDER: 2_940, Pot.FEE: 60, Pot.BUYER: 0, Pot.COMPENSATION: 0, Pot.PENALTY: 0,
        Pot.DEFAULT_FUND: 0, Pot.DISPUTE: 0, Pot.ROUNDING: 0,
    }  # fmt: skip


def test_unused_tokens_return_what_take_or_pay_leaves() -> None:
    result = settle([LOT], [used(600)], terms=Terms(take_or_pay_thousandths=800))
    pots = result.pots()
    assert (pots[Pot.PROVIDER], pots[Pot.BUYER]) == (600 * 3 + 320 * 3, 80 * 3)
    assert [line.kind for line in result.lines] == [LineKind.USED, LineKind.UNUSED]


def test_undelivered_tokens_return_the_buyers_price_and_a_fifth_on_top() -> None:
    resold = Lot(1, 1_000, buyer_price_nano=5_000, seller_price_nano=3_000)
    result = settle([resold], [used(400)], terms=Terms(1_000), undelivered=[Undelivered(600)])
    pots = result.pots()
    assert (pots[Pot.BUYER], pots[Pot.PROVIDER]) == (600 * 5 + 600, 400 * 3)
    assert (pots[Pot.COMPENSATION], pots[Pot.PENALTY]) == (-600 * 2, -600)
    assert [(line.kind, line.buyer_amount_micro, line.seller_amount_micro) for line in result.lines] == [
        ("used", 2_000, 1_200), ("undelivered", 0, 0), ("compensation", 0, -1_200), ("penalty", -600, -600),
    ]  # fmt: skip
    cheap = Lot(1, 1_000, buyer_price_nano=2_000, seller_price_nano=3_000)
    pots = settle([cheap], [], terms=Terms(1_000), undelivered=[Undelivered(1_000)]).pots()
    assert (pots[Pot.BUYER], pots[Pot.DEFAULT_FUND], pots[Pot.PROVIDER]) == (2_400, 1_000, 0)


def test_what_was_reported_ahead_costs_half_and_the_dearest_lot_is_missing_first() -> None:
    lots = [Lot(1, 1_000, 2_000, 2_000), Lot(2, 1_000, 5_000, 5_000)]
    result = settle(lots, [], terms=Terms(1_000), undelivered=[Undelivered(600, 100), Undelivered(600)])
    penalties = {(line.lot_number, line.penalty_thousandths): -line.buyer_amount_micro for line in result.lines
                 if line.kind == "penalty"}  # fmt: skip
    assert penalties == {(2, 100): 300, (2, 200): 400, (1, 200): 80}


def test_undelivered_tokens_leave_the_unused_before_take_or_pay_and_never_touch_what_was_used() -> None:
    result = settle([LOT], [used(900)], terms=Terms(1_000), undelivered=[Undelivered(600)])
    assert [(line.kind, line.quantity_micro_st // MICRO_PER_TOKEN) for line in result.lines] == [
        ("used", 900), ("undelivered", 100), ("penalty", 100),
    ]  # fmt: skip


def test_usage_of_tokens_that_another_provider_replaced_is_not_charged_twice() -> None:
    over = settle([LOT], [used(1_800, list_price_nano=10_000)], terms=Terms(0, 0, 10**9), replaced_tokens=500)
    assert [(line.kind, line.quantity_micro_st // MICRO_PER_TOKEN) for line in over.lines] == [
        ("used", 1_000), ("overage", 300), ("uncharged", 500),
    ]  # fmt: skip


def test_what_is_disputed_waits_with_its_escrow_and_a_ruling_moves_only_that() -> None:
    lots, terms = [LOT], Terms(take_or_pay_thousandths=0, fee_thousandths=20)
    waiting = settle(lots, [used(900, disputed_micro_st=60 * MICRO_PER_TOKEN)], terms=terms)
    assert [(line.kind, line.quantity_micro_st // MICRO_PER_TOKEN, line.held_micro) for line in waiting.lines] == [
        ("used", 900, 0), ("disputed", 60, 180), ("unused", 40, 0),
    ]  # fmt: skip
    assert (waiting.pots()[Pot.DISPUTE], waiting.pots()[Pot.BUYER], waiting.pots()[Pot.ESCROW]) == (180, 120, -3_000)
    for_provider = difference(waiting, settle(lots, [used(960)], terms=terms))
    assert for_provider == {Pot.DISPUTE: -180, Pot.PROVIDER: 176, Pot.FEE: 4}
    for_buyer = difference(waiting, settle(lots, [used(900)], terms=terms))
    assert for_buyer == {Pot.DISPUTE: -180, Pot.BUYER: 180}


def test_usage_takes_the_cheapest_lots_first_and_then_list_price_up_to_the_limit() -> None:
    lots = [Lot(1, 1_000, 5_000, 5_000), Lot(2, 1_000, 2_000, 2_000)]
    result = settle(lots, [used(1_500)], terms=Terms(0))
    assert [(line.kind, line.lot_number, line.quantity_micro_st // MICRO_PER_TOKEN) for line in result.lines] == [
        ("used", 2, 1_000), ("used", 1, 500), ("unused", 1, 500),
    ]  # fmt: skip
    over = settle(lots, [used(2_500, list_price_nano=10_000)], terms=Terms(0, overage_limit_micro=3_000))
    beyond = [
        (line.kind, line.quantity_micro_st // MICRO_PER_TOKEN, line.buyer_amount_micro) for line in over.lines[2:]
    ]
    assert beyond == [
        ("overage", 300, 3_000), ("uncharged", 200, 0),
    ]  # fmt: skip
    assert over.pots()[Pot.BUYER] == -3_000


prices = st.integers(1, 10**7)
lots_of = st.lists(st.tuples(st.integers(1, 10_000), prices, prices), min_size=0, max_size=5).map(
    lambda rows: [Lot(i + 1, n * 1_000, b, s) for i, (n, b, s) in enumerate(rows)]
)
usage_of = st.lists(
    st.tuples(
        st.integers(0, 20_000 * 10**9),
        st.integers(0, 10**7),
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 10**9)),
        st.sampled_from([0, 0, 1, 5 * 10**11, 10**13]),
    ),
    max_size=4,
).map(lambda rows: [DeploymentUsage(i + 1, *row) for i, row in enumerate(rows)])
terms_of = st.builds(Terms, st.integers(0, 1_000), st.integers(0, 200), st.sampled_from([0, 1, 1_000, 10**9, 10**15]))


missing_of = st.lists(st.builds(Undelivered, st.integers(0, 40_000_000), st.sampled_from([0, 100, 200])), max_size=4)


@given(lots_of, usage_of, terms_of, missing_of, st.sampled_from([0, 1_000, 10**7]))
def test_escrow_ends_at_zero_and_nobody_is_paid_from_anothers_money(lots, usage, terms, undelivered, replaced) -> None:
    result = settle(lots, usage, terms=terms, undelivered=undelivered, replaced_tokens=replaced)
    pots = result.pots()
    assert sum(pots.values()) == 0
    held = sum(cost_micro(tokens=lot.quantity_tokens, price_nano=lot.seller_price_nano) for lot in lots)
    assert pots[Pot.ESCROW] == -held
    assert abs(pots[Pot.ROUNDING]) <= 2 * len(result.lines)  # a micro-yuan or two per line, never more
    # Each token of each lot ends once, each token of usage is used or beyond, and classes are kept to the token.
    for lot in lots:
        assert (
            sum(
                line.quantity_micro_st
                for line in result.lines
                if line.lot_number == lot.number and line.accounts_for_tokens
            )
            == lot.quantity_micro_st
        )
    for use in usage:
        mine = [line for line in result.lines if line.deployment_id == use.deployment_id]
        assert sum(line.quantity_micro_st for line in mine) == use.work_micro_st + use.disputed_micro_st
        if mine:
            assert {n: sum(line.tokens.get(n, 0) for line in mine) for n in use.tokens} == dict(use.tokens)
    # The buyer never pays beyond its limit nor gets back more than it paid and the penalty; the provider owes price
    # differences and penalties, and nothing else.
    paid = sum(cost_micro(tokens=lot.quantity_tokens, price_nano=lot.buyer_price_nano) for lot in lots)
    assert -terms.overage_limit_micro <= pots[Pot.BUYER] + pots[Pot.PENALTY] <= paid + len(lots)
    dearer = sum(max(0, lot.buyer_price_nano - lot.seller_price_nano) * lot.quantity_tokens // 1_000 for lot in lots)
    assert 0 <= -pots[Pot.COMPENSATION] <= dearer + len(lots)
    missing = sum(line.quantity_micro_st for line in result.lines if line.kind == "undelivered")
    unused = max(0, sum(lot.quantity_micro_st for lot in lots)
                 - sum(use.work_micro_st + use.disputed_micro_st for use in usage))  # fmt: skip
    assert missing == min(unused, sum(one.quantity_tokens for one in undelivered) * MICRO_PER_TOKEN)
    assert 0 <= -pots[Pot.PENALTY] <= paid // 5 + len(result.lines)
    assert pots[Pot.PROVIDER] >= 0
    for line in result.lines:
        assert line.refund_micro >= 0
        if line.accounts_for_tokens:
            assert line.buyer_amount_micro >= 0 and line.seller_amount_micro >= 0
        else:
            assert line.buyer_amount_micro <= 0 and line.seller_amount_micro < 0
        assert len({other.key for other in result.lines}) == len(result.lines)


@given(lots_of, usage_of, usage_of, terms_of, missing_of, missing_of)
def test_a_later_revision_moves_only_the_difference(lots, before, after, terms, missing, ruled) -> None:
    first = settle(lots, before, terms=terms, undelivered=missing)
    second = settle(lots, after, terms=terms, undelivered=missing + ruled)
    moved = difference(first, second)
    assert sum(moved.values()) == 0 and Pot.ESCROW not in moved
    for pot in Pot:
        assert first.pots().get(pot, 0) + moved.get(pot, 0) == second.pots().get(pot, 0)
    assert difference(first, first) == {}
