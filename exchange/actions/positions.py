"""What a member may sell: the capacity that it has published for a market's window."""

from datetime import datetime

from django.db import connection
from django.db.models import F

from exchange.models import Market, MarketPosition, Offer
from providers.models import Capacity


def add_capacity(*, market_id: int, organization_id: int, tokens: int) -> None:
    """Change a member's capacity in a market by `tokens`; the position's row is made at first need."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO exchange_marketposition"
            " (market_id, organization_id, capacity_tokens, position_tokens, open_sell_tokens)"
            " VALUES (%s, %s, 0, 0, 0) ON CONFLICT (market_id, organization_id) DO NOTHING",
            [market_id, organization_id],
        )
    MarketPosition.objects.filter(market_id=market_id, organization_id=organization_id).update(
        capacity_tokens=F("capacity_tokens") + tokens
    )


def attach_waiting_offers(market: Market, *, now: datetime) -> None:
    """Give a new market the capacity that was published for its window before it was there."""
    rows = Offer.objects.select_for_update(no_key=True, of=("self",)).filter(
        market__isnull=True,
        state__in=[Offer.State.WAITING, Offer.State.HELD_BACK],
        capacity__grade_id=market.grade_id,
        capacity__window_start=market.window_start,
        capacity__window_end=market.window_end,
        capacity__withdrawn_at__isnull=True,
    )
    for offer in rows.select_related("capacity").order_by("capacity__provider_id", "pk"):
        offer.market = market
        offer.updated_at = now
        offer.save(update_fields=["market", "updated_at"])
        attach(market, offer.capacity)


def attach(market: Market, capacity: Capacity) -> None:
    """Count a capacity as its provider's in the market."""
    add_capacity(market_id=market.pk, organization_id=capacity.provider_id, tokens=capacity.offered_tokens)
