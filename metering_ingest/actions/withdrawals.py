"""
A provider says that it cannot deliver: of one contract, or of everything that one capacity serves.

What is delivered already cannot be withdrawn, and usage is known here.
"""

from datetime import datetime

from core.errors import BadRequest, NotFound
from core.money import LOT_TOKENS, largest_remainder
from core.transactions import assert_in_transaction
from exchange.actions.shortfalls import MoreThanUndelivered, WholeLots, lock_contract, withdraw
from exchange.contract_queries import shortfalls_of
from exchange.models import ContractDeployment, Shortfall
from metering_ingest.queries import delivered_tokens
from providers.models import Capacity


class NameOne(BadRequest):
    """A shortfall is of a contract, or of a capacity and its contracts."""

    code = "name-contract-or-capacity"


def report_shortfall(
    *,
    provider_id: int,
    quantity_tokens: int,
    contract_id: int | None,
    capacity_id: int | None,
    begins_at: datetime | None,
    note: str,
    now: datetime,
) -> list[Shortfall]:
    """
    Withdraw tokens of a contract, or of a capacity: then of its contracts, in proportion to what they have left.

    :raises NameOne: neither or both are named.
    :raises NotFound: there is no such contract or capacity of this provider, or the capacity serves nobody.
    :raises GateStillOpen, WindowOver, BadBeginning, WholeLots, MoreThanUndelivered: as `withdraw` does.
    """
    assert_in_transaction()
    if (contract_id is None) == (capacity_id is None):
        raise NameOne("Name either a contract, or a capacity whose contracts are short of it.", field="contract")
    if contract_id is not None:
        lock_contract(contract_id)
        delivered = delivered_tokens([contract_id]).get(contract_id, 0)
        return [
            withdraw(
                contract_id=contract_id, provider_id=provider_id, quantity_tokens=quantity_tokens,
                delivered_tokens=delivered, begins_at=begins_at, note=note, now=now,
            )
        ]  # fmt: skip
    assert capacity_id is not None
    return [
        withdraw(
            contract_id=one, provider_id=provider_id, quantity_tokens=tokens, delivered_tokens=delivered,
            begins_at=begins_at, capacity_id=capacity_id, note=note, now=now,
        )
        for one, tokens, delivered in _spread(provider_id, capacity_id, quantity_tokens)
    ]  # fmt: skip


def _spread(provider_id: int, capacity_id: int, quantity_tokens: int) -> list[tuple[int, int, int]]:
    """Return contracts of a capacity, what each loses, and what each has been delivered."""
    if not Capacity.objects.filter(pk=capacity_id, provider_id=provider_id).exists():
        raise NotFound("There is no such capacity.", field="capacity")
    serves = ContractDeployment.objects.filter(capacity_id=capacity_id, until__isnull=True, contract__kind="spot")
    first = serves.order_by("contract_id").values_list("contract_id", flat=True).first()
    if first is None:
        raise NotFound("This capacity serves no contract.", field="capacity")
    lock_contract(first)  # and with it the market, which all of them are in
    served: dict[int, int] = {}
    whole: dict[int, int] = {}
    rows = serves.order_by("contract_id").values_list("contract_id", "quantity_tokens", "contract__quantity_tokens")
    for contract, part, quantity in rows:
        served[contract] = served.get(contract, 0) + part
        whole[contract] = quantity
    if quantity_tokens <= 0 or quantity_tokens % LOT_TOKENS:
        raise WholeLots(f"quantity is whole lots of {LOT_TOKENS:,} tokens.", field="quantity")
    delivered, missing = delivered_tokens(list(served)), shortfalls_of(list(served))
    lots = {}
    for contract, part in served.items():
        gone = sum(one.quantity_tokens for one in missing.get(contract, [])) + delivered.get(contract, 0)
        lots[contract] = max(0, min(part, whole[contract] - gone)) // LOT_TOKENS
    if quantity_tokens > sum(lots.values()) * LOT_TOKENS:
        raise MoreThanUndelivered(
            f"At most {sum(lots.values()) * LOT_TOKENS:,} tokens of this capacity are sold and not delivered yet.",
            field="quantity",
            left=sum(lots.values()) * LOT_TOKENS,
        )
    shares = largest_remainder(list(lots.values()), quantity_tokens // LOT_TOKENS)
    return [
        (contract, share * LOT_TOKENS, delivered.get(contract, 0))
        for contract, share in zip(lots, shares, strict=True)
        if share
    ]
