"""
A market's book in this process: a cache of what the journal says, keyed by the last sequence number.

Whoever works a market holds its row's lock, takes the state out of the cache, brings it up to the row's last sequence
number from the journal, changes it, and puts it back when the transaction has committed. After a rollback it is simply
not put back, and the next worker builds it anew.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import transaction

from core.money import LOT_TOKENS
from exchange.actions.command_rows import queued_command
from exchange.domain.book import Book
from exchange.domain.commands import QueuedCommand
from exchange.domain.facts import Facts, TradeRow
from exchange.domain.frames import Statistics
from exchange.domain.numbering import entry_id, id_range
from exchange.domain.orders import Command as BookCommand
from exchange.domain.orders import Event, EventRow, Kind, MarketTerms, Phase, Rare
from exchange.domain.public_book import Published
from exchange.domain.settling import Settling
from exchange.domain.times import from_ns, to_ns
from exchange.models import BookSnapshot, Command, JournalEntry, Market, Trade

KEPT_BOOKS = 64
CANCEL, REPLACE = int(Kind.CANCEL), int(Kind.REPLACE)
REFUSED, PHASE = int(Event.REFUSED), int(Event.PHASE)
NOTHING = QueuedCommand(b"", 0, 0)
HOLD_TOO_SMALL = 90  # beside the book's reasons: the holds do not suffice for a replacement

_cache: "OrderedDict[int, MarketState]" = OrderedDict()


class Entry(NamedTuple):
    """A journal entry to be written."""

    sequence: int
    kind: int
    command_id: bytes
    outcome: int
    at: datetime
    content: dict[str, Any] | None = None


@dataclass(slots=True)
class MarketState:
    """
    The book of a market, its live orders, and where both stand in the journal.

    `events` gather until they are published; `published`, `statistics` (None: not read yet) and `rows_since_book` say
    what has been.
    """

    market_id: int
    book: Book
    settling: Settling
    sequence: int = 0
    last_at: datetime | None = None
    entries: list[Entry] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    published: Published | None = None
    statistics: Statistics | None = None
    rows_since_book: int = 0

    def begin(self, now: datetime) -> datetime:
        """Return the time of the next entries: never before the last one, whatever the clocks of workers say."""
        at = self.last_at = now if self.last_at is None else max(now, self.last_at)
        self.settling.at(at)
        return at

    def take(self, commands: Iterable[QueuedCommand], now: datetime) -> list[EventRow]:
        """Take up accepted commands, and return the changes of phase that they caused."""
        at = self.begin(now)
        time_ns = to_ns(at)
        settling, happened = self.settling, self.events
        settle, add_entry = settling.settle, self.entries.append
        phases: list[EventRow] = []
        sequence, command = self.sequence, NOTHING

        def numbered() -> Iterator[BookCommand]:
            """Yield what the book is told, each when it and the settling have done with the command before."""
            nonlocal sequence, command
            numbers = settling.numbers
            for command in commands:
                sequence += 1
                kind = command.kind
                if kind < CANCEL:
                    number = sequence
                    settling.enter(number, command)
                else:
                    number = numbers.get(command.target, 0) if command.target else 0
                    if kind == REPLACE and not settling.may_replace(command):
                        settling.refuse(0, command, HOLD_TOO_SMALL, sequence)
                        happened.append((REFUSED, number, command.organization_id, 0, 0, HOLD_TOO_SMALL))
                        add_entry(Entry(sequence, kind, command.id, HOLD_TOO_SMALL, at))
                        continue
                yield (
                    time_ns, sequence, number, command.organization_id, command.price, command.lots, kind,
                    command.side, command.flags, command.rare,
                )  # fmt: skip

        for events in self.book.apply_each(numbered()):
            settle(events, sequence, command)
            happened += events
            outcome = 0
            for event in events:
                if event[0] == REFUSED:
                    outcome = event[5]
                elif event[0] == PHASE:
                    phases.append(event)
            add_entry(Entry(sequence, command.kind, command.id, outcome, at))
        self.sequence = sequence
        return phases

    def enter(
        self,
        kind: Kind,
        now: datetime,
        *,
        price: int = 0,
        lots: int = 0,
        owner: int = 0,
        order: int = 0,
        fills: Iterable[tuple[int, int]] | None = None,
    ) -> list[EventRow]:
        """
        Enter something that the system does: a phase, an uncross, an expiry, a halt.

        :param fills: of an uncross, (order, lots) as they were decided elsewhere; None lets the book decide.
        """
        at = self.begin(now)
        self.sequence += 1
        rare = None if fills is None else Rare(fills=tuple((number, filled) for number, filled in fills))
        events = self.book.apply((to_ns(at), self.sequence, order, owner, price, lots, int(kind), -1, 0, rare))
        self.settling.settle(events, self.sequence)
        self.events += events
        fields = (("price", price), ("lots", lots), ("owner", owner), ("order", order))
        content: dict[str, Any] = {name: int(value) for name, value in fields if value}
        if rare is not None:
            content["fills"] = rare.fills
        self.entries.append(Entry(self.sequence, int(kind), b"", 0, at, content or None))
        return events

    def annul(self, auction_sequence: int, trades: Iterable[TradeRow], now: datetime) -> None:
        """Reverse the trades of an auction by a journal entry that names it."""
        at = self.begin(now)
        self.sequence += 1
        command = (to_ns(at), self.sequence, 0, 0, 0, auction_sequence, int(Kind.ANNUL), -1, 0, None)
        self.events += self.book.apply(command)
        self.settling.annul(trades, self.sequence)
        self.entries.append(Entry(self.sequence, int(Kind.ANNUL), b"", 0, at, {"lots": auction_sequence}))

    def next_expiry(self) -> datetime | None:
        """Return when the first open order expires."""
        expiries = self.book.expiries
        return from_ns(expiries[0][0]) if expiries else None

    def take_facts(self) -> tuple[Facts, list[Entry]]:
        """Return what came since the last call, and begin anew."""
        entries, self.entries = self.entries, []
        return self.settling.take_facts(), entries

    def forget(self) -> None:
        """Let go of facts and events that are stored already."""
        self.take_facts()
        self.events = []


def book_terms(market: Market) -> MarketTerms:
    """Return what the market's book admits."""
    tick = market.tick_nano
    return MarketTerms(
        tick_nano=tick,
        lot_tokens=LOT_TOKENS,
        cap=(market.cap_price_nano or 0) // tick,
        minimum_lots=max(1, market.min_order_tokens // LOT_TOKENS),
        static_collar=market.static_collar_thousandths,
        dynamic_collar=market.dynamic_collar_thousandths,
        pro_rata=market.margin == Market.Margin.PRO_RATA,
    )


def empty_state(market: Market) -> MarketState:
    """Return the state before the first journal entry."""
    return MarketState(
        market.pk,
        Book(book_terms(market), Phase.SCHEDULED),
        Settling(market_id=market.pk, tick_nano=market.tick_nano),
    )


def snapshot_content(state: MarketState) -> bytes:
    """Return book and live orders as bytes."""
    return msgspec.msgpack.encode(
        (state.book.snapshot(), state.settling.snapshot(), to_ns(state.last_at) if state.last_at else 0)
    )


def load_snapshot(market: Market) -> MarketState | None:
    """Return the state at the market's last snapshot, or None without one."""
    row = BookSnapshot.objects.filter(market=market, sequence__lte=market.last_sequence).order_by("-sequence").first()
    if row is None:
        return None
    book, orders, last_ns = msgspec.msgpack.decode(bytes(row.content), type=tuple[bytes, bytes, int])
    settling = Settling(market_id=market.pk, tick_nano=market.tick_nano)
    settling.restore(orders)
    return MarketState(
        market.pk, Book.restore(book), settling, row.sequence, from_ns(last_ns) if last_ns else None
    )


def state_of(market: Market) -> MarketState:
    """
    Return the market's state as of its last sequence number, taken out of the cache. The caller holds the row's lock.
    """
    state = _cache.pop(market.pk, None)
    if state is None or state.sequence > market.last_sequence:
        state = load_snapshot(market) or empty_state(market)
    if state.sequence < market.last_sequence:
        catch_up(state, market)
        state.published = state.statistics = None
    if state.published is None:
        state.published = Published(state.book)
    transaction.on_commit(lambda: _keep(state))
    return state


def _keep(state: MarketState) -> None:
    _cache[state.market_id] = state
    _cache.move_to_end(state.market_id)
    while len(_cache) > KEPT_BOOKS:
        _cache.popitem(last=False)


def forget_book(market_id: int) -> None:
    """Throw a market's cached book away."""
    _cache.pop(market_id, None)


def forget_books() -> None:
    """Throw every cached book away."""
    _cache.clear()


def catch_up(state: MarketState, market: Market, *, until: int | None = None) -> None:
    """Replay the journal into `state`, up to the last entry or to `until`; what comes of it is stored already."""
    for entry, command in journal(market, after=state.sequence, until=until):
        replay(state, entry, command)
        if len(state.entries) == 5_000:
            state.forget()
    state.forget()


def replay(state: MarketState, entry: JournalEntry, command: QueuedCommand | None) -> None:
    """Do again what a journal entry did."""
    if command is not None:
        state.take((command,), entry.occurred_at)
        return
    content = entry.content or {}
    if entry.kind == Kind.ANNUL:
        auctioned = content["lots"]
        state.annul(auctioned, trades_of_entry(state.market_id, auctioned), entry.occurred_at)
        return
    state.enter(
        Kind(entry.kind),
        entry.occurred_at,
        price=content.get("price", 0),
        lots=content.get("lots", 0),
        owner=content.get("owner", 0),
        order=content.get("order", 0),
        fills=content.get("fills"),
    )


def trades_of_entry(market_id: int, sequence: int) -> list[TradeRow]:
    """Return the stored trades that a journal entry caused."""
    first, last = id_range(market_id)
    rows = Trade.objects.filter(id__gte=first, id__lte=last, sequence=sequence).order_by("id").values_list(
        "id", "sequence", "buyer_id", "seller_id", "buy_order_id", "sell_order_id", "quantity_tokens", "price_nano",
        "bond_micro", "aggressor",
    )  # fmt: skip
    return [TradeRow(*row[:4], row[4].bytes, row[5].bytes, *row[6:]) for row in rows]


def journal(
    market: Market, *, after: int = 0, until: int | None = None
) -> Iterator[tuple[JournalEntry, QueuedCommand | None]]:
    """Yield a market's journal entries after a number, in order, with their commands."""
    first, last = id_range(market.pk, after)
    if until is not None:
        last = entry_id(market.pk, until)
    batch: list[JournalEntry] = []
    for entry in JournalEntry.objects.filter(id__gte=first, id__lte=last).order_by("id").iterator(chunk_size=5_000):
        batch.append(entry)
        if len(batch) == 5_000:
            yield from _with_commands(batch, market.tick_nano)
            batch = []
    yield from _with_commands(batch, market.tick_nano)


def _with_commands(
    entries: list[JournalEntry], tick_nano: int
) -> Iterator[tuple[JournalEntry, QueuedCommand | None]]:
    ids: list[UUID] = [entry.command_id for entry in entries if entry.command_id]
    rows = Command.objects.in_bulk(ids)
    for entry in entries:
        yield entry, queued_command(rows[entry.command_id], tick_nano) if entry.command_id else None

