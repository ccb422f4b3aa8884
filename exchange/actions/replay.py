"""A market rebuilt from its journal: from the beginning, or from its last snapshot; and what that gives again."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from core.transactions import assert_in_transaction
from exchange.actions.market_state import MarketState, empty_state, journal, load_snapshot, replay, snapshot_content
from exchange.domain.facts import TradeRow
from exchange.models import BookSnapshot, Market


@dataclass(slots=True)
class Replayed:
    """What a replay found. `trades_digest` is over every trade in order, so two replays can be compared at a glance."""

    market_id: int
    entries: int
    trades: int
    state_hash: str
    trades_digest: str
    mismatches: list[str]
    state: MarketState


def replay_market(market: Market, *, from_snapshot: bool = False, until: int | None = None) -> Replayed:
    """Rebuild a market's book, comparing each state hash that the journal carries on the way."""
    state = (load_snapshot(market) if from_snapshot else None) or empty_state(market)
    digest = hashlib.blake2b(digest_size=16)
    mismatches: list[str] = []
    entries = 0
    for entry, command in journal(market, after=state.sequence, until=until):
        replay(state, entry, command)
        entries += 1
        facts, _ = state.take_facts()
        state.events = []
        for row in facts.trades:
            digest.update(trade_bytes(row))
        if entry.state_hash is not None and state.book.state_hash() != bytes(entry.state_hash).hex():
            mismatches.append(f"state after entry {entry.sequence}")
    return Replayed(
        market.pk, entries, state.settling.trades, state.book.state_hash(), digest.hexdigest(), mismatches, state
    )


def trade_bytes(row: TradeRow) -> bytes:
    """Return what a trade is, as bytes to be hashed."""
    return msgspec.msgpack.encode(row)


def take_snapshot(*, market: Market, state: MarketState, now: datetime) -> BookSnapshot:
    """Store a market's book after its last entry, once."""
    assert_in_transaction()
    snapshot, _ = BookSnapshot.objects.get_or_create(
        market=market,
        sequence=state.sequence,
        defaults={
            "content": snapshot_content(state),
            "state_hash": bytes.fromhex(state.book.state_hash()),
            "taken_at": now,
        },
    )
    return snapshot


def stored_trades_digest(rows: Iterator[TradeRow]) -> str:
    """Return the digest that a replay of these trades gives."""
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        digest.update(trade_bytes(row))
    return digest.hexdigest()
