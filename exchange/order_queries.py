"""Named reads of orders and trades, and of what a new order is checked against."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, Q, QuerySet

from core import prepared
from exchange.domain.funding import Funding
from exchange.domain.limits import NO_LIMITS, Exposure, Limits, refilled
from exchange.domain.numbering import entry_id, id_range
from exchange.domain.orders import BUY, SELL, Reason
from exchange.domain.requests import MarketTerms
from exchange.models import (
    Annulment,
    Command,
    CommandQueue,
    MarketPosition,
    OrderEvent,
    Trade,
)
from identity.access import Actor

REASON_CODES = {int(reason): reason.code.replace("_", "-") for reason in Reason} | {90: "hold-too-small"}


@dataclass(slots=True)
class OrderState:
    """What an order is now: its command folded with its trades and events."""

    id: UUID
    market_id: int
    side: str
    command: Command
    status: str
    quantity_tokens: int
    price_nano: int | None
    filled_tokens: int
    paid_nano: int
    reduced_tokens: int
    held_micro: int
    bond_thousandths: int
    triggered: bool
    reason: str
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing of it is open any more."""
        return self.status in ("filled", "cancelled", "expired", "refused")

    @property
    def remaining_tokens(self) -> int:
        """What is still open."""
        return 0 if self.ended else self.quantity_tokens - self.filled_tokens - self.reduced_tokens


_TERMS = """
SELECT m.id, m.phase, m.mode, m.halted, m.tick_nano, m.min_order_tokens, coalesce(m.cap_price_nano, 0),
       m.reference_price_nano, coalesce(c.ends_at, m.call_closes_at), m.gate_closes_at, m.last_trade, m.call_id
FROM exchange_market m LEFT JOIN exchange_auctioncall c ON c.id = m.call_id WHERE m.id = ANY(%s::bigint[])
"""


def market_terms(market_ids: Collection[int]) -> dict[int, MarketTerms]:
    """Return what each of these markets asks of an order; those that do not exist are left out."""
    return {row[0]: MarketTerms(*row) for row in prepared.execute(_TERMS, [list(market_ids)]).fetchall()}


@dataclass(frozen=True, slots=True)
class Guards:
    """What stands between an organization and the markets. `stops` are markets, None being all of them."""

    stops: frozenset[int | None]
    has_lease: bool
    overdue: bool  # billing holds it for what it has owed too long
    limits: Limits | None
    rate_left: int


_GUARDS = """
SELECT array(SELECT market_id FROM exchange_tradingstop WHERE organization_id = %(id)s AND ended_at IS NULL),
       EXISTS (SELECT FROM exchange_lease
               WHERE organization_id = %(id)s AND ended_at IS NULL AND expires_at > %(now)s),
       EXISTS (SELECT FROM billing_paymenthold WHERE organization_id = %(id)s AND ended_at IS NULL),
       l.order_tokens, l.order_value_micro, l.price_distance_thousandths, l.orders_per_minute, l.position_tokens,
       r.level_millionths, r.at
FROM (SELECT) AS one
LEFT JOIN LATERAL (
    SELECT * FROM exchange_tradinglimits WHERE organization_id = %(id)s OR organization_id IS NULL
    ORDER BY organization_id NULLS LAST LIMIT 1
) AS l ON true
LEFT JOIN exchange_orderrate r ON r.organization_id = %(id)s
"""


def guards_of(organization_id: int, *, now: datetime) -> Guards:
    """Return what guards an organization's orders, by one read."""
    row = prepared.one(_GUARDS, {"id": organization_id, "now": now})
    stops, has_lease, overdue, *limited, level, at = row
    limits: Limits | None = Limits(*limited)
    rate_left = 0
    if limits == NO_LIMITS:
        limits = None
    elif limits is not None and limits.orders_per_minute is not None:
        rate_left = refilled(level, since=at, now=now, per_minute=limits.orders_per_minute)
    return Guards(frozenset(stops), has_lease, overdue, limits, rate_left)


def last_price_nano(terms: MarketTerms) -> int | None:
    """Return the price of a market's last trade, or its reference price before the first."""
    if terms.last_trade:
        row = Trade.objects.filter(pk=entry_id(terms.market_id, terms.last_trade)).values_list("price_nano", flat=True)
        return row.first()
    return terms.reference_price_nano


def exposure(market_id: int, organization_id: int) -> Exposure:
    """Return a member's position in a market and what its open orders, waiting ones included, could make of it."""
    position = MarketPosition.objects.filter(market_id=market_id, organization_id=organization_id).first()
    buys = Command.objects.filter(
        organization_id=organization_id, market_id=market_id, side=BUY, kind__in=Command.ORDER_KINDS
    ).exclude(Exists(OrderEvent.objects.filter(order_id=OuterRef("pk"), kind__in=OrderEvent.ENDS)))
    open_buys = sum(state.remaining_tokens for state in order_states(buys))
    if position is None:
        return Exposure(0, open_buys, 0)
    return Exposure(position.position_tokens, open_buys, position.open_sell_tokens)


def order_states(commands: "Iterable[Command] | QuerySet[Command]") -> list[OrderState]:
    """Return the states of orders, in the order given, by three reads however many there are."""
    orders = list(commands)
    if not orders:
        return []
    ids = [order.pk for order in orders]
    queued = set(
        CommandQueue.objects.filter(pk__in={order.queue_id for order in orders}).values_list("pk", flat=True)
    )
    events: dict[UUID, list[OrderEvent]] = {}
    for event in OrderEvent.objects.filter(order_id__in=ids).order_by("entry_id"):
        events.setdefault(event.order_id, []).append(event)
    fills = _fills({order.market_id for order in orders}, ids)
    none = (0, 0, 0)
    return [
        _fold(order, queued=order.queue_id in queued, events=events.get(order.pk, []), fill=fills.get(order.pk, none))
        for order in orders
    ]


_FILLS = """
SELECT o, sum(q)::bigint, sum(q * price_nano)::numeric, sum(q) FILTER (WHERE q > 0)::bigint FROM (
    SELECT buy_order_id AS o, CASE aggressor WHEN 3 THEN -1 ELSE 1 END * quantity_tokens AS q, price_nano
    FROM exchange_trade
    WHERE id BETWEEN %(first)s AND %(last)s AND buy_order_id = ANY(%(ids)s)
    UNION ALL
    SELECT sell_order_id, CASE aggressor WHEN 3 THEN -1 ELSE 1 END * quantity_tokens, price_nano FROM exchange_trade
    WHERE id BETWEEN %(first)s AND %(last)s AND sell_order_id = ANY(%(ids)s)
) AS fills GROUP BY o
"""


def _fills(market_ids: Iterable[int], order_ids: list[UUID]) -> dict[UUID, tuple[int, int, int]]:
    """
    Return tokens and tokens × nano-yuan that each order has traded, annulled trades apart, and the tokens with them.
    """
    found: dict[UUID, tuple[int, int, int]] = {}
    with connection.cursor() as cursor:
        for market_id in market_ids:
            first, last = id_range(market_id)
            cursor.execute(_FILLS, {"first": first, "last": last, "ids": order_ids})
            found.update(
                (order_id, (tokens, int(paid), gross)) for order_id, tokens, paid, gross in cursor.fetchall()
            )
    return found


def _fold(order: Command, *, queued: bool, events: list[OrderEvent], fill: tuple[int, int, int]) -> OrderState:
    filled, paid, gross = fill
    quantity, price, reduced = order.quantity_tokens, order.price_nano or None, 0
    hold_price = order.hold_price_nano
    triggered, end, reason = False, None, 0
    for event in events:
        if event.kind == OrderEvent.Kind.REPLACED:
            quantity, price = event.quantity_tokens, event.price_nano or price
            hold_price = event.price_nano or hold_price
        elif event.kind == OrderEvent.Kind.REDUCED:
            reduced += event.quantity_tokens
            reason = event.reason
        elif event.kind == OrderEvent.Kind.TRIGGERED:
            triggered = True
        else:
            end = event
    left = quantity - filled - reduced
    if end is not None:
        status = {OrderEvent.Kind.REFUSED: "refused", OrderEvent.Kind.EXPIRED: "expired"}.get(
            OrderEvent.Kind(end.kind), "cancelled"
        )
    elif left <= 0:
        status = "filled" if filled else "cancelled"
    elif queued:
        status = "pending"
    elif order.kind in (Command.Kind.STOP, Command.Kind.STOP_LIMIT) and not triggered:
        status = "waiting"
    else:
        status = "partly_filled" if filled else "open"
    held = 0
    if end is None and left > 0:
        covered_left = max(0, order.covered_tokens - gross)
        funding = Funding(
            b"", hold_price, left, min(covered_left, left), order.bond_thousandths,
            max(0, gross - order.covered_tokens),
        )
        held = funding.rest_micro(buying=order.side != SELL)
    return OrderState(
        id=order.pk,
        market_id=order.market_id,
        side="sell" if order.side == SELL else "buy",
        command=order,
        status=status,
        quantity_tokens=quantity,
        price_nano=price,
        filled_tokens=filled,
        paid_nano=paid,
        reduced_tokens=reduced,
        held_micro=held,
        bond_thousandths=order.bond_thousandths,
        triggered=triggered,
        reason=REASON_CODES.get(end.reason if end is not None else reason if status == "cancelled" else 0, ""),
        ended_at=end.occurred_at if end is not None else None,
    )


def orders_of(actor: Actor) -> "QuerySet[Command]":
    """Return the orders that an actor may see."""
    rows = Command.objects.filter(kind__in=Command.ORDER_KINDS)
    if actor.is_operator or actor.reads_everything:
        return rows
    return rows.filter(organization_id=actor.organization_id)


def trades_of(organization_id: int, market_ids: Collection[int] | None = None) -> "QuerySet[Trade]":
    """Return the trades of an organization in markets where it has a position, the newest market's first."""
    mine = MarketPosition.objects.filter(organization_id=organization_id)
    if market_ids is not None:
        mine = mine.filter(market_id__in=market_ids)
    ranges = Q(pk__in=[])
    for market_id in mine.order_by("-market_id").values_list("market_id", flat=True)[:100]:
        first, last = id_range(market_id)
        ranges |= Q(id__gte=first, id__lte=last)
    return Trade.objects.filter(ranges).filter(Q(buyer_id=organization_id) | Q(seller_id=organization_id))


def standing_trades(market_id: int) -> "QuerySet[Trade]":
    """Return the trades of a market that no annulment has reversed, mirror entries apart."""
    annulled = Annulment.objects.filter(market_id=market_id, sequence__gt=0).values("auction_sequence")
    return trades_in(market_id).exclude(aggressor=Trade.Aggressor.ANNULMENT).exclude(sequence__in=annulled)


def trades_in(market_id: int) -> "QuerySet[Trade]":
    """Return all trades of a market."""
    first, last = id_range(market_id)
    return Trade.objects.filter(id__gte=first, id__lte=last)
