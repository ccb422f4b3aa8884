"""
What came of journal entries, as rows to be stored: trades, what happened to orders, movements of money, positions.

Trades come one by one, or by the thousand as columns of numbers when an auction made them (`AuctionTrades`). What they
pay is a movement each, keyed and numbered by the trade alone, so it is the same whichever way it is written down.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from billing.domain.accounts import AccountRef
from billing.domain.bulk import Bulk, Ids, numbered_id, numbered_key
from billing.domain.postings import Posting, Stage
from core.money import LOT_TOKENS
from exchange.domain.funding import Funding
from exchange.domain.numbering import NUMBER_MASK

Integers = NDArray[np.int64]
TRADE_PREFIX, TRADE_KIND = "trade:", "trade"
ANNULMENT = 3  # the aggressor of a mirror trade
ENOUGH_FOR_COLUMNS = 32  # below, arrays cost more than they save
LARGEST_SUM = 2**62  # what the amounts of one bulk may add up to


@dataclass(slots=True)
class LiveOrder:
    """An order that the book has, as money sees it."""

    id: bytes
    owner: int
    selling: bool
    funding: Funding
    filled_tokens: int = 0
    reduced_tokens: int = 0


class TradeRow(NamedTuple):
    """A trade as it is stored; ids of orders are the 16 bytes of their UUIDs, as everywhere here."""

    id: int
    sequence: int
    buyer_id: int
    seller_id: int
    buy_order: bytes
    sell_order: bytes
    quantity_tokens: int
    price_nano: int
    bond_micro: int
    aggressor: int


class OrderEventRow(NamedTuple):
    """What happened to an order besides trading."""

    order: bytes
    entry_id: int
    kind: int
    reason: int
    quantity_tokens: int
    price_nano: int


@dataclass(slots=True)
class PositionChange:
    """What a drain does to a member's position in the market."""

    position_tokens: int = 0
    open_sell_tokens: int = 0


@dataclass(slots=True)
class HoldUse:
    """What a number of journal entries took from a hold in one way: the sum, and the number that names it."""

    hold_id: bytes
    owner: int
    selling: bool
    number: int
    amount_micro: int = 0


class Payment(NamedTuple):
    """How a trade is paid for: out of which hold, what of it is not needed any more, and when, in milliseconds."""

    hold_id: bytes
    excess_micro: int
    at_ms: int


@dataclass(frozen=True, eq=False, slots=True)
class AuctionTrades:
    """
    The trades of one auction in columns, in the order of their numbers; price and journal number are the same for all.

    `buyer` and `seller` are places in `members`, `buy` and `sell` in `buy_orders` and `sell_orders` (16 bytes each).
    """

    ids: Integers
    sequence: int
    price_nano: int
    members: Integers
    buyer: Integers
    seller: Integers
    buy_orders: Ids
    sell_orders: Ids
    buy: Integers
    sell: Integers
    quantity_tokens: Integers
    bond_micro: Integers
    hold_ids: Ids
    excess_micro: Integers
    at_ms: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pays_micro(self) -> Integers:
        """Return what each trade costs; lots are a thousand tokens, so it is exact."""
        return self.quantity_tokens // 1_000 * self.price_nano

    def rows(self) -> Iterator["TradeRow"]:
        """Yield the trades one by one."""
        buys, sells = ([row.tobytes() for row in orders] for orders in (self.buy_orders, self.sell_orders))
        columns: tuple[Any, ...] = (
            self.ids.tolist(), repeat(self.sequence), self.members[self.buyer].tolist(),
            self.members[self.seller].tolist(), [buys[place] for place in self.buy.tolist()],
            [sells[place] for place in self.sell.tolist()], self.quantity_tokens.tolist(), repeat(self.price_nano),
            self.bond_micro.tolist(), repeat(0),
        )  # fmt: skip
        return map(TradeRow._make, zip(*columns, strict=False))


class PublicTrades(NamedTuple):
    """Trades in the order of their numbers: (number, price in ticks, lots, aggressor), buyer and seller of each."""

    ticks: list[tuple[int, int, int, int]]
    buyers: list[int]
    sellers: list[int]


@dataclass(slots=True)
class Facts:
    """
    What came of a number of journal entries.

    Every trade pays by a transfer of its own. What ended orders release and what sales put into bonds is summed by hold
    (`order_events` and the trades' `bond_micro` have the parts), so that cancelling a thousand orders that one request
    placed is one row in the ledger.
    """

    single_trades: list[TradeRow] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)  # of the single trades
    auctions: list[AuctionTrades] = field(default_factory=list)
    mirrors: list[TradeRow] = field(default_factory=list)  # of annulled trades: postings of their own pay them back
    order_events: list[OrderEventRow] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)
    positions: defaultdict[int, PositionChange] = field(default_factory=lambda: defaultdict(PositionChange))
    releases: dict[bytes, HoldUse] = field(default_factory=dict)
    bonds: dict[bytes, HoldUse] = field(default_factory=dict)
    bulks: list[Bulk] = field(default_factory=list)

    @property
    def trades(self) -> list[TradeRow]:
        """Return all trades one by one, in the order of their numbers."""
        if not self.auctions and not self.mirrors:
            return self.single_trades
        of_auctions = (row for auction in self.auctions for row in auction.rows())
        return sorted([*self.single_trades, *self.mirrors, *of_auctions])

    def public_trades(self, tick_nano: int) -> PublicTrades:
        """Return the trades that the public is told of: all but mirrors."""
        found = PublicTrades([], [], [])
        if self.single_trades and self.auctions:
            rows = [row for row in self.trades if row.aggressor != ANNULMENT]
        else:
            rows = self.single_trades
            for auction in self.auctions:
                count, price = len(auction), auction.price_nano // tick_nano
                numbers, lots = auction.ids & NUMBER_MASK, auction.quantity_tokens // LOT_TOKENS
                found.ticks.extend(zip(numbers.tolist(), [price] * count, lots.tolist(), [0] * count, strict=True))
                found.buyers.extend(auction.members[auction.buyer].tolist())
                found.sellers.extend(auction.members[auction.seller].tolist())
        for number, _, buyer, seller, _, _, tokens, price_nano, _, aggressor in rows:
            found.ticks.append((number & NUMBER_MASK, price_nano // tick_nano, tokens // LOT_TOKENS, aggressor))
            found.buyers.append(buyer)
            found.sellers.append(seller)
        return found


def pay_singles(facts: Facts, escrow: AccountRef, available: dict[int, AccountRef]) -> None:
    """Write down what the single trades pay: as postings where they are few, else as columns."""
    trades, payments = facts.single_trades, facts.payments
    if len(trades) < ENOUGH_FOR_COLUMNS:
        for trade, (hold_id, excess, at_ms) in zip(trades, payments, strict=True):
            facts.postings.append(
                Posting(
                    numbered_key(TRADE_PREFIX, trade.id), TRADE_KIND, Stage.POST, available[trade.buyer_id], escrow,
                    trade.quantity_tokens * trade.price_nano // 1_000, excess, UUID(bytes=hold_id),
                    numbered_id(TRADE_PREFIX, trade.id, at_ms),
                )
            )
        return
    buyers = sorted({trade.buyer_id for trade in trades})
    place = {buyer: number for number, buyer in enumerate(buyers, 1)}
    facts.bulks += _bulks(
        [escrow, *(available[buyer] for buyer in buyers)],
        numbers=_column([trade.id for trade in trades]),
        milliseconds=_column([payment.at_ms for payment in payments]),
        debit=_column([place[trade.buyer_id] for trade in trades]),
        amount_micro=_column([trade.quantity_tokens // 1_000 * trade.price_nano for trade in trades]),
        excess_micro=_column([payment.excess_micro for payment in payments]),
        pending_ids=np.frombuffer(b"".join([payment.hold_id for payment in payments]), "V16"),
    )


def pay_auction(facts: Facts, auction: AuctionTrades, escrow: AccountRef, available: dict[int, AccountRef]) -> None:
    """Write down what an auction's trades pay, as columns."""
    buyers, debit = np.unique(auction.buyer, return_inverse=True)
    facts.bulks += _bulks(
        [escrow, *(available[buyer] for buyer in auction.members[buyers].tolist())],
        numbers=auction.ids,
        milliseconds=np.full(len(auction), auction.at_ms, np.int64),
        debit=debit + 1,
        amount_micro=auction.pays_micro,
        excess_micro=auction.excess_micro,
        pending_ids=auction.hold_ids[auction.buy],
    )


def _bulks(accounts: Sequence[AccountRef], **columns: Any) -> Iterator[Bulk]:
    """Yield payments into `accounts[0]`, in as many parts as keep each part's sum within 64 bits."""
    count = len(columns["numbers"])
    largest = int(columns["amount_micro"].max()) + int(columns["excess_micro"].max())
    size = max(1, min(count, LARGEST_SUM // (largest + 1)))
    for first in range(0, count, size):
        part = {name: column[first : first + size] for name, column in columns.items()}
        credit = np.zeros(len(part["numbers"]), np.int64)
        yield Bulk(TRADE_PREFIX, TRADE_KIND, Stage.POST, accounts, credit=credit, **part)


def _column(numbers: Sequence[int]) -> Integers:
    return np.array(numbers, np.int64)
