"""
Gate closure: positions become delivery contracts.

A member's sales offset its own purchases; the proceeds of those sales are paid out of escrow, and the bond that they
held goes back. What is left open makes contracts, with none that its buyer excludes; what cannot be placed for that
is refunded and published. Then the market's escrow is exactly what its sellers are owed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from billing.actions import ledger
from billing.domain import accounts
from billing.domain.postings import Posting, Stage
from billing.domain.principal import keep_surplus
from core.live import publish_on_commit
from core.money import round_half_up
from core.transactions import assert_in_transaction
from exchange import contract_queries, order_queries
from exchange.actions.advance import lock_market
from exchange.actions.copying import copy_text
from exchange.domain import assignment as assignment_domain
from exchange.domain.assignment import PriceLot, assign, pair_unplaced
from exchange.domain.netting import Netting, OpenLot, TradeFact, net
from exchange.models import ContractDeployment, DeliveryContract, Intervention, Market, Unplaced
from identity.actions.events import Event, emit_all
from providers.models import Capacity


def close_gate(*, market_id: int, now: datetime) -> list[DeliveryContract]:
    """Net and assign a market whose gate has closed, once; a repeat, or a call too early, does nothing."""
    assert_in_transaction()
    market = lock_market(market_id)
    if market.phase != Market.Phase.CLOSED or market.gate_closed_at is not None or market.gate_closes_at > now:
        return []
    if Intervention.objects.filter(market=market, sequence__isnull=True).exists():
        return []  # such as an annulment, which comes before
    rows = list(
        order_queries.standing_trades(market_id)
        .order_by("id")
        .values_list("id", "buyer_id", "seller_id", "quantity_tokens", "price_nano", "bond_micro")
    )
    netted = net(TradeFact(*row[:5]) for row in rows)
    assignment = assign(netted.open_buys, netted.open_sells, contract_queries.exclusions_of(netted.open_buys))
    contracts = _create_contracts(market, assignment.contracts, now)
    unplaced = _keep_unplaced(market, assignment.unplaced)
    emit_all([event for contract in contracts for event in assigned(contract)], now=now)
    market.gate_closed_at = now
    market.save(update_fields=["gate_closed_at"])
    placed_sells = _less(netted.open_sells, assignment.unplaced.sells)
    postings = _postings(market, netted, placed_sells, [(row[0], row[2], row[3], row[5]) for row in rows])
    ledger.post_all([*postings, *_refunds(market, unplaced)], now=now)
    publish_on_commit(
        f"market.{market_id}",
        {
            "type": "gate",
            "market": market_id,
            "contracts": len(contracts),
            "unplaced": sum(row.quantity_tokens for row in unplaced),
        },
    )
    return contracts


def assigned(contract: DeliveryContract) -> list[Event]:
    """What both parties of a spot contract are told."""
    assert contract.window_start is not None and contract.window_end is not None
    data = {
        "id": contract.pk,
        "market": contract.market_id,
        "buyer": contract.buyer_id,
        "provider": contract.provider_id,
        "quantity": contract.quantity_tokens,
        "window_start": contract.window_start.isoformat(),
        "window_end": contract.window_end.isoformat(),
    }
    parties = (contract.buyer_id, contract.provider_id)
    return [Event(party_id, "contract.assigned", f"contract:{contract.pk}", data) for party_id in parties]


def begin_delivery(*, market_id: int, now: datetime) -> bool:
    """Begin delivery when the window starts; says whether this call did."""
    assert_in_transaction()
    begun = Market.objects.filter(
        pk=market_id, phase=Market.Phase.CLOSED, gate_closed_at__isnull=False, window_start__lte=now
    ).update(phase=Market.Phase.DELIVERING)
    if begun:
        publish_on_commit(f"market.{market_id}", {"type": "phase", "market": market_id, "phase": "delivering"})
    return bool(begun)


def _postings(
    market: Market,
    netted: Netting,
    open_of_trade: Mapping[int, int],
    sales: Sequence[tuple[int, int, int, int]],
) -> list[Posting]:
    """Pay the proceeds of offset sales, and give back the bond of what is not to be delivered any more."""
    postings = [
        Posting(
            key=f"gate:{market.pk}:{member_id}",
            kind="resale",
            stage=Stage.POSTED,
            debit=accounts.escrow(market.scope),
            credit=accounts.available(member_id),
            amount_micro=amount_micro,
        )
        for member_id, amount_micro in sorted(netted.offset_proceeds_micro.items())
    ]
    surplus_micro: dict[int, int] = {}
    for trade_id, seller_id, quantity, bond_micro in sales:
        needed = round_half_up(bond_micro * open_of_trade.get(trade_id, 0), quantity)
        surplus_micro[seller_id] = surplus_micro.get(seller_id, 0) + bond_micro - needed
    postings += [
        Posting(
            key=f"gatebond:{market.pk}:{member_id}",
            kind="bond_return",
            stage=Stage.POSTED,
            debit=accounts.bond(member_id, market.scope),
            credit=accounts.available(member_id),
            amount_micro=amount_micro,
        )
        for member_id, amount_micro in sorted(surplus_micro.items())
        if amount_micro
    ]
    return postings


def _less(lots: Iterable[OpenLot], unplaced: Iterable[OpenLot]) -> dict[int, int]:
    """Return what of each trade's sale is open and has a buyer to serve."""
    left = {lot.trade_id: lot.quantity_tokens for lot in lots}
    for lot in unplaced:
        left[lot.trade_id] -= lot.quantity_tokens
    return left


def _keep_unplaced(market: Market, unplaced: assignment_domain.Unplaced) -> list[Unplaced]:
    """Put on record what exclusions have kept apart."""
    return Unplaced.objects.bulk_create(
        Unplaced(market=market, number=number, refund_micro=pair.refund_micro, **pair._asdict())
        for number, pair in enumerate(pair_unplaced(unplaced), 1)
    )


def _refunds(market: Market, unplaced: Sequence[Unplaced]) -> list[Posting]:
    """Give buyers back what could not be placed; what the escrow holds beyond that goes to the default account."""
    postings = []
    for row in unplaced:
        key = f"unplaced:{market.pk}:{row.number}"
        postings.append(
            Posting(
                key=key, kind="unplaced_refund", stage=Stage.POSTED, debit=accounts.escrow(market.scope),
                credit=accounts.available(row.buyer_id), amount_micro=row.refund_micro,
            )
        )  # fmt: skip
        held = row.quantity_tokens * row.seller_price_nano // 1_000
        if held > row.refund_micro:
            postings.append(keep_surplus(
                key=f"{key}:surplus", scope=market.scope, amount_micro=held - row.refund_micro
            ))  # fmt: skip
    return postings


def _create_contracts(
    market: Market, assigned: dict[tuple[int, int], list[PriceLot]], now: datetime
) -> list[DeliveryContract]:
    window = market.window_end - market.window_start
    contracts = DeliveryContract.objects.bulk_create(
        [
            DeliveryContract(
                kind=DeliveryContract.Kind.SPOT,
                market=market,
                grade_id=market.grade_id,
                buyer_id=buyer_id,
                provider_id=provider_id,
                quantity_tokens=(quantity := sum(lot.quantity_tokens for lot in lots)),
                window_start=market.window_start,
                window_end=market.window_end,
                rate_tokens_per_minute=rate_limit(quantity, window),
                created_at=now,
            )
            for (buyer_id, provider_id), lots in assigned.items()
        ],
        batch_size=2_000,
    )
    copy_text(
        "exchange_contractlot",
        "contract_id, number, quantity_tokens, buyer_price_nano, seller_price_nano",
        _lot_lines(contracts, assigned.values()),
    )
    _place(market, contracts, now)
    return contracts


def rate_limit(quantity_tokens: int, window: timedelta) -> int:
    """Return the standard tokens a minute that a contract may take: twice its quantity over the window, rounded up."""
    seconds = int(window.total_seconds())
    return -(-2 * quantity_tokens * 60 // seconds)


def _lot_lines(contracts: Sequence[DeliveryContract], lots: Iterable[list[PriceLot]]) -> Iterable[str]:
    for contract, prices in zip(contracts, lots, strict=True):
        for number, lot in enumerate(prices, 1):
            yield f"{contract.pk}\t{number}\t{lot.quantity_tokens}\t{lot.buyer_price_nano}\t{lot.seller_price_nano}"


def _place(market: Market, contracts: Sequence[DeliveryContract], now: datetime) -> None:
    """Say which deployments serve each contract: a provider's capacities are used up one after the other."""
    waiting: dict[int, list[list[int]]] = {}
    capacities = Capacity.objects.filter(
        grade_id=market.grade_id, window_start=market.window_start, window_end=market.window_end,
        withdrawn_at__isnull=True,
    ).order_by("pk")
    for capacity in capacities:
        waiting.setdefault(capacity.provider_id, []).append(
            [capacity.offered_tokens, capacity.deployment_id, capacity.pk]
        )
    rows = []
    for contract in contracts:
        left, supply = contract.quantity_tokens, waiting.get(contract.provider_id, [])
        while left and supply:
            part = min(left, supply[0][0])
            if part:
                rows.append(
                    ContractDeployment(
                        contract=contract, deployment_id=supply[0][1], capacity_id=supply[0][2],
                        quantity_tokens=part, since=now,
                    )
                )
            left -= part
            supply[0][0] -= part
            if not supply[0][0]:
                supply.pop(0)
    ContractDeployment.objects.bulk_create(rows, batch_size=2_000)
