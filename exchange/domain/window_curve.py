"""
One window of a session, prepared so that it can be priced again in microseconds whatever blocks buy and sell in it.

Welfare needs no second look at the orders either. To let blocks buy d lots net, divisible orders must give them up,
each at the price at which it just trades; so welfare falls by the integral of that marginal price from 0 to d, a
piecewise linear function of d that is added up once.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from exchange.domain.sides import INT64_MAX, Curves, Int64


@dataclass(frozen=True, eq=False, slots=True)
class WindowCurve:
    """One window's divisible orders, ready to be priced in a few comparisons whatever blocks buy and sell in it."""

    curves: Curves
    reference_tick: int | None
    net_supply: Int64
    """Asks less bids at each tick; it never falls."""
    steps_lots: Int64
    """Net lots that divisible orders can give up (below zero: take), at the end of each step of the marginal price."""
    steps_tick: Int64
    steps_cost: npt.NDArray[Any]
    value_of_bids: int

    @classmethod
    def of(cls, curves: Curves, reference_tick: int | None) -> "WindowCurve":
        """Prepare a window."""
        ticks, bid_lots, ask_lots = curves.ticks, curves.bid_lots, curves.ask_lots
        somewhere = reference_tick or 0
        below, above = (int(ticks[0]) - 1, int(ticks[-1]) + 1) if ticks.size else (somewhere, somewhere)
        all_bids = int(bid_lots[0]) if ticks.size else curves.market_bid_lots
        all_asks = int(ask_lots[-1]) if ticks.size else curves.market_ask_lots
        # Before the first tick only market asks sell; beyond the last only market bids could still be outbid.
        bids_above = np.append(bid_lots, curves.market_bid_lots)
        asks_so_far = np.concatenate(([curves.market_ask_lots], ask_lots))
        steps_lots = np.concatenate(([-all_bids], asks_so_far - bids_above, [all_asks]))
        steps_tick = np.concatenate(([below], ticks, [above]))
        fits = 4 * max(abs(below), abs(above)) * max(all_bids, all_asks) <= INT64_MAX
        exact: Any = np.int64 if fits else np.object_
        costs = np.cumsum(np.diff(steps_lots).astype(exact) * steps_tick)
        value_of_limits = int(np.sum((bids_above[:-1] - bids_above[1:]).astype(exact) * ticks))
        return cls(
            curves=curves, reference_tick=reference_tick, net_supply=ask_lots - bid_lots, steps_lots=steps_lots,
            steps_tick=steps_tick, steps_cost=np.concatenate((np.zeros(1, dtype=exact), costs)),
            value_of_bids=value_of_limits + above * curves.market_bid_lots,
        )

    def price(self, buys: int, sells: int) -> tuple[int | None, int]:
        """
        Return price and volume by rules 1 to 7 with these lots more at every price: `determine_price_on`, in the four
        comparisons that matter. Of all prices with bid surplus the highest trades most and leaves least over, of those
        with ask surplus the lowest, and where nothing is left over nothing trades more.
        """
        curves = self.curves
        if not curves.ticks.size:
            volume = min(curves.market_bid_lots + buys, curves.market_ask_lots + sells)
            return (self.reference_tick, volume) if volume and self.reference_tick is not None else (None, 0)
        excess = buys - sells
        even, beyond = bisect_left(self.net_supply, excess), bisect_right(self.net_supply, excess)
        if even < beyond:
            tick, volume = self._nearest(even, beyond - 1), int(curves.bid_lots[even]) + buys
            return (tick, volume) if volume else (None, 0)
        low, high = even - 1, beyond
        at_low = at_high = (0, 0)  # volume and, negative, what is left over
        if low >= 0:
            at_low = int(curves.ask_lots[low]) + sells, int(self.net_supply[low]) - excess
        if high < curves.ticks.size:
            at_high = int(curves.bid_lots[high]) + buys, excess - int(self.net_supply[high])
        volume = max(at_low[0], at_high[0])
        if not volume:
            return None, 0
        if at_low == at_high:
            return self._nearest(low, high), volume
        return int(curves.ticks[low if at_low > at_high else high]), volume

    def _nearest(self, low: int, high: int) -> int:
        lower, higher = int(self.curves.ticks[low]), int(self.curves.ticks[high])
        if low == high or self.reference_tick is None:
            return -(-(lower + higher) // 2)
        return lower if abs(self.reference_tick - lower) < abs(higher - self.reference_tick) else higher

    def cost(self, net: int) -> int:
        """Return the value of what divisible orders give up so that blocks can buy `net` lots more than they sell."""
        step = max(0, min(bisect_left(self.steps_lots, net), len(self.steps_tick)) - 1)
        return int(self.steps_cost[step]) + int(self.steps_tick[step]) * (net - int(self.steps_lots[step]))
