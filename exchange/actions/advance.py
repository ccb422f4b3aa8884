"""
Advancing a market: everything that is due in it, in order, in one transaction.

What is due are accepted commands, moments of its schedule, and interventions (`exchange.actions.controls`). A command
received before a moment is taken up before it; one that became visible later meets the phase it finds. Running it
again, or twice at once, finds nothing left to do.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db import connection

from core import prepared
from core.live import publish_on_commit
from core.transactions import assert_in_transaction
from exchange import queries
from exchange.actions import auctions, calls, facts, sessions
from exchange.actions.market_state import MarketState, forget_book, state_of, trades_of_entry
from exchange.domain.commands import QueuedCommand, unpack
from exchange.domain.facts import TradeRow
from exchange.domain.orders import Kind, Phase
from exchange.models import Annulment, AuctionCall, AuctionResult, Intervention, Market, MarketPosition
from providers.queries import highest_list_price_nano

BOOK_PHASES = {
    "scheduled": Phase.SCHEDULED,
    "call": Phase.CALL,
    "continuous": Phase.CONTINUOUS,
    "closed": Phase.CLOSED,
}
_MARKET_FIELDS = [field.attname for field in Market._meta.concrete_fields]
_LOCK_MARKET = f"SELECT {', '.join(_MARKET_FIELDS)} FROM exchange_market WHERE id = %s FOR NO KEY UPDATE"
_TAKE_QUEUE = """
WITH taken AS (DELETE FROM exchange_commandqueue WHERE market_id = %s RETURNING id, received_at, content)
SELECT received_at, content FROM taken ORDER BY id
"""

VERBS = ("intervene", "expire", "open", "uncross", "close")  # what comes first where two are due at one moment


class Moment(NamedTuple):
    """A point of a market's schedule: `open`, `expire`, `uncross`, `close`; or an intervention: `intervene`."""

    at: datetime
    verb: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """What an advance did."""

    market_id: int
    phase: str
    commands: int
    entries: int
    trades: int


@dataclass(slots=True)
class Run:
    """A market while what is due in it is done, its lock held."""

    market: Market
    state: MarketState
    batches: list[tuple[datetime, list[QueuedCommand]]]
    asked: list[Intervention]
    trades_before: int
    commands: int = 0

    def times(self) -> Iterator[datetime]:
        """Yield when what is to be done was received or asked for."""
        yield from (received_at for received_at, _ in self.batches)
        yield from (asked.requested_at for asked in self.asked)

    def go_on(self, now: datetime, *, to_uncross: bool = False) -> bool:
        """Do what is due, in order; with `to_uncross` stop before the first uncross, and say whether there is one."""
        market, state = self.market, self.state
        while (moment := _next_moment(market, state, now, self.asked)) is not None:
            while self.batches and self.batches[0][0] < moment.at:
                self.commands += _take_up(market, state, self.batches.pop(0)[1], now)
            if moment.verb == "intervene":
                _intervene(self.asked.pop(0), market, state, now)
            elif moment.verb == "uncross" and to_uncross:
                return True
            else:
                _do(moment, market, state, now)
        if not to_uncross:
            for _, batch in self.batches:
                self.commands += _take_up(market, state, batch, now)
            self.batches = []
        return False


def advance(*, market_id: int, now: datetime) -> Advanced:
    """
    Do what is due in a market: take up its commands, open and close its phases, clear its auctions. Markets that open
    blocks bind together at the end of their call are advanced together, locked in the order of their ids.

    The gate, delivery and settlement are other actions; this one ends with trading.
    """
    assert_in_transaction()
    together = queries.cleared_with(market_id, now)
    found = [(id_, _begin(id_, now)) for id_ in together or [market_id]]
    runs = [run for _, run in found if run is not None]
    now = max([now, *(at for run in runs for at in run.times())])  # clocks were read before the lock was waited for
    if together:
        ready = [run for run in runs if run.go_on(now, to_uncross=True)]
        _clear_together(sorted(ready, key=lambda run: (run.market.window_start, run.market.pk)), now)
    for run in runs:
        run.go_on(now)
        phase_by_book(run.market, run.state)
    entries = facts.store_all([(run.market, run.state) for run in runs], now=now)
    for (id_, run), count in zip([(id_, run) for id_, run in found if run is not None], entries, strict=True):
        if id_ == market_id:
            market = run.market
            return Advanced(market_id, market.phase, run.commands, count, market.last_trade - run.trades_before)
    return Advanced(market_id, Market.objects.values_list("phase", flat=True).get(pk=market_id), 0, 0, 0)


def _begin(market_id: int, now: datetime) -> Run | None:
    """Lock a market and take what is due in it; None if nothing can be any more."""
    market = lock_market(market_id)
    batches = list(_take_queue(market_id))
    asked = queries.interventions_due(market_id)
    over = market.phase in ("closed", "delivering", "settled")
    if over and not batches and not asked and _next_moment(market, None, now) is None:
        return None
    if market.phase == Market.Phase.SCHEDULED and market.call_opens_at <= now:
        fix_terms(market, now)
        forget_book(market_id)
    return Run(market, state_of(market), batches, asked, market.last_trade)


def _clear_together(runs: Sequence[Run], now: datetime) -> None:
    """Clear markets that have come to the end of one call, with the blocks over them. Such a call is not extended."""
    if not runs:
        return
    cleared = sessions.clear([(run.market, run.state) for run in runs], now=now)
    for run, one in zip(runs, cleared, strict=True):
        sessions.record(run.market, run.state, one, kind=_kind(run.market), now=now)
        _follow(run.market, run.state, now)


def lock_market(market_id: int) -> Market:
    """
    Return a market, locked until commit.

    :raises Market.DoesNotExist: there is none of that id.
    """
    row = prepared.execute(_LOCK_MARKET, [market_id]).fetchone()
    if row is None:
        raise Market.DoesNotExist(f"There is no market {market_id}.")
    return Market.from_db(connection.alias, _MARKET_FIELDS, row)


def fix_terms(market: Market, now: datetime) -> None:
    """
    Fix cap and reference price before the call. Without a list price in force there is no cap, and the call waits.
    """
    if market.cap_price_nano is None:
        market.cap_price_nano = highest_list_price_nano(market.grade_id, now)
    if market.reference_price_nano is None:
        market.reference_price_nano = queries.reference_price_nano(market, at=now)
    market.save(update_fields=["cap_price_nano", "reference_price_nano"])


def _next_moment(
    market: Market, state: MarketState | None, now: datetime, asked: Sequence[Intervention] = ()
) -> Moment | None:
    """Return the first thing that the schedule or an intervention has due, or None."""
    due = [Moment(min(asked[0].requested_at, now), "intervene")] if asked else []
    if market.phase == Market.Phase.SCHEDULED:
        if market.gate_closes_at <= now:
            due.append(Moment(market.gate_closes_at, "close"))
        if market.cap_price_nano is not None and market.call_opens_at < market.call_closes_at:
            due.append(Moment(market.call_opens_at, "open"))
    elif market.phase == Market.Phase.CALL:
        ends = calls.ends_at(market)
        if not (market.halted or (state is not None and state.book.halted)):
            due.append(Moment(ends, "uncross"))
        due.append(Moment(max(market.gate_closes_at, ends), "close"))
    elif market.phase == Market.Phase.CONTINUOUS:
        due.append(Moment(market.gate_closes_at, "close"))
    if state is not None and market.phase in ("call", "continuous"):
        expiry = state.next_expiry()
        if expiry is not None:
            due.append(Moment(expiry, "expire"))
    return min(
        (moment for moment in due if moment.at <= now),
        key=lambda moment: (moment.at, VERBS.index(moment.verb)),
        default=None,
    )


def _do(moment: Moment, market: Market, state: MarketState, now: datetime) -> None:
    if moment.verb == "open":
        market.phase = Market.Phase.CALL
        state.enter(Kind.PHASE, now, lots=Phase.CALL)
        if market.static_collar_thousandths and market.reference_price_nano:
            state.enter(Kind.REFERENCE, now, price=market.reference_price_nano // market.tick_nano)
        calls.open_scheduled(market, now=now)
    elif moment.verb == "expire":
        state.enter(Kind.EXPIRE, now)
    elif moment.verb == "uncross":
        _uncross(market, state, now)
    else:
        market.phase = Market.Phase.CLOSED
        calls.end(market.call, now=now)
        market.call = None
        sessions.give_up(market, now=now)
        state.enter(Kind.PHASE, now, lots=Phase.CLOSED)


def _intervene(asked: Intervention, market: Market, state: MarketState, now: datetime) -> None:
    """Enter what was asked for into the journal."""
    if asked.kind == Intervention.Kind.ANNUL:
        _annul(asked, market, state, now)
        return
    state.enter(Kind(asked.kind), now, owner=asked.organization_id or 0)
    if asked.kind == Intervention.Kind.RESUME and market.phase == Market.Phase.CALL:
        calls.resume(market, now=now)
    asked.sequence = state.sequence
    asked.save(update_fields=["sequence"])


def _annul(asked: Intervention, market: Market, state: MarketState, now: datetime) -> None:
    """Reverse an auction's trades, unless somebody has sold on what it bought in it."""
    annulment = Annulment.objects.select_for_update(no_key=True).get(intervention=asked)
    trades = trades_of_entry(market.pk, annulment.auction_sequence)
    short = _short_after(trades, market, state)
    if market.gate_closed_at is not None or short:
        names = ", ".join(map(str, sorted(short)))
        why = f"organizations {names} have sold on, or offer, what they bought" if short else "the gate has closed"
        asked.sequence, asked.refused = 0, why[:200]
        asked.save(update_fields=["sequence", "refused"])
        return
    state.annul(annulment.auction_sequence, trades, now)
    asked.sequence = annulment.sequence = state.sequence
    asked.save(update_fields=["sequence"])
    annulment.save(update_fields=["sequence"])
    publish_on_commit(
        f"market.{market.pk}", {"type": "annulment", "market": market.pk, "auction": annulment.auction_id}
    )


def _short_after(trades: Sequence[TradeRow], market: Market, state: MarketState) -> set[int]:
    """Return the members who would have sold more than they have, if these trades were reversed."""
    change: defaultdict[int, int] = defaultdict(int)
    for trade in trades:
        change[trade.buyer_id] -= trade.quantity_tokens
        change[trade.seller_id] += trade.quantity_tokens
    losing = [member for member, tokens in change.items() if tokens < 0]
    rows = MarketPosition.objects.select_for_update(no_key=True).filter(market=market, organization__in=losing)
    pending = state.settling.facts.positions  # of this drain, not stored yet
    short = set()
    for row in rows.order_by("organization_id"):
        member = row.organization_id
        left = row.sellable_tokens + change[member]
        if member in pending:
            left += pending[member].position_tokens - pending[member].open_sell_tokens
        if left < 0:
            short.add(member)
    return short


def _uncross(market: Market, state: MarketState, now: datetime) -> None:
    if market.static_collar_thousandths or market.dynamic_collar_thousandths:
        price_tick = auctions.price_in_sight(market, state)
        if price_tick is not None and calls.must_go_on(market, state, price_tick):
            calls.extend(market, state, price_tick, now=now)
            return
    auctions.uncross(market=market, state=state, kind=_kind(market), now=now)
    _follow(market, state, now)


def _kind(market: Market) -> str:
    if calls.is_volatility(market):
        return AuctionResult.Kind.VOLATILITY
    return AuctionResult.Kind.OFF_PEAK if market.mode == Market.Mode.AUCTION else AuctionResult.Kind.OPENING


def _follow(market: Market, state: MarketState, now: datetime) -> None:
    """Enter the phase that follows an uncross."""
    calls.end(market.call, now=now)
    market.call = None
    sessions.give_up(market, now=now)
    follows = Phase.CLOSED if market.mode == Market.Mode.AUCTION else Phase.CONTINUOUS
    state.enter(Kind.PHASE, now, lots=follows)
    market.phase = Market.Phase.CLOSED if follows == Phase.CLOSED else Market.Phase.CONTINUOUS


def _take_up(market: Market, state: MarketState, batch: list[QueuedCommand], now: datetime) -> int:
    for _, phase, *_ in state.take(batch, now):
        _volatility(market, phase, now)
    return len(batch)


def _volatility(market: Market, phase: int, now: datetime) -> None:
    """A collar has stopped continuous trading: a call begins, which ends by auction."""
    if phase == Phase.CALL:
        market.phase = Market.Phase.CALL
        calls.open_own(market, cause=AuctionCall.Cause.VOLATILITY, now=now)


def phase_by_book(market: Market, state: MarketState) -> None:
    """Make sure that row and book agree on the phase."""
    expected = BOOK_PHASES.get(market.phase, Phase.CLOSED)
    if state.book.phase != expected:
        raise AssertionError(f"market {market.pk} is {market.phase}, its book is in phase {state.book.phase}")
    if state.book.halted != market.halted:
        raise AssertionError(f"market {market.pk} and its book differ on whether it is halted")


def _take_queue(market_id: int) -> Iterator[tuple[datetime, list[QueuedCommand]]]:
    """Take the market's accepted commands, request by request, in the order of the queue."""
    for received_at, content in prepared.execute(_TAKE_QUEUE, [market_id]).fetchall():
        yield received_at, unpack(bytes(content))
