"""
Self-trade prevention in an auction, before its price is determined.

Orders of one control group must not trade with each other. While a group's best buy crosses its best sell, that pair is
resolved by the mode of its newer order, the oldest pair first, as the continuous book would when the newer one arrives:

- `cancel_newest`, `cancel_oldest`, `cancel_both`: the order is taken out whole;
- `decrement`: the smaller quantity is taken out of both, so the smaller order goes and the larger keeps the rest;
- `none`: the two may trade.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter


class SelfTradeMode(StrEnum):
    """What happens to two orders of one group that would trade."""

    CANCEL_NEWEST = "cancel_newest"
    CANCEL_OLDEST = "cancel_oldest"
    CANCEL_BOTH = "cancel_both"
    DECREMENT = "decrement"
    NONE = "none"


@dataclass(slots=True)
class GroupOrder:
    """An order as self-trade prevention sees it; `tick` is ±`MARKET` for a market order. `lots` shrinks."""

    order: int
    group: int
    buying: bool
    tick: int
    lots: int
    sequence: int
    mode: SelfTradeMode


@dataclass(frozen=True, slots=True)
class Prevented:
    """A pair that was kept from trading, and the lots taken out of each of the two."""

    group: int
    bid: int
    ask: int
    mode: SelfTradeMode
    bid_lots: int
    ask_lots: int


def prevent_self_trades(orders: Sequence[GroupOrder]) -> list[Prevented]:
    """
    Take out of `orders` (in place) what must not trade, and return each pair that was resolved, groups in the order of
    their oldest order.
    """
    groups: dict[int, list[GroupOrder]] = {}
    for order in sorted(orders, key=attrgetter("sequence")):
        groups.setdefault(order.group, []).append(order)
    return [prevented for members in groups.values() for prevented in _prevent_within(members)]


def _prevent_within(members: list[GroupOrder]) -> list[Prevented]:
    """Resolve one group, given in order of time. Each pair is met once: best buy first, for it the best sell first."""
    if all(order.mode is SelfTradeMode.NONE for order in members):
        return []
    buys = sorted((order for order in members if order.buying), key=lambda order: -order.tick)
    sells = sorted((order for order in members if not order.buying), key=lambda order: order.tick)
    resolved = []
    for buy in buys:
        for sell in sells:
            if not buy.lots or sell.tick > buy.tick:
                break
            if sell.lots and (prevented := _resolve(buy, sell)):
                resolved.append(prevented)
        sells = [sell for sell in sells if sell.lots]
    return resolved


def _resolve(buy: GroupOrder, sell: GroupOrder) -> Prevented | None:
    newer, older = (buy, sell) if buy.sequence > sell.sequence else (sell, buy)
    had_buy, had_sell = buy.lots, sell.lots
    match newer.mode:
        case SelfTradeMode.NONE:
            return None
        case SelfTradeMode.CANCEL_NEWEST:
            newer.lots = 0
        case SelfTradeMode.CANCEL_OLDEST:
            older.lots = 0
        case SelfTradeMode.CANCEL_BOTH:
            newer.lots = older.lots = 0
        case SelfTradeMode.DECREMENT:
            smaller = min(had_buy, had_sell)
            buy.lots -= smaller
            sell.lots -= smaller
    return Prevented(newer.group, buy.order, sell.order, newer.mode, had_buy - buy.lots, had_sell - sell.lots)
