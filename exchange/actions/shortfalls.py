"""
Shortfalls: what a provider cannot deliver of a contract after its gate has closed.

Withdrawn tokens are replaced at once where unsold offers of the market allow it; what they do not is refunded at
settlement, with a penalty. What a claim was found to be is recorded here too: it is past, and nothing replaces it.
"""

from datetime import datetime

from core.errors import BadRequest, Conflict, NotFound
from core.money import LOT_TOKENS
from core.transactions import assert_in_transaction
from exchange.actions.advance import lock_market
from exchange.actions.replacements import replace_withdrawn
from exchange.actions.serving import serve_less
from exchange.contract_queries import ShortfallFacts, shortfalls_of
from exchange.domain.replacement import PENALTY_THOUSANDTHS, penalty_thousandths
from exchange.models import DeliveryContract, Market, Shortfall
from identity.actions import events


class GateStillOpen(Conflict):
    """Trading is not over: what is not sold can be withdrawn, what is sold bought back."""

    code = "gate-open"


class WindowOver(Conflict):
    """Nothing can be withdrawn from a window that has ended."""

    code = "window-over"


class MoreThanUndelivered(BadRequest):
    """More than is left to deliver."""

    code = "more-than-undelivered"


class BadBeginning(BadRequest):
    """The time from which on tokens are missing lies outside of what can still be delivered."""

    code = "bad-beginning"


class WholeLots(BadRequest):
    """Withdrawals are in whole lots."""

    code = "quantity-not-in-lots"


def lock_contract(contract_id: int) -> tuple[DeliveryContract, Market]:
    """
    Return a spot contract and its market, both locked until commit.

    :raises NotFound: there is none of that id.
    """
    market_id = DeliveryContract.objects.filter(pk=contract_id).values_list("market_id", flat=True).first()
    if market_id is None:
        raise NotFound("There is no such contract.", field="contract")
    market = lock_market(market_id)
    rows = DeliveryContract.objects.select_for_update(no_key=True, of=("self",))
    return rows.select_related("buyer", "provider", "grade__model_card").get(pk=contract_id), market


def withdraw(
    *,
    contract_id: int,
    provider_id: int,
    quantity_tokens: int,
    delivered_tokens: int,
    now: datetime,
    begins_at: datetime | None = None,
    capacity_id: int | None = None,
    note: str = "",
) -> Shortfall:
    """
    Record that a provider will not deliver a part of a contract, and replace what can be replaced.

    :param delivered_tokens: standard tokens of it that have been metered so far.
    :param begins_at: from when on they are missing, now at the earliest; reported an hour ahead, it halves the penalty.
    :param capacity_id: which of the provider's capacities serves less; without it the largest part does first.
    :raises NotFound: there is no such contract, or it is another provider's.
    :raises GateStillOpen, WindowOver: too early or too late for a withdrawal.
    :raises BadBeginning: a beginning in the past, or not before the window's end.
    :raises WholeLots, MoreThanUndelivered: no positive number of lots, or more than is left to deliver.
    """
    assert_in_transaction()
    contract, market = lock_contract(contract_id)
    if contract.provider_id != provider_id:
        raise NotFound("There is no such contract.", field="contract")
    if market.gate_closed_at is None:
        raise GateStillOpen("Trading for this window is not over: withdraw the unsold capacity, or buy back.")
    if now >= market.window_end or market.phase not in (Market.Phase.CLOSED, Market.Phase.DELIVERING):
        raise WindowOver("This window is over: what was not delivered in it is for the buyer to claim.")
    begins_at = now if begins_at is None else begins_at
    if not now <= begins_at < market.window_end:
        raise BadBeginning("begins_at lies between now and the end of the window.", field="begins_at")
    begins_at = max(begins_at, market.window_start)
    if quantity_tokens <= 0 or quantity_tokens % LOT_TOKENS:
        raise WholeLots(f"quantity is whole lots of {LOT_TOKENS:,} tokens.", field="quantity")
    before = shortfalls_of([contract_id]).get(contract_id, [])
    check_left(contract, before, quantity_tokens=quantity_tokens, delivered_tokens=delivered_tokens)

    serve_less(contract, quantity_tokens, now=now, capacity_id=capacity_id)
    plan = replace_withdrawn(contract, market, before, quantity_tokens=quantity_tokens, begins_at=begins_at, now=now)
    shortfall = Shortfall.objects.create(
        contract=contract,
        cause=Shortfall.Cause.WITHDRAWN,
        quantity_tokens=quantity_tokens,
        replaced_tokens=plan.tokens,
        penalty_thousandths=penalty_thousandths(seconds_ahead=(begins_at - now).total_seconds()),
        reported_at=now,
        begins_at=begins_at,
        note=note,
        source_key=f"withdrawn:{contract_id}:{len(before) + 1}",
    )
    _tell(contract, shortfall, now)
    plan.carry_out(shortfall, now=now)
    return shortfall


def record_claimed(*, contract_id: int, quantity_tokens: int, claim_id: int, now: datetime) -> Shortfall:
    """
    Record what a claim was found to be: undelivered, at the full penalty. The same claim again changes nothing.

    The caller holds the contract's lock and has made sure that so much is left.
    """
    assert_in_transaction()
    shortfall, created = Shortfall.objects.get_or_create(
        source_key=f"claim:{claim_id}",
        defaults={
            "contract_id": contract_id,
            "cause": Shortfall.Cause.CLAIM,
            "quantity_tokens": quantity_tokens,
            "penalty_thousandths": PENALTY_THOUSANDTHS,
            "reported_at": now,
        },
    )
    if created:
        _tell(shortfall.contract, shortfall, now)
    return shortfall


def check_left(
    contract: DeliveryContract, before: list[ShortfallFacts], *, quantity_tokens: int, delivered_tokens: int
) -> None:
    """:raises MoreThanUndelivered: with what is left of the contract, less what was delivered and reported missing."""
    left = contract.quantity_tokens - sum(one.quantity_tokens for one in before) - delivered_tokens
    if quantity_tokens > left:
        raise MoreThanUndelivered(
            f"{delivered_tokens:,} tokens of contract {contract.pk} are delivered and "
            f"{sum(one.quantity_tokens for one in before):,} reported missing: at most {max(left, 0):,} are left.",
            field="quantity",
            left=max(left, 0),
        )


def _tell(contract: DeliveryContract, shortfall: Shortfall, now: datetime) -> None:
    """Let both sides' webhooks know."""
    data = {
        "shortfall": shortfall.pk, "contract": contract.pk, "cause": shortfall.cause,
        "quantity": shortfall.quantity_tokens, "replaced": shortfall.replaced_tokens,
    }  # fmt: skip
    for organization_id in (contract.buyer_id, contract.provider_id):
        events.emit(
            organization_id=organization_id, type="delivery.failed",
            key=f"shortfall:{shortfall.pk}:{organization_id}", data=data, now=now,
        )  # fmt: skip
