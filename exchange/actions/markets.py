"""Making markets: by the grades' schedules, ahead of time, or by the operator with times of its own."""

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction

from core.errors import BadRequest, Conflict
from core.periods import Period
from core.trading_calendar import windows_starting
from core.transactions import assert_in_transaction, sqlstate
from exchange.actions.advance import lock_market
from exchange.actions.positions import attach_waiting_offers
from exchange.models import Market
from providers.models import Grade
from providers.queries import grades_to_schedule

EXCLUSION_VIOLATION = "23P01"
LEAST_AHEAD, MOST_AHEAD = timedelta(minutes=10), timedelta(hours=48)


class BadMarketTimes(BadRequest):
    """The times are out of order or have passed."""

    code = "bad-market-times"


class BadMarketPrice(BadRequest):
    """Cap or reference price is off the grade's tick."""

    code = "price-off-tick"


class WindowTaken(Conflict):
    """Another market of the grade has a window that overlaps."""

    code = "window-taken"


class MarketNotOver(Conflict):
    """The market is not in the phase that this needs."""

    code = "market-not-over"


def create_market(
    *,
    grade: Grade,
    window: Period,
    window_kind: str,
    call_opens_at: datetime,
    call_closes_at: datetime,
    gate_closes_at: datetime,
    now: datetime,
    cap_price_nano: int | None = None,
    reference_price_nano: int | None = None,
) -> Market:
    """
    Create a market and give it the capacity that is published for its window already.

    :raises BadMarketTimes: unless call opens ≤ call closes ≤ gate ≤ window start, and the gate lies ahead.
    :raises BadMarketPrice: a price that is no positive multiple of the grade's tick.
    :raises WindowTaken: windows of one grade never overlap.
    """
    assert_in_transaction()
    if not call_opens_at <= call_closes_at <= gate_closes_at <= window.start or gate_closes_at <= now:
        raise BadMarketTimes(
            "Times must be in order (call opens, call closes, gate closes, window starts), and the gate still ahead.",
            field="call_opens_at",
        )
    for field, price in (("cap_price", cap_price_nano), ("reference_price", reference_price_nano)):
        if price is not None and (price <= 0 or price % grade.tick_nano):
            raise BadMarketPrice("A price here is a positive multiple of the grade's tick.", field=field)
    market = Market(
        grade=grade,
        window_kind=window_kind,
        window_start=window.start,
        window_end=window.end,
        mode=grade.mode,
        margin=grade.margin_rule,
        call_opens_at=call_opens_at,
        call_closes_at=call_closes_at,
        gate_closes_at=gate_closes_at,
        tick_nano=grade.tick_nano,
        min_order_tokens=grade.min_order_tokens,
        cap_price_nano=cap_price_nano,
        reference_price_nano=reference_price_nano,
        random_end_seconds=grade.random_end_seconds,
        volatility_call_seconds=grade.volatility_call_seconds,
        static_collar_thousandths=grade.static_collar_thousandths,
        dynamic_collar_thousandths=grade.dynamic_collar_thousandths,
        created_at=now,
    )
    try:
        with transaction.atomic():
            market.save()
    except IntegrityError as error:
        if sqlstate(error) != EXCLUSION_VIOLATION:
            raise
        raise WindowTaken(
            "Another market of this grade has a window that overlaps this one.", field="window"
        ) from None
    attach_waiting_offers(market, now=now)
    return market


def schedule_markets(*, now: datetime) -> list[Market]:
    """Create the markets that the grades' schedules want and that are not there yet."""
    assert_in_transaction()
    return [market for grade in grades_to_schedule() for market in _schedule_grade(grade, now)]


def _schedule_grade(grade: Grade, now: datetime) -> list[Market]:
    """
    Create the markets of windows whose call opens within thrice its own lead (10 minutes at least, 2 days at most).

    A window whose gate has closed is past; one whose call should have opened already still gets its market.
    """
    lead = timedelta(seconds=grade.call_opens_before_seconds)
    ahead = min(max(3 * lead, LEAST_AHEAD), MOST_AHEAD)
    gate = timedelta(seconds=grade.gate_closes_before_seconds)
    call_ends = timedelta(seconds=grade.call_closes_before_seconds)
    start = now + call_ends
    coming = windows_starting(start, now + lead + ahead, grade.schedule())
    windows = [window for window in coming if window.start > start]
    if not windows:
        return []
    taken = [
        Period(first, last)
        for first, last in Market.objects.filter(
            grade=grade, window_end__gt=windows[0].start, window_start__lt=windows[-1].end
        ).values_list("window_start", "window_end")
    ]
    return [
        create_market(
            grade=grade,
            window=Period(window.start, window.end),
            window_kind=window.kind,
            call_opens_at=window.start - lead,
            call_closes_at=window.start - call_ends,
            gate_closes_at=window.start - gate,
            now=now,
        )
        for window in windows
        if not any(period.start < window.end and window.start < period.end for period in taken)
    ]


def mark_settled(*, market_id: int, now: datetime) -> Market:
    """
    End a market whose contracts are all settled. A second call changes nothing.

    :raises MarketNotOver: before delivery has begun.
    """
    assert_in_transaction()
    market = lock_market(market_id)
    if market.phase == Market.Phase.SETTLED:
        return market
    if market.phase != Market.Phase.DELIVERING or market.window_end > now:
        raise MarketNotOver(f"Market {market_id} is {market.phase}: it is settled after its window.")
    market.phase = Market.Phase.SETTLED
    market.settled_at = now
    market.save(update_fields=["phase", "settled_at"])
    return market


def mark_final(*, market_id: int, now: datetime) -> Market:
    """
    Say that a settled market's settlement is final. A second call changes nothing.

    :raises MarketNotOver: before it is settled.
    """
    assert_in_transaction()
    market = lock_market(market_id)
    if market.phase != Market.Phase.SETTLED:
        raise MarketNotOver(f"Market {market_id} is {market.phase}: it becomes final after its settlement.")
    if market.finalized_at is None:
        market.finalized_at = now
        market.save(update_fields=["finalized_at"])
    return market
