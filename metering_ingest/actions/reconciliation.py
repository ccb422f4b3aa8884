"""
Comparing the meters of contracts hour by hour, and opening and closing discrepancies.

A sweep does it as hours end; settlement does it once more before it counts, so that nothing is settled unseen.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from core.live import publish_on_commit
from core.periods import Period
from core.transactions import assert_in_transaction
from exchange.models import DeliveryContract, Market
from identity.actions.events import Event, emit_all
from metering_ingest.actions.readings import HOUR, engine_counts
from metering_ingest.domain import reconciliation as rule
from metering_ingest.domain.reconciliation import BILLED_CLASSES, CODES_OF, Counts, DuePeriod, compare, lag_of
from metering_ingest.models import Discrepancy, DiscrepancyEntry, Meter, ReconciliationMark

_COUNTED = """
    SELECT r.contract_id, r.hour, m.role, r.meter_id, r.deployment_id, k.class, sum(r.quantity)::bigint,
        sum(r.work_micro_st)::bigint
    FROM usage_rollup r
    JOIN metering_ingest_meter m ON m.id = r.meter_id
    JOIN unnest(%(codes)s::int[], %(classes)s::text[]) AS k (code, class) ON k.code = r.token_class
    WHERE r.contract_id = ANY(%(contracts)s) AND r.hour >= %(start)s AND r.hour < %(end)s
    GROUP BY 1, 2, 3, 4, 5, 6
"""
_OF_DEPLOYMENTS = """
    SELECT r.deployment_id, r.hour, m.role, r.meter_id, k.class, sum(r.quantity)::bigint
    FROM metering_ingest_meter m
    JOIN usage_rollup r ON r.meter_id = m.id
    JOIN unnest(%(codes)s::int[], %(classes)s::text[]) AS k (code, class) ON k.code = r.token_class
    WHERE m.deployment_id = ANY(%(deployments)s) AND m.role <> 'buyer' AND r.hour >= %(start)s AND r.hour < %(end)s
    GROUP BY 1, 2, 3, 4, 5
"""
_UPSERT = """
    INSERT INTO meter_comparison AS c (contract_id, hour, token_class, provider_quantity, buyer_quantity,
        engine_quantity, tolerance_thousandths, agrees, meters, compared_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (contract_id, hour, token_class) DO UPDATE SET
        provider_quantity = excluded.provider_quantity, buyer_quantity = excluded.buyer_quantity,
        engine_quantity = excluded.engine_quantity, tolerance_thousandths = excluded.tolerance_thousandths,
        agrees = excluded.agrees, meters = excluded.meters, compared_at = excluded.compared_at
"""
_CLASS_OF: dict[str, Any] = {"codes": [c for name in BILLED_CLASSES for c in CODES_OF[name]],
             "classes": [name for name in BILLED_CLASSES for _ in CODES_OF[name]]}  # fmt: skip


def compare_period(*, due: DuePeriod, now: datetime) -> int:
    """
    Compare the hours of a contract's period that are over, and remember up to what it was compared.

    :returns: how many discrepancies were opened.
    """
    assert_in_transaction()
    if due.market_id is not None:
        Market.objects.select_for_update(no_key=True).get(pk=due.market_id)
    else:
        DeliveryContract.objects.select_for_update(no_key=True).get(pk=due.contract_id)
    contract = DeliveryContract.objects.select_related("grade").get(pk=due.contract_id)
    period = Period(due.start, due.end)
    opened = reconcile([contract], period, until=now - lag_of(due.grace_seconds), now=now)
    ReconciliationMark.objects.update_or_create(
        contract_id=due.contract_id, period_start=due.start, defaults={"fingerprint": due.fingerprint, "at": now}
    )
    return opened


class _Key(NamedTuple):
    contract_id: int
    hour: datetime
    token_class: str


class _Hour:
    """What was counted of one contract, hour and class, by whom."""

    def __init__(self) -> None:
        self.provider = 0
        self.buyer = 0
        self.engine: int | None = None
        self.tokens_at: defaultdict[int, int] = defaultdict(int)
        self.work_at: defaultdict[int, int] = defaultdict(int)
        self.meters: set[int] = set()


def reconcile(contracts: Sequence[DeliveryContract], period: Period, *, until: datetime, now: datetime) -> int:
    """
    Compare the hours of contracts in a period that ended by `until`; open, refresh and close discrepancies.

    The caller has locked the contracts' market, or the list contract: nobody else reconciles or settles them. Again,
    without new usage, nothing changes.

    :returns: how many discrepancies were opened.
    """
    assert_in_transaction()
    by_id = {contract.pk: contract for contract in contracts}
    hours, buyers = _count(by_id, period, until)
    _add_engines(hours)
    known = {
        _Key(row.contract_id, row.hour, row.token_class): row
        for row in Discrepancy.objects.select_for_update()
        .filter(contract__in=by_id, hour__gte=_hour_of(period.start), hour__lt=period.end)
        .order_by("pk")
    }
    opened = 0
    compared = []
    for key in sorted(hours.keys() | known.keys()):
        if _end_of(key.hour, period) > until:
            continue
        hour = hours.get(key) or _Hour()
        counts = Counts(hour.provider, hour.buyer if key.contract_id in buyers else None, hour.engine)
        row = known.get(key)
        if not counts.others and row is None:
            continue
        tolerance = by_id[key.contract_id].grade.meter_tolerance_thousandths
        verdict = compare(counts, tolerance_thousandths=tolerance)
        compared.append((*key, *counts, tolerance, verdict.agrees, sorted(hour.meters), now))
        if row is None and verdict.agrees:
            continue
        opened += _follow(row, key, hour, counts, tolerance, by_id[key.contract_id], now)
    if compared:
        with connection.cursor() as cursor:
            cursor.executemany(_UPSERT, compared)
    return opened


def _hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _end_of(hour: datetime, period: Period) -> datetime:
    return min(hour + HOUR, period.end)


def _count(
    contracts: Mapping[int, DeliveryContract], period: Period, until: datetime
) -> tuple[dict[_Key, _Hour], set[int]]:
    """Return the hours by contract and class, and the contracts on which a gateway reported anything."""
    values = {**_CLASS_OF, "contracts": list(contracts), "start": _hour_of(period.start), "end": min(period.end, until)}
    hours: defaultdict[_Key, _Hour] = defaultdict(_Hour)
    buyers: set[int] = set()
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED, values)
        for contract, at, role, meter, deployment, token_class, quantity, work in cursor.fetchall():
            hour = hours[_Key(contract, at, token_class)]
            if role == Meter.Role.PROVIDER:
                hour.provider += quantity
                hour.tokens_at[deployment] += quantity
                hour.work_at[deployment] += work
                hour.meters.add(meter)
            elif role == Meter.Role.BUYER:
                buyers.add(contract)
                hour.buyer += quantity
                hour.meters.add(meter)
    return dict(hours), buyers


def _add_engines(hours: Mapping[_Key, _Hour]) -> None:
    """Give each hour its share of what the engines of all its deployments counted; none where one is silent."""
    deployments = {deployment for hour in hours.values() for deployment in hour.tokens_at}
    engines: defaultdict[int, list[int]] = defaultdict(list)
    for meter in Meter.objects.filter(deployment__in=deployments, role=Meter.Role.ENGINE, closed_at__isnull=True):
        engines[meter.deployment_id or 0].append(meter.pk)
    if not engines:
        return
    moments = sorted({key.hour for key in hours})
    reported: defaultdict[tuple[int, datetime, str], int] = defaultdict(int)
    by_engine: defaultdict[tuple[int, datetime], dict[str, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(
            _OF_DEPLOYMENTS,
            {**_CLASS_OF, "deployments": list(engines), "start": moments[0], "end": moments[-1] + HOUR},
        )
        for deployment, at, role, meter_id, token_class, quantity in cursor.fetchall():
            if role == Meter.Role.PROVIDER:
                reported[deployment, at, token_class] += quantity
            else:
                by_engine[meter_id, at][token_class] = quantity
    for at in moments:
        wanted = [meter for meters in engines.values() for meter in meters if (meter, at) not in by_engine]
        for meter_id, counts in engine_counts(wanted, at, at + HOUR).items():
            by_engine[meter_id, at] = counts
    for key, hour in hours.items():
        share = 0
        for deployment, tokens in hour.tokens_at.items():
            seen = [by_engine.get((meter, key.hour), {}).get(key.token_class) for meter in engines.get(deployment, [])]
            if not seen or None in seen:
                break
            share += rule.engine_share(
                sum(n for n in seen if n is not None), of_contract=tokens,
                of_deployment=reported[deployment, key.hour, key.token_class],
            )  # fmt: skip
        else:
            if hour.tokens_at:
                hour.engine = share
                hour.meters.update(meter for deployment in hour.tokens_at for meter in engines[deployment])


def _follow(
    row: Discrepancy | None, key: _Key, hour: _Hour, counts: Counts, tolerance: int, contract: DeliveryContract,
    now: datetime,
) -> int:  # fmt: skip
    """Open a discrepancy, or bring one up to date. Returns 1 when it is open now and was not."""
    verdict = compare(counts, tolerance_thousandths=tolerance)
    held_work = rule.work_of(verdict.held, of_tokens=counts.provider, work_micro_st=sum(hour.work_at.values()))
    values: dict[str, Any] = {
        "provider_quantity": counts.provider, "buyer_quantity": counts.buyer, "engine_quantity": counts.engine,
        "tolerance_thousandths": tolerance, "held_quantity": verdict.held, "held_work_micro_st": held_work,
        "by_deployment": {
            str(d): work for d, work in rule.split_by_deployment(held_work, hour.work_at).items()
        },
    }  # fmt: skip
    evidence = {
        "provider": counts.provider, "buyer": counts.buyer, "engine": counts.engine, "held": verdict.held,
        "held_work_micro_st": held_work, "median": verdict.median, "tolerance_thousandths": tolerance,
        "meters": sorted(hour.meters),
    }  # fmt: skip
    if row is None:
        row = Discrepancy.objects.create(
            contract=contract, hour=key.hour, token_class=key.token_class, opened_at=now, changed_at=now, **values
        )
        _enter(row, DiscrepancyEntry.Kind.OPENED, evidence, now)
        announce(row, contract, DiscrepancyEntry.Kind.OPENED, now)
        return 1
    if row.provider_quantity == counts.provider and (
        row.state == Discrepancy.State.DECIDED
        or (row.buyer_quantity, row.engine_quantity, row.tolerance_thousandths)
        == (counts.buyer, counts.engine, tolerance)
    ):
        return 0
    was = row.state
    for name, value in values.items():
        setattr(row, name, value)
    row.accepted_quantity, row.denied_work_micro_st, row.changed_at = None, 0, now
    row.state = Discrepancy.State.AGREED if verdict.agrees else Discrepancy.State.OPEN
    row.save()
    again = row.state == Discrepancy.State.OPEN and was != Discrepancy.State.OPEN
    kind = (
        DiscrepancyEntry.Kind.AGREED if verdict.agrees
        else DiscrepancyEntry.Kind.OPENED if again
        else DiscrepancyEntry.Kind.CHANGED
    )  # fmt: skip
    if not (verdict.agrees and was == Discrepancy.State.AGREED):
        _enter(row, kind, evidence, now)
        announce(row, contract, kind, now)
    return int(again)


def _enter(row: Discrepancy, kind: DiscrepancyEntry.Kind, evidence: dict[str, Any], now: datetime) -> None:
    DiscrepancyEntry.objects.create(discrepancy=row, kind=kind, at=now, evidence=evidence)


def announce(row: Discrepancy, contract: DeliveryContract, kind: DiscrepancyEntry.Kind, now: datetime) -> None:
    """Tell both sides what happened: pages after commit, webhooks when it opens and when it is resolved."""
    data = {
        "id": row.pk, "contract": contract.pk, "hour": row.hour.isoformat(), "token_class": row.token_class,
        "state": row.state, "provider_quantity": row.provider_quantity, "buyer_quantity": row.buyer_quantity,
        "engine_quantity": row.engine_quantity, "held_quantity": row.held_quantity,
        "accepted_quantity": row.accepted_quantity,
    }  # fmt: skip
    sides = sorted((contract.buyer_id, contract.provider_id))
    for organization_id in sides:
        publish_on_commit(f"organization.{organization_id}", {"type": "discrepancy", **data})
    if (event := _EVENTS.get(kind)) is not None:
        key = f"discrepancy:{row.pk}:{now.isoformat()}"
        emit_all([Event(organization_id, event, key, data) for organization_id in sides], now=now)


_EVENTS = {
    DiscrepancyEntry.Kind.OPENED: "discrepancy.opened",
    DiscrepancyEntry.Kind.AGREED: "discrepancy.resolved",
    DiscrepancyEntry.Kind.DECIDED: "discrepancy.resolved",
}


class Adjustment(NamedTuple):
    """What of a deployment's work on a contract is held back, and what was denied for good."""

    held_micro_st: int
    denied_micro_st: int


def adjustments(contract_ids: Sequence[int], period: Period) -> dict[tuple[int, int], Adjustment]:
    """Return the adjustments of a period by contract and deployment."""
    found: dict[tuple[int, int], Adjustment] = {}
    rows = Discrepancy.objects.filter(
        contract__in=contract_ids, hour__gte=_hour_of(period.start), hour__lt=period.end
    ).exclude(state=Discrepancy.State.AGREED)
    for row in rows:
        for deployment, work in row.by_deployment.items():
            held, denied = found.get((row.contract_id, int(deployment)), Adjustment(0, 0))
            if row.state == Discrepancy.State.OPEN:
                held += work
            else:
                denied += work
            found[row.contract_id, int(deployment)] = Adjustment(held, denied)
    return found
