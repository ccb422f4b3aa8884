"""Writing what came of journal entries: all insert-only rows by COPY, each position once, the ledger once and last."""

from collections.abc import Sequence
from datetime import datetime

from billing.actions import ledger
from billing.domain.bulk import Bulk
from billing.domain.postings import Posting
from core import prepared
from exchange.actions import fact_rows, frames
from exchange.actions.copying import storing
from exchange.actions.market_state import MarketState
from exchange.actions.replay import take_snapshot
from exchange.domain.facts import Facts, PositionChange
from exchange.domain.orders import Kind
from exchange.models import Market

_BRING_UP = """
UPDATE exchange_market SET last_sequence = %s, last_trade = %s, phase = %s, halted = %s, call_id = %s WHERE id = %s
"""
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
    ledger.post_all(postings, now=now, bulks=bulks, fresh=True)  # the journal's numbers are taken once
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
    prepared.execute(
        _BRING_UP, [market.last_sequence, market.last_trade, market.phase, market.halted, market.call_id, market.pk]
    )
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
    done = _add(market_id, moved)
    missing = [row for row in moved if row[0] not in done]
    if missing:
        prepared.execute(_MAKE_POSITIONS, [market_id, [member for member, _, _ in missing]])
        _add(market_id, missing)


_MAKE_POSITIONS = """
INSERT INTO exchange_marketposition (market_id, organization_id, capacity_tokens, position_tokens, open_sell_tokens)
SELECT %s, member, 0, 0, 0 FROM unnest(%s::bigint[]) AS m (member) ON CONFLICT DO NOTHING
"""
_CHANGE_POSITIONS = """
WITH locked AS MATERIALIZED (
    SELECT id FROM exchange_marketposition WHERE market_id = %(market)s AND organization_id = ANY(%(members)s::bigint[])
    ORDER BY organization_id FOR NO KEY UPDATE
)
UPDATE exchange_marketposition p
SET position_tokens = p.position_tokens + c.position, open_sell_tokens = p.open_sell_tokens + c.open_sell
FROM locked, unnest(%(members)s::bigint[], %(positions)s::bigint[], %(open_sells)s::bigint[])
     AS c (member, position, open_sell)
WHERE p.id = locked.id AND p.organization_id = c.member RETURNING p.organization_id
"""


def _add(market_id: int, changes: Sequence[tuple[int, int, int]]) -> set[int]:
    """Add to the positions of members and return those that have one."""
    members, positions, open_sells = map(list, zip(*changes, strict=True))
    given = {"market": market_id, "members": members, "positions": positions, "open_sells": open_sells}
    return {member for (member,) in prepared.execute(_CHANGE_POSITIONS, given).fetchall()}
