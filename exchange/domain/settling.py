"""
From the book's events to facts and money: trades, what happened to orders, postings, changes of positions.

Pure, and deterministic like the book: replaying the journal through it gives the same rows again. It keeps, for every
live order, who it belongs to and what it holds; the book knows orders by number, the rows by id; here they meet.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from billing.domain import accounts
from billing.domain.postings import Posting, Stage, transfer_id
from core.money import LOT_TOKENS
from exchange.domain.commands import QueuedCommand
from exchange.domain.funding import Funding
from exchange.domain.orders import SELL, Event, EventRow, Maker

ACCEPTED, REFUSED, FILL, CANCELLED, EXPIRED, REDUCED, REPLACED, TRIGGERED = map(
    int,
    (
        Event.ACCEPTED, Event.REFUSED, Event.FILL, Event.CANCELLED, Event.EXPIRED, Event.REDUCED, Event.REPLACED,
        Event.TRIGGERED,
    ),
)
NUMBER_BITS = 32
AGGRESSORS = {int(Maker.BUY): 2, int(Maker.SELL): 1, int(Maker.NEITHER): 0}  # the one who did not rest


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
    """A trade as it is stored; ids of orders are the 16 bytes of their UUIDs."""

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
class Facts:
    """What came of a number of journal entries."""

    trades: list[TradeRow] = field(default_factory=list)
    order_events: list[OrderEventRow] = field(default_factory=list)
    postings: list[Posting] = field(default_factory=list)
    positions: defaultdict[int, PositionChange] = field(default_factory=lambda: defaultdict(PositionChange))


class Settling:
    """
    The live orders of one market, and the facts that events make of them.

    :param trades: the number of trades so far.
    """

    def __init__(self, *, market_id: int, tick_nano: int, trades: int = 0) -> None:
        self.market_id = market_id
        self.tick_nano = tick_nano
        self.trades = trades
        self.orders: dict[int, LiveOrder] = {}
        self.numbers: dict[bytes, int] = {}
        scope = f"market:{market_id}"
        self._escrow = accounts.escrow(scope)
        self._scope = scope
        self._accounts: dict[int, accounts.AccountRef] = {}

    def snapshot(self) -> bytes:
        """Return the live orders as bytes."""
        rows = [
            (
                number, order.id, order.owner, order.selling, order.filled_tokens, order.reduced_tokens,
                order.funding.hold_id, order.funding.hold_price_nano, order.funding.open_tokens,
                order.funding.covered_tokens, order.funding.bond_thousandths, order.funding.bonded_done_tokens,
            )
            for number, order in self.orders.items()
        ]
        return msgspec.msgpack.encode((self.trades, rows))

    def restore(self, snapshot: bytes) -> None:
        """Take the live orders from a snapshot."""
        self.trades, rows = msgspec.msgpack.decode(snapshot)
        for number, order_id, owner, selling, filled, reduced, *funding in rows:
            self.orders[number] = LiveOrder(order_id, owner, selling, Funding(*funding), filled, reduced)
            self.numbers[order_id] = number

    def number_of(self, order: bytes) -> int:
        """Return the book's number of a live order, 0 if it is not live."""
        return self.numbers.get(order, 0)

    def enter(self, number: int, command: QueuedCommand) -> None:
        """Know a new order before the book is told of it."""
        self.orders[number] = LiveOrder(
            command.id,
            command.organization_id,
            command.side == SELL,
            Funding(
                command.id,
                command.hold_price_nano,
                command.lots * LOT_TOKENS,
                command.covered_tokens,
                command.bond_thousandths,
            ),
        )
        self.numbers[command.id] = number

    def may_replace(self, command: QueuedCommand) -> bool:
        """Whether the hold of the order and of the replacement suffice for what it would become."""
        number = self.numbers.get(command.target)
        if number is None:
            return True  # the book will refuse it
        order = self.orders[number]
        funding = order.funding
        before = funding.rest_micro(buying=not order.selling)
        gone_tokens = order.filled_tokens + order.reduced_tokens
        open_tokens = command.lots * LOT_TOKENS - gone_tokens if command.lots else funding.open_tokens
        if open_tokens <= 0:
            return True  # likewise
        after = self._replaced(order, command.price, open_tokens).rest_micro(buying=not order.selling)
        return after <= before + command.hold_micro

    def settle(
        self, events: Iterable[EventRow], *, sequence: int, at: datetime, facts: Facts,
        command: QueuedCommand | None = None,
    ) -> None:
        """Turn the events of one journal entry into facts, and forget orders that ended."""
        entry_id = self.market_id << NUMBER_BITS | sequence
        for event, number, other, price, lots, detail in events:
            if event == FILL:
                self._trade(number, other, price * self.tick_nano, lots * LOT_TOKENS, detail, sequence, at, facts)
            elif event in (CANCELLED, EXPIRED):
                self._end(number, event, detail, entry_id, at, facts)
            elif event == REFUSED:
                if command is not None:
                    self.refuse(number, command, detail, entry_id=entry_id, at=at, facts=facts)
            elif event == REDUCED:
                self._reduce(number, lots * LOT_TOKENS, detail, entry_id, at, facts)
            elif event == REPLACED:
                assert command is not None
                self._replace(number, command, price, lots * LOT_TOKENS, entry_id, at, facts)
            elif event == TRIGGERED:
                order = self.orders[number]
                facts.order_events.append(OrderEventRow(order.id, entry_id, event, 0, 0, price * self.tick_nano))

    def refuse(
        self, number: int, command: QueuedCommand, reason: int, *, entry_id: int, at: datetime, facts: Facts
    ) -> None:
        """Undo what a refused command held and reserved."""
        if self.numbers.get(command.id) == number and number:
            self._end(number, REFUSED, reason, entry_id, at, facts)
            return
        if command.hold_micro:
            facts.postings.append(
                self._release(
                    f"refused:{UUID(bytes=command.id)}", command.organization_id, command.side == SELL,
                    command.hold_micro, command.id, at,
                )
            )
        if command.reserved_tokens:
            facts.positions[command.organization_id].open_sell_tokens -= command.reserved_tokens

    def _trade(
        self, buy: int, sell: int, price_nano: int, tokens: int, maker: int, sequence: int, at: datetime, facts: Facts
    ) -> None:
        buyer, seller = self.orders[buy], self.orders[sell]
        self.trades += 1
        trade_id = self.market_id << NUMBER_BITS | self.trades
        pays_micro, excess_micro = buyer.funding.take_buy(tokens, price_nano)
        bond_micro = seller.funding.take_sell(tokens)
        buyer.filled_tokens += tokens
        seller.filled_tokens += tokens
        facts.trades.append(
            TradeRow(
                trade_id, sequence, buyer.owner, seller.owner, buyer.id, seller.id, tokens, price_nano, bond_micro,
                AGGRESSORS[maker],
            )
        )
        key = f"trade:{trade_id}"
        facts.postings.append(
            Posting(
                key, "trade", Stage.POST, self._available(buyer.owner), self._escrow, pays_micro, excess_micro,
                UUID(bytes=buyer.funding.hold_id), transfer_id(key, at),
            )
        )
        if bond_micro:
            key = f"bond:{trade_id}"
            facts.postings.append(
                Posting(
                    key, "bond", Stage.POST, self._available(seller.owner), accounts.bond(seller.owner, self._scope),
                    bond_micro, 0, UUID(bytes=seller.funding.hold_id), transfer_id(key, at),
                )
            )
        facts.positions[buyer.owner].position_tokens += tokens
        change = facts.positions[seller.owner]
        change.position_tokens -= tokens
        change.open_sell_tokens -= tokens
        if not buyer.funding.open_tokens:
            self._forget(buy)
        if not seller.funding.open_tokens:
            self._forget(sell)

    def _end(self, number: int, event: int, reason: int, entry_id: int, at: datetime, facts: Facts) -> None:
        order = self.orders[number]
        tokens = order.funding.open_tokens
        facts.order_events.append(OrderEventRow(order.id, entry_id, event, reason, tokens, 0))
        self._let_go(order, tokens, f"end:{UUID(bytes=order.id)}", at, facts)
        self._forget(number)

    def _reduce(self, number: int, tokens: int, reason: int, entry_id: int, at: datetime, facts: Facts) -> None:
        order = self.orders[number]
        order.reduced_tokens += tokens
        facts.order_events.append(OrderEventRow(order.id, entry_id, REDUCED, reason, tokens, 0))
        self._let_go(order, tokens, f"reduce:{entry_id}:{number}:{order.funding.open_tokens}", at, facts)
        if not order.funding.open_tokens:
            self._forget(number)

    def _let_go(self, order: LiveOrder, tokens: int, key: str, at: datetime, facts: Facts) -> None:
        """Take open tokens out of an order and release what they held."""
        funding = order.funding
        before = funding.rest_micro(buying=not order.selling)
        funding.open_tokens -= tokens
        funding.covered_tokens = min(funding.covered_tokens, funding.open_tokens)
        released = before - funding.rest_micro(buying=not order.selling)
        if released:
            facts.postings.append(self._release(key, order.owner, order.selling, released, funding.hold_id, at))
        if order.selling:
            facts.positions[order.owner].open_sell_tokens -= tokens

    def _replaced(self, order: LiveOrder, price: int, open_tokens: int) -> Funding:
        """Return the funding of an order after a replacement; price 0 leaves the price as it is."""
        old = order.funding
        return Funding(
            old.hold_id,
            price * self.tick_nano or old.hold_price_nano,
            open_tokens,
            min(old.covered_tokens, open_tokens),
            old.bond_thousandths,
        )

    def _replace(
        self, number: int, command: QueuedCommand, price: int, open_tokens: int, entry_id: int, at: datetime,
        facts: Facts,
    ) -> None:
        """
        Fund an order anew. What it no longer needs is let go; where it needs more, both holds give way to one.
        """
        order, command_id = self.orders[number], UUID(bytes=command.id)
        buying, old = not order.selling, order.funding
        new = self._replaced(order, command.price and price, open_tokens)
        before, after = old.rest_micro(buying=buying), new.rest_micro(buying=buying)
        if after > before:  # `may_replace` has made sure that the two holds suffice
            new.hold_id = transfer_id(f"rehold:{command_id}", at).bytes
            facts.postings.append(
                Posting(
                    f"rehold:{command_id}", "order_hold", Stage.PENDING, self._available(order.owner),
                    self._target(order.owner, order.selling), after, id=UUID(bytes=new.hold_id),
                )
            )
            if before:
                facts.postings.append(
                    self._release(f"replaced:{command_id}", order.owner, order.selling, before, old.hold_id, at)
                )
        elif after < before:
            facts.postings.append(
                self._release(f"replaced:{command_id}", order.owner, order.selling, before - after, old.hold_id, at)
            )
        if command.hold_micro:
            facts.postings.append(
                self._release(f"extra:{command_id}", order.owner, order.selling, command.hold_micro, command.id, at)
            )
        if order.selling:
            change = new.open_tokens - old.open_tokens - command.reserved_tokens
            facts.positions[order.owner].open_sell_tokens += change
        order.funding = new
        facts.order_events.append(
            OrderEventRow(
                order.id, entry_id, REPLACED, 0, order.filled_tokens + new.open_tokens, price * self.tick_nano
            )
        )

    def _release(
        self, key: str, owner: int, selling: bool, amount_micro: int, hold_id: bytes, at: datetime
    ) -> Posting:
        return Posting(
            key, "order_release", Stage.RELEASE, self._available(owner), self._target(owner, selling), amount_micro,
            0, UUID(bytes=hold_id), transfer_id(key, at),
        )

    def _available(self, owner: int) -> accounts.AccountRef:
        ref = self._accounts.get(owner)
        if ref is None:
            ref = self._accounts[owner] = accounts.available(owner)
        return ref

    def _target(self, owner: int, selling: bool) -> accounts.AccountRef:
        return accounts.bond(owner, self._scope) if selling else self._escrow

    def _forget(self, number: int) -> None:
        del self.numbers[self.orders.pop(number).id]
