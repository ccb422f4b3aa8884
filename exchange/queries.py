"""Named reads of the exchange."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Sum

from core import prepared
from core.periods import Period
from exchange.domain.funding import Funding
from exchange.domain.limits import NO_LIMITS, Exposure, Limits, refilled
from exchange.domain.netting import OpenLot
from exchange.domain.numbering import entry_id, id_range
from exchange.domain.orders import BUY, CANCEL_ON_DISCONNECT, SELL, Reason
from exchange.domain.requests import MarketTerms
from exchange.models import (
    Annulment,
    AuctionCall,
    AuctionResult,
    Block,
    BlockLeg,
    BlockResult,
    BuyerExclusion,
    Command,
    CommandQueue,
    ContractDeployment,
    DeliveryContract,
    Intervention,
    Lease,
    Market,
    MarketPosition,
    Offer,
    OrderEvent,
    Replacement,
    Shortfall,
    SurveillanceFinding,
    Trade,
    Unplaced,
)
from identity.access import Actor
from providers.queries import grades_with_list_price

REFERENCE_DAYS = 7
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


# Of a trade `t`: no annulment has reversed it, and it is no mirror entry that reverses one.
STANDS = """t.aggressor <> 3 AND NOT EXISTS (
  SELECT FROM exchange_annulment n
  WHERE n.market_id = t.id >> 32 AND n.auction_sequence = t.sequence AND n.sequence > 0)"""


def standing_trades(market_id: int) -> "QuerySet[Trade]":
    """Return the trades of a market that no annulment has reversed, mirror entries apart."""
    annulled = Annulment.objects.filter(market_id=market_id, sequence__gt=0).values("auction_sequence")
    return trades_in(market_id).exclude(aggressor=Trade.Aggressor.ANNULMENT).exclude(sequence__in=annulled)


def trades_in(market_id: int) -> "QuerySet[Trade]":
    """Return all trades of a market."""
    first, last = id_range(market_id)
    return Trade.objects.filter(id__gte=first, id__lte=last)


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


# --- what delivery, metering and settlement read -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LotFacts:
    """One price lot of a contract."""

    number: int
    quantity_tokens: int
    buyer_price_nano: int
    seller_price_nano: int


@dataclass(frozen=True, slots=True)
class ContractFacts:
    """A delivery contract as usage and settlement need it; `market_id` and `window` are None for a list contract."""

    id: int
    kind: str
    market_id: int | None
    grade_id: int
    buyer_id: int
    provider_id: int
    quantity_tokens: int
    window: Period | None
    rate_tokens_per_minute: int
    lots: tuple[LotFacts, ...]


def contract_for(*, grade_id: int, buyer_id: int, provider_id: int, at: datetime) -> ContractFacts | None:
    """
    Return the contract that usage ending at `at` belongs to: the spot contract whose window holds `at`, else the
    standing list contract of the two, else None.
    """
    rows = DeliveryContract.objects.filter(grade_id=grade_id, buyer_id=buyer_id, provider_id=provider_id)
    row = rows.filter(kind="spot", window_start__lte=at, window_end__gt=at).first() or rows.filter(kind="list").first()
    return _contract_facts(row) if row is not None else None


def contract_facts(contract_id: int) -> ContractFacts:
    """
    Return a contract with its lots.

    :raises DeliveryContract.DoesNotExist: there is none of that id.
    """
    return _contract_facts(DeliveryContract.objects.get(pk=contract_id))


def contracts_of_market(market_id: int) -> list[ContractFacts]:
    """Return the contracts of a market, by id."""
    rows = DeliveryContract.objects.filter(market_id=market_id).prefetch_related("lots").order_by("pk")
    return [_contract_facts(row) for row in rows]


def _contract_facts(row: DeliveryContract) -> ContractFacts:
    return ContractFacts(
        id=row.pk,
        kind=row.kind,
        market_id=row.market_id,
        grade_id=row.grade_id,
        buyer_id=row.buyer_id,
        provider_id=row.provider_id,
        quantity_tokens=row.quantity_tokens,
        window=row.window,
        rate_tokens_per_minute=row.rate_tokens_per_minute,
        lots=tuple(
            LotFacts(lot.number, lot.quantity_tokens, lot.buyer_price_nano, lot.seller_price_nano)
            for lot in sorted(row.lots.all(), key=lambda lot: lot.number)
        ),
    )


class ShortfallFacts(NamedTuple):
    """What a provider did not make available of a contract, and what of it another one delivers instead."""

    quantity_tokens: int
    replaced_tokens: int
    penalty_thousandths: int


def shortfalls_of(contract_ids: Collection[int]) -> dict[int, list[ShortfallFacts]]:
    """Return the shortfalls of contracts in the order of their reports: withdrawn, or claimed and found so."""
    found: dict[int, list[ShortfallFacts]] = {}
    rows = Shortfall.objects.filter(contract_id__in=contract_ids).order_by("contract_id", "pk")
    for contract_id, *facts in rows.values_list(
        "contract_id", "quantity_tokens", "replaced_tokens", "penalty_thousandths"
    ):
        found.setdefault(contract_id, []).append(ShortfallFacts(*facts))
    return found


def replaced_tokens_by_lot(contract_ids: Collection[int]) -> dict[tuple[int, int], int]:
    """Return how much of a lot, by contract and number, other providers deliver instead."""
    rows = Replacement.objects.filter(lot__contract_id__in=contract_ids).values_list("lot__contract_id", "lot__number")
    return {(contract, number): total for contract, number, total in rows.annotate(Sum("quantity_tokens")).order_by()}


def replacing_tokens(capacity_id: int) -> int:
    """Return how much of a capacity delivers what other providers withdrew."""
    total = Replacement.objects.filter(capacity_id=capacity_id).aggregate(total=Sum("quantity_tokens"))["total"]
    return int(total or 0)


def exclusions_of(buys: Iterable[OpenLot]) -> dict[int, set[int]]:
    """Return, for the buyers of these lots, whom they exclude."""
    found: dict[int, set[int]] = {}
    rows = BuyerExclusion.objects.filter(buyer_id__in={lot.member_id for lot in buys})
    for buyer_id, provider_id in rows.values_list("buyer_id", "provider_id"):
        found.setdefault(buyer_id, set()).add(provider_id)
    return found


def exclusions(buyer_id: int) -> list[BuyerExclusion]:
    """Return whom a buyer excludes, the longest excluded first."""
    return list(BuyerExclusion.objects.filter(buyer_id=buyer_id).select_related("provider").order_by("pk"))


def unplaced_of(organization_id: int) -> "QuerySet[Unplaced]":
    """Return an organization's purchases and sales that could not be placed."""
    return Unplaced.objects.filter(Q(buyer_id=organization_id) | Q(seller_id=organization_id))


def shortfalls_readable(actor: Actor) -> "QuerySet[Shortfall]":
    """Return the shortfalls that an actor may see: of its contracts on either side, or all for operator and auditor."""
    rows = Shortfall.objects.select_related("contract")
    if actor.is_operator or actor.reads_everything:
        return rows
    mine = actor.organization_id
    return rows.filter(Q(contract__buyer_id=mine) | Q(contract__provider_id=mine))


def shortfalls_shown(contract_id: int) -> list[Shortfall]:
    """Return a contract's shortfalls with what replaces them, in the order of their reports."""
    rows = Shortfall.objects.filter(contract_id=contract_id).prefetch_related("replacements__new_lot")
    return list(rows.order_by("pk"))


def unplaced_tokens(market_id: int) -> int:
    """Return how much of a market exclusions kept from being placed."""
    return int(Unplaced.objects.filter(market_id=market_id).aggregate(total=Sum("quantity_tokens"))["total"] or 0)


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


def contracts_readable(actor: Actor) -> "QuerySet[DeliveryContract]":
    """Return the contracts that an actor may see: those of either side, or all for operator and auditor."""
    rows = DeliveryContract.objects.select_related("grade__model_card", "buyer", "provider", "market")
    if actor.is_operator or actor.reads_everything:
        return rows
    return rows.filter(Q(buyer_id=actor.organization_id) | Q(provider_id=actor.organization_id))


def served_by(contract: DeliveryContract) -> list[ContractDeployment]:
    """Return where a contract is served now, the largest part first."""
    rows = ContractDeployment.objects.select_related("deployment").filter(contract=contract, until__isnull=True)
    return list(rows.order_by("-quantity_tokens", "pk"))


def deliveries_of(provider_id: int) -> "QuerySet[ContractDeployment]":
    """Return what a provider is to deliver, by deployment."""
    return ContractDeployment.objects.select_related(
        "deployment", "contract__grade__model_card", "contract__buyer", "contract__market"
    ).filter(contract__provider_id=provider_id, until__isnull=True)


def offer_of(capacity_id: int) -> Offer | None:
    """Return what became of the wish to sell a capacity."""
    return Offer.objects.filter(pk=capacity_id).first()

