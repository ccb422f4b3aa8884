"""
How fast auctions clear, measured against sorting: `python -m benchmarks.auction`.

- `clear_1m_vs_sort`: time of `np.sort` of a million prices ÷ time to determine the price and allocate the fills of a
  million orders with those prices. At least 0.6.
- `blocks_vs_sort_1m`: time to clear 1,000 blocks and 100,000 divisible orders ÷ the same sort. At most 2.

Limits are spread evenly over 10,000 ticks, and one order in a hundred is a market order. `…_narrow` is the same with
limits around a reference of 2,000 ticks with a deviation of 200: the fewer distinct prices, the quicker `np.sort` is.
Blocks are of up to 40 mean orders; `…_heavy` are of up to 400, so that there are more of them than orders can fill and
the search runs through all its steps. `…_gap_at_most` is the lost surplus of rejected blocks as a share of the welfare.
"""

import numpy as np

from benchmarks.baselines.sorted_auction import clear_by_sorting
from benchmarks.harness import environment, interleave, report, scaling
from exchange.domain.allocation import clear, pair
from exchange.domain.blocks import Block, Window, clear_session
from exchange.domain.sides import MARKET, Side

REFERENCE = 5_000


def given_book(orders: int, *, narrow: bool = False) -> tuple[Side, Side]:
    """Return bids and asks, half of the orders each."""
    random = np.random.default_rng(2026)
    sides = []
    for shift, market in ((10, MARKET), (-10, -MARKET)):
        count = orders // 2
        around = np.rint(random.normal(2_000 + shift, 200, count)).astype(np.int64)
        ticks = np.maximum(1, around) if narrow else random.integers(1, 10_000, count)
        lots = random.integers(1, 1_000, count)
        ticks[random.random(count) < 0.01] = market
        sides.append(Side(ticks, lots))
    return sides[0], sides[1]


def given_session(
    blocks: int, orders: int, *, windows: int = 1, largest: int = 20_000
) -> tuple[list[Window], list[Block]]:
    """Return windows that share `orders` (500 lots on average), and all-or-none blocks over up to eight windows."""
    random = np.random.default_rng(7)
    books = [given_book(orders // windows) for _ in range(windows)]
    made = []
    for _ in range(blocks):
        length = int(random.integers(1, min(8, windows) + 1))
        first, lots_a_window = int(random.integers(0, windows - length + 1)), int(random.integers(500, largest))
        lots = tuple((first + place, lots_a_window) for place in range(length))
        made.append(Block(bool(random.random() < 0.5), int(random.normal(5_000, 1_500)), lots))
    return [Window(bids, asks, REFERENCE) for bids, asks in books], made


def main() -> None:
    """Print the figures."""
    print(environment())
    bids, asks = given_book(1_000_000)
    prices = np.concatenate((bids.ticks, asks.ticks))
    narrow_bids, narrow_asks = given_book(1_000_000, narrow=True)
    narrow_prices = np.concatenate((narrow_bids.ticks, narrow_asks.ticks))
    cleared = clear(bids, asks, REFERENCE)
    session = given_session(1_000, 100_000)
    heavy_session = given_session(1_000, 100_000, largest=200_000)
    timings = interleave({
        "np.sort of the prices": lambda: np.sort(prices),
        "clear and allocate": lambda: clear(bids, asks, REFERENCE),
        "clear 1,000 blocks and 100,000 orders": lambda: clear_session(*session),
        "the same, blocks of up to 400 orders": lambda: clear_session(*heavy_session),
        "np.sort, narrow": lambda: np.sort(narrow_prices),
        "clear and allocate, narrow": lambda: clear(narrow_bids, narrow_asks, REFERENCE),
        "pair fills into trades": lambda: pair(bids, asks, cleared.bid_fills, cleared.ask_fills),
        "baseline: sort, cumsum, look up": lambda: clear_by_sorting(bids.ticks, bids.lots, asks.ticks, asks.lots),
    }, repeats=15)
    print(timings.table("One million orders"))

    books = {size: given_book(size) for size in (1_000, 10_000, 100_000, 1_000_000)}
    cases = {size: (lambda book=book: clear(book[0], book[1], REFERENCE)) for size, book in books.items()}
    print(scaling("How clearing and allocating grows (small books are dominated by fixed costs)", cases, repeats=9))
    sessions = {size: given_session(size, 100_000) for size in (10, 100, 1_000, 10_000)}
    block_cases = {size: (lambda case=case: clear_session(*case)) for size, case in sessions.items()}
    print(scaling("How clearing 100,000 orders grows with blocks", block_cases, repeats=5, unit="block"))
    day = clear_session(*given_session(1_000, 100_000, windows=24))
    lost = sum(forgone.lost_surplus for forgone in clear_session(*session).forgone)
    lost_day = sum(forgone.lost_surplus for forgone in day.forgone)
    report({
        "clear_1m_vs_sort": timings.ratio("np.sort of the prices", "clear and allocate"),
        "clear_1m_vs_sort_narrow": timings.ratio("np.sort, narrow", "clear and allocate, narrow"),
        "blocks_vs_sort_1m": timings.ratio("clear 1,000 blocks and 100,000 orders", "np.sort of the prices"),
        "blocks_vs_sort_1m_heavy": timings.ratio("the same, blocks of up to 400 orders", "np.sort of the prices"),
        "blocks_welfare_gap_at_most": lost / clear_session(*session).welfare,
        "blocks_welfare_gap_at_most_24_windows": lost_day / day.welfare,
        "clear_1m_ms": 1e3 * timings.median("clear and allocate"),
    })


if __name__ == "__main__":
    main()
