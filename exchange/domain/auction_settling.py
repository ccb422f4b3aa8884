"""
An auction's fills settled all at once: `Settling` does the same fill by fill, and the tests hold the two together.

What an order is asked once (who it belongs to, what it holds) is a column over orders; what a fill takes out of it is
arithmetic on columns over fills. All of it is exact in 64 bits: fills that could leave them are not settled here.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import NamedTuple

import numpy as np

from billing.domain.bulk import Ids
from core.money import LOT_TOKENS
from exchange.domain.facts import AuctionTrades, Facts, HoldUse, Integers, LiveOrder
from exchange.domain.funding import Funding
from exchange.domain.numbering import NUMBER_MASK
from exchange.domain.orders import EventRow

LARGEST_PRODUCT = 2**60  # tokens × nano-yuan of one order: twice its thousandfold share still fits


class Filled(NamedTuple):
    """The orders of one side that fills are of, each once: their numbers, and what they have in common as columns."""

    numbers: Integers
    orders: list[LiveOrder]
    fundings: list[Funding]
    place: Integers  # of each fill, its order's
    tokens: Integers  # of each order, its fills' sum

    @classmethod
    def of(cls, numbers: Integers, tokens: Integers, orders: dict[int, LiveOrder]) -> "Filled":
        """Gather the orders of a side; `numbers` and `tokens` are the fills'."""
        each, place = np.unique(numbers, return_inverse=True)
        found = [orders[number] for number in each.tolist()]
        return cls(each, found, [order.funding for order in found], place, _sums(place, tokens, len(found)))

    def funded(self, field: str) -> Integers:
        """Return a field of each order's funding."""
        return np.fromiter(map(attrgetter(field), self.fundings), np.int64, len(self.fundings))

    def owners(self) -> Integers:
        """Return each order's owner."""
        return np.fromiter(map(attrgetter("owner"), self.orders), np.int64, len(self.orders))

    def ids(self) -> Ids:
        """Return each order's id."""
        return _ids(order.id for order in self.orders)


def settle_fills(
    fills: Sequence[EventRow], orders: dict[int, LiveOrder], *, first_id: int, sequence: int, tick_nano: int,
    at_ms: int, facts: Facts,
) -> list[int] | None:
    """
    Settle the fills of one auction: take them out of their orders and add trades, bonds and positions to `facts`.

    :param first_id: the first trade's id; the others follow it.
    :returns: the numbers of the orders that are filled, still among `orders` as they were: the caller forgets them.
        None, and nothing changed, if an amount could leave 64 bits.
    """
    price_nano, tokens = fills[0][3] * tick_nano, _field(4, fills) * LOT_TOKENS
    buys, sells = Filled.of(_field(1, fills), tokens, orders), Filled.of(_field(2, fills), tokens, orders)
    limit_nano, bonded = buys.funded("hold_price_nano"), sells.funded("bonded_done_tokens")
    if not _fits(buys.tokens, limit_nano) or not _fits(sells.tokens + bonded, sells.funded("hold_price_nano")):
        return None
    members, owner = np.unique(np.concatenate((buys.owners(), sells.owners())), return_inverse=True)
    buyer, seller = owner[: len(buys.orders)], owner[len(buys.orders) :]
    trades = AuctionTrades(
        ids=first_id + np.arange(len(fills)),
        sequence=sequence,
        price_nano=price_nano,
        members=members,
        buyer=buyer[buys.place],
        seller=seller[sells.place],
        buy_orders=buys.ids(),
        sell_orders=sells.ids(),
        buy=buys.place,
        sell=sells.place,
        quantity_tokens=tokens,
        bond_micro=_bonds(sells, tokens, bonded),
        hold_ids=_ids(funding.hold_id for funding in buys.fundings),
        excess_micro=tokens // 1_000 * (limit_nano - price_nano)[buys.place],
        at_ms=at_ms,
    )
    facts.auctions.append(trades)
    _add_bonds(facts, trades, sells)
    bought, sold = _sums(buyer, buys.tokens, len(members)), _sums(seller, sells.tokens, len(members))
    for member, plus, minus in zip(members.tolist(), bought.tolist(), sold.tolist(), strict=True):
        change = facts.positions[member]
        change.position_tokens += plus - minus
        change.open_sell_tokens -= minus
    return [*_take_out(buys, selling=False), *_take_out(sells, selling=True)]


def _take_out(filled: Filled, *, selling: bool) -> list[int]:
    """Take what was filled out of the orders of a side that stay open; return the numbers of the others."""
    stays = filled.funded("open_tokens") != filled.tokens
    for place in np.flatnonzero(stays).tolist():
        order, funding, quantity = filled.orders[place], filled.fundings[place], int(filled.tokens[place])
        order.filled_tokens += quantity
        funding.open_tokens -= quantity
        if selling:
            covered = min(quantity, funding.covered_tokens)
            funding.covered_tokens -= covered
            funding.bonded_done_tokens += quantity - covered
    numbers: list[int] = filled.numbers[~stays].tolist()
    return numbers


def _bonds(sells: Filled, tokens: Integers, bonded: Integers) -> Integers:
    """
    Return what each fill moves from its sell order's hold into the bond: the share of the running total after it less
    that before it, so that roundings add up. What the position covers is sold first and needs no bond.

    :param bonded: of each order, what it has sold into the bond before.
    """
    in_order = np.argsort(sells.place, kind="stable")
    of_order = sells.place[in_order]
    ends = np.cumsum(tokens[in_order])
    first = np.searchsorted(of_order, np.arange(len(sells.orders)))
    sold_after = ends - (ends - tokens[in_order])[first][of_order]
    done, covered = bonded[of_order], sells.funded("covered_tokens")[of_order]
    price, share = sells.funded("hold_price_nano")[of_order], sells.funded("bond_thousandths")[of_order]

    def bond(sold: Integers) -> Integers:
        value_micro: Integers = (done + np.maximum(sold - covered, 0)) * price // 1_000
        rounded: Integers = (2 * value_micro * share + 1_000) // 2_000
        return rounded

    bonds = np.empty_like(tokens)
    bonds[in_order] = bond(sold_after) - bond(sold_after - tokens[in_order])
    return bonds


def _add_bonds(facts: Facts, trades: AuctionTrades, sells: Filled) -> None:
    """Add the bonds to what their holds are used for; a use is named by the first trade that makes one."""
    bonded = np.flatnonzero(trades.bond_micro)
    place_of: dict[bytes, int] = {}
    hold = np.fromiter(
        (place_of.setdefault(funding.hold_id, len(place_of)) for funding in sells.fundings), np.int64
    )[trades.sell]
    hold_ids = [*place_of]
    amounts = _sums(hold, trades.bond_micro, len(hold_ids)).tolist()
    places, first = np.unique(hold[bonded], return_index=True)
    numbers = (trades.ids[bonded[first]] & NUMBER_MASK).tolist()
    owners = trades.members[trades.seller[bonded[first]]].tolist()
    for number, place, owner in sorted(zip(numbers, places.tolist(), owners, strict=True)):
        hold_id = hold_ids[place]
        use = facts.bonds.get(hold_id)
        if use is None:
            use = facts.bonds[hold_id] = HoldUse(hold_id, owner, True, number)
        use.amount_micro += amounts[place]


def _fits(tokens: Integers, price_nano: Integers) -> bool:
    """Whether the values of orders stay exact."""
    return int(tokens.max()) * int(price_nano.max()) < LARGEST_PRODUCT


def _sums(places: Integers, amounts: Integers, count: int) -> Integers:
    sums = np.zeros(count, np.int64)
    np.add.at(sums, places, amounts)
    return sums


def _field(place: int, fills: Sequence[EventRow]) -> Integers:
    return np.fromiter(map(itemgetter(place), fills), np.int64, len(fills))


def _ids(ids: Iterable[bytes]) -> Ids:
    return np.frombuffer(b"".join(ids), "V16")
