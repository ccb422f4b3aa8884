"""What replaces a withdrawal, as pure functions; and money over any sequence of trading, failing and settling."""

from collections import Counter
from itertools import chain, combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.domain.losses import Cover, Purse, cover, give_back
from core.money import MICRO_PER_TOKEN, cost_micro
from exchange.domain.assignment import assign, pair_unplaced
from exchange.domain.netting import net
from exchange.domain.replacement import (
    LostLot,
    Security,
    UnsoldOffer,
    lost_lots,
    penalty_thousandths,
    replace_lost,
)
from metering_ingest.domain.settlement import DeploymentUsage, Lot, Pot, Terms, Undelivered, settle
from tests.exchange.test_netting_and_assignment import trade_lists

RICH = Security(10**9, 10**15, 200)


def test_the_dearest_lots_are_lost_first_after_those_already_lost():
    lots = [LostLot(1, 2_000, 10, 10), LostLot(2, 3_000, 30, 20)]
    assert lost_lots(lots, already_tokens=1_000, tokens=3_000) == [LostLot(2, 2_000, 30, 20), LostLot(1, 1_000, 10, 10)]
    with pytest.raises(ValueError):
        lost_lots(lots, already_tokens=3_000, tokens=3_000)


def test_the_cheapest_offers_serve_up_to_half_above_the_buyers_price():
    lost = [LostLot(1, 10_000, 2_000, 1_800)]
    offers = [UnsoldOffer(7, 70, 5_000, 3_001), UnsoldOffer(8, 80, 4_000, 3_000), UnsoldOffer(9, 90, 2_000, 1_500)]
    parts = replace_lost(lost, offers, {70: RICH, 80: RICH, 90: RICH})
    assert [(part.offer.capacity_id, part.tokens, part.cost_micro) for part in parts] == [
        (9, 2_000, 2 * (1_500 - 1_800)), (8, 4_000, 4 * (3_000 - 1_800)),
    ]  # fmt: skip
    assert parts[1].bond_micro == 2_400  # a fifth of ¥0.012


def test_a_provider_serves_no_more_than_its_money_secures():
    lost = [LostLot(1, 10_000, 2_000, 2_000)]
    offers = [UnsoldOffer(1, 70, 9_000, 2_000), UnsoldOffer(2, 70, 9_000, 2_000)]
    [part] = replace_lost(lost, offers, {70: Security(50_000, 1_999, 200)})  # ¥0.0004 a lot
    assert (part.tokens, part.bond_micro) == (4_000, 1_600)
    assert sum(part.tokens for part in replace_lost(lost, offers, {70: Security(3_500, 10**9, 200)})) == 3_000
    assert replace_lost(lost, offers, {}) == []


def test_an_hour_ahead_halves_the_penalty():
    assert [penalty_thousandths(seconds_ahead=seconds) for seconds in (0, 3_599, 3_600)] == [200, 200, 100]


def test_a_loss_is_borne_in_order_and_given_back_in_reverse():
    assert cover(100, bond_micro=30, payable_micro=50) == Cover(30, 50, 20)
    assert cover(100, bond_micro=30, payable_micro=-5) == Cover(30, 0, 70)
    assert give_back(25, default_micro=20) == Cover(0, -5, -20)
    purse = Purse(30, 50)
    assert [purse.bear(40), purse.bear(60)] == [Cover(30, 10, 0), Cover(0, 40, 20)]


amounts = st.integers(0, 10**12)


@given(amounts, amounts, st.integers(-(10**12), 10**12))
def test_the_parts_of_a_loss_are_the_loss(loss, bond, payable):
    borne = cover(loss, bond_micro=bond, payable_micro=payable)
    assert sum(borne) == loss and min(borne) >= 0
    assert borne.bond_micro <= bond and borne.payable_micro <= max(payable, 0)
    assert not borne.default_micro or (borne.bond_micro == bond and borne.payable_micro == max(payable, 0))


def most_placed(buys, sells, excluded) -> int:
    """Brute force: the smallest cut between buyers and sellers, over every set of buyers."""
    demand, supply = Counter(), Counter()
    for lot in buys:
        demand[lot.member_id] += lot.quantity_tokens
    for lot in sells:
        supply[lot.member_id] += lot.quantity_tokens
    everyone = list(demand)
    sets = chain.from_iterable(combinations(everyone, size) for size in range(len(everyone) + 1))
    return min(
        sum(demand[buyer] for buyer in everyone if buyer not in chosen)
        + sum(
            quantity
            for seller, quantity in supply.items()
            if any(seller not in excluded.get(buyer, ()) for buyer in chosen)
        )
        for chosen in sets
    )


@given(trade_lists(members=7), st.dictionaries(st.integers(1, 7), st.sets(st.integers(1, 7), max_size=3)))
def test_exclusions_leave_out_as_little_as_any_assignment_can(trades, excluded):
    netted = net(trades)
    assignment = assign(netted.open_buys, netted.open_sells, excluded)
    placed = sum(lot.quantity_tokens for lots in assignment.contracts.values() for lot in lots)
    assert placed == most_placed(netted.open_buys, netted.open_sells, excluded)
    assert assignment == assign(netted.open_buys, netted.open_sells, excluded)


thousandths = st.integers(0, 1_000)
offers_of = st.lists(
    st.tuples(st.integers(11, 14), st.integers(1, 60), st.integers(1, 15_000)), max_size=6
).map(lambda rows: [UnsoldOffer(n, provider, lots * 1_000, price) for n, (provider, lots, price) in enumerate(rows, 1)])


@given(
    trade_lists(members=6),
    st.dictionaries(st.integers(1, 6), st.sets(st.integers(1, 6), max_size=3)),
    offers_of,
    st.lists(st.tuples(thousandths, thousandths, thousandths, st.booleans()), min_size=1, max_size=12),
    st.integers(0, 1_000),
    st.integers(0, 500_000),
)
def test_whatever_is_traded_withdrawn_claimed_and_used_escrow_ends_at_zero(
    trades, excluded, offers, fates, take_or_pay, bond_micro
):
    """Cash is kept by hand: what each one paid and got, and what lies in escrow, bonds and the default account."""
    cash: Counter[object] = Counter()
    for trade in trades:
        cost = trade.quantity_tokens * trade.price_nano // 1_000
        cash[trade.buyer_id] -= cost
        cash["escrow"] += cost
    netted = net(trades)
    for member, proceeds in netted.offset_proceeds_micro.items():
        cash["escrow"] -= proceeds
        cash[member] += proceeds
    assignment = assign(netted.open_buys, netted.open_sells, excluded)
    for pair in pair_unplaced(assignment.unplaced):
        cash["escrow"] -= pair.refund_micro + pair.surplus_micro
        cash[pair.buyer_id] += pair.refund_micro
        cash["default"] += pair.surplus_micro

    contracts: dict[tuple[int, int], dict[int, list[int]]] = {}
    for pair_of, lots in assignment.contracts.items():
        contracts[pair_of] = {n: list(lot) for n, lot in enumerate(lots, 1)}
    assert cash["escrow"] == sum(
        q * seller // 1_000 for lots in contracts.values() for q, _, seller in lots.values()
    )
    purses = {member: Purse(bond_micro, 0) for member in range(1, 15)}
    losses: Counter[int] = Counter()

    def bear(provider: int, loss: int) -> None:
        borne = purses[provider].bear(loss)
        losses[provider] += loss
        cash[provider] -= borne.bond_micro + borne.payable_micro
        cash["default"] -= borne.default_micro

    left = {offer.capacity_id: offer.tokens for offer in offers}
    missing: dict[tuple[int, int], list[Undelivered]] = {}
    replaced: Counter[tuple[int, int]] = Counter()
    for number, pair_of in enumerate(list(contracts)):
        withdrawn_share, claimed_share, _, ahead = fates[number % len(fates)]
        buyer, provider = pair_of
        lots = [LostLot(n, q, b, s) for n, (q, b, s) in contracts[pair_of].items()]
        whole = sum(lot.tokens for lot in lots)
        withdrawn = whole * withdrawn_share // 1_000 // 1_000 * 1_000
        unsold = [offer._replace(tokens=left[offer.capacity_id]) for offer in offers]
        lost = lost_lots(lots, already_tokens=0, tokens=withdrawn)
        done = 0
        for part in replace_lost(lost, unsold, {offer.provider_id: RICH for offer in offers}):
            left[part.offer.capacity_id] -= part.tokens
            contracts[pair_of][part.lost.lot_id][0] -= part.tokens
            theirs = contracts.setdefault((buyer, part.offer.provider_id), {})
            theirs[len(theirs) + 1] = [part.tokens, part.lost.buyer_price_nano, part.offer.price_nano]
            cash["escrow"] += part.cost_micro
            if part.cost_micro >= 0:
                bear(provider, part.cost_micro)
            else:
                cash["default"] -= part.cost_micro
            done += part.tokens
        replaced[pair_of] = done
        claimed = (whole - withdrawn) * claimed_share // 1_000
        missing[pair_of] = [Undelivered(withdrawn - done, 100 if ahead else 200), Undelivered(claimed, 200)]

    for number, pair_of in enumerate(contracts):
        buyer, provider = pair_of
        lots = [Lot(n, q, b, s) for n, (q, b, s) in contracts[pair_of].items() if q]
        used = sum(lot.quantity_micro_st for lot in lots) * fates[number % len(fates)][2] // 1_000
        before = cash[buyer]
        pots = settle(
            lots, [DeploymentUsage(1, used, 5_000)], terms=Terms(take_or_pay, 20), undelivered=missing.get(pair_of, []),
            replaced_tokens=replaced[pair_of],
        ).pots()  # fmt: skip
        purses[provider].payable_micro += pots[Pot.PROVIDER]
        cash["escrow"] += pots[Pot.ESCROW]
        cash[buyer] += pots[Pot.BUYER]
        cash[provider] += pots[Pot.PROVIDER]
        cash["fee"] += pots[Pot.FEE]
        cash["default"] += pots[Pot.DEFAULT_FUND]
        cash["rounding"] += pots[Pot.ROUNDING]
        bear(provider, -pots[Pot.PENALTY] - pots[Pot.COMPENSATION])
        worth = sum(cost_micro(tokens=q, price_nano=b) for q, b, _ in contracts[pair_of].values())
        assert 0 <= cash[buyer] - before <= worth * 12 // 10 + 2 * len(lots) + 1  # never less for another's failure

    assert cash["escrow"] == 0
    assert sum(cash.values()) == 0
    assert sum(lots[0] for pair in contracts.values() for lots in pair.values()) * MICRO_PER_TOKEN == sum(
        lot.quantity_tokens for lots in assignment.contracts.values() for lot in lots
    ) * MICRO_PER_TOKEN
    for provider, purse in purses.items():
        assert purse.bond_micro >= 0 and purse.payable_micro >= 0
        assert losses[provider] >= bond_micro - purse.bond_micro
