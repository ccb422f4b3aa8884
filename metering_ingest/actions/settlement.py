"""
Settling contracts: recompute usage from events, rate it by the pure rule, push charges with the transfers that pay.

The first settlement of a contract and period says the whole; a later one, after late events, voids or rulings, pushes
only the difference, as the next revision. Settling again without a change does nothing. A market's first settlement is
preliminary: it keeps of each provider's bond what open claims may cost. `finality.py` ends that.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from billing import queries as billing
from billing.actions.charges import push_charges
from billing.actions.sweep import sweep_market
from billing.credit_queries import usable_credits
from billing.domain.charges import ChargeInput
from billing.domain.postings import Posting
from core.errors import Conflict
from core.money import MICRO_PER_TOKEN
from core.periods import Period, shanghai_date, shanghai_day
from core.transactions import assert_in_transaction
from exchange.actions.markets import mark_settled
from exchange.contract_queries import ShortfallFacts, replaced_tokens_by_lot, shortfalls_of
from exchange.models import ContractLot, DeliveryContract, Market
from metering_ingest.actions.bonds import return_bonds
from metering_ingest.actions.list_prices import exceeds, list_prices_of
from metering_ingest.actions.losses import Loss, bear
from metering_ingest.actions.overage import Credit, overage_months
from metering_ingest.actions.probe_payments import pay_probes
from metering_ingest.actions.reconciliation import Adjustment, adjustments, reconcile
from metering_ingest.actions.recount import Usage, provider_meters, recount, void_repeats, wait_for_ingest
from metering_ingest.actions.settlement_entries import Due, charges_of, loss_of, postings_of
from metering_ingest.domain.settlement import (
    DeploymentUsage,
    Late,
    Line,
    LineKind,
    Lot,
    Settlement,
    Terms,
    Undelivered,
    settle,
)
from metering_ingest.domain.settlement_inputs import inputs_of
from metering_ingest.models import ContractSettlement, LateUsage, OverageMonth
from metering_ingest.service_queries import late_work
from providers.actions.scores import lock_scores, record_delivery
from providers.models import Grade
from providers.queries import list_price_nano

BEYOND = (LineKind.OVERAGE, LineKind.LIST)


class NotDueYet(Conflict):
    """The window or its grace is not over."""

    code = "settlement-not-due"


def settle_market(*, market_id: int, now: datetime) -> int:
    """
    Settle every contract of a market whose window and grace are over, score its providers, give back what is left of
    the bonds and not claimed, sweep the market's accounts and mark it settled. Of a settled market, push what has
    changed since.

    :returns: how many contracts got a new revision.
    :raises NotDueYet: before that time.
    """
    assert_in_transaction()
    market = Market.objects.select_for_update(no_key=True).select_related("grade").get(pk=market_id)
    if now < market.window_end + _grace(market.grade) or market.phase not in ("delivering", "settled"):
        raise NotDueYet("This market's window and grace are not over; it cannot be settled yet.")
    contracts = list(
        DeliveryContract.objects.filter(market=market).select_related("grade__model_card", "provider").order_by("pk")
    )
    period = Period(market.window_start, market.window_end)
    due = [Due(contract, period, market.scope, _labels(contract, period, market)) for contract in contracts]
    providers = {contract.provider_id for contract in contracts}
    lock_scores(providers)
    pushed = _settle(due, now=now)
    pay_probes(contracts, period, scope=market.scope, labels={one.contract.pk: one.labels for one in due}, now=now)
    if market.phase != Market.Phase.SETTLED:
        return_bonds(market, providers, now=now)
        mark_settled(market_id=market.pk, now=now)
    sweep_market(scope=market.scope, now=now)
    return pushed


def settle_contract(*, contract_id: int, at: datetime, now: datetime) -> int:
    """
    Settle a contract for the period that `at` lies in: its window, or for a list contract the day in Shanghai.

    :returns: 1 when there is a new revision, else 0.
    :raises NotDueYet: while the period or its grace lasts.
    """
    assert_in_transaction()
    contract = DeliveryContract.objects.select_related("grade__model_card", "provider").get(pk=contract_id)
    if contract.market_id is not None:
        return settle_market(market_id=contract.market_id, now=now)
    DeliveryContract.objects.select_for_update(no_key=True).get(pk=contract_id)
    day = shanghai_date(at)
    period = shanghai_day(day)
    if now < period.end + _grace(contract.grade):
        raise NotDueYet("The day and its grace are not over; its list usage cannot be settled yet.")
    scope = f"list:{contract.grade_id}:{day:%Y%m%d}"
    pushed = _settle([Due(contract, period, scope, _labels(contract, period, None))], now=now)
    if pushed:
        sweep_market(scope=scope, now=now)
    return pushed


def _grace(grade: Grade) -> timedelta:
    return timedelta(seconds=grade.grace_seconds)


def _labels(contract: DeliveryContract, period: Period, market: Market | None) -> dict[str, Any]:
    grade = contract.grade
    labels = {
        "contract": contract.pk,
        "grade": grade.slug,
        "grade_name": grade.name,
        "grade_name_zh": grade.name_zh or None,
        "model": grade.model_card.name,
        "standard_version": grade.standard_version,
        "window_start": period.start.isoformat(),
        "window_end": period.end.isoformat(),
        "take_or_pay_thousandths": grade.take_or_pay_thousandths,
    }
    labels = {name: value for name, value in labels.items() if value is not None}
    return labels | {"market": market.pk} if market is not None else labels


def _settle(due: Sequence[Due], *, now: datetime) -> int:
    if not due:
        return 0
    wait_for_ingest()
    period = due[0].period
    ids = [one.contract.pk for one in due]
    meters = provider_meters({one.contract.provider_id for one in due})
    void_repeats(meters, period, now=now)
    hours = range(int(period.start.timestamp()) // 3600, -(-int(period.end.timestamp()) // 3600))
    LateUsage.objects.filter(contract_id__in=ids, hour__gte=hours.start, hour__lt=hours.stop).delete()
    reconcile([one.contract for one in due], period, until=period.end, now=now)
    adjusted = adjustments(ids, period)
    usage: dict[int, list[Usage]] = {}
    for used in recount(ids, meters, period):
        usage.setdefault(used.contract_id, []).append(used)
    before = _latest(ids, period)
    lots: dict[int, list[Lot]] = {}
    replaced = replaced_tokens_by_lot(ids)
    for lot in ContractLot.objects.filter(contract_id__in=ids).order_by("contract_id", "number"):
        if left := lot.quantity_tokens - replaced.get((lot.contract_id, lot.number), 0):
            lots.setdefault(lot.contract_id, []).append(
                Lot(lot.number, left, lot.buyer_price_nano, lot.seller_price_nano)
            )
    shortfalls = shortfalls_of(ids)
    late = late_work(ids)
    months = overage_months(due)
    fees = {provider: billing.fee_thousandths(provider) for provider in {one.contract.provider_id for one in due}}
    delivered = {
        one.contract.pk: [
            _delivered(u, adjusted.get((one.contract.pk, u.deployment_id)), _list_price(u.deployment_id, period))
            for u in usage.get(one.contract.pk, [])
        ]
        for one in due
    }
    beyond = [one.contract for one in due if exceeds(lots.get(one.contract.pk, []), delivered[one.contract.pk])]
    listed = list_prices_of(beyond, meters, period)
    charges: list[ChargeInput] = []
    postings: list[Posting] = []
    rows: list[ContractSettlement] = []
    losses: list[tuple[ContractSettlement, Loss]] = []
    undelivered: dict[int, int] = {}
    drawn_first = usable_credits({one.contract.buyer_id for one in due}, at=now)
    credit = Credit(due, drawn_first, [month.buyer for month in months.values()])
    for one in due:
        contract = one.contract
        earlier = before.get(contract.pk)
        month = months[contract.buyer_id]
        overage_before = earlier.overage_micro if earlier else 0
        spent_elsewhere = month.spent_micro - overage_before
        in_month = max(0, month.buyer.allows_overage_micro - spent_elsewhere)
        terms = Terms(
            take_or_pay_thousandths=contract.grade.take_or_pay_thousandths,
            fee_thousandths=fees[contract.provider_id],
            overage_limit_micro=min(in_month, overage_before + credit.left_micro(contract.buyer_id)),
        )
        missing = shortfalls.get(contract.pk, [])
        rate = partial(
            settle, lots.get(contract.pk, []), delivered[contract.pk], list_prices=listed.get(contract.pk),
            undelivered=[Undelivered(s.quantity_tokens - s.replaced_tokens, s.penalty_thousandths) for s in missing],
            replaced_tokens=sum(s.replaced_tokens for s in missing),
            late=Late(*late[contract.pk]) if contract.pk in late else None,
        )  # fmt: skip
        result = rate(terms=terms)
        undelivered[contract.pk] = _undelivered_tokens(result, missing)
        known = _stored(earlier)
        if known is not None and earlier is not None:
            # A limit that has changed since is no reason to settle again; where there is one, the new limit holds.
            as_before = rate(terms=replace(terms, overage_limit_micro=earlier.overage_limit_micro))
            if known.lines in (as_before.lines, result.lines):
                continue
        revision = earlier.revision + 1 if earlier else 0
        overage = sum(line.buyer_amount_micro for line in result.lines if line.kind in BEYOND)
        charges += charges_of(one, known, result, revision)
        postings += postings_of(one, known, result, revision, drawn_first.get(contract.buyer_id, []))
        row = ContractSettlement(
            contract_id=contract.pk,
            period_start=period.start,
            period_end=period.end,
            revision=revision,
            settled_at=now,
            work_micro_st=sum(u.work_micro_st for u in usage.get(contract.pk, [])),
            overage_micro=overage,
            overage_limit_micro=terms.overage_limit_micro,
            lines=[asdict(line) for line in result.lines],
            inputs=inputs_of(*rate.args, **rate.keywords, terms=terms),
            escrow_micro=result.escrow_micro,
            from_bond_micro=earlier.from_bond_micro if earlier else 0,
            from_default_micro=earlier.from_default_micro if earlier else 0,
        )
        rows.append(row)
        if loss := loss_of(one, known, result, row):
            losses.append((row, loss))
        month.spent_micro = spent_elsewhere + overage
        credit.spend(contract.buyer_id, overage - overage_before)
    _score(due, undelivered, now=now)
    covers, paid = bear([loss for _, loss in losses], postings)
    for row, loss in losses:
        row.from_bond_micro += loss.borne.bond_micro
        row.from_default_micro += loss.borne.default_micro
    charges += covers
    postings += paid
    OverageMonth.objects.bulk_update([m for m in months.values() if m.pk], ["spent_micro"])
    ContractSettlement.objects.bulk_create(rows)
    if charges or postings:
        push_charges(charges, postings, now=now)
    return len(rows)


def _delivered(usage: Usage, adjusted: Adjustment | None, price_nano: int) -> DeploymentUsage:
    """What a deployment delivered, less what was denied, and apart from it what is held back."""
    held, denied = adjusted or (0, 0)
    denied = min(denied, usage.work_micro_st)
    held = min(held, usage.work_micro_st - denied)
    return DeploymentUsage(
        usage.deployment_id, usage.work_micro_st - held - denied, price_nano, usage.tokens, disputed_micro_st=held
    )


def _latest(contract_ids: Sequence[int], period: Period) -> dict[int, ContractSettlement]:
    rows = ContractSettlement.objects.filter(contract_id__in=contract_ids, period_start=period.start)
    return {row.contract_id: row for row in rows.order_by("contract_id", "revision")}


_LINE_FIELDS = frozenset(field.name for field in fields(Line))  # older rows have one that was always zero


def _stored(row: ContractSettlement | None) -> Settlement | None:
    if row is None:
        return None
    lines = tuple(
        Line(**{name: value for name, value in line.items() if name in _LINE_FIELDS} | {"kind": LineKind(line["kind"])})
        for line in row.lines
    )
    return Settlement(lines, row.escrow_micro)


def _list_price(deployment_id: int, period: Period) -> int:
    """The lower of the list prices at the period's ends: a price raised meanwhile does not reach back. 0 for none."""
    prices = (list_price_nano(deployment_id, period.start), list_price_nano(deployment_id, period.end))
    return min((price for price in prices if price is not None), default=0)


def _undelivered_tokens(result: Settlement, missing: Sequence[ShortfallFacts]) -> int:
    """
    Return what the provider did not make available: what was settled as undelivered, what others replaced, and of what
    came in late hours the share by which it is cheaper.
    """
    work = sum(line.quantity_micro_st for line in result.lines if line.kind == LineKind.UNDELIVERED)
    late = sum(
        line.quantity_micro_st * line.penalty_thousandths for line in result.lines if line.kind == LineKind.LATE
    )
    return -(-(work * 1_000 + late) // (MICRO_PER_TOKEN * 1_000)) + sum(s.replaced_tokens for s in missing)


def _score(due: Sequence[Due], undelivered: dict[int, int], *, now: datetime) -> None:
    """Put on record how each provider of a market delivered; list usage promises nothing and scores nothing."""
    by_provider: dict[int, list[DeliveryContract]] = {}
    for one in due:
        if one.contract.market_id is not None:
            by_provider.setdefault(one.contract.provider_id, []).append(one.contract)
    for provider, contracts in sorted(by_provider.items()):
        record_delivery(
            provider_id=provider,
            scope=due[0].scope,
            contracts=len(contracts),
            contracted_tokens=sum(contract.quantity_tokens for contract in contracts),
            undelivered_tokens=sum(undelivered[contract.pk] for contract in contracts),
            now=now,
        )
