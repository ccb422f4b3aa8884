"""
Assignment at gate closure: who delivers to whom.

Open lots of buyers and of sellers, each in trade order, are walked with two pointers: the oldest open purchase is
served by the oldest open sale, as far as the smaller of the two goes, and so on. What meets makes a lot of the contract
between the two members; neighbouring lots at the same two prices are one. The buyer keeps the price that it paid, the
seller the one that it sold at.

A buyer may exclude sellers. Then the walk is a deterministic flow instead: the same order of preference, but an open
purchase that finds only excluded sellers left may send an earlier assignment another way (one augmenting path at a
time, shortest first, oldest first among equals). What cannot be placed is returned, to be refunded and published.
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from exchange.domain.netting import OpenLot


class PriceLot(NamedTuple):
    """A quantity of a contract with what its buyer paid and what its seller sold at."""

    quantity_tokens: int
    buyer_price_nano: int
    seller_price_nano: int


class Unplaced(NamedTuple):
    """Open purchases and sales that exclusions keep apart; both sides have the same total."""

    buys: list[OpenLot]
    sells: list[OpenLot]


@dataclass(frozen=True, slots=True)
class Assignment:
    """Lots by (buyer, seller), in the order in which the contracts arose, and what could not be placed."""

    contracts: dict[tuple[int, int], list[PriceLot]]
    unplaced: Unplaced


class Unbalanced(ValueError):
    """Open purchases and open sales differ: the trades given are not those of one whole market."""


def assign(
    buys: Sequence[OpenLot], sells: Sequence[OpenLot], excluded: Mapping[int, AbstractSet[int]] | None = None
) -> Assignment:
    """
    Return the delivery contracts that the open lots make.

    :param excluded: for a buyer, the sellers that it does not take.
    :raises Unbalanced: where the two sides do not have the same total.
    """
    if sum(lot.quantity_tokens for lot in buys) != sum(lot.quantity_tokens for lot in sells):
        raise Unbalanced("Open purchases and open sales of a market must be equal.")
    buyers = {lot.member_id for lot in buys}
    wishes = {buyer: sellers for buyer, sellers in (excluded or {}).items() if sellers and buyer in buyers}
    if not wishes:
        return Assignment(_walk(buys, sells), Unplaced([], []))
    return _flow(buys, sells, wishes)


def _walk(buys: Sequence[OpenLot], sells: Sequence[OpenLot]) -> dict[tuple[int, int], list[PriceLot]]:
    contracts: dict[tuple[int, int], list[PriceLot]] = {}
    remaining_sells = iter(sells)
    sell = next(remaining_sells, None)
    left_to_sell = sell.quantity_tokens if sell else 0
    for buy in buys:
        left_to_buy = buy.quantity_tokens
        while left_to_buy:
            assert sell is not None
            quantity = min(left_to_buy, left_to_sell)
            _add(contracts, buy, sell, quantity)
            left_to_buy -= quantity
            left_to_sell -= quantity
            if not left_to_sell:
                sell = next(remaining_sells, None)
                left_to_sell = sell.quantity_tokens if sell else 0
    return contracts


def _add(contracts: dict[tuple[int, int], list[PriceLot]], buy: OpenLot, sell: OpenLot, quantity: int) -> None:
    lots = contracts.setdefault((buy.member_id, sell.member_id), [])
    if lots and lots[-1].buyer_price_nano == buy.price_nano and lots[-1].seller_price_nano == sell.price_nano:
        lots[-1] = lots[-1]._replace(quantity_tokens=lots[-1].quantity_tokens + quantity)
    else:
        lots.append(PriceLot(quantity, buy.price_nano, sell.price_nano))


def _flow(buys: Sequence[OpenLot], sells: Sequence[OpenLot], excluded: Mapping[int, AbstractSet[int]]) -> Assignment:
    """
    Decide quantities between members by augmenting paths, then walk each pair's lots in trade order.

    Members, not lots, are the nodes: a market has few members with wishes, however many trades it had.
    """
    demand, supply = _totals(buys), _totals(sells)
    placed: dict[tuple[int, int], int] = defaultdict(int)
    for buyer in demand:
        banned = excluded.get(buyer, frozenset())
        for seller in supply:
            if seller not in banned:
                quantity = min(demand[buyer], supply[seller])
                placed[buyer, seller] += quantity
                demand[buyer] -= quantity
                supply[seller] -= quantity
        while demand[buyer]:
            path = _augmenting_path(buyer, demand, supply, placed, excluded)
            if path is None:
                break
            quantity = min([demand[buyer], supply[path[-1][1]], *(placed[pair] for pair in path[1::2])])
            for step, pair in enumerate(path):
                placed[pair] += quantity if step % 2 == 0 else -quantity
            demand[buyer] -= quantity
            supply[path[-1][1]] -= quantity

    contracts: dict[tuple[int, int], list[PriceLot]] = {}
    bought, sold = _queues(buys), _queues(sells)
    for (buyer, seller), quantity in placed.items():
        _pair_off(contracts, bought[buyer], sold[seller], quantity)
    left = Unplaced([lot for lots in bought.values() for lot in lots], [lot for lots in sold.values() for lot in lots])
    return Assignment(contracts, left)


def _augmenting_path(
    start: int,
    demand: Mapping[int, int],
    supply: Mapping[int, int],
    placed: Mapping[tuple[int, int], int],
    excluded: Mapping[int, AbstractSet[int]],
) -> list[tuple[int, int]] | None:
    """
    Return pairs (buyer, seller) that alternately gain and lose quantity and end at a seller with supply left.
    """
    came_from: dict[int, tuple[int, int | None]] = {}
    waiting: deque[tuple[int, int | None]] = deque([(start, None)])
    seen_buyers = {start}
    while waiting:
        buyer, via = waiting.popleft()
        for seller in supply:
            if seller in came_from or seller in excluded.get(buyer, frozenset()):
                continue
            came_from[seller] = (buyer, via)
            if supply[seller]:
                return _unwind(seller, came_from)
            for other in demand:
                if other not in seen_buyers and placed.get((other, seller), 0) > 0:
                    seen_buyers.add(other)
                    waiting.append((other, seller))
    return None


def _unwind(end: int, came_from: Mapping[int, tuple[int, int | None]]) -> list[tuple[int, int]]:
    path: list[tuple[int, int]] = []
    seller: int | None = end
    while seller is not None:
        buyer, via = came_from[seller]
        path.append((buyer, seller))
        if via is not None:
            path.append((buyer, via))
        seller = via
    return path[::-1]


class UnplacedPair(NamedTuple):
    """A purchase and a sale that are left for each other, and what of the escrow goes back to the buyer."""

    buyer_id: int
    seller_id: int
    quantity_tokens: int
    buyer_price_nano: int
    seller_price_nano: int

    @property
    def refund_micro(self) -> int:
        """
        The lower of both prices. The escrow holds the seller's; a buyer that bought dearer, from a reseller, has paid
        that difference to the reseller, whom its exclusion does not concern.
        """
        return self.quantity_tokens * min(self.buyer_price_nano, self.seller_price_nano) // 1_000

    @property
    def surplus_micro(self) -> int:
        """What the escrow holds beyond the refund."""
        return self.quantity_tokens * self.seller_price_nano // 1_000 - self.refund_micro


def pair_unplaced(unplaced: Unplaced) -> list[UnplacedPair]:
    """Return what could not be placed as pairs, both sides in trade order."""
    pairs: list[UnplacedPair] = []
    sells = deque(unplaced.sells)
    for buy in unplaced.buys:
        left = buy.quantity_tokens
        while left:
            sell = sells.popleft()
            quantity = min(left, sell.quantity_tokens)
            pairs.append(UnplacedPair(buy.member_id, sell.member_id, quantity, buy.price_nano, sell.price_nano))
            left -= quantity
            if sell.quantity_tokens > quantity:
                sells.appendleft(sell._replace(quantity_tokens=sell.quantity_tokens - quantity))
    return pairs


def _totals(lots: Sequence[OpenLot]) -> dict[int, int]:
    totals: dict[int, int] = {}
    for lot in lots:
        totals[lot.member_id] = totals.get(lot.member_id, 0) + lot.quantity_tokens
    return totals


def _queues(lots: Sequence[OpenLot]) -> dict[int, deque[OpenLot]]:
    queues: dict[int, deque[OpenLot]] = {}
    for lot in lots:
        queues.setdefault(lot.member_id, deque()).append(lot)
    return queues


def _pair_off(
    contracts: dict[tuple[int, int], list[PriceLot]], buys: deque[OpenLot], sells: deque[OpenLot], quantity: int
) -> None:
    while quantity:
        buy, sell = buys[0], sells[0]
        step = min(quantity, buy.quantity_tokens, sell.quantity_tokens)
        _add(contracts, buy, sell, step)
        quantity -= step
        for queue, lot in ((buys, buy), (sells, sell)):
            if lot.quantity_tokens == step:
                queue.popleft()
            else:
                queue[0] = lot._replace(quantity_tokens=lot.quantity_tokens - step)
