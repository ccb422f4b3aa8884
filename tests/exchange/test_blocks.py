"""Blocks: the promises one by one, and welfare against exact enumeration and against the divisible upper bound."""

import random
from fractions import Fraction
from itertools import product
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.domain.auction import determine_price_on
from exchange.domain.blocks import Block, LinkedCycle, Window, clear_session, pair_window
from exchange.domain.sides import BookTooLarge, InvalidBook, Side, asks, bids, curves_of
from exchange.domain.window_curve import WindowCurve
from tests.exchange.oracle import auction_price

M = None


def given_window(buying=(), selling=(), reference=None):
    """A window from (lots, price) rows."""
    return Window(bids((p, q) for q, p in buying), asks((p, q) for q, p in selling), reference)


def buy(limit, lots, **more):
    """A buy block; `lots` in the first window, or (window, lots) pairs."""
    return Block(True, limit, ((0, lots),) if isinstance(lots, int) else tuple(lots), **more)


def sell(limit, lots, **more):
    """A sell block, likewise."""
    return Block(False, limit, ((0, lots),) if isinstance(lots, int) else tuple(lots), **more)


class TestPromises:
    def test_all_or_none_is_filled_whole_or_not_at_all(self):
        window = given_window([], [(50, 10)])
        assert clear_session([window], [buy(12, 50)]).block_parts == (50,)
        assert clear_session([window], [buy(12, 60)]).block_parts == (0,)

    def test_a_minimum_quantity_is_filled_as_far_as_it_goes(self):
        window = given_window([], [(50, 10)])
        assert clear_session([window], [buy(12, 60, least=Fraction(40, 60))]).block_parts == (50,)
        assert clear_session([window], [buy(12, 60, least=Fraction(55, 60))]).block_parts == (0,)

    def test_a_profile_is_filled_in_the_same_part_of_every_window(self):
        windows = [given_window([], [(10, 10)]), given_window([], [(9, 20)])]
        cleared = clear_session(windows, [buy(17, [(0, 10), (1, 20)], least=Fraction(1, 10))])
        assert cleared.windows[0].block_fills == {0: 4} and cleared.windows[1].block_fills == {0: 8}

    def test_the_average_price_decides_over_several_windows(self):
        windows = [given_window([], [(10, 10)]), given_window([], [(10, 20)])]
        assert clear_session(windows, [buy(15, [(0, 10), (1, 10)])]).block_parts == (10,)
        assert clear_session(windows, [buy(14, [(0, 10), (1, 10)])]).block_parts == (0,)

    def test_of_an_exclusive_group_one_at_most(self):
        windows = [given_window([], [(10, 10)]), given_window([], [(10, 8)])]
        either = [buy(12, [(0, 5)], exclusive=1), buy(12, [(1, 5)], exclusive=1)]
        assert clear_session(windows, either).block_parts == (0, 5)

    def test_a_linked_block_only_with_its_parent(self):
        window = given_window([], [(10, 10)])
        assert clear_session([window], [buy(9, 5), buy(12, 5, parent=0)]).block_parts == (0, 0)
        assert clear_session([window], [buy(11, 5), buy(12, 5, parent=0)]).block_parts == (5, 5)

    def test_blocks_alone_trade_with_each_other_at_their_limits(self):
        cleared = clear_session([given_window(reference=11)], [buy(12, 5), sell(10, 5)])
        assert (cleared.block_parts, cleared.windows[0].price.price_tick) == ((5, 5), 12)
        assert clear_session([given_window(reference=11)], [buy(12, 5), sell(10, 6)]).block_parts == (0, 0)

    def test_a_block_rejected_although_in_the_money_is_published_with_its_lost_surplus(self):
        window = given_window([(5, 10)], [(5, 10), (100, 30)])
        cleared = clear_session([window], [buy(14, 20)])
        assert cleared.block_parts == (0,)
        assert [(lost.block, lost.lost_surplus) for lost in cleared.forgone] == [(0, 4 * 20)]

    def test_a_block_out_of_the_money_or_without_its_parent_is_not(self):
        window = given_window([(5, 10)], [(5, 10), (100, 30)])
        assert clear_session([window], [buy(9, 20), buy(40, 200, parent=0)]).forgone == ()

    def test_no_blocks_gives_the_plain_auction(self):
        cleared = clear_session([given_window([(400, 202), (200, 201)], [(300, 199), (200, 198)])], [])
        assert cleared.windows[0].price.price_tick == 201
        assert cleared.windows[0].bid_fills.tolist() == [400, 100]

    def test_the_same_session_gives_the_same_answer(self):
        case = random_session(random.Random(3), blocks=30, windows=3)
        first, second = clear_session(*case), clear_session(*case)
        assert (first.block_parts, first.forgone, first.steps) == (second.block_parts, second.forgone, second.steps)

    def test_the_search_keeps_to_its_steps(self):
        windows, blocks = random_session(random.Random(4), blocks=60, windows=2)
        short, long = clear_session(windows, blocks, steps=0), clear_session(windows, blocks)
        assert short.steps < long.steps <= 4 * 16_384
        assert short.welfare <= long.welfare


@pytest.mark.parametrize("seed", range(25))
def test_every_window_adds_up_and_its_trades_with_it(seed):
    windows, blocks = random_session(random.Random(seed), blocks=12, windows=3)
    cleared = clear_session(windows, blocks)
    assert any(window.block_fills for window in cleared.windows)
    for place, (window, result) in enumerate(zip(windows, cleared.windows, strict=True)):
        in_blocks = {True: 0, False: 0}
        for number, lots in result.block_fills.items():
            in_blocks[blocks[number].buying] += lots
            offered = dict(blocks[number].lots)[place]
            assert lots * blocks[number].parts == offered * cleared.block_parts[number]
        volume = result.price.volume_lots
        assert int(result.bid_fills.sum()) + in_blocks[True] == volume
        assert int(result.ask_fills.sum()) + in_blocks[False] == volume
        for side, fills, worse in ((window.bids, result.bid_fills, -1), (window.asks, result.ask_fills, 1)):
            assert not fills[worse * side.ticks > worse * (result.price.price_tick or 0)].any()
        trades = pair_window(window, result, blocks)
        assert int(trades.lots.sum()) == volume
        for bought, places, of_side in ((True, trades.bid, window.bids), (False, trades.ask, window.asks)):
            of_blocks = places >= len(of_side)
            assert int(trades.lots[of_blocks].sum()) == in_blocks[bought]
            assert {int(p) - len(of_side) for p in places[of_blocks]} <= set(result.block_fills)


class TestBadInput:
    @pytest.mark.parametrize("block", [
        buy(5, 0), buy(5, []), buy(5, [(0, 1), (0, 1)]), buy(5, [(1, 1)]), buy(5, 1, least=Fraction(0)),
        buy(5, 1, least=Fraction(3, 2)), buy(2**63, 1), buy(5, 1, parent=7), buy(5, [(0, -1)]),
    ])
    def test_a_wrong_block_is_refused(self, block):
        with pytest.raises(InvalidBook):
            clear_session([given_window()], [block])

    @pytest.mark.parametrize("parents", [(0, None), (1, 0), (1, 2)])
    def test_a_linked_cycle_is_refused(self, parents):
        blocks = [buy(5, 1, parent=parent) for parent in (*parents, 0)]
        with pytest.raises(LinkedCycle):
            clear_session([given_window()], blocks)

    def test_values_beyond_64_bits_are_refused(self):
        with pytest.raises(BookTooLarge):
            clear_session([given_window([(1, 2**40)])], [buy(2**40, 2**30)])
        with pytest.raises(BookTooLarge):
            clear_session([given_window([(2**62, 1)])], [buy(1, 2**60)])


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 8))), max_size=8),
    st.lists(st.tuples(st.integers(1, 5), st.one_of(st.none(), st.integers(1, 8))), max_size=8),
    st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 12), st.integers(0, 12),
    st.lists(st.integers(1, 8), max_size=3, unique=True),
)
def test_pricing_by_four_comparisons_is_the_rules(buying, selling, reference, buys, sells, also):
    window = given_window(buying, selling, reference)
    curves = curves_of(window.bids, window.asks, also=also)
    determined = determine_price_on(curves.with_market_lots(buys, sells), reference)
    assert WindowCurve.of(curves, reference).price(buys, sells) == (determined.price_tick, determined.volume_lots)


def random_session(source, *, blocks, windows, size=(1, 30), orders=12, kinds=True):
    """A session with crossing orders around 50 and blocks of every kind around the money."""
    session = []
    for _ in range(windows):
        rows = [[(source.randint(1, 20), round(source.gauss(50, 12))) for _ in range(orders)] for _ in range(2)]
        session.append(given_window(*rows, reference=source.choice([None, 50])))
    made = []
    for number in range(blocks):
        places = source.sample(range(windows), source.randint(1, windows))
        more = {}
        if kinds and source.random() < 0.2:
            more["exclusive"] = source.randint(1, max(1, blocks // 4))
        if kinds and number and source.random() < 0.15:
            more["parent"] = source.randrange(number)
        if kinds and source.random() < 0.25:
            more["least"] = Fraction(source.randint(1, 4), 4)
        lots = tuple((place, source.randint(*size)) for place in sorted(places))
        made.append(Block(source.random() < 0.5, round(source.gauss(50, 10)), lots, **more))
    return session, made


def expanded(side, worth_of_market):
    """The value of every single lot of a side."""
    return [worth_of_market if abs(t) > 10**9 else t
            for t, q in zip(side.ticks.tolist(), side.lots.tolist(), strict=True) for _ in range(q)]


def welfare_of(windows, blocks, parts):
    """What buyers bid less what sellers ask of all that trades, lot by lot; None where blocks cannot be filled."""
    total = 0
    for place, window in enumerate(windows):
        net = 0
        for block, filled in zip(blocks, parts, strict=True):
            lots = sum(q for at, q in block.lots if at == place) // block.parts * filled
            net += lots if block.buying else -lots
            total += block.limit_tick * (lots if block.buying else -lots)
        buying = sorted(expanded(window.bids, 10**6), reverse=True)
        selling = sorted(expanded(window.asks, -(10**6)))
        bought, sold = np.concatenate(([0], np.cumsum(buying))), np.concatenate(([0], np.cumsum(selling)))
        options = [bought[k] - sold[k + net] for k in range(len(buying) + 1) if 0 <= k + net <= len(selling)]
        if not options:
            return None
        total += int(max(options))
    return total


def broken_promise(windows, blocks, parts):
    """Return which promise a choice breaks, or None; prices by the oracle."""
    for number, (block, filled) in enumerate(zip(blocks, parts, strict=True)):
        if filled and not block.least_of(block.parts) <= filled <= block.parts:
            return "least part"
        if filled and block.parent is not None and not parts[block.parent]:
            return "linked"
        for other in range(number):
            if filled and parts[other] and block.exclusive is not None and block.exclusive == blocks[other].exclusive:
                return "exclusive"
    prices = []
    for place, window in enumerate(windows):
        taken = {True: 0, False: 0}
        for block, filled in zip(blocks, parts, strict=True):
            taken[block.buying] += sum(q for at, q in block.lots if at == place) // block.parts * filled
        rows = []
        for side, buying in ((window.bids, True), (window.asks, False)):
            orders = zip(side.ticks.tolist(), side.lots.tolist(), strict=True)
            rows.append([(q, None if abs(t) > 10**9 else t) for t, q in orders])
            rows[-1] += [(taken[buying], None)] if taken[buying] else []
        also = {block.limit_tick for block in blocks if [at for at, _ in block.lots] == [place]}
        price, volume, _ = auction_price(*rows, window.reference_tick, also)
        if max(taken.values()) > volume:
            return "filled"
        prices.append(price)
    for block, filled in zip(blocks, parts, strict=True):
        if filled:
            gain = sum((block.limit_tick - prices[at]) * q for at, q in block.lots)
            if gain * (1 if block.buying else -1) < 0:
                return "at a loss"
    return None


def optimum(windows, blocks):
    """The highest welfare of all choices that keep every promise."""
    levels = [(0, *range(block.least_of(block.parts), block.parts + 1)) for block in blocks]
    worth = ((welfare_of(windows, blocks, parts), parts) for parts in product(*levels))
    for welfare, parts in sorted(((w, p) for w, p in worth if w is not None), reverse=True):
        if broken_promise(windows, blocks, parts) is None:
            return welfare
    raise AssertionError("accepting nothing is always possible")


def gap_to_the_optimum(windows, blocks, **options):
    """How far below the optimum the search ends, as a share of it; all promises are checked on the way."""
    cleared = clear_session(windows, blocks, **options)
    assert broken_promise(windows, blocks, cleared.block_parts) is None
    assert cleared.welfare == welfare_of(windows, blocks, cleared.block_parts)
    best = optimum(windows, blocks)
    assert cleared.welfare <= best
    return (best - cleared.welfare) / best if best else 0.0


class TestWelfare:
    @pytest.mark.parametrize("kinds", [False, True])
    def test_with_few_blocks_it_is_the_optimum(self, kinds):
        gaps = []
        for seed in range(60):
            source = random.Random(seed)
            sizes = {"blocks": source.randint(1, 6), "windows": source.randint(1, 3), "size": (1, 6)}
            gaps.append(gap_to_the_optimum(*random_session(source, **sizes, kinds=kinds)))
        assert median(gaps) <= 0.001 and max(gaps) <= 0.02, sorted(gaps)[-5:]

    def test_without_enumeration_it_is_nearly_the_optimum(self):
        gaps = []
        for seed in range(30):
            case = random_session(random.Random(seed), blocks=7, windows=2, size=(1, 12), orders=20, kinds=False)
            gaps.append(gap_to_the_optimum(*case, steps=300))
        assert median(gaps) <= 0.001 and max(gaps) <= 0.02, sorted(gaps)[-5:]

    @pytest.mark.parametrize("size", [200, pytest.param(1_000, marks=pytest.mark.proof)])
    def test_with_many_blocks_it_is_close_to_the_divisible_upper_bound(self, size):
        gaps = []
        for seed in range(4):
            for windows in (1, 4, 24):
                case = large_session(np.random.default_rng(seed), blocks=size, orders=100 * size, windows=windows)
                cleared = clear_session(*case)
                bound = divisible_upper_bound(*case, [window.price.price_tick for window in cleared.windows])
                assert cleared.welfare <= bound
                assert bound - cleared.welfare <= sum(lost.lost_surplus for lost in cleared.forgone) + 1
                gaps.append((bound - cleared.welfare) / bound)
        assert median(gaps) <= 0.001 and max(gaps) <= 0.02, sorted(gaps)[-5:]


def large_session(source, *, blocks, orders, windows):
    """A session with all-or-none blocks of 1 to 40 times a mean order, over up to eight windows in a row."""
    session = []
    for _ in range(windows):
        count = orders // windows // 2
        sides = [Side(source.integers(1, 10_000, count), source.integers(1, 1_000, count)) for _ in range(2)]
        session.append(Window(*sides, 5_000))
    made = []
    for _ in range(blocks):
        length = int(source.integers(1, min(8, windows) + 1))
        first, lots_a_window = int(source.integers(0, windows - length + 1)), int(source.integers(500, 20_000))
        lots = tuple((first + place, lots_a_window) for place in range(length))
        made.append(Block(bool(source.random() < 0.5), int(source.normal(5_000, 1_500)), lots))
    return session, made


def divisible_upper_bound(windows, blocks, prices):
    """
    What nobody can surpass even with divisible blocks: at any prices at all, everyone's gain if all were filled as they
    like. The least of it near the prices given, found by walking down its slope.
    """
    signed = np.zeros((len(windows), len(blocks)))
    for number, block in enumerate(blocks):
        for at, lots in block.lots:
            signed[at, number] = lots if block.buying else -lots
    worth = np.array([block.limit_tick for block in blocks]) * signed.sum(axis=0)
    curves = []
    for window in windows:
        for side in (window.bids, window.asks):
            order = np.argsort(side.ticks)
            lots = side.lots[order].astype(float)
            cumulated = [np.concatenate(([0], np.cumsum(x))) for x in (lots, lots * side.ticks[order])]
            curves.append((side.ticks[order], *cumulated))

    def at(levels):
        gains = worth - levels @ signed
        total, slope = gains[gains > 0].sum(), -signed[:, gains > 0].sum(axis=1)
        for place, level in enumerate(levels):
            (bid_ticks, bid_lots, bid_worth), (ask_ticks, ask_lots, ask_worth) = curves[2 * place : 2 * place + 2]
            above, below = np.searchsorted(bid_ticks, level), np.searchsorted(ask_ticks, level)
            bought, sold = bid_lots[-1] - bid_lots[above], ask_lots[below]
            total += bid_worth[-1] - bid_worth[above] - level * bought + level * sold - ask_worth[below]
            slope[place] += sold - bought
        return total, slope

    levels = np.array(prices, dtype=float)
    least = at(levels)[0]
    for step in range(40):
        bound, slope = at(levels)
        least = min(least, bound)
        levels = levels - 20 / (1 + step / 20) * slope / max(1.0, float(np.linalg.norm(slope)))
    return least
