"""Writing what came of journal entries: all insert-only rows by COPY, each position once, the ledger once and last."""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from django.db import connection

from billing.actions import ledger
from billing.domain.postings import Posting
from exchange.actions.copying import NULL, copy_text, escape
from exchange.actions.market_state import Entry, MarketState
from exchange.actions.replay import take_snapshot
from exchange.domain.orders import Kind
from exchange.domain.settling import OrderEventRow, PositionChange, TradeRow
from exchange.models import Market
from exchange.models.journal import entry_id

HASH_EVERY, SNAPSHOT_EVERY = 5_000, 50_000
_JOURNAL = "id, kind, command_id, occurred_at, outcome, content, state_hash"
_TRADES = (
    "id, sequence, buyer_id, seller_id, buy_order_id, sell_order_id, quantity_tokens, price_nano, bond_micro,"
    " aggressor, occurred_at"
)
_ORDER_EVENTS = "order_id, entry_id, kind, reason, quantity_tokens, price_nano, occurred_at"


def store(market: Market, state: MarketState, *, now: datetime, postings: Sequence[Posting] = ()) -> int:
    """
    Write everything that `state` has to say since the last time, and bring the market's row up to it.

    :param postings: further movements of the same transaction: the ledger is called once.
    :returns: the number of journal entries.
    """
    changed_phase = any(entry.kind == Kind.PHASE for entry in state.entries)
    if state.entries and (changed_phase or _crosses(market.last_sequence, state.sequence, HASH_EVERY)):
        state.entries[-1].state_hash = bytes.fromhex(state.book.state_hash())
    if state.entries and _crosses(market.last_sequence, state.sequence, SNAPSHOT_EVERY):
        take_snapshot(market=market, state=state, now=now)
    facts, entries = state.take_facts()
    if not entries and not postings:
        return 0
    times = {entry.sequence: entry.at.isoformat() for entry in entries}
    copy_text("exchange_journalentry", _JOURNAL, _journal_lines(market.pk, entries, times))
    copy_text("exchange_trade", _TRADES, _trade_lines(facts.trades, times))
    copy_text("exchange_orderevent", _ORDER_EVENTS, _order_event_lines(facts.order_events, times))
    market.last_sequence = state.sequence
    market.last_trade = state.settling.trades
    _change_positions(market.pk, facts.positions)
    market.save(update_fields=["last_sequence", "last_trade", "phase", "halted", "volatility_call_until"])
    ledger.post_all([*facts.postings, *postings], now=now)
    return len(entries)


def _crosses(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every


def _journal_lines(market_id: int, entries: Iterable[Entry], times: dict[int, str]) -> Iterable[str]:
    for entry in entries:
        content = NULL if entry.content is None else escape(msgspec.json.encode(entry.content).decode())
        command = NULL if entry.command_id is None else entry.command_id.hex()
        state_hash = NULL if entry.state_hash is None else f"\\\\x{entry.state_hash.hex()}"
        yield (
            f"{entry_id(market_id, entry.sequence)}\t{entry.kind:d}\t{command}\t{times[entry.sequence]}\t"
            f"{entry.outcome:d}\t{content}\t{state_hash}"
        )


def _trade_lines(trades: Iterable[TradeRow], times: dict[int, str]) -> Iterable[str]:
    for row in trades:
        yield (
            f"{row.id}\t{row.sequence}\t{row.buyer_id}\t{row.seller_id}\t{row.buy_order.hex()}\t{row.sell_order.hex()}\t"
            f"{row.quantity_tokens}\t{row.price_nano}\t{row.bond_micro}\t{row.aggressor}\t{times[row.sequence]}"
        )


def _order_event_lines(rows: Iterable[OrderEventRow], times: dict[int, str]) -> Iterable[str]:
    """Several reductions of an order by one entry are one row, like one end."""
    merged: dict[tuple[bytes, int, int], OrderEventRow] = {}
    for row in rows:
        key = (row.order, row.entry_id, row.kind)
        earlier = merged.get(key)
        merged[key] = (
            row if earlier is None else row._replace(quantity_tokens=row.quantity_tokens + earlier.quantity_tokens)
        )
    for row in merged.values():
        yield (
            f"{row.order.hex()}\t{row.entry_id}\t{row.kind:d}\t{row.reason:d}\t{row.quantity_tokens}\t{row.price_nano}\t"
            f"{times[row.entry_id & 0xFFFFFFFF]}"
        )


def _change_positions(market_id: int, changes: dict[int, PositionChange]) -> None:
    """Apply the changes, in the order of the members' ids, and make the rows of those who had none."""
    moved = sorted(
        (member, change.position_tokens, change.open_sell_tokens)
        for member, change in changes.items()
        if change.position_tokens or change.open_sell_tokens
    )
    if not moved:
        return
    members = [member for member, _, _ in moved]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO exchange_marketposition"
            " (market_id, organization_id, capacity_tokens, position_tokens, open_sell_tokens)"
            " SELECT %s, member, 0, 0, 0 FROM unnest(%s::bigint[]) AS m (member)"
            " ON CONFLICT (market_id, organization_id) DO NOTHING",
            [market_id, members],
        )
        cursor.execute(
            "SELECT FROM exchange_marketposition WHERE market_id = %s AND organization_id = ANY(%s)"
            " ORDER BY organization_id FOR NO KEY UPDATE",
            [market_id, members],
        )
        cursor.execute(
            "UPDATE exchange_marketposition p SET position_tokens = p.position_tokens + c.position,"
            " open_sell_tokens = p.open_sell_tokens + c.open_sell"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS c (member, position, open_sell)"
            " WHERE p.market_id = %s AND p.organization_id = c.member",
            [members, [position for _, position, _ in moved], [open_sell for _, _, open_sell in moved], market_id],
        )


