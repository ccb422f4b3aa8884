"""
Netting at gate closure: a member's sales offset its own purchases, first in, first out.

Trading is against the exchange, so a member may sell what it bought earlier (resale) or buy back what it sold. Only
what is left open becomes a delivery: the member's later purchases if it bought more than it sold, its later sales
otherwise. The proceeds of the sales that were offset are the member's at once: their buyers have paid them into escrow.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class TradeFact(NamedTuple):
    """A trade as netting needs it; `trade_id` gives the order of trading."""

    trade_id: int
    buyer_id: int
    seller_id: int
    quantity_tokens: int
    price_nano: int


class OpenLot(NamedTuple):
    """What is left open of one side of one trade."""

    trade_id: int
    member_id: int
    quantity_tokens: int
    price_nano: int


@dataclass(frozen=True, slots=True)
class Netting:
    """
    Open lots of buyers and of sellers, each in trade order, and what each member gets for the sales it offset.

    `offset_proceeds_micro` holds members with an amount above zero; quantities are whole lots, so amounts are exact.
    """

    open_buys: list[OpenLot]
    open_sells: list[OpenLot]
    offset_proceeds_micro: dict[int, int]


@dataclass(slots=True)
class _Member:
    bought_tokens: int = 0
    sold_tokens: int = 0
    to_offset_bought: int = 0
    to_offset_sold: int = 0


def net(trades: Iterable[TradeFact]) -> Netting:
    """Return what is open after each member's sales have offset its own purchases, first in, first out."""
    in_order = sorted(trades)
    members: dict[int, _Member] = defaultdict(_Member)
    for trade in in_order:
        members[trade.buyer_id].bought_tokens += trade.quantity_tokens
        members[trade.seller_id].sold_tokens += trade.quantity_tokens
    for member in members.values():
        member.to_offset_bought = member.to_offset_sold = min(member.bought_tokens, member.sold_tokens)

    open_buys: list[OpenLot] = []
    open_sells: list[OpenLot] = []
    proceeds_nano: dict[int, int] = defaultdict(int)
    for trade_id, buyer_id, seller_id, quantity, price in in_order:
        buyer, seller = members[buyer_id], members[seller_id]
        offset = min(quantity, buyer.to_offset_bought)
        buyer.to_offset_bought -= offset
        if offset < quantity:
            open_buys.append(OpenLot(trade_id, buyer_id, quantity - offset, price))
        offset = min(quantity, seller.to_offset_sold)
        seller.to_offset_sold -= offset
        if offset:
            proceeds_nano[seller_id] += offset * price
        if offset < quantity:
            open_sells.append(OpenLot(trade_id, seller_id, quantity - offset, price))
    return Netting(open_buys, open_sells, {member_id: nano // 1_000 for member_id, nano in proceeds_nano.items()})
