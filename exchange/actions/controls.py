"""
What the operator may do to trading: halt and resume a market, and the kill switches of a market and an organization.

Each refuses new orders from the moment it commits. What it does to open orders, and the halt itself, are entries of the
journals, which the markets' workers make of the interventions written here.
"""

from datetime import datetime

from django.db.models import Q, QuerySet

from billing.actions import ledger
from billing.domain import accounts
from core.errors import BadRequest, Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange import queries
from exchange.actions.advance import lock_market
from exchange.actions.hints import hint
from exchange.models import Intervention, Market, TradingStop
from identity.access import Actor
from identity.actions import audit
from identity.models import Organization

TRADING_LIES_AHEAD = (Market.Phase.SCHEDULED, Market.Phase.CALL, Market.Phase.CONTINUOUS)
LONGEST_REASON = 300


class TradingOver(Conflict):
    """The market's trading has ended; nothing is left to stop."""

    code = "market-closed"


class ReasonMissing(BadRequest):
    """Stopping others' trading needs a reason, which they are told."""

    code = "reason-missing"


def halt_market(*, market_id: int, reason: str, now: datetime, actor: Actor | None = None) -> Market:
    """
    Halt a market: orders are refused and nothing trades until it resumes; orders can be cancelled. Halted already, it
    stays so.

    :raises NotFound: there is no such market.
    :raises TradingOver: its trading has ended.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    return _halt(market_id=market_id, verb="market.halt", reason=reason, cancel=False, now=now, actor=actor)


def kill_market(*, market_id: int, reason: str, now: datetime, actor: Actor | None = None) -> Market:
    """
    Halt a market and cancel every open order in it. A second call cancels what a resumed market has gathered since.

    :raises NotFound: there is no such market.
    :raises TradingOver: its trading has ended.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    return _halt(market_id=market_id, verb="market.kill", reason=reason, cancel=True, now=now, actor=actor)


def _halt(*, market_id: int, verb: str, reason: str, cancel: bool, now: datetime, actor: Actor | None) -> Market:
    assert_in_transaction()
    reason = _reason(reason)
    market = _lock(market_id)
    if market.halted and not cancel:
        return market
    before = {"halted": market.halted}
    if not market.halted:
        market.halted = True
        market.save(update_fields=["halted"])
        Intervention.objects.create(market=market, kind=Intervention.Kind.HALT, requested_at=now)
    if cancel:
        Intervention.objects.create(market=market, kind=Intervention.Kind.MASS_CANCEL, requested_at=now)
    audit.record(
        actor=actor, verb=verb, subject=f"market:{market_id}", now=now, before=before,
        after={"halted": True, "reason": reason} | ({"cancelled": "all orders"} if cancel else {}),
    )  # fmt: skip
    hint([market_id])
    return market


def resume_market(*, market_id: int, reason: str, now: datetime, actor: Actor | None = None) -> Market:
    """
    Let a halted market trade again. One that is not halted stays as it is.

    :raises NotFound: there is no such market.
    :raises TradingOver: its trading has ended.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    assert_in_transaction()
    reason = _reason(reason)
    market = _lock(market_id)
    if not market.halted:
        return market
    market.halted = False
    market.save(update_fields=["halted"])
    Intervention.objects.create(market=market, kind=Intervention.Kind.RESUME, requested_at=now)
    audit.record(
        actor=actor, verb="market.resume", subject=f"market:{market_id}", now=now, before={"halted": True},
        after={"halted": False, "reason": reason},
    )  # fmt: skip
    hint([market_id])
    return market


def stop_trading(
    *, organization_id: int, market_id: int | None, reason: str, now: datetime, actor: Actor | None = None
) -> TradingStop:
    """
    Refuse an organization's new orders, in one market or in all, and cancel its open ones there. Stopped already, it
    stays so, and what is open is cancelled again.

    :raises NotFound: there is no such organization or market.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    assert_in_transaction()
    reason = _reason(reason)
    organization = _organization(organization_id)
    if market_id is not None and not Market.objects.filter(pk=market_id).exists():
        raise NotFound(f"There is no market {market_id}.", field="market")
    _wait_for_orders(organization_id)
    stop = _stops(organization_id, market_id).first()
    created = stop is None
    if stop is None:
        stop = TradingStop.objects.create(organization=organization, market_id=market_id, reason=reason, since=now)
    markets = queries.markets_with_orders(organization_id)
    if market_id is not None:
        markets = [market for market in markets if market == market_id]
    Intervention.objects.bulk_create(
        Intervention(market_id=market, kind=Intervention.Kind.MASS_CANCEL, organization=organization, requested_at=at)
        for market, at in queries.after_what_waits(markets, now).items()
    )
    audit.record(
        actor=actor, verb="trading.stop", subject=f"organization:{organization_id}", now=now,
        before={"stopped": not created, "market": market_id},
        after={"stopped": True, "market": market_id, "reason": reason, "cancelled_in": markets},
    )  # fmt: skip
    hint(markets)
    return stop


def allow_trading(
    *, organization_id: int, market_id: int | None, reason: str, now: datetime, actor: Actor | None = None
) -> bool:
    """
    End a stop of an organization's trading; says whether there was one.

    :raises NotFound: there is no such organization.
    :raises ReasonMissing: without a reason of 1 to 300 characters.
    """
    assert_in_transaction()
    reason = _reason(reason)
    _organization(organization_id)
    ended = _stops(organization_id, market_id).update(ended_at=now)
    if ended:
        audit.record(
            actor=actor, verb="trading.allow", subject=f"organization:{organization_id}", now=now,
            before={"stopped": True, "market": market_id},
            after={"stopped": False, "market": market_id, "reason": reason},
        )  # fmt: skip
    return bool(ended)


def _stops(organization_id: int, market_id: int | None) -> "QuerySet[TradingStop]":
    """Return the stop that lasts for exactly this market, or for all of them."""
    where = Q(market__isnull=True) if market_id is None else Q(market_id=market_id)
    return TradingStop.objects.filter(where, organization_id=organization_id, ended_at__isnull=True)


def _lock(market_id: int) -> Market:
    if not Market.objects.filter(pk=market_id).exists():
        raise NotFound(f"There is no market {market_id}.", field="market")
    market = lock_market(market_id)
    if market.phase not in TRADING_LIES_AHEAD:
        raise TradingOver(f"Market {market_id} is {market.phase}: its trading has ended.", field="market")
    return market


def _organization(organization_id: int) -> Organization:
    organization = Organization.objects.filter(pk=organization_id).first()
    if organization is None:
        raise NotFound(f"There is no organization {organization_id}.", field="organization")
    return organization


def _wait_for_orders(organization_id: int) -> None:
    """Wait for orders that are being accepted: whoever accepts holds this lock and looks for stops after it."""
    ledger.lock_accounts([accounts.available(organization_id)])


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise ReasonMissing(f"Say why, in 1 to {LONGEST_REASON} characters.", field="reason")
    return reason
