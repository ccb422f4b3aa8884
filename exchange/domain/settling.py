"""
From the book's events to facts and money: trades, what happened to orders, postings, changes of positions.

Pure, and deterministic like the book: replaying the journal through it gives the same rows again. It keeps, for every
live order, who it belongs to and what it holds; the book knows orders by number, the rows by id; here they meet.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from uuid import UUID

import msgspec

from billing.domain import accounts
from billing.domain.postings import Posting, Stage
from core.ids import uuid_of
from core.money import LOT_TOKENS
from exchange.domain.auction_settling import settle_fills
from exchange.domain.commands import QueuedCommand
from exchange.domain.facts import (
    ANNULMENT,
    Facts,
    HoldUse,
    LiveOrder,
    OrderEventRow,
    Payment,
    TradeRow,
    pay_auction,
    pay_singles,
)
from exchange.domain.funding import Funding
from exchange.domain.numbering import entry_id
from exchange.domain.orders import SELL, Event, EventRow, Maker, Reason
from exchange.domain.times import to_ns

REFUSED, FILL, CANCELLED, EXPIRED, REDUCED, REPLACED, TRIGGERED, UNCROSSED = map(
    int,
    (
        Event.REFUSED, Event.FILL, Event.CANCELLED, Event.EXPIRED, Event.REDUCED, Event.REPLACED, Event.TRIGGERED,
        Event.UNCROSSED,
    ),
)  # fmt: skip
ENOUGH_FOR_COLUMNS = 200  # fills of an auction; below, arrays cost more than they save
POST, PENDING, RELEASE = Stage.POST, Stage.PENDING, Stage.RELEASE
ANNULLED = int(Reason.ANNULLED)
REDUCTION = 1 << 40  # marks the number of a hold's use as that of a reduction, not of an order
AGGRESSORS = {int(Maker.BUY): 2, int(Maker.SELL): 1, int(Maker.NEITHER): 0}  # the one who did not rest


class Movement(IntEnum):
    """
    Which of a market's movements a transfer is, but for what trades pay: `exchange.domain.facts` names those.

    A transfer's id is 48 bits of milliseconds, then what moved, the market and a number in it, as UUIDv8: facts alone,
    so that repeating a movement meets its own id, and growing with time, like all ids here.
    """

    BOND = 2
    END = 3
    REDUCE = 4
    REPLACED = 5
    EXTRA = 6
    REHOLD = 7
    REFUSED = 8


class Settling:
    """
    The live orders of one market, and the facts that events make of them. `facts` gathers until they are taken.

    `at` is the time of the entry that is being settled; whoever enters one sets it.
    """

    def __init__(self, *, market_id: int, tick_nano: int) -> None:
        self.market_id = market_id
        self.tick_nano = tick_nano
        self.trades = 0
        self.reductions = 0
        self.orders: dict[int, LiveOrder] = {}
        self.numbers: dict[bytes, int] = {}
        self.facts = Facts()
        self._at: datetime | None = None
        self._ms = 0
        self._ids = 0
        self._scope = f"market:{market_id}"
        self._escrow = accounts.escrow(self._scope)
        self._available: dict[int, accounts.AccountRef] = {}
        self._bonds: dict[int, accounts.AccountRef] = {}

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
        return msgspec.msgpack.encode((self.trades, self.reductions, rows))

    def restore(self, snapshot: bytes) -> None:
        """Take the live orders from a snapshot."""
        self.trades, self.reductions, rows = msgspec.msgpack.decode(snapshot)
        for number, order_id, owner, selling, filled, reduced, hold_id, *funding in rows:
            self.orders[number] = LiveOrder(order_id, owner, selling, Funding(hold_id, *funding), filled, reduced)
            self.numbers[order_id] = number

    def enter(self, number: int, command: QueuedCommand) -> None:
        """Know a new order before the book is told of it."""
        funding = Funding(
            command.hold_id,
            command.hold_price_nano,
            command.lots * LOT_TOKENS,
            command.covered_tokens,
            command.bond_thousandths,
        )
        self.orders[number] = LiveOrder(command.id, command.organization_id, command.side == SELL, funding)
        self.numbers[command.id] = number

    def may_replace(self, command: QueuedCommand) -> bool:
        """Whether the hold of the order and of the replacement suffice for what it would become."""
        number = self.numbers.get(command.target)
        if not number:
            return True  # the book will refuse it
        order = self.orders[number]
        before = order.funding.rest_micro(buying=not order.selling)
        gone_tokens = order.filled_tokens + order.reduced_tokens
        open_tokens = command.lots * LOT_TOKENS - gone_tokens if command.lots else order.funding.open_tokens
        if open_tokens <= 0:
            return True  # likewise
        after = self._replaced(order, command.price, open_tokens).rest_micro(buying=not order.selling)
        return after <= before + command.hold_micro

    def at(self, moment: datetime) -> None:
        """Set the time of the entries that follow."""
        if moment is not self._at:
            self._at = moment
            self._ms = to_ns(moment) // 1_000_000
            self._ids = self._ms << 80 | 0x8000 << 64 | 0b10 << 62
            self._ids |= (self.market_id & 0x3FFFFFFF) << 32

    def settle(self, events: Sequence[EventRow], sequence: int, command: QueuedCommand | None = None) -> None:
        """Turn the events of one journal entry into facts, and forget orders that ended."""
        if len(events) > ENOUGH_FOR_COLUMNS and events[0][0] == UNCROSSED:
            events = self._settle_auction(events, sequence)
        for event, number, other, price, lots, detail in events:
            if event == FILL:
                self._trade(number, other, price * self.tick_nano, lots * LOT_TOKENS, detail, sequence)
            elif event in (CANCELLED, EXPIRED):
                self._end(number, event, detail, sequence)
            elif event == REFUSED:
                if command is not None:
                    self.refuse(number, command, detail, sequence)
            elif event == REDUCED:
                self._reduce(number, lots * LOT_TOKENS, detail, sequence)
            elif event == REPLACED:
                assert command is not None
                self._replace(number, command, price, lots * LOT_TOKENS, sequence)
            elif event == TRIGGERED:
                self._happened(self.orders[number], sequence, TRIGGERED, price_nano=price * self.tick_nano)

    def refuse(self, number: int, command: QueuedCommand, reason: int, sequence: int) -> None:
        """Undo what a refused command held and reserved."""
        if number and self.numbers.get(command.id) == number:
            self._end(number, REFUSED, reason, sequence)
            return
        owner, selling = command.organization_id, command.side == SELL
        if command.hold_micro:
            self.facts.postings.append(
                self._release(Movement.REFUSED, sequence, owner, selling, command.hold_micro, command.hold_id)
            )
        if command.reserved_tokens:
            self.facts.positions[owner].open_sell_tokens -= command.reserved_tokens

    def annul(self, trades: Iterable[TradeRow], sequence: int) -> None:
        """
        Reverse trades, each by its mirror: the seller buys back at the same price. What a trade had filled of an order
        that is still open counts as taken out of it.
        """
        facts, entry = self.facts, entry_id(self.market_id, sequence)
        for trade in trades:
            self.trades = number = self.trades + 1
            mirror_id = entry_id(self.market_id, number)
            tokens, price_nano = trade.quantity_tokens, trade.price_nano
            facts.mirrors.append(
                TradeRow(
                    mirror_id, sequence, trade.seller_id, trade.buyer_id, trade.sell_order, trade.buy_order, tokens,
                    price_nano, trade.bond_micro, ANNULMENT,
                )
            )
            facts.postings.append(
                Posting(
                    f"reverse:trade:{trade.id}", "trade_reversal", Stage.POSTED, self._escrow,
                    self._available_of(trade.buyer_id), tokens * price_nano // 1_000,
                )
            )
            if trade.bond_micro:
                facts.postings.append(
                    Posting(
                        f"reverse:bond:{trade.id}", "bond_return", Stage.POSTED, self._bond_of(trade.seller_id),
                        self._available_of(trade.seller_id), trade.bond_micro,
                    )
                )
            facts.positions[trade.buyer_id].position_tokens -= tokens
            facts.positions[trade.seller_id].position_tokens += tokens
            for order_id in (trade.buy_order, trade.sell_order):
                live = self.numbers.get(order_id)
                if live:
                    self.orders[live].filled_tokens -= tokens
                    self.orders[live].reduced_tokens += tokens
                facts.order_events.append(OrderEventRow(order_id, entry, REDUCED, ANNULLED, tokens, 0))

    def _settle_auction(self, events: Sequence[EventRow], sequence: int) -> Sequence[EventRow]:
        """Settle an auction's fills all at once; return the events that are left, or all if it cannot be done so."""
        kinds = [event[0] for event in events]
        count = kinds.count(FILL)
        if count < ENOUGH_FOR_COLUMNS:
            return events
        first, after = kinds.index(FILL), len(kinds) - kinds[::-1].index(FILL)
        fills = events[first:after]
        if len(fills) > count:  # icebergs have shown their next tips between them
            fills = [event for event in fills if event[0] == FILL]
        self.settle(events[1:first], sequence)  # what self-trade prevention took out
        settled = settle_fills(
            fills, self.orders, first_id=entry_id(self.market_id, self.trades + 1), sequence=sequence,
            tick_nano=self.tick_nano, at_ms=self._ms, facts=self.facts,
        )  # fmt: skip
        if settled is None:
            return events[first:]
        self.trades += count
        for number in settled:
            del self.numbers[self.orders.pop(number).id]
        return events[after:]

    def _trade(self, buy: int, sell: int, price_nano: int, tokens: int, maker: int, sequence: int) -> None:
        buyer, seller = self.orders[buy], self.orders[sell]
        bought, sold = buyer.funding, seller.funding
        buyer_id, seller_id, facts = buyer.owner, seller.owner, self.facts
        self.trades = number = self.trades + 1
        trade_id = entry_id(self.market_id, number)
        excess_micro = bought.take_buy(tokens, price_nano)
        bond_micro = sold.take_sell(tokens)
        buyer.filled_tokens += tokens
        seller.filled_tokens += tokens
        facts.single_trades.append(
            TradeRow(
                trade_id, sequence, buyer_id, seller_id, buyer.id, seller.id, tokens, price_nano, bond_micro,
                AGGRESSORS[maker],
            )
        )
        facts.payments.append(Payment(bought.hold_id, excess_micro, self._ms))
        if bond_micro:
            use = facts.bonds.get(sold.hold_id)
            if use is None:
                use = facts.bonds[sold.hold_id] = HoldUse(sold.hold_id, seller_id, True, number)
            use.amount_micro += bond_micro
        positions = facts.positions
        positions[buyer_id].position_tokens += tokens
        change = positions[seller_id]
        change.position_tokens -= tokens
        change.open_sell_tokens -= tokens
        if not bought.open_tokens:
            del self.numbers[self.orders.pop(buy).id]
        if not sold.open_tokens:
            del self.numbers[self.orders.pop(sell).id]

    def _end(self, number: int, event: int, reason: int, sequence: int) -> None:
        order = self.orders.pop(number)
        del self.numbers[order.id]
        tokens = order.funding.open_tokens
        self._happened(order, sequence, event, reason, tokens)
        self._let_go(order, tokens, number)

    def _reduce(self, number: int, tokens: int, reason: int, sequence: int) -> None:
        order = self.orders[number]
        order.reduced_tokens += tokens
        self._happened(order, sequence, REDUCED, reason, tokens)
        self.reductions += 1
        self._let_go(order, tokens, REDUCTION | self.reductions)
        if not order.funding.open_tokens:
            del self.numbers[self.orders.pop(number).id]

    def _let_go(self, order: LiveOrder, tokens: int, number: int) -> None:
        """Take open tokens out of an order and release what they held."""
        funding, selling, facts = order.funding, order.selling, self.facts
        released = funding.rest_micro(buying=not selling)
        funding.open_tokens -= tokens
        if funding.open_tokens:
            funding.covered_tokens = min(funding.covered_tokens, funding.open_tokens)
            released -= funding.rest_micro(buying=not selling)
        if released:
            use = facts.releases.get(funding.hold_id)
            if use is None:
                use = facts.releases[funding.hold_id] = HoldUse(funding.hold_id, order.owner, selling, number)
            use.amount_micro += released
        if selling:
            facts.positions[order.owner].open_sell_tokens -= tokens

    def take_facts(self) -> Facts:
        """Return what came since the last call, and begin anew."""
        facts, self.facts = self.facts, Facts()
        pay_singles(facts, self._escrow, self._payers(trade.buyer_id for trade in facts.single_trades))
        for auction in facts.auctions:
            pay_auction(facts, auction, self._escrow, self._payers(auction.members.tolist()))
        for use in facts.bonds.values():
            facts.postings.append(
                Posting(
                    f"bond:{self.market_id}:{use.number}", "bond", POST, self._available_of(use.owner),
                    self._bond_of(use.owner), use.amount_micro, 0, _uuid(use.hold_id),
                    uuid_of(self._ids | Movement.BOND << 64 | use.number),
                )
            )
        for use in facts.releases.values():
            movement = Movement.REDUCE if use.number & REDUCTION else Movement.END
            facts.postings.append(
                self._release(
                    movement, use.number & ~REDUCTION, use.owner, use.selling, use.amount_micro, use.hold_id
                )
            )
        return facts

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

    def _replace(self, number: int, command: QueuedCommand, price: int, open_tokens: int, sequence: int) -> None:
        """Fund an order anew. What it no longer needs is let go; where it needs more, both holds give way to one."""
        order = self.orders[number]
        buying, selling, owner, old = not order.selling, order.selling, order.owner, order.funding
        new = self._replaced(order, command.price and price, open_tokens)
        before, after = old.rest_micro(buying=buying), new.rest_micro(buying=buying)
        if after > before:  # `may_replace` has made sure that the two holds suffice
            hold_id = uuid_of(self._ids | Movement.REHOLD << 64 | sequence)
            new.hold_id = hold_id.bytes
            key = f"rehold:{self.market_id}:{sequence}"
            self.facts.postings.append(
                Posting(
                    key, "order_hold", PENDING, self._available_of(owner), self._target(owner, selling), after,
                    id=hold_id,
                )
            )
            released = before
        else:
            released = before - after
        if released:
            self.facts.postings.append(
                self._release(Movement.REPLACED, sequence, owner, selling, released, old.hold_id)
            )
        if command.hold_micro:
            self.facts.postings.append(
                self._release(Movement.EXTRA, sequence, owner, selling, command.hold_micro, command.hold_id)
            )
        if selling:
            change = new.open_tokens - old.open_tokens - command.reserved_tokens
            self.facts.positions[owner].open_sell_tokens += change
        order.funding = new
        total = order.filled_tokens + order.reduced_tokens + new.open_tokens
        self._happened(order, sequence, REPLACED, 0, total, price * self.tick_nano)

    def _happened(
        self, order: LiveOrder, sequence: int, kind: int, reason: int = 0, tokens: int = 0, price_nano: int = 0
    ) -> None:
        entry = entry_id(self.market_id, sequence)
        self.facts.order_events.append(OrderEventRow(order.id, entry, kind, reason, tokens, price_nano))

    def _release(
        self, movement: Movement, number: int, owner: int, selling: bool, amount_micro: int, hold_id: bytes
    ) -> Posting:
        return Posting(
            f"{movement.name.lower()}:{self.market_id}:{number}", "order_release", RELEASE,
            self._available_of(owner), self._target(owner, selling), amount_micro, 0, _uuid(hold_id),
            uuid_of(self._ids | movement << 64 | number),
        )

    def _payers(self, owners: Iterable[int]) -> dict[int, accounts.AccountRef]:
        return {owner: self._available_of(owner) for owner in set(owners)}

    def _available_of(self, owner: int) -> accounts.AccountRef:
        ref = self._available.get(owner)
        if ref is None:
            ref = self._available[owner] = accounts.available(owner)
        return ref

    def _bond_of(self, owner: int) -> accounts.AccountRef:
        ref = self._bonds.get(owner)
        if ref is None:
            ref = self._bonds[owner] = accounts.bond(owner, self._scope)
        return ref

    def _target(self, owner: int, selling: bool) -> accounts.AccountRef:
        return self._bond_of(owner) if selling else self._escrow


def _uuid(raw: bytes) -> UUID:
    return uuid_of(int.from_bytes(raw, "big"))
