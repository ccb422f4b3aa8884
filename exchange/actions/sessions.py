"""
Clearing markets of one call together, with the blocks over them.

The markets' locks are held, in the order of their ids; they are cleared in the order of their windows. Blocks are
chosen and prices determined by `exchange.domain.blocks`; each market's journal then names the fills of its orders. A
block takes part if all its legs are open, and none of its group stands on the other side of one of its markets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np
from django.db.models import Exists, OuterRef

from core.money import LOT_TOKENS
from exchange import queries
from exchange.actions import auctions
from exchange.actions.market_state import MarketState
from exchange.domain import blocks as domain
from exchange.domain.allocation import Margin
from exchange.domain.book_parts import OPEN, group_of
from exchange.domain.orders import Event, Kind
from exchange.domain.sides import MARKET, Side
from exchange.domain.uncross import Sealed, gathered, sealed_book
from exchange.models import Block, BlockLeg, BlockResult, Market

Outcome = BlockResult.Outcome


@dataclass(slots=True)
class Candidate:
    """A block with the numbers of its legs' orders by place of the market."""

    row: Block
    legs: dict[int, tuple[int, int]]  # place: order, lots
    group: int


@dataclass(frozen=True, slots=True)
class Cleared:
    """What came of a market: its sides with the accepted blocks as market orders, for the record."""

    sides: Sealed
    clearing: domain.WindowClearing
    limits: list[int]
    blocks: list[dict[str, Any]]


def clear(markets: Sequence[tuple[Market, MarketState]], *, now: datetime) -> list[Cleared]:
    """Clear markets that are at the end of one call, enter it into their journals, and record what became of blocks."""
    open_blocks = queries.open_blocks([market.pk for market, _ in markets])
    candidates, out = _candidates(open_blocks, markets)
    windows, all_sides = [], []
    for market, state in markets:
        sides = sealed_book(state.book)
        reference = min((market.reference_price_nano or 0) // market.tick_nano, state.book.terms.cap)
        windows.append(domain.Window(sides.bids, sides.asks, reference or None))
        all_sides.append(sides)
    margin = Margin.PRO_RATA if markets[0][1].book.terms.pro_rata else Margin.TIME
    tick = markets[0][0].tick_nano
    place_of = {candidate.row.pk: number for number, candidate in enumerate(candidates)}
    given = [_domain_block(candidate, place_of, tick) for candidate in candidates]
    session = domain.clear_session(windows, given, margin=margin)
    lost = {forgone.block: forgone.lost_surplus for forgone in session.forgone}

    cleared = []
    for place, (_, state) in enumerate(markets):
        clearing = session.windows[place]
        fills = _fills(all_sides[place], clearing, candidates, place)
        price = clearing.price.price_tick or 0
        events = state.enter(Kind.UNCROSS, now, price=price, fills=fills)
        if any(event[0] == Event.REFUSED for event in events):
            raise AssertionError(f"market {state.market_id} refused the fills of its session")
        _end_legs(state, open_blocks, now)
        limits = [
            block.limit_tick for block in given if len(block.lots) == 1 and block.lots[0][0] == place
        ]
        shown = [_shown(block, place, session.block_parts[number], lost.get(number, 0))
                 for number, block in enumerate(given) if place in dict(block.lots)]
        cleared.append(
            Cleared(_with_blocks(all_sides[place], clearing, candidates, state), clearing, sorted(set(limits)), shown)
        )
    _record(candidates, given, session, lost, tick, now)
    _record_out(out, now)
    return cleared


def _candidates(
    rows: Sequence[Block], markets: Sequence[tuple[Market, MarketState]]
) -> tuple[list[Candidate], dict[UUID, str]]:
    """Return the blocks that take part, in order of time, and why the others do not."""
    places = {market.pk: place for place, (market, _) in enumerate(markets)}
    opposite = [_groups_by_side(state) for _, state in markets]
    kept: list[Candidate] = []
    out: dict[UUID, str] = {}
    taking: set[tuple[int, int, int]] = set()  # place, side, group of kept blocks
    for row in rows:
        legs: dict[int, tuple[int, int]] = {}
        group = 0
        for leg in row.legs.all():
            place = places.get(leg.market_id)
            number = 0 if place is None else markets[place][1].settling.numbers.get(leg.order_id.bytes, 0)
            if place is None or not number:
                break
            order = markets[place][1].book.orders[number]
            legs[place] = (number, leg.quantity_tokens // LOT_TOKENS)
            group = group_of(order)
            if order[OPEN] != legs[place][1]:
                break
        else:
            against = any(
                group in opposite[place][1 - row.side] or (place, 1 - row.side, group) in taking for place in legs
            )
            if against:
                out[row.pk] = Outcome.SELF_TRADE
                continue
            taking.update((place, row.side, group) for place in legs)
            kept.append(Candidate(row, legs, group))
            continue
        out[row.pk] = Outcome.WITHDRAWN
    # A linked block goes with its parent; one whose parent is out is out too, and so are those linked to it.
    known = {candidate.row.pk for candidate in kept}
    accepted = queries.accepted_blocks({c.row.parent_id for c in kept if c.row.parent_id is not None})
    while orphans := [c for c in kept if c.row.parent_id is not None and c.row.parent_id not in known | accepted]:
        for candidate in orphans:
            out[candidate.row.pk] = Outcome.REJECTED
            known.discard(candidate.row.pk)
        kept = [candidate for candidate in kept if candidate.row.pk in known]
    return kept, out


def _groups_by_side(state: MarketState) -> tuple[set[int], set[int]]:
    """Return the control groups that buy, and those that sell, by orders other than blocks."""
    bids, asks = ({group_of(order) for order in side} for side in gathered(state.book))
    return bids, asks


def _domain_block(candidate: Candidate, place_of: dict[UUID, int], tick: int) -> domain.Block:
    row = candidate.row
    parent = None if row.parent_id is None else place_of.get(row.parent_id)
    return domain.Block(
        buying=row.side == Block.Side.BUY,
        limit_tick=row.limit_price_nano // tick,
        lots=tuple((place, lots) for place, (_, lots) in sorted(candidate.legs.items())),
        least=Fraction(row.least_tokens, row.quantity_tokens),
        exclusive=None if row.exclusive_group is None else row.exclusive_group.int,
        parent=parent,
    )


def _fills(
    sides: Sealed, clearing: domain.WindowClearing, candidates: Sequence[Candidate], place: int
) -> list[tuple[int, int]]:
    """Return (order, lots) of everything that trades in a market, blocks first, then by priority."""
    fills = [
        (candidates[number].legs[place][0], lots) for number, lots in sorted(clearing.block_fills.items()) if lots
    ]
    for numbers, filled in ((sides.bid_orders, clearing.bid_fills), (sides.ask_orders, clearing.ask_fills)):
        fills += [(number, lots) for number, lots in zip(numbers, filled.tolist(), strict=True) if lots]
    return fills


def _end_legs(state: MarketState, rows: Sequence[Block], now: datetime) -> None:
    """Cancel what is left of the blocks' legs in a market: a call's clearing is all they were for."""
    for row in rows:
        for leg in row.legs.all():
            number = state.settling.numbers.get(leg.order_id.bytes) if leg.market_id == state.market_id else None
            if number:
                state.enter(Kind.CANCEL, now, order=number)


def _with_blocks(
    sides: Sealed, clearing: domain.WindowClearing, candidates: Sequence[Candidate], state: MarketState
) -> Sealed:
    """Return the sides with the accepted blocks behind all others, as the market orders that they took part as."""
    joined: dict[int, list[tuple[int, int]]] = {0: [], 1: []}
    for number, lots in clearing.block_fills.items():
        if lots:
            joined[candidates[number].row.side].append((candidates[number].row.organization_id, lots))
    result = []
    for side, market, owners, rows in (
        (sides.bids, MARKET, sides.bid_owners, joined[0]), (sides.asks, -MARKET, sides.ask_owners, joined[1]),
    ):  # fmt: skip
        filled = np.array([lots for _, lots in rows], np.int64)
        more = np.array([owner for owner, _ in rows], np.int64)
        ticks = np.full(len(rows), market, np.int64)
        joined_side = Side(np.concatenate((side.ticks, ticks)), np.concatenate((side.lots, filled)))
        result.append((joined_side, np.concatenate((owners, more))))
    (bids, bid_owners), (asks, ask_owners) = result
    return Sealed(bids, asks, sides.bid_orders, sides.ask_orders, bid_owners, ask_owners)


def _shown(block: domain.Block, place: int, parts: int, lost: int) -> dict[str, Any]:
    """Return what is published of a block in one of its markets, without its owner."""
    lots = dict(block.lots)
    return {
        "side": "buy" if block.buying else "sell",
        "limit": block.limit_tick,
        "lots": lots[place],
        "of_lots": sum(lots.values()),
        "least": [block.least.numerator, block.least.denominator],
        "filled": lots[place] // block.parts * parts,
        "lost_surplus": lost,
    }


def _record(
    candidates: Sequence[Candidate], given: Sequence[domain.Block], session: domain.SessionClearing,
    lost: dict[int, int], tick: int, now: datetime,
) -> None:  # fmt: skip
    rows = []
    for number, (candidate, block) in enumerate(zip(candidates, given, strict=True)):
        parts, forgone = session.block_parts[number], lost.get(number, 0)
        share = Fraction(parts, block.parts)
        prices = {place: session.windows[place].price.price_tick or 0 for place, _ in block.lots}
        cost_ticks = sum(int(lots * share) * prices[place] for place, lots in block.lots)
        outcome = Outcome.ACCEPTED if parts else Outcome.REJECTED_IN_THE_MONEY if forgone else Outcome.REJECTED
        rows.append(
            BlockResult(
                block=candidate.row,
                outcome=outcome,
                accepted_tokens=sum(int(lots * share) for _, lots in block.lots) * LOT_TOKENS,
                cost_micro=cost_ticks * tick * LOT_TOKENS // 1_000,
                lost_surplus_micro=forgone * tick * LOT_TOKENS // 1_000,
                cleared_at=now,
            )
        )
    BlockResult.objects.bulk_create(rows)


def _record_out(out: dict[UUID, str], now: datetime) -> None:
    BlockResult.objects.bulk_create(
        BlockResult(
            block_id=block_id, outcome=outcome, accepted_tokens=0, cost_micro=0, lost_surplus_micro=0, cleared_at=now
        )
        for block_id, outcome in out.items()
    )


def give_up(market: Market, *, now: datetime) -> None:
    """Note the blocks that no clearing will decide on: this call is over, and no other of their markets is in one."""
    rows = Block.objects.filter(legs__market=market, result__isnull=True)
    waiting = BlockLeg.objects.filter(block_id=OuterRef("pk"), market__phase=Market.Phase.CALL).exclude(market=market)
    over = rows.exclude(Exists(waiting)).values_list("pk", flat=True)
    _record_out(dict.fromkeys(over, Outcome.WITHDRAWN), now)


def record(market: Market, state: MarketState, cleared: Cleared, *, kind: str, now: datetime) -> None:
    """Record the auction of one of the markets."""
    auctions.record(
        market=market,
        sequence=_uncross_of(state),
        kind=kind,
        sides=cleared.sides,
        determined=cleared.clearing.price,
        limits=cleared.limits,
        blocks=cleared.blocks,
        now=now,
    )


def _uncross_of(state: MarketState) -> int:
    """Return the sequence of the last uncross among the entries that are not stored yet."""
    return next(entry.sequence for entry in reversed(state.entries) if entry.kind == Kind.UNCROSS)
