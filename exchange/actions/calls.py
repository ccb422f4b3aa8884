"""
Calls: opening them with the hash of a secret seed, ending them when the seed says so, and running them on.

Called under the market's lock. What the book must know of it (that a call was extended) is a journal entry; when a call
ends is not the book's affair.
"""

import secrets
from datetime import datetime, timedelta

from core.live import publish_on_commit
from exchange.actions.market_state import MarketState
from exchange.domain.call_end import SEED_BYTES, call_end, leaves_collar, seed_hash
from exchange.domain.orders import Kind
from exchange.models import AuctionCall, Market

MOST_EXTENSIONS = 2
Cause = AuctionCall.Cause


def open_scheduled(market: Market, *, now: datetime) -> AuctionCall:
    """Give a market the call that closes at its time; markets that close together share it."""
    seed = secrets.token_bytes(SEED_BYTES)
    call, _ = AuctionCall.objects.get_or_create(
        market=None,
        closes_at=market.call_closes_at,
        random_seconds=market.random_end_seconds,
        tick_nano=market.tick_nano,
        margin=market.margin,
        defaults={
            "cause": Cause.SCHEDULE,
            "seed": seed,
            "seed_hash": seed_hash(seed),
            "ends_at": call_end(market.call_closes_at, seed, market.random_end_seconds),
            "opened_at": now,
        },
    )
    market.call = call
    _announce(market, call)
    return call


def open_own(market: Market, *, cause: str, now: datetime, extensions: int = 0) -> AuctionCall:
    """Give a market a call of its own from now on, at its gate closure at the latest."""
    seed = secrets.token_bytes(SEED_BYTES)
    closes_at = min(now + timedelta(seconds=market.volatility_call_seconds), market.gate_closes_at)
    call = AuctionCall.objects.create(
        cause=cause,
        market=market,
        closes_at=closes_at,
        random_seconds=market.random_end_seconds,
        tick_nano=market.tick_nano,
        margin=market.margin,
        extensions=extensions,
        seed=seed,
        seed_hash=seed_hash(seed),
        ends_at=call_end(closes_at, seed, market.random_end_seconds, latest=market.gate_closes_at),
        opened_at=now,
    )
    market.call = call
    _announce(market, call)
    return call


def end(call: AuctionCall | None, *, now: datetime) -> None:
    """Note that a call has ended, which publishes its seed; the first of the markets that share it does."""
    if call is not None and call.ended_at is None:
        call.ended_at = now
        AuctionCall.objects.filter(pk=call.pk, ended_at__isnull=True).update(ended_at=now)


def ends_at(market: Market) -> datetime:
    """Return when the present call of a market ends."""
    return market.call_closes_at if market.call is None else market.call.ends_at


def must_go_on(market: Market, state: MarketState, price_tick: int) -> bool:
    """
    Say whether the price that a call would give leaves the static collar (around the reference price) or the dynamic
    one (around the market's last trade), there is time for an extension before the gate, and not too many have been.
    """
    call = market.call
    if call is None or call.extensions >= MOST_EXTENSIONS or call.ends_at >= market.gate_closes_at:
        return False
    reference = (market.reference_price_nano or 0) // market.tick_nano
    return leaves_collar(price_tick, reference, market.static_collar_thousandths) or leaves_collar(
        price_tick, state.book.last, market.dynamic_collar_thousandths
    )


def extend(market: Market, state: MarketState, price_tick: int, *, now: datetime) -> AuctionCall:
    """Let a call go on whose price left a collar: a fresh seed, a journal entry, a message."""
    before = market.call
    assert before is not None
    end(before, now=now)
    state.enter(Kind.EXTEND, now, price=price_tick)
    return open_own(market, cause=Cause.EXTENSION, now=now, extensions=before.extensions + 1)


def resume(market: Market, *, now: datetime) -> None:
    """Give members time after a halt that lasted beyond the end of the call."""
    if ends_at(market) <= now < market.gate_closes_at:
        extensions = market.call.extensions if market.call is not None else 0
        end(market.call, now=now)
        open_own(market, cause=Cause.RESUMPTION, now=now, extensions=extensions)


def is_volatility(market: Market) -> bool:
    """Say whether the present call interrupts continuous trading."""
    return market.auctions.exists()


def _announce(market: Market, call: AuctionCall) -> None:
    publish_on_commit(
        f"market.{market.pk}",
        {
            "type": "call",
            "market": market.pk,
            "cause": call.cause,
            "closes_at": call.closes_at.isoformat(),
            "random_seconds": call.random_seconds,
            "seed_hash": call.seed_hash,
        },
    )
