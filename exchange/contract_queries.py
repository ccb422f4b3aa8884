"""Named reads of contracts: what was bought, who serves it, what fell short, what found no place."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.db.models import Q, QuerySet, Sum

from core.periods import Period
from exchange.domain.netting import OpenLot
from exchange.models import (
    BuyerExclusion,
    ContractDeployment,
    DeliveryContract,
    Replacement,
    Shortfall,
    Unplaced,
)
from identity.access import Actor


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
