"""
An auction's fills settled all at once: `Settling` does the same fill by fill, and the tests hold the two together.

What an order is asked once (who it belongs to, what it holds) is a column over orders; what a fill takes out of it is
arithmetic on columns over fills. All of it is exact in 64 bits: fills that could leave them are not settled here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from core.money import LOT_TOKENS
from exchange.domain.facts import AuctionTrades, Facts, HoldUse, Integers, LiveOrder
from exchange.domain.orders import EventRow

LARGEST_PRODUCT = 2**60  # tokens × nano-yuan of one order: twice its thousandfold share still fits


def settle_fills(
    fills: Sequence[EventRow], orders: dict[int, LiveOrder], *, first_id: int, sequence: int, tick_nano: int,
    at_ms: int, facts: Facts,
) -> AuctionTrades | None:
    """
    Settle the fills of one auction: take them out of their orders and add trades, bonds and positions to `facts`.

    Orders that are filled stay among `orders`; the caller forgets them.

    :param first_id: the first trade's id; the others follow it.
    :returns: the trades; None, and nothing changed, if an amount could leave 64 bits.
    """
    table = np.array(fills, np.int64)
    price_nano, tokens = int(table[0, 3]) * tick_nano, table[:, 4] * LOT_TOKENS
    buys, buy = np.unique(table[:, 1], return_inverse=True)
    sells, sell = np.unique(table[:, 2], return_inverse=True)
    buyers, sellers = [orders[number] for number in buys.tolist()], [orders[number] for number in sells.tolist()]
    bought, sold = _sums(buy, tokens, len(buyers)), _sums(sell, tokens, len(sellers))
    limit_nano = _column(order.funding.hold_price_nano for order in buyers)
    if not _fits(bought, limit_nano) or not _fits(
        sold + _column(order.funding.bonded_done_tokens for order in sellers),
        _column(order.funding.hold_price_nano for order in sellers),
    ):
        return None
    bond_micro = _bonds(sell, tokens, sellers)
    members, owner = np.unique(_column(order.owner for order in [*buyers, *sellers]), return_inverse=True)
    trades = AuctionTrades(
        ids=first_id + np.arange(len(fills)),
        sequence=sequence,
        price_nano=price_nano,
        members=members,
        buyer=owner[: len(buyers)][buy],
        seller=owner[len(buyers) :][sell],
        buy_orders=_ids(order.id for order in buyers),
        sell_orders=_ids(order.id for order in sellers),
        buy=buy,
        sell=sell,
        quantity_tokens=tokens,
        bond_micro=bond_micro,
        hold_ids=_ids(order.funding.hold_id for order in buyers),
        excess_micro=tokens // 1_000 * (limit_nano - price_nano)[buy],
        at_ms=at_ms,
    )
    facts.auctions.append(trades)
    _add_bonds(facts, trades, sellers)
    for order, quantity in zip(buyers, bought.tolist(), strict=True):
        order.filled_tokens += quantity
        order.funding.open_tokens -= quantity
        facts.positions[order.owner].position_tokens += quantity
    for order, quantity in zip(sellers, sold.tolist(), strict=True):
        funding = order.funding
        covered = min(quantity, funding.covered_tokens)
        order.filled_tokens += quantity
        funding.open_tokens -= quantity
        funding.covered_tokens -= covered
        funding.bonded_done_tokens += quantity - covered
        change = facts.positions[order.owner]
        change.position_tokens -= quantity
        change.open_sell_tokens -= quantity
    return trades


def _bonds(sell: Integers, tokens: Integers, sellers: Sequence[LiveOrder]) -> Integers:
    """
    Return what each fill moves from its sell order's hold into the bond: the share of the running total after it less
    that before it, so that roundings add up. What the position covers is sold first and needs no bond.
    """
    in_order = np.argsort(sell, kind="stable")
    of_order = sell[in_order]
    ends = np.cumsum(tokens[in_order])
    first = np.searchsorted(of_order, np.arange(len(sellers)))
    sold_after = ends - (ends - tokens[in_order])[first][of_order]
    covered = _column(order.funding.covered_tokens for order in sellers)[of_order]
    done = _column(order.funding.bonded_done_tokens for order in sellers)[of_order]
    price = _column(order.funding.hold_price_nano for order in sellers)[of_order]
    share = _column(order.funding.bond_thousandths for order in sellers)[of_order]

    def bond(sold: Integers) -> Integers:
        value_micro: Integers = (done + np.maximum(sold - covered, 0)) * price // 1_000
        rounded: Integers = (2 * value_micro * share + 1_000) // 2_000
        return rounded

    bonds = np.empty_like(tokens)
    bonds[in_order] = bond(sold_after) - bond(sold_after - tokens[in_order])
    return bonds


def _add_bonds(facts: Facts, trades: AuctionTrades, sellers: Sequence[LiveOrder]) -> None:
    """Add each order's bonds to what its hold is used for; a use is named by the first trade that makes one."""
    bonded = np.flatnonzero(trades.bond_micro)
    amounts = _sums(trades.sell, trades.bond_micro, len(sellers)).tolist()
    places, first = np.unique(trades.sell[bonded], return_index=True)
    numbers = (trades.ids[bonded[first]] & 0xFFFF_FFFF).tolist()
    for number, place in sorted(zip(numbers, places.tolist(), strict=True)):
        order = sellers[place]
        hold_id = order.funding.hold_id
        use = facts.bonds.get(hold_id)
        if use is None:
            use = facts.bonds[hold_id] = HoldUse(hold_id, order.owner, True, number)
        use.amount_micro += amounts[place]


def _fits(tokens: Integers, price_nano: Integers) -> bool:
    """Whether the values of orders stay exact."""
    return int(tokens.max()) * int(price_nano.max()) < LARGEST_PRODUCT


def _sums(places: Integers, amounts: Integers, count: int) -> Integers:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, places, amounts)
    return sums


def _column(numbers: Any) -> Integers:
    return np.fromiter(numbers, np.int64)


def _ids(ids: Any) -> Any:
    return np.frombuffer(b"".join(ids), "V16")
