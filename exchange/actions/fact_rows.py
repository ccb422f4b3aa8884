"""Journal entries, trades and order events as binary COPY: a microsecond a row."""

from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import Any

import msgspec
import numpy as np

from exchange.actions.copying import Batch, microseconds
from exchange.actions.market_state import Entry
from exchange.domain.facts import AuctionTrades, Facts, OrderEventRow
from exchange.domain.numbering import NUMBER_MASK, entry_id

# Each field is its length as int32 (−1 for null), then its bytes.
_JOURNAL = "id, kind, occurred_at, outcome, command_id, content, state_hash"
_COMMAND_ENTRY = Struct("!h iq ih iq ih i16s i i")
_SYSTEM_ENTRY = Struct("!h iq ih iq ih i i")
_TRADES = (
    "id, sequence, buyer_id, seller_id, buy_order_id, sell_order_id, quantity_tokens, price_nano, bond_micro,"
    " aggressor, occurred_at"
)
_TRADE = Struct("!h iq iq iq iq i16s i16s iq iq iq ih iq")
_TRADE_RECORD = np.dtype([
    ("fields", ">i2"),
    *(
        field
        for name, type_ in (
            ("id", ">i8"), ("sequence", ">i8"), ("buyer", ">i8"), ("seller", ">i8"), ("buy", "V16"), ("sell", "V16"),
            ("tokens", ">i8"), ("price", ">i8"), ("bond", ">i8"), ("aggressor", ">i2"), ("at", ">i8"),
        )
        for field in ((f"{name}_length", ">i4"), (name, type_))
    ),
])  # fmt: skip
_ORDER_EVENTS = "order_id, entry_id, kind, reason, quantity_tokens, price_nano, occurred_at"
_ORDER_EVENT = Struct("!h i16s iq ih ih iq iq iq")
_LENGTH = Struct("!i").pack
_NULL = _LENGTH(-1)
_JSONB_VERSION = b"\x01"


def batches_of(
    market_id: int, entries: Sequence[Entry], state_hash: bytes | None, facts: Facts
) -> list[Batch]:
    """Return the rows of journal entries and of what came of them; the state hash, if any, is that after the last."""
    times = _times_of(entries)
    found = [
        Batch("exchange_journalentry", _JOURNAL, _journal(market_id, entries, state_hash)),
        Batch("exchange_trade", _TRADES, _trades(facts, times)),
        Batch("exchange_orderevent", _ORDER_EVENTS, _order_events(facts.order_events, times)),
    ]
    return [batch for batch in found if batch.parts]


def _journal(market_id: int, entries: Sequence[Entry], state_hash: bytes | None) -> Sequence[bytes]:
    base, at, moment = entry_id(market_id, 0), 0, None
    parts: list[bytes] = []
    append, command_entry = parts.append, _COMMAND_ENTRY.pack
    for sequence, kind, command_id, outcome, occurred_at, content in entries:
        if occurred_at is not moment:
            moment, at = occurred_at, microseconds(occurred_at)
        if command_id:
            append(
                command_entry(
                    7, 8, base + sequence, 2, kind, 8, at, 2, outcome, 16, command_id, -1, -1
                )
            )
        elif content is None:
            append(_SYSTEM_ENTRY.pack(7, 8, base + sequence, 2, kind, 8, at, 2, outcome, -1, -1) + _NULL)
        else:
            details = _JSONB_VERSION + msgspec.json.encode(content)
            append(_SYSTEM_ENTRY.pack(7, 8, base + sequence, 2, kind, 8, at, 2, outcome, -1, len(details)))
            append(details + _NULL)
    if state_hash is not None:
        parts[-1] = parts[-1][: -len(_NULL)] + _LENGTH(len(state_hash)) + state_hash
    return [b"".join(parts)] if parts else ()


def _times_of(entries: Sequence[Entry]) -> dict[int, int]:
    """Return the time of each entry as COPY wants it, by its sequence."""
    moments = {moment: microseconds(moment) for moment in {entry.at for entry in entries}}
    if len(moments) == 1:
        return _Same(*moments.values())
    return {entry.sequence: moments[entry.at] for entry in entries}


class _Same(dict[int, int]):
    """One time for every entry, which is how it is unless a moment of the schedule lies between them."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def __missing__(self, sequence: int) -> int:
        return self.at


def _trades(facts: Facts, times: dict[int, int]) -> Sequence[bytes]:
    pack = _TRADE.pack
    rows = [
        pack(
            11, 8, id_, 8, sequence, 8, buyer, 8, seller, 16, buy, 16, sell, 8, tokens, 8, price, 8, bond, 2, aggressor,
            8, times[sequence],
        )
        for id_, sequence, buyer, seller, buy, sell, tokens, price, bond, aggressor in chain(
            facts.single_trades, facts.mirrors
        )
    ]  # fmt: skip
    of_auctions = [_auction_rows(trades, times[trades.sequence]) for trades in facts.auctions]
    return [*([b"".join(rows)] if rows else ()), *of_auctions]


def _auction_rows(trades: AuctionTrades, at: int) -> bytes:
    """Return an auction's trades, encoded as records of numpy."""
    columns: dict[str, Any] = {
        "id": trades.ids,
        "sequence": trades.sequence,
        "buyer": trades.members[trades.buyer],
        "seller": trades.members[trades.seller],
        "buy": trades.buy_orders[trades.buy],
        "sell": trades.sell_orders[trades.sell],
        "tokens": trades.quantity_tokens,
        "price": trades.price_nano,
        "bond": trades.bond_micro,
        "aggressor": 0,
        "at": at,
    }
    rows = np.zeros(len(trades), _TRADE_RECORD)
    rows["fields"] = len(columns)
    for name, values in columns.items():
        rows[name] = values
        rows[f"{name}_length"] = _TRADE_RECORD[name].itemsize
    return rows.tobytes()


def _order_events(events: Sequence[OrderEventRow], times: dict[int, int]) -> Sequence[bytes]:
    """Return the rows of order events; several reductions of an order by one entry are one row."""
    pack = _ORDER_EVENT.pack
    rows = [
        pack(
            7, 16, order, 8, entry, 2, kind, 2, reason, 8, tokens, 8, price, 8,
            times[entry & NUMBER_MASK],
        )
        for order, entry, kind, reason, tokens, price in _merged(events)
    ]
    return [b"".join(rows)] if rows else ()


def _merged(events: Sequence[OrderEventRow]) -> Sequence[OrderEventRow]:
    keys = {(event.order, event.entry_id, event.kind) for event in events}
    if len(keys) == len(events):
        return events
    merged: dict[tuple[bytes, int, int], OrderEventRow] = {}
    for event in events:
        key = (event.order, event.entry_id, event.kind)
        earlier = merged.get(key)
        more = earlier.quantity_tokens if earlier else 0
        merged[key] = event._replace(quantity_tokens=event.quantity_tokens + more)
    return list(merged.values())
