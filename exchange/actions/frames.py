"""
What a drain changed, for readers: one row for the public and one for each member it touched, and a message on commit.

Written once a drain, in its transaction, from the events that it caused; so what is published is what was committed,
and its numbers are the journal's.
"""

from array import array
from collections.abc import Sequence
from operator import itemgetter
from struct import Struct
from typing import NamedTuple

import numpy as np
from django.db import connection

from core import prepared
from core.live import publish_on_commit
from core.money import LOT_TOKENS
from exchange.actions.copying import BINARY_HEADER, BINARY_TRAILER, copy_binary, microseconds
from exchange.actions.market_state import MarketState
from exchange.domain.facts import ENOUGH_FOR_COLUMNS, Facts, PublicTrades
from exchange.domain.frames import Frame, Indicative, Statistics, Uncrossed, pack, pack_rows, stored, unpack
from exchange.domain.numbering import NUMBER_BITS, NUMBER_MASK, entry_id, id_range
from exchange.domain.orders import EventRow, Phase
from exchange.domain.public_book import whole
from exchange.domain.resting import FILL, PHASE, UNCROSSED
from exchange.domain.times import to_ns
from exchange.domain.uncross import indicative
from exchange.models import Market, MarketFrame
from exchange.queries import STANDS

BOOK_EVERY_ROWS, BOOK_EVERY_SHARE = 2_000, 2
WITH_BOOK = 1 << 62  # rows enough for the next frame to bring the whole book
_FRAMES = "id, prev_sequence, at, new_phase, content, book"
_FRAME, _LENGTH = Struct("!h iq iq iq i? i"), Struct("!i").pack  # each field is its length, then its bytes
LARGEST_MESSAGE_BYTES = 200_000
CALL = int(Phase.CALL)


class Composed(NamedTuple):
    """What there is to write and to announce: the public frame, the whole book if its turn has come, whose orders."""

    frame: Frame
    content: bytes
    book: bytes | None
    members: dict[int, list[int]]


def read_before(market: Market, state: MarketState) -> None:
    """Read what `compose` needs to know of the time before. `market` is as of the last frame."""
    sequence = market.last_sequence
    if state.statistics is not None:
        return
    row = MarketFrame.objects.filter(pk=entry_id(market.pk, sequence)).first() if sequence else None
    if row is not None or not sequence:
        state.statistics = unpack(bytes(row.content)).statistics if row is not None else Statistics()
    else:
        state.statistics = _statistics_of_trades(market, market.last_trade)
        state.rows_since_book = WITH_BOOK


def compose(market: Market, state: MarketState, facts: Facts) -> Composed:
    """
    Return what changed since the last frame, and take it as published. Asks the database for nothing, unless trades
    were annulled.

    Trades back, of an annulled auction, are told to their members and are no public trades.
    """
    assert state.published is not None and state.last_at is not None and state.statistics is not None
    events, state.events = state.events, []
    book = state.book
    rows, members = state.published.changes(book, events)
    traded = facts.public_trades(market.tick_nano)
    if facts.mirrors:
        state.statistics = _statistics_of_trades(market, state.settling.trades)
    else:
        state.statistics = state.statistics.after(traded.ticks)
    phases = [(entered, cause) for event, entered, _, _, _, cause in events if event == PHASE]
    auction = None
    for event, _, _, price, lots, surplus in events:
        if event == UNCROSSED:
            auction = Uncrossed(price, lots, surplus)
    _add_fills(members, [event for event in events if event[0] == FILL], traded)
    for mirror in facts.mirrors:
        for member in (mirror.buyer_id, mirror.seller_id):
            members.setdefault(member, [])
    members.pop(0, None)  # what the system itself does has no owner
    frame = Frame(
        market.last_sequence, state.sequence, to_ns(state.last_at), book.phase, book.halted, rows, traded.ticks,
        state.statistics, phases, _indicative(market, state) if book.phase == CALL else None, auction,
    )  # fmt: skip
    state.rows_since_book += len(rows)
    with_book = state.rows_since_book > max(BOOK_EVERY_ROWS, BOOK_EVERY_SHARE * len(book.orders))
    if with_book:
        state.rows_since_book = 0
    return Composed(frame, pack(frame), pack_rows(whole(book)) if with_book else None, members)


def record(market: Market, state: MarketState, composed: Composed) -> None:
    """Write and announce what was composed. The market's lock is held, and its row not yet brought up."""
    frame, content, book, members = composed
    assert state.last_at is not None
    kept = stored(content)
    fields = _FRAME.pack(
        6, 8, entry_id(market.pk, frame.sequence), 8, frame.prev_sequence, 8, microseconds(state.last_at),
        1, bool(frame.phases), len(kept),
    )  # fmt: skip
    of_book = _LENGTH(-1) if book is None else _LENGTH(len(book)) + book
    copy_binary("exchange_marketframe", _FRAMES, b"".join((BINARY_HEADER, fields, kept, of_book, BINARY_TRAILER)))
    _store_own(market, state, members)
    sent = content if len(content) <= LARGEST_MESSAGE_BYTES else None  # a larger one is read from its row
    publish_on_commit(f"market.{market.pk}", {"market": market.pk, "sequence": state.sequence, "frame": sent})
    for member in members:
        publish_on_commit(f"member.{member}", {"member": member, "market": market.pk, "sequence": state.sequence})


def _add_fills(members: dict[int, list[int]], fills: Sequence[EventRow], traded: PublicTrades) -> None:
    """Add the orders that traded to those of their owners."""
    if len(fills) != len(traded.ticks):
        raise AssertionError(f"the book has made {len(fills)} fills, and {len(traded.ticks)} trades are to be stored")
    if len(fills) < ENOUGH_FOR_COLUMNS:
        for (_, buy, sell, *_), buyer, seller in zip(fills, traded.buyers, traded.sellers, strict=True):
            members[buyer].append(buy)
            members[seller].append(sell)
        return
    orders = np.concatenate([np.fromiter(map(itemgetter(side), fills), np.int64, len(fills)) for side in (1, 2)])
    owners = np.concatenate([np.array(of_side, np.int64) for of_side in (traded.buyers, traded.sellers)])
    pairs = np.sort(owners << NUMBER_BITS | orders)
    pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    owners = pairs >> NUMBER_BITS
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    for owner, of_owner in zip(owners[starts].tolist(), np.split(pairs & NUMBER_MASK, starts[1:]), strict=True):
        members[owner].extend(of_owner.tolist())


_OF_TRADES = f"""
SELECT (array_agg(price_nano ORDER BY id))[1], max(price_nano), min(price_nano),
       (array_agg(price_nano ORDER BY id DESC))[1],
       sum(quantity_tokens)::bigint, sum(quantity_tokens::numeric * price_nano), count(*)
FROM exchange_trade t WHERE id BETWEEN %s AND %s AND {STANDS}
"""


def _statistics_of_trades(market: Market, last: int) -> Statistics:
    """
    Return the statistics of the stored trades that stand, up to number `last`: of a market that began before there
    were frames, or one of whose auctions has been annulled.
    """
    tick, (first, _) = market.tick_nano, id_range(market.pk)
    with connection.cursor() as cursor:
        cursor.execute(_OF_TRADES, [first, entry_id(market.pk, last)])
        opening, high, low, latest, tokens, amount, count = cursor.fetchone()
    if not count:
        return Statistics()
    return Statistics(
        opening // tick, high // tick, low // tick, latest // tick, tokens // LOT_TOKENS,
        int(amount) // (tick * LOT_TOKENS), count,
    )  # fmt: skip


def _indicative(market: Market, state: MarketState) -> Indicative:
    found = indicative(state.book, (market.reference_price_nano or 0) // market.tick_nano)
    return Indicative(
        found.price_tick or 0, found.volume_lots, found.surplus_lots, found.best_bid_tick or 0, found.best_ask_tick or 0
    )


_STORE_OWN = """
INSERT INTO exchange_ownframe (organization_id, market_id, sequence, at, numbers, first_trade, last_trade)
SELECT member, %s, %s, %s, numbers, %s, %s FROM unnest(%s::bigint[], %s::bytea[]) AS m (member, numbers)
"""


def _store_own(market: Market, state: MarketState, members: dict[int, list[int]]) -> None:
    """Write a row for each member that was touched."""
    if not members:
        return
    prepared.execute(
        _STORE_OWN,
        [
            market.pk, state.sequence, state.last_at, market.last_trade + 1, state.settling.trades, list(members),
            [array("I", sorted({*numbers} - {0})).tobytes() for numbers in members.values()],
        ],
    )  # fmt: skip
