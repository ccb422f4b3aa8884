"""Writing what came of journal entries: all insert-only rows by COPY, each position once, the ledger once and last."""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection

from billing.actions import ledger
from billing.domain.bulk import Bulk
from billing.domain.postings import Posting
from exchange.actions import fact_rows, frames
from exchange.actions.copying import storing
from exchange.actions.market_state import MarketState
from exchange.actions.replay import take_snapshot
from exchange.domain.facts import Facts, PositionChange
from exchange.domain.orders import Kind
from exchange.models import Market

HASH_EVERY, SNAPSHOT_EVERY = 100_000, 200_000


def store(market: Market, state: MarketState, *, now: datetime, postings: Sequence[Posting] = ()) -> int:
    """
    Write everything that `state` has to say since the last time, and bring the market's row up to it.

    :param postings: further movements of the same transaction: the ledger is called once.
    :returns: the number of journal entries.
    """
    count, facts = _write(market, state, now=now, always=bool(postings))
    if facts is not None:
        ledger.post_all([*facts.postings, *postings], now=now, bulks=facts.bulks)
    return count


def store_all(markets: Sequence[tuple[Market, MarketState]], *, now: datetime) -> list[int]:
    """Write down what several markets have to say, the ledger once and last; return each one's journal entries."""
    counts: list[int] = []
    postings: list[Posting] = []
    bulks: list[Bulk] = []
    for market, state in markets:
        count, facts = _write(market, state, now=now)
        counts.append(count)
        if facts is not None:
            postings += facts.postings
            bulks += facts.bulks
    ledger.post_all(postings, now=now, bulks=bulks)
    return counts


def _write(
    market: Market, state: MarketState, *, now: datetime, always: bool = False
) -> tuple[int, Facts | None]:
    """Write everything but the money; return the number of journal entries, and the facts whose money is to follow."""
    state_hash: bytes | None = None
    if state.entries and (
        state.entries[-1].kind == Kind.PHASE or _crosses(market.last_sequence, state.sequence, HASH_EVERY)
    ):
        state_hash = bytes.fromhex(state.book.state_hash())
    if state.entries and _crosses(market.last_sequence, state.sequence, SNAPSHOT_EVERY):
        take_snapshot(market=market, state=state, now=now)
    facts, entries = state.take_facts()
    if not entries and not always:
        return 0, None
    if entries:
        frames.read_before(market, state)
    composed: frames.Composed | None = None
    with storing(fact_rows.batches_of(market.pk, entries, state_hash, facts)):
        if entries and not facts.mirrors:
            composed = frames.compose(market, state, facts)  # while Postgres stores, which takes as long
    if entries:
        frames.record(market, state, composed or frames.compose(market, state, facts))
    market.last_sequence = state.sequence
    market.last_trade = state.settling.trades
    _change_positions(market.pk, facts.positions)
    market.save(update_fields=["last_sequence", "last_trade", "phase", "halted", "call"])
    return len(entries), facts


def _crosses(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every


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


