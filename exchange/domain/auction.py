"""
The price of a uniform-price auction: one pure function for openings, off-peak and volatility auctions alike.

1. Candidates are the limits in the book; market orders count at every price.
2. Of these, the ones with the highest executable volume, min(bids at or above, asks at or below).
3. Of these, the ones with the smallest surplus, |bids − asks|.
4. If all that remain have bid surplus, the highest; if all have ask surplus, the lowest.
5. If they are mixed: of the highest with bid surplus and the lowest with ask surplus (where there is no surplus at all,
   of the lowest and the highest) the one nearest to the reference price; exactly in the middle, the higher. Without a
   reference price, the middle of the two, rounded up to the tick.
6. If there are only market orders: the reference price.
7. If nothing is executable: no price; the best bid and the best ask are published.

The result names the rule that decided and keeps the figures of each narrowing, so that anyone can check it and a page
can say it in a sentence (`exchange.domain.explain`). It does not depend on the order in which orders are given.
Who is filled at that price is the next question: `exchange.domain.allocation`.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from exchange.domain.sides import Candidate, Curves, Side, curves_of


class Rule(StrEnum):
    """What decided the price. The number of the rule above stands in `RULE_NUMBER`."""

    HIGHEST_VOLUME = "highest_volume"
    SMALLEST_SURPLUS = "smallest_surplus"
    BID_SURPLUS = "bid_surplus"
    ASK_SURPLUS = "ask_surplus"
    NEAREST_TO_REFERENCE = "nearest_to_reference"
    MIDDLE = "middle"
    ONLY_MARKET_ORDERS = "only_market_orders"
    NOTHING_EXECUTABLE = "nothing_executable"


RULE_NUMBER = {
    Rule.HIGHEST_VOLUME: 2, Rule.SMALLEST_SURPLUS: 3, Rule.BID_SURPLUS: 4, Rule.ASK_SURPLUS: 4,
    Rule.NEAREST_TO_REFERENCE: 5, Rule.MIDDLE: 5, Rule.ONLY_MARKET_ORDERS: 6, Rule.NOTHING_EXECUTABLE: 7,
}


@dataclass(frozen=True, slots=True)
class Narrowing:
    """
    What one rule left over: how many candidates, the lowest and the highest of them, and the best one it dropped
    (None if it dropped none).
    """

    rule: Rule
    kept: int
    lowest: Candidate
    highest: Candidate
    runner_up: Candidate | None


@dataclass(frozen=True, slots=True)
class Determination:
    """
    The outcome of an auction: price in ticks (None: no price), lots that trade, lots left over at that price (positive:
    bids), and why. `narrowings` are the rules applied, in order; the last one, or `rule`, decided.
    """

    price_tick: int | None
    volume_lots: int
    surplus_lots: int
    rule: Rule
    reference_tick: int | None
    best_bid_tick: int | None
    best_ask_tick: int | None
    market_bid_lots: int
    market_ask_lots: int
    narrowings: tuple[Narrowing, ...] = ()


def determine_price(bids: Side, asks: Side, reference_tick: int | None) -> Determination:
    """
    Return the price at which the book clears, by the rules above.

    :raises InvalidBook: see `curves_of`.
    """
    return determine_price_on(curves_of(bids, asks), reference_tick)


def determine_price_on(curves: Curves, reference_tick: int | None) -> Determination:
    """Return the price at which a book with these curves clears: what `determine_price` does once it has added up."""
    if curves.ticks.size == 0:
        return _without_limits(curves, reference_tick)
    volume, surplus = curves.volume_lots, curves.surplus_lots
    if not volume.any():
        return _outcome(curves, None, Rule.NOTHING_EXECUTABLE, reference_tick, ())

    most = np.flatnonzero(volume == volume.max())
    beside = [place for place in (most[0] - 1, most[-1] + 1) if 0 <= place < volume.size]
    runner_up = max(beside, key=lambda place: int(volume[place]), default=None)
    by_volume = _narrowing(curves, Rule.HIGHEST_VOLUME, most, runner_up)
    if most.size == 1:
        return _outcome(curves, by_volume.lowest.tick, Rule.HIGHEST_VOLUME, reference_tick, (by_volume,))

    excess = np.abs(surplus[most])
    least = most[excess == excess.min()]
    dropped = most[excess != excess.min()]
    runner_up = min(dropped, key=lambda place: abs(int(surplus[place])), default=None) if dropped.size else None
    by_surplus = _narrowing(curves, Rule.SMALLEST_SURPLUS, least, runner_up)
    steps = (by_volume, by_surplus)
    lowest, highest = by_surplus.lowest, by_surplus.highest
    if least.size == 1:
        return _outcome(curves, lowest.tick, Rule.SMALLEST_SURPLUS, reference_tick, steps)

    # The surplus never rises with the price, so the lowest and the highest candidate tell which signs remain.
    if highest.surplus_lots > 0:
        return _outcome(curves, highest.tick, Rule.BID_SURPLUS, reference_tick, steps)
    if lowest.surplus_lots < 0:
        return _outcome(curves, lowest.tick, Rule.ASK_SURPLUS, reference_tick, steps)

    if lowest.surplus_lots > 0:
        low, high = int(curves.ticks[least[surplus[least] > 0][-1]]), int(curves.ticks[least[surplus[least] < 0][0]])
    else:
        low, high = lowest.tick, highest.tick
    if reference_tick is None:
        return _outcome(curves, -(-(low + high) // 2), Rule.MIDDLE, None, steps)
    nearest = low if abs(reference_tick - low) < abs(high - reference_tick) else high
    return _outcome(curves, nearest, Rule.NEAREST_TO_REFERENCE, reference_tick, steps)


def _without_limits(curves: Curves, reference_tick: int | None) -> Determination:
    executable = min(curves.market_bid_lots, curves.market_ask_lots) > 0
    if executable and reference_tick is not None:
        return _outcome(curves, reference_tick, Rule.ONLY_MARKET_ORDERS, reference_tick, ())
    return _outcome(curves, None, Rule.NOTHING_EXECUTABLE, reference_tick, ())


def _narrowing(curves: Curves, rule: Rule, kept: npt.NDArray[np.intp], runner_up: int | None) -> Narrowing:
    return Narrowing(
        rule=rule,
        kept=int(kept.size),
        lowest=curves.candidate(int(kept[0])),
        highest=curves.candidate(int(kept[-1])),
        runner_up=None if runner_up is None else curves.candidate(int(runner_up)),
    )


def _outcome(
    curves: Curves, price_tick: int | None, rule: Rule, reference_tick: int | None, steps: tuple[Narrowing, ...]
) -> Determination:
    chosen = None if price_tick is None else curves.at(price_tick)
    return Determination(
        price_tick=price_tick,
        volume_lots=chosen.volume_lots if chosen else 0,
        surplus_lots=chosen.surplus_lots if chosen else 0,
        rule=rule,
        reference_tick=reference_tick,
        best_bid_tick=curves.best_bid_tick,
        best_ask_tick=curves.best_ask_tick,
        market_bid_lots=curves.market_bid_lots,
        market_ask_lots=curves.market_ask_lots,
        narrowings=steps,
    )
