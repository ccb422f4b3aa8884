"""
Offering capacity: publish it, count it in its market, and sell it at its reserve price.

Published before the market's call, an offer waits and is made when the call has opened; held back, it waits for the
provider. Taking capacity back cancels its sell order first, so that nothing is sold while it is withdrawn.
"""

from dataclasses import dataclass
from datetime import datetime

from core.errors import BadRequest, Conflict, NotFound
from core.periods import Period
from core.transactions import assert_in_transaction
from exchange import contract_queries, order_queries
from exchange.actions.accept import Accepted, Refused, accept
from exchange.actions.positions import add_capacity, attach
from exchange.domain.requests import CancelRequest, OrderRequest
from exchange.models import Command, Market, Offer
from identity.models import Organization
from providers.actions.capacity import CapacityAlreadySold, publish_capacity, withdraw_capacity
from providers.models import Capacity


class NoSuchWindow(BadRequest):
    """The window matches no market of the grade and never will."""

    code = "window-not-a-market"


class GateClosed(Conflict):
    """The market takes no more capacity."""

    code = "market-closed"


class OfferRefused(Conflict):
    """The sell order for the capacity was refused; nothing was published."""

    code = "offer-refused"


class OfferNotWaiting(Conflict):
    """The capacity is on offer, sold or withdrawn already."""

    code = "offer-not-waiting"


@dataclass(frozen=True, slots=True)
class Published:
    """A published capacity and what became of its offer."""

    capacity: Capacity
    offer: Offer


def publish_and_offer(
    *,
    provider: Organization,
    deployment_id: int,
    market_id: int | None,
    window: Period | None,
    quantity_tokens: int,
    tokens_per_minute: int,
    reserve_price_nano: int,
    list_price_nano: int,
    wait: bool,
    rolls_over: bool = False,
    now: datetime,
) -> Published:
    """
    Publish a deployment's capacity for a market, or for a window whose market may yet come, and offer it.

    :raises NotFound: no such market, or deployment of this provider.
    :raises GateClosed: the market's trading is over.
    :raises NoSuchWindow: the window overlaps a market of the grade without being one.
    :raises OfferRefused: the market is in call and refuses the sell order, such as for want of bond.
    """
    assert_in_transaction()
    market = _market(market_id) if market_id is not None else None
    if market is not None:
        window = market.window
    assert window is not None
    capacity = publish_capacity(
        deployment_id=deployment_id,
        window=window,
        quantity_tokens=quantity_tokens,
        tokens_per_minute=tokens_per_minute,
        reserve_price_nano=reserve_price_nano,
        list_price_nano=list_price_nano,
        wait=wait,
        now=now,
        provider_id=provider.pk,
    )
    if market is None:
        market = _market_of_window(capacity)
    elif market.grade_id != capacity.grade_id:
        raise NoSuchWindow("This market is of another grade than the deployment serves.", field="market")
    if market is not None and _is_over(market, now):
        raise GateClosed("Trading for this window is over; offer the next one.", field="market")
    offer = Offer(
        capacity=capacity,
        market=market,
        state=Offer.State.HELD_BACK if wait else Offer.State.WAITING,
        rolls_over=rolls_over,
        updated_at=now,
    )
    offer.save(force_insert=True)
    if market is not None:
        attach(market, capacity)
        if not wait and market.phase in (Market.Phase.CALL, Market.Phase.CONTINUOUS):
            _make(offer, capacity, provider, now)
            if offer.state == Offer.State.FAILED:
                raise OfferRefused(offer.reason)
    return Published(capacity, offer)


def make_offer(*, capacity_id: int, now: datetime, provider_id: int | None = None) -> Offer:
    """
    Offer a capacity that waits for its call or was held back. What the market refuses is noted on the offer.

    :raises NotFound: there is no such capacity, or it is another provider's.
    :raises OfferNotWaiting: it is offered, sold or withdrawn.
    """
    assert_in_transaction()
    offer = _lock_offer(capacity_id, provider_id)
    if offer.state not in (Offer.State.WAITING, Offer.State.HELD_BACK, Offer.State.FAILED):
        raise OfferNotWaiting(f"This capacity is {offer.get_state_display().lower()}.", field="capacity")
    market = offer.market
    if market is None or market.phase == Market.Phase.SCHEDULED:
        offer.state = Offer.State.WAITING
        offer.updated_at = now
        offer.save(update_fields=["state", "updated_at"])
        return offer
    _make(offer, offer.capacity, offer.capacity.provider, now)
    return offer


def _make(offer: Offer, capacity: Capacity, provider: Organization, now: datetime) -> None:
    assert offer.market_id is not None
    [outcome] = accept(
        organization=provider,
        requests=[
            OrderRequest(
                market_id=offer.market_id,
                side="sell",
                quantity_tokens=capacity.offered_tokens,
                price_nano=capacity.reserve_price_nano,
                capacity_id=capacity.pk,
            )
        ],
        now=now,
    )
    if isinstance(outcome, Accepted):
        offer.state, offer.order_id, offer.reason = Offer.State.OFFERED, outcome.id, ""
    else:
        offer.state, offer.reason = Offer.State.FAILED, outcome.detail[:300]
    offer.updated_at = now
    offer.save(update_fields=["state", "order_id", "reason", "updated_at"])


def withdraw_offer(*, capacity_id: int, provider_id: int, now: datetime) -> Offer:
    """
    Take back what is not sold of a capacity. An open sell order is cancelled first, and the sweep finishes.

    :raises NotFound: there is no such capacity, or it is another provider's.
    :raises CapacityAlreadySold: nothing of it is left to take back.
    """
    assert_in_transaction()
    offer = _lock_offer(capacity_id, provider_id)
    if offer.state in (Offer.State.WITHDRAWING, Offer.State.WITHDRAWN):
        return offer
    if offer.order_id is None:
        _take_back(offer, sold_tokens=0, now=now)
        return offer
    [state] = order_queries.order_states(Command.objects.filter(pk=offer.order_id))
    if state.status == "filled":
        raise CapacityAlreadySold(
            "All of this capacity is sold. After gate closure, report what you cannot deliver as a shortfall.",
            field="capacity",
        )
    if state.ended:
        _take_back(offer, sold_tokens=state.filled_tokens + contract_queries.replacing_tokens(capacity_id), now=now)
        return offer
    [outcome] = accept(
        organization=offer.capacity.provider, requests=[CancelRequest(order_id=offer.order_id)], now=now
    )
    if isinstance(outcome, Refused):
        raise Conflict(outcome.detail)
    offer.state = Offer.State.WITHDRAWING
    offer.updated_at = now
    offer.save(update_fields=["state", "updated_at"])
    return offer


def finish_withdrawal(*, capacity_id: int, now: datetime) -> bool:
    """Take back the rest of a capacity whose sell order has ended; says whether that was done."""
    assert_in_transaction()
    offer = _lock_offer(capacity_id, None)
    if offer.state != Offer.State.WITHDRAWING or offer.order_id is None:
        return False
    [state] = order_queries.order_states(Command.objects.filter(pk=offer.order_id))
    if not state.ended:
        return False
    _take_back(offer, sold_tokens=state.filled_tokens, now=now)
    return True


def _take_back(offer: Offer, *, sold_tokens: int, now: datetime) -> None:
    """Withdraw what is not sold. If all of it was sold meanwhile, the offer stands."""
    capacity = offer.capacity
    back = capacity.offered_tokens - sold_tokens
    if back:
        withdraw_capacity(capacity_id=capacity.pk, sold_tokens=sold_tokens, quantity_tokens=back, now=now)
        if offer.market_id is not None:
            add_capacity(market_id=offer.market_id, organization_id=capacity.provider_id, tokens=-back)
    offer.state = Offer.State.OFFERED if sold_tokens else Offer.State.WITHDRAWN
    offer.updated_at = now
    offer.save(update_fields=["state", "updated_at"])


def _lock_offer(capacity_id: int, provider_id: int | None) -> Offer:
    rows = Offer.objects.select_for_update(no_key=True, of=("self",)).select_related("capacity__provider", "market")
    offer = rows.filter(pk=capacity_id).first()
    if offer is None or (provider_id is not None and offer.capacity.provider_id != provider_id):
        raise NotFound("There is no such capacity.", field="capacity")
    return offer


def _market(market_id: int) -> Market:
    market = Market.objects.filter(pk=market_id).first()
    if market is None:
        raise NotFound(f"There is no market {market_id}.", field="market")
    return market


def _market_of_window(capacity: Capacity) -> Market | None:
    """Return the market of exactly the capacity's window, or None where there may yet be one."""
    overlapping = Market.objects.filter(
        grade_id=capacity.grade_id, window_start__lt=capacity.window_end, window_end__gt=capacity.window_start
    ).first()
    if overlapping is not None and overlapping.window != capacity.window:
        raise NoSuchWindow(
            f"Market {overlapping.pk} of this grade is from {overlapping.window_start.isoformat()} to "
            f"{overlapping.window_end.isoformat()}: offer capacity for that window.",
            field="window",
        )
    return overlapping


def _is_over(market: Market, now: datetime) -> bool:
    closes_at = market.call_closes_at if market.mode == Market.Mode.AUCTION else market.gate_closes_at
    return market.phase not in (Market.Phase.SCHEDULED, Market.Phase.CALL, Market.Phase.CONTINUOUS) or now >= closes_at
