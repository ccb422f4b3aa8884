"""
Which deployment serves how much of a contract after its gate: less where it was withdrawn, more where it replaces
another, another one where the provider substitutes. The price stays; deliveries and access records follow these rows.
"""

from datetime import datetime

from django.db.models import Sum

from core.errors import Conflict, NotFound
from core.transactions import assert_in_transaction
from exchange.actions.advance import lock_market
from exchange.models import ContractDeployment, DeliveryContract
from providers.actions.deployments import lock_deployment
from providers.models import Capacity, Deployment
from providers.queries import rate_limit_tokens_per_minute


class NotServedBy(Conflict):
    """The deployment that is to be relieved serves nothing of the contract."""

    code = "not-served-by"


class CannotSubstitute(Conflict):
    """The other deployment cannot serve this contract."""

    code = "cannot-substitute"


def serve_less(contract: DeliveryContract, tokens: int, *, now: datetime, capacity_id: int | None = None) -> None:
    """Take tokens off what deployments serve of a contract: off one capacity first, else off the largest part."""
    rows = list(
        ContractDeployment.objects.select_for_update(no_key=True)
        .filter(contract=contract, until__isnull=True)
        .order_by("-quantity_tokens", "pk")
    )
    rows.sort(key=lambda row: row.capacity_id != capacity_id)
    for row in rows:
        part = min(tokens, row.quantity_tokens)
        if part:
            _change(row, -part, now)
            tokens -= part


def serve_more(contract: DeliveryContract, capacity: Capacity, tokens: int, *, now: datetime) -> None:
    """Let the deployment of a capacity serve more of a contract."""
    row = (
        ContractDeployment.objects.select_for_update(no_key=True)
        .filter(contract=contract, deployment_id=capacity.deployment_id, until__isnull=True)
        .first()
    )
    if row is not None:
        _change(row, tokens, now)
    else:
        ContractDeployment.objects.create(
            contract=contract, deployment_id=capacity.deployment_id, capacity=capacity, quantity_tokens=tokens,
            since=now,
        )  # fmt: skip


def substitute(
    *, contract_id: int, provider_id: int, from_deployment_id: int, to_deployment_id: int, now: datetime
) -> list[ContractDeployment]:
    """
    Let another deployment of the grade serve what one serves of a contract, after gate closure; the price stays.

    :returns: where the contract is served now. The same again changes nothing.
    :raises NotFound: no such contract, or deployment of this provider.
    :raises NotServedBy: the first deployment serves nothing of it.
    :raises CannotSubstitute: the window is over, or the other one is of another grade, retired or too slow.
    """
    assert_in_transaction()
    contract = DeliveryContract.objects.filter(pk=contract_id, provider_id=provider_id, kind="spot").first()
    if contract is None or contract.market_id is None:
        raise NotFound("There is no such contract.", field="contract")
    market = lock_market(contract.market_id)
    if now >= market.window_end:
        raise CannotSubstitute("This window is over; nothing is delivered in it any more.", field="contract")
    rows = ContractDeployment.objects.select_for_update(no_key=True).filter(contract=contract, until__isnull=True)
    served = {row.deployment_id: row for row in rows.order_by("pk")}
    leaving = served.get(from_deployment_id)
    if from_deployment_id != to_deployment_id and leaving is None:
        if to_deployment_id in served and _left_before(contract, from_deployment_id):
            return list(served.values())
        raise NotServedBy("That deployment serves nothing of this contract.", field="from_deployment")
    deployment = lock_deployment(to_deployment_id, provider_id=provider_id)
    if from_deployment_id == to_deployment_id:
        return list(served.values())
    assert leaving is not None
    _check_may_serve(deployment, contract, leaving.quantity_tokens)
    tokens, capacity_id = leaving.quantity_tokens, leaving.capacity_id
    _change(leaving, -tokens, now)
    if to_deployment_id in served:
        _change(served[to_deployment_id], tokens, now)
    else:
        ContractDeployment.objects.create(
            contract=contract, deployment=deployment, capacity_id=capacity_id, quantity_tokens=tokens, since=now
        )
    return list(
        ContractDeployment.objects.select_related("deployment")
        .filter(contract=contract, until__isnull=True)
        .order_by("-quantity_tokens", "pk")
    )


def _left_before(contract: DeliveryContract, deployment_id: int) -> bool:
    rows = ContractDeployment.objects.filter(contract=contract, deployment_id=deployment_id, until__isnull=False)
    return rows.exists()


def _check_may_serve(deployment: Deployment, contract: DeliveryContract, tokens: int) -> None:
    """The other deployment is of the grade and has rate enough beside what it offers and serves in the window."""
    assert contract.window_start is not None and contract.window_end is not None
    if deployment.grade_id != contract.grade_id:
        raise CannotSubstitute("That deployment serves another grade.", field="to_deployment")
    if deployment.status != Deployment.Status.ACTIVE:
        raise CannotSubstitute("That deployment is retired.", field="to_deployment")
    overlapping = Capacity.objects.filter(
        deployment=deployment, withdrawn_at__isnull=True, window_start__lt=contract.window_end,
        window_end__gt=contract.window_start,
    )  # fmt: skip
    offered = sum(row.offered_tokens for row in overlapping)
    substituting = ContractDeployment.objects.filter(
        deployment=deployment, until__isnull=True, contract__window_start__lt=contract.window_end,
        contract__window_end__gt=contract.window_start,
    ).exclude(capacity__deployment=deployment)  # fmt: skip
    served = substituting.aggregate(total=Sum("quantity_tokens"))["total"] or 0
    minutes = (contract.window_end - contract.window_start).total_seconds() / 60
    most = int(rate_limit_tokens_per_minute(deployment, at=contract.window_start) * minutes)
    if offered + served + tokens > most:
        raise CannotSubstitute(
            f"{deployment.name} may serve {most:,} tokens in this window; with {offered:,} offered, {served:,} served"
            f" for others and these {tokens:,} it would be more.",
            field="to_deployment",
        )


def _change(row: ContractDeployment, tokens: int, now: datetime) -> None:
    """End a row, and begin one with so much more (or less) in its place, unless nothing is left."""
    row.until = now
    row.save(update_fields=["until"])
    if row.quantity_tokens + tokens:
        ContractDeployment.objects.create(
            contract_id=row.contract_id, deployment_id=row.deployment_id, capacity_id=row.capacity_id,
            quantity_tokens=row.quantity_tokens + tokens, since=now,
        )  # fmt: skip
