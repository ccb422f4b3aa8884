"""
Blocks: orders that a session accepts whole, or down to a least part, or not at all.

A block has one limit for all its lots, which may lie in several windows of the session; it is worth accepting where
its average price is no worse than that. All-or-none is a least part of 1, a minimum quantity of m lots out of n a least
part of m/n. Of an exclusive group at most one block is accepted (window A *or* B); a linked block only with its parent
(B only with A).

- Accepted blocks take part in their windows like market orders, ahead of all others, and are filled to the lot; the
  price is then that of `exchange.domain.auction`, whose candidates include the limits of all blocks that lie in that
  window alone.
- No block is ever accepted at a loss, by itself, at these prices.
- A block that would have gained at these prices and is rejected all the same (for its acceptance would move them) is
  published with its lost surplus. Rivals and linked blocks aside, the sum of all lost surplus bounds what any other
  choice could have gained.
- Which blocks are accepted is sought for the highest welfare (what the buyers bid less what the sellers ask of all that
  trades), in a number of steps fixed beforehand, never by the clock: the same session gives the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import numpy as np

from exchange.domain.allocation import Margin, Pairs, allocate, pair
from exchange.domain.auction import Determination, determine_price_on
from exchange.domain.block_search import BlockSearch
from exchange.domain.sides import (
    INT64_MAX,
    LAST_TICK,
    MARKET,
    BookTooLarge,
    Curves,
    Int64,
    InvalidBook,
    Side,
    curves_of,
)
from exchange.domain.window_curve import WindowCurve


class LinkedCycle(InvalidBook):
    """Linked blocks depend on each other in a circle."""


@dataclass(frozen=True, slots=True)
class Block:
    """
    A block order: its limit in ticks a lot on average, and its lots by window (the window's place in the session).

    It is filled to at least `least` of its size, the same part in every window, in whole lots. `exclusive` names a
    group; `parent` is the place of the block it is linked to. Blocks are given in order of time.
    """

    buying: bool
    limit_tick: int
    lots: tuple[tuple[int, int], ...]
    least: Fraction = Fraction(1)
    exclusive: int | None = None
    parent: int | None = None

    @property
    def parts(self) -> int:
        """Into how many equal parts it can be divided, each a whole number of lots in every window."""
        return gcd(*(lots for _, lots in self.lots))

    def least_of(self, parts: int) -> int:
        """Return how many of its `parts` must be filled if it is accepted."""
        return -(-self.least.numerator * parts // self.least.denominator)


@dataclass(frozen=True, slots=True)
class Window:
    """One market of a session: its divisible orders and its reference price."""

    bids: Side
    asks: Side
    reference_tick: int | None


@dataclass(frozen=True, eq=False, slots=True)
class WindowClearing:
    """A cleared window. The fills of bids and asks are in the order given; `block_fills` are lots by place of block."""

    price: Determination
    bid_fills: Int64
    ask_fills: Int64
    block_fills: dict[int, int]


@dataclass(frozen=True, slots=True)
class Forgone:
    """A block that would have gained at the session's prices and was not (or not wholly) accepted."""

    block: int
    lost_surplus: int
    """In ticks × lots, of the lots that were not filled."""


@dataclass(frozen=True, eq=False, slots=True)
class SessionClearing:
    """
    A cleared session: its windows in order, the parts filled of each block (see `Block.parts`), the blocks rejected
    although in the money, the welfare in ticks × lots, and the steps it took.
    """

    windows: tuple[WindowClearing, ...]
    block_parts: tuple[int, ...]
    forgone: tuple[Forgone, ...]
    welfare: int
    steps: int


STEPS = 16_384
"""
How long the best choice is sought, in steps of `BlockSearch`: some 10 ms with a thousand blocks in one window. Sessions
of more windows get as many for each of up to four.
"""


def clear_session(
    windows: Sequence[Window], blocks: Sequence[Block], *, margin: Margin = Margin.TIME, steps: int | None = None
) -> SessionClearing:
    """
    Choose the blocks, then clear every window in order.

    :raises LinkedCycle: if blocks are linked in a circle.
    :raises InvalidBook: for a block without lots, of an unknown window, with a least part not in (0, 1] or linked to no
        block.
    :raises BookTooLarge: if quantities or values do not fit 64 bits.
    """
    refuse_invalid(blocks, windows=len(windows))
    curves = []
    for place, window in enumerate(windows):
        limits = {block.limit_tick for block in blocks if len(block.lots) == 1 and block.lots[0][0] == place}
        curves.append(curves_of(window.bids, window.asks, also=sorted(limits)))
    _refuse_overflow(windows, curves, blocks)
    prepared = [WindowCurve.of(curve, window.reference_tick) for curve, window in zip(curves, windows, strict=True)]
    search = BlockSearch(prepared, blocks)
    search.run(STEPS * min(4, len(windows)) if steps is None else steps)

    cleared = []
    for place, (window, curve) in enumerate(zip(windows, curves, strict=True)):
        with_blocks = curve.with_market_lots(search.buys[place], search.sells[place])
        price = determine_price_on(with_blocks, window.reference_tick)
        bid_fills, ask_fills = allocate(window.bids, window.asks, price, margin=margin)
        fills = {
            number: lots * parts
            for number, parts in enumerate(search.accepted) if parts
            for at, lots in search.lots_a_part[number] if at == place
        }
        cleared.append(WindowClearing(price, bid_fills, ask_fills, fills))
    return SessionClearing(
        windows=tuple(cleared),
        block_parts=tuple(search.accepted),
        forgone=tuple(Forgone(number, lost) for number, lost in search.lost_surplus()),
        welfare=search.welfare,
        steps=search.steps,
    )


def pair_window(window: Window, clearing: WindowClearing, blocks: Sequence[Block]) -> Pairs:
    """
    Return the trades of a window, blocks included: a place from `len(bids)` (or `len(asks)`) on is that of a block.
    """
    both = []
    for side, fills, buying in ((window.bids, clearing.bid_fills, True), (window.asks, clearing.ask_fills, False)):
        taken = [clearing.block_fills.get(number, 0) if block.buying is buying else 0
                 for number, block in enumerate(blocks)]
        sequence = np.arange(len(side)) if side.sequence is None else side.sequence
        before_all = int(sequence.min(initial=0)) - len(taken)
        joined = Side(
            ticks=np.concatenate((side.ticks, np.full(len(taken), MARKET if buying else -MARKET, dtype=np.int64))),
            lots=np.concatenate((side.lots, np.array(taken, dtype=np.int64))),
            sequence=np.concatenate((sequence, before_all + np.arange(len(taken)))),
        )
        both.append((joined, np.concatenate((fills, np.array(taken, dtype=np.int64)))))
    (bids, bid_fills), (asks, ask_fills) = both
    return pair(bids, asks, bid_fills, ask_fills)


def refuse_invalid(blocks: Sequence[Block], *, windows: int) -> None:
    """Raise what `clear_session` raises for blocks that are wrong in themselves or among each other."""
    for number, block in enumerate(blocks):
        lots_by_window = dict(block.lots)
        if not block.lots or min(lots_by_window.values()) < 1:
            raise InvalidBook(f"Block {number} must have at least one lot in each of its windows.")
        if len(lots_by_window) < len(block.lots) or not 0 <= min(lots_by_window) <= max(lots_by_window) < windows:
            raise InvalidBook(f"Block {number} must name windows of the session, each once.")
        if not 0 < block.least.numerator <= block.least.denominator:
            raise InvalidBook(f"The least part of block {number} must be above 0 and at most 1.")
        if abs(block.limit_tick) > LAST_TICK:
            raise InvalidBook(f"The limit of block {number} lies beyond ±{LAST_TICK} ticks.")
        if block.parent is not None and not 0 <= block.parent < len(blocks):
            raise InvalidBook(f"Block {number} is linked to a block that is not there.")
        ancestor, seen = block.parent, {number}
        while ancestor is not None:
            if ancestor in seen:
                raise LinkedCycle(f"Block {number} is linked in a circle.")
            seen.add(ancestor)
            ancestor = blocks[ancestor].parent


def _refuse_overflow(windows: Sequence[Window], curves: Sequence[Curves], blocks: Sequence[Block]) -> None:
    """Make sure that all that the search computes with arrays, lots and lots × ticks, is exact."""
    farthest = max((abs(block.limit_tick) for block in blocks), default=0)
    of_blocks = sum(lots for block in blocks for _, lots in block.lots)
    for window, curve in zip(windows, curves, strict=True):
        ends = curve.ticks[[0, -1]].tolist() if curve.ticks.size else []
        farthest = max(farthest, abs(window.reference_tick or 0), *map(abs, ends), 1)
        bought = int(curve.bid_lots[0]) if curve.ticks.size else curve.market_bid_lots
        sold = int(curve.ask_lots[-1]) if curve.ticks.size else curve.market_ask_lots
        if max(bought, sold) + of_blocks > INT64_MAX:
            raise BookTooLarge("The lots of one window do not fit 64 bits together with the blocks.")
    if 8 * of_blocks * farthest > INT64_MAX:
        raise BookTooLarge("The blocks of this session are worth more than 64 bits can count.")
