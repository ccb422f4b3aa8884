"""
Rolling over: what stays unsold of a capacity is offered in the next call, where its provider wishes so.

Tokens of one window cannot be delivered in another; what rolls over is the offer: the same deployment, rate and prices
for the grade's next window, as many tokens as stayed unsold (or as the rate makes in that window, if that is less).
"""

from datetime import datetime

from core.money import LOT_TOKENS
from core.transactions import assert_in_transaction
from exchange import contract_queries, order_queries
from exchange.actions.offers import publish_and_offer
from exchange.models import Command, Market, Offer
from providers.models import Capacity, Deployment, Grade


def roll_over(*, capacity_id: int, now: datetime) -> Capacity | None:
    """
    Offer a capacity's unsold rest in the grade's next market, once. Without a next market yet, it waits.

    :returns: the new capacity, or None: nothing is left, the deployment offers something there already, or it waits.
    """
    assert_in_transaction()
    offer = (
        Offer.objects.select_for_update(no_key=True, of=("self",))
        .select_related("capacity__deployment__grade", "capacity__provider", "market")
        .get(pk=capacity_id)
    )
    market = offer.market
    if not offer.rolls_over or offer.rolled_at is not None or market is None or market.gate_closed_at is None:
        return None
    capacity = offer.capacity
    deployment = capacity.deployment
    unsold = _unsold_tokens(offer)
    following = _next_market(market, now)
    if unsold and following is None and market.window_end > now:
        return None
    offer.rolled_at = now
    if unsold and following is not None and _is_free(deployment, following):
        seconds = int((following.window_end - following.window_start).total_seconds())
        quantity = min(unsold, capacity.tokens_per_minute * seconds // 60) // LOT_TOKENS * LOT_TOKENS
        if quantity:
            offer.rolled_to = publish_and_offer(
                provider=capacity.provider, deployment_id=deployment.pk, market_id=following.pk, window=None,
                quantity_tokens=quantity, tokens_per_minute=capacity.tokens_per_minute,
                reserve_price_nano=capacity.reserve_price_nano, list_price_nano=capacity.list_price_nano, wait=False,
                rolls_over=True, now=now,
            ).capacity  # fmt: skip
    offer.save(update_fields=["rolled_at", "rolled_to"])
    return offer.rolled_to


def give_up_rolling(*, capacity_id: int, now: datetime) -> None:
    """Note that a capacity could not be rolled over: what the exchange refuses once it would refuse again."""
    assert_in_transaction()
    Offer.objects.filter(pk=capacity_id, rolled_at__isnull=True).update(rolled_at=now)


def _unsold_tokens(offer: Offer) -> int:
    sold = contract_queries.replacing_tokens(offer.pk)
    if offer.order_id is not None:
        [state] = order_queries.order_states(Command.objects.filter(pk=offer.order_id))
        sold += state.filled_tokens
    return max(0, offer.capacity.offered_tokens - sold)


def _next_market(market: Market, now: datetime) -> Market | None:
    """Return the grade's first market after this one that still takes offers into a call."""
    rows = Market.objects.filter(
        grade_id=market.grade_id, window_start__gte=market.window_end, phase__in=["scheduled", "call"],
        call_closes_at__gt=now,
    )  # fmt: skip
    return rows.order_by("window_start").first()


def _is_free(deployment: Deployment, market: Market) -> bool:
    """Whether the deployment is in service and offers nothing in that window yet."""
    if deployment.status != Deployment.Status.ACTIVE or deployment.grade.status != Grade.Status.ACTIVE:
        return False
    overlapping = Capacity.objects.filter(
        deployment=deployment, withdrawn_at__isnull=True, window_start__lt=market.window_end,
        window_end__gt=market.window_start,
    )  # fmt: skip
    return not overlapping.exists()
