"""Named reads of markets: their calls, blocks and offers, and what is due in them."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet

from core import prepared
from exchange.domain.orders import CANCEL_ON_DISCONNECT
from exchange.models import (
    AuctionCall,
    AuctionResult,
    Block,
    BlockLeg,
    BlockResult,
    Command,
    CommandQueue,
    Intervention,
    Lease,
    Market,
    Offer,
    SurveillanceFinding,
)
from providers.queries import grades_with_list_price

REFERENCE_DAYS = 7


# Of a trade `t`: no annulment has reversed it, and it is no mirror entry that reverses one.
STANDS = """t.aggressor <> 3 AND NOT EXISTS (
  SELECT FROM exchange_annulment n
  WHERE n.market_id = t.id >> 32 AND n.auction_sequence = t.sequence AND n.sequence > 0)"""


def reference_price_nano(market: Market, *, at: datetime) -> int | None:
    """
    Return the reference price of a market's auctions: the last auction price of the same grade and kind of window
    within 7 days; else the grade's own; else None.
    """
    last = (
        AuctionResult.objects.filter(
            market__grade_id=market.grade_id,
            market__window_kind=market.window_kind,
            price_nano__isnull=False,
            cleared_at__gt=at - timedelta(days=REFERENCE_DAYS),
            cleared_at__lte=at,
        )
        .exclude(market_id=market.pk)
        .exclude(annulment__sequence__gt=0)
        .order_by("-cleared_at", "-pk")
        .values_list("price_nano", flat=True)
        .first()
    )
    price = last if last is not None else market.grade.reference_price_nano
    return price // market.tick_nano * market.tick_nano or None if price is not None else None


def calls_of(market: Market) -> "QuerySet[AuctionCall]":
    """Return the calls that a market had and has: its own, and those that it shares."""
    return AuctionCall.objects.filter(
        Q(market=market) | Q(pk=market.call_id) | Exists(market.auctions.filter(call_id=OuterRef("pk")))
    )


def open_blocks(market_ids: Collection[int]) -> list[Block]:
    """Return the blocks with a leg in one of these markets that no clearing has decided on, in order of time."""
    rows = Block.objects.filter(legs__market_id__in=market_ids, result__isnull=True).distinct()
    return list(rows.prefetch_related("legs").order_by("accepted_at", "pk"))


def open_block(text: str, organization_id: int) -> Block | None:
    """Return an organization's block by its id as text, if no clearing has decided on it."""
    try:
        block_id = UUID(text)
    except ValueError:
        return None
    return Block.objects.filter(pk=block_id, organization_id=organization_id, result__isnull=True).first()


def accepted_blocks(block_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these blocks that were accepted."""
    rows = BlockResult.objects.filter(pk__in=block_ids, outcome=BlockResult.Outcome.ACCEPTED)
    return set(rows.values_list("pk", flat=True))


def legs_among(order_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these orders that are legs of blocks."""
    if not order_ids:
        return set()
    return set(BlockLeg.objects.filter(order_id__in=order_ids).values_list("order_id", flat=True))


def blocks_of(organization_id: int) -> "QuerySet[Block]":
    """Return an organization's blocks with their legs and what became of them."""
    rows = Block.objects.filter(organization_id=organization_id)
    return rows.select_related("result", "call").prefetch_related("legs")


_CALL_ENDED = """
SELECT c.id FROM exchange_market m JOIN exchange_auctioncall c ON c.id = m.call_id
WHERE m.id = %s AND m.phase = 'call' AND c.ends_at <= %s
"""


def cleared_with(market_id: int, now: datetime) -> list[int]:
    """
    Return the markets to be cleared together with one whose call has ended, by id: those that open blocks, exclusive
    groups and links bind to it, over however many steps. Without an open block in it, or before its end, none.
    """
    due = prepared.execute(_CALL_ENDED, [market_id, now]).fetchone()
    if due is None:
        return []
    (call_id,) = due
    legs: dict[tuple[str, UUID], set[int]] = {}  # by what binds them
    bound = BlockLeg.objects.filter(block__call_id=call_id, block__result__isnull=True)
    for block_id, market, group, parent in bound.values_list(
        "block_id", "market_id", "block__exclusive_group", "block__parent_id"
    ):
        for name, key in (("block", block_id), ("group", group), ("block", parent)):
            if key is not None:
                legs.setdefault((name, key), set()).add(market)
    together: set[int] = set()
    reached = {market_id} if any(market_id in markets for markets in legs.values()) else set()
    while reached != together:
        together = set(reached)
        for markets in legs.values():
            if markets & together:
                reached |= markets
    return sorted(together)


def reserve_price_nano(market_id: int) -> int | None:
    """Return the lowest reserve price of the capacity on offer in a market, or None where there is none."""
    rows = Offer.objects.filter(
        market_id=market_id, state=Offer.State.OFFERED, capacity__withdrawn_at__isnull=True
    ).order_by("capacity__reserve_price_nano")
    return rows.values_list("capacity__reserve_price_nano", flat=True).first()


def markets_due(now: datetime) -> list[int]:
    """
    Return the markets in which something waits: commands, a moment of the schedule, the gate, the window's start.

    A call that waits for the grade's first list price is not due before there is one.
    """
    queued = CommandQueue.objects.filter(market_id=OuterRef("pk"))
    asked = Intervention.objects.filter(market_id=OuterRef("pk"), sequence__isnull=True)
    gate_open = Q(gate_closed_at__isnull=True, gate_closes_at__lte=now)
    unpriced = Q(phase="scheduled", call_opens_at__lte=now, cap_price_nano__isnull=True)
    due = (
        Q(phase="scheduled", call_opens_at__lte=now, cap_price_nano__isnull=False)
        | Q(phase="call", call__isnull=True, call_closes_at__lte=now)
        | Q(phase="call", call__ends_at__lte=now)
        | Q(phase__in=["scheduled", "call", "continuous", "closed"]) & gate_open
        | Q(phase="closed", gate_closed_at__isnull=False, window_start__lte=now)
        | Exists(queued)
        | Exists(asked)
    )
    trading = Market.objects.exclude(phase="settled")
    found = set(trading.filter(due).values_list("pk", flat=True))
    waiting = dict(trading.filter(unpriced).values_list("pk", "grade_id"))
    if waiting:
        priced = grades_with_list_price(waiting.values(), now)
        found |= {market_id for market_id, grade_id in waiting.items() if grade_id in priced}
    return sorted(found)


def markets_to_look_through() -> list[int]:
    """Return the markets whose gate has closed and that surveillance has not looked through, the oldest first."""
    rows = Market.objects.filter(gate_closed_at__isnull=False, surveillance__isnull=True).order_by("gate_closed_at")
    return list(rows.values_list("pk", flat=True)[:500])


def surveillance_findings(*, rule: str | None = None, market_id: int | None = None) -> "QuerySet[SurveillanceFinding]":
    """Return what surveillance has found, by rule and market if given."""
    rows = SurveillanceFinding.objects.select_related("organization", "counterparty")
    if rule is not None:
        rows = rows.filter(rule=rule)
    return rows if market_id is None else rows.filter(market_id=market_id)


def leases_due(now: datetime) -> list[int]:
    """Return the organizations whose lease has run out and still counts."""
    rows = Lease.objects.filter(ended_at__isnull=True, expires_at__lte=now).order_by("expires_at")
    return list(rows.values_list("organization_id", flat=True))


def markets_with_orders(organization_id: int, *, since: datetime | None = None, under_lease: bool = False) -> list[int]:
    """
    Return the markets in which trading is on and for which an organization has sent orders, since a time if given;
    with `under_lease` only orders that asked to be cancelled on disconnection count.
    """
    rows = Command.objects.filter(
        organization_id=organization_id,
        kind__in=Command.ORDER_KINDS,
        market__in=Market.objects.filter(phase__in=["call", "continuous"]),
    )
    if since is not None:
        rows = rows.filter(accepted_at__gte=since)
    if under_lease:
        rows = rows.annotate(asked=F("flags").bitand(CANCEL_ON_DISCONNECT)).filter(asked__gt=0)
    return sorted(set(rows.values_list("market_id", flat=True).distinct()))


def after_what_waits(market_ids: Iterable[int], now: datetime) -> dict[int, datetime]:
    """
    Return a moment for each market, `now` or just after the last command that waits there: what comes with it is taken
    up after them, even those whose request read its clock later and came first.
    """
    rows = CommandQueue.objects.filter(market_id__in=market_ids).values_list("market_id")
    last = dict(rows.annotate(Max("received_at")).order_by())
    return {id_: max(now, last[id_] + timedelta(microseconds=1)) if id_ in last else now for id_ in market_ids}


_INTERVENTIONS = "SELECT id FROM exchange_intervention WHERE market_id = %s AND sequence IS NULL"


def interventions_due(market_id: int) -> list[Intervention]:
    """Return what was asked for in a market and is not in its journal yet, in the order asked."""
    found = [id_ for (id_,) in prepared.execute(_INTERVENTIONS, [market_id]).fetchall()]
    return list(Intervention.objects.filter(pk__in=found).order_by("pk")) if found else []


_ANY_OFFERS = """
SELECT EXISTS (SELECT FROM exchange_offer WHERE state = 'withdrawing')
    OR EXISTS (SELECT FROM exchange_offer o JOIN exchange_market m ON m.id = o.market_id
               WHERE o.state = 'waiting' AND m.phase IN ('call', 'continuous'))
    OR EXISTS (SELECT FROM exchange_offer o JOIN exchange_market m ON m.id = o.market_id
               WHERE o.rolls_over AND o.rolled_at IS NULL AND m.gate_closed_at IS NOT NULL AND m.window_end > %s)
"""


def any_offers_to_work_on(now: datetime) -> bool:
    """Whether `offers_due` or `offers_to_roll` may find something: one cheap look after every drain."""
    (found,) = prepared.one(_ANY_OFFERS, [now])
    return bool(found)


def offers_due() -> list[tuple[int, str]]:
    """Return capacities to work on, with the state of their offers: to be offered in an open call, or taken back."""
    rows = Offer.objects.filter(
        Q(state=Offer.State.WAITING, market__phase__in=["call", "continuous"]) | Q(state=Offer.State.WITHDRAWING)
    )
    return list(rows.order_by("pk").values_list("pk", "state"))


def offers_to_roll(now: datetime) -> list[int]:
    """Return capacities whose unsold rest their providers want in the next call, after their own market's gate."""
    rows = Offer.objects.filter(
        rolls_over=True, rolled_at__isnull=True, market__gate_closed_at__isnull=False, market__window_end__gt=now
    ).exclude(state__in=[Offer.State.WITHDRAWING, Offer.State.WITHDRAWN])
    return list(rows.order_by("pk").values_list("pk", flat=True))


def markets_due_for_settlement(now: datetime) -> list[int]:
    """Return the markets whose window and grace are over and which are not settled, the oldest first."""
    rows = (
        Market.objects.filter(phase=Market.Phase.DELIVERING, window_end__lte=now)
        .order_by("window_end", "pk")
        .values_list("pk", "window_end", "grade__grace_seconds")
    )
    return [pk for pk, end, grace in rows if end + timedelta(seconds=grace) <= now]


def offer_of(capacity_id: int) -> Offer | None:
    """Return what became of the wish to sell a capacity."""
    return Offer.objects.filter(pk=capacity_id).first()
