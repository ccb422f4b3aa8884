"""
The default account pays the providers of a market for the exchange's own requests, at their contracts' prices.

What they took is what the provider's meters report under minus the contract's id, recounted from the events, and at
most what so many requests can have taken. A later settlement of the market pays, or takes back, the difference.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ciyuan.standard_token import work
from django.db.models import Count

from billing.actions.charges import push_charges
from billing.domain import principal
from billing.domain.accounts import default_fund
from billing.domain.charges import ChargeInput, ChargeKind
from billing.domain.postings import Posting
from core.money import round_half_up, work_cost_micro
from core.periods import Period
from core.transactions import assert_in_transaction
from exchange.models import ContractLot, DeliveryContract
from metering_ingest.actions.probes import ANSWER_TOKENS
from metering_ingest.actions.recount import provider_meters, recount
from metering_ingest.models import Probe, ProbePayment
from providers.models import Grade

#: More than any of the fixed prompts is, whatever a model's template puts around it.
MOST_PROMPT_TOKENS = 512


def pay_probes(
    contracts: Sequence[DeliveryContract], period: Period, *, scope: str, labels: Mapping[int, dict[str, Any]],
    now: datetime,
) -> int:  # fmt: skip
    """
    Pay what probes on these contracts of one market have taken and is not paid yet; returns how many payments.

    :param labels: of each contract, for the line of the provider's statement.
    """
    assert_in_transaction()
    due = due_micro_st(contracts, period)
    paid = latest_payments(due)
    prices = prices_nano(due)
    charges: list[ChargeInput] = []
    postings: list[Posting] = []
    rows: list[ProbePayment] = []
    for contract in contracts:
        before = paid.get(contract.pk)
        if contract.pk not in due or (before.work_micro_st if before else 0) == due[contract.pk]:
            continue
        row = ProbePayment(
            contract=contract, revision=before.revision + 1 if before else 0, work_micro_st=due[contract.pk],
            price_nano=prices[contract.pk], paid_at=now,
            amount_micro=work_cost_micro(work_micro_st=due[contract.pk], price_nano=prices[contract.pk]),
        )  # fmt: skip
        rows.append(row)
        amount = row.amount_micro - (before.amount_micro if before else 0)
        key = f"probe:{contract.pk}"
        charges.append(
            ChargeInput(
                source_key=key, revision=row.revision, kind=ChargeKind.PROBE, buyer_id=contract.buyer_id,
                provider_id=contract.provider_id, scope=scope, labels=labels[contract.pk],
                quantity_micro_st=row.work_micro_st - (before.work_micro_st if before else 0), buyer_price_nano=0,
                seller_price_nano=row.price_nano, buyer_amount_micro=0, seller_amount_micro=amount, fee_micro=0,
                tokens={}, occurred=period,
            )
        )  # fmt: skip
        split = principal.FeeSplit(abs(amount), 0, 0)
        key = f"{key}:{row.revision}"
        if amount >= 0:
            postings += principal.pay_provider(
                key=key, source=default_fund(), provider_id=contract.provider_id, scope=scope, split=split
            )
        else:
            postings += principal.take_back_from_provider(
                key=key, target=default_fund(), provider_id=contract.provider_id, scope=scope, split=split
            )
    ProbePayment.objects.bulk_create(rows)
    if charges:
        push_charges(charges, postings, now=now)
    return len(rows)


def due_micro_st(contracts: Sequence[DeliveryContract], period: Period) -> dict[int, int]:
    """By contract that was ever probed: the work that is owed for it."""
    asked = Probe.objects.filter(contract__in=[contract.pk for contract in contracts]).values("contract")
    times = {row["contract"]: row["times"] for row in asked.annotate(times=Count("pk")).order_by("contract")}
    if not times:
        return {}
    of_probed = [contract for contract in contracts if contract.pk in times]
    reported: dict[int, int] = {}
    meters = provider_meters({contract.provider_id for contract in of_probed})
    for used in recount([-contract.pk for contract in of_probed], meters, period):
        reported[-used.contract_id] = reported.get(-used.contract_id, 0) + used.work_micro_st
    return {
        contract.pk: max(0, min(reported.get(contract.pk, 0), times[contract.pk] * most_micro_st(contract.grade)))
        for contract in of_probed
    }


def most_micro_st(grade: Grade) -> int:
    """The most work that one probe can be for a grade's model, in micro-standard-tokens."""
    return work(grade.model_card.standard_card(), MOST_PROMPT_TOKENS, 0, ANSWER_TOKENS).total_micro_st


def latest_payments(contract_ids: Mapping[int, Any]) -> dict[int, ProbePayment]:
    """By contract: its last payment."""
    rows = ProbePayment.objects.filter(contract__in=contract_ids).order_by("contract", "revision")
    return {row.contract_id: row for row in rows}


def prices_nano(contract_ids: Mapping[int, Any]) -> dict[int, int]:
    """By contract: the mean of what its provider sold its tokens at, in nano-yuan."""
    sums: dict[int, tuple[int, int]] = {}
    for lot in ContractLot.objects.filter(contract__in=contract_ids):
        value, tokens = sums.get(lot.contract_id, (0, 0))
        sums[lot.contract_id] = (value + lot.quantity_tokens * lot.seller_price_nano, tokens + lot.quantity_tokens)
    return {contract: round_half_up(value, tokens) for contract, (value, tokens) in sums.items()}
