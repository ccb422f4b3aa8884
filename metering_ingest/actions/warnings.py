"""
Early warning: a contract in its window that is little used, whose guard is silent or whose requests fail, and a
certificate that ends soon. Each is said once, by webhook and on the overview.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Max

from core.transactions import assert_in_transaction
from exchange.models import ContractDeployment, DeliveryContract
from identity.actions import events
from metering_ingest import queries
from metering_ingest.domain.service import MINUTE, Seen, failed
from metering_ingest.models import Meter, ServiceMinute, ServiceWarning
from providers.models import Certificate, Deployment

GONE_THOUSANDTHS, USED_THOUSANDTHS = 500, 250
#: A guard reports every minute, some seconds late: so long without a report, it is silent.
SILENT = 3 * MINUTE
LOOKED_BACK, FAILED_MINUTES = 5 * MINUTE, 2
#: Where a grade promises no share, half of the requests failing is worth a look.
WITHOUT_PROMISE = 500
CERTIFICATE_AHEAD = timedelta(days=3)
Kind = ServiceWarning.Kind


class _Warning(NamedTuple):
    organization_id: int
    kind: str
    contract_id: int | None
    deployment_id: int | None
    until: datetime


def warn(*, now: datetime) -> int:
    """Say what needs a look now and was not said yet; returns how many warnings that are."""
    assert_in_transaction()
    rows = DeliveryContract.objects.filter(window_start__lte=now, window_end__gt=now).select_related("grade")
    contracts = {row.pk: row for row in rows}
    served = list(ContractDeployment.objects.filter(contract__in=contracts, until__isnull=True))
    found = {
        *_little_used(contracts, now), *_silent(contracts, served, now), *_failing(contracts, now), *_lapsing(now),
    }  # fmt: skip
    known = ServiceWarning.objects.filter(until__gt=now).values_list(
        "organization_id", "kind", "contract_id", "deployment_id", "until"
    )
    fresh = sorted(found - {_Warning(*row) for row in known}, key=str)
    ServiceWarning.objects.bulk_create(
        [ServiceWarning(**one._asdict(), warned_at=now) for one in fresh], ignore_conflicts=True
    )
    events.emit_all(
        [
            events.Event(
                one.organization_id, "service.warning", ":".join(map(str, one[1:])),
                {"warning": one.kind, "contract": one.contract_id, "deployment": one.deployment_id,
                 "until": one.until.isoformat()},
            )
            for one in fresh
        ],
        now=now,
    )  # fmt: skip
    return len(fresh)


def _little_used(contracts: dict[int, DeliveryContract], now: datetime) -> Iterable[_Warning]:
    used = queries.delivered_tokens(contracts)
    for row in contracts.values():
        assert row.window_start is not None and row.window_end is not None
        gone = (now - row.window_start) * 1_000 >= (row.window_end - row.window_start) * GONE_THOUSANDTHS
        if gone and used.get(row.pk, 0) * 1_000 < row.quantity_tokens * USED_THOUSANDTHS:
            yield _Warning(row.buyer_id, Kind.LITTLE_USED, row.pk, None, row.window_end)


def _silent(
    contracts: dict[int, DeliveryContract], served: Iterable[ContractDeployment], now: datetime
) -> Iterable[_Warning]:
    by_deployment = {row.deployment_id: contracts[row.contract_id] for row in served}
    last = ServiceMinute.objects.filter(
        deployment__in=by_deployment, meter__role=Meter.Role.PROVIDER, minute__gt=now - timedelta(days=1),
        minute__lte=now,
    ).values_list("deployment").annotate(Max("minute"))  # fmt: skip
    for deployment, minute in last.order_by():
        contract = by_deployment[deployment]
        if minute + MINUTE < now - SILENT and contract.window_end is not None:
            yield _Warning(contract.provider_id, Kind.GUARD_SILENT, None, deployment, contract.window_end)


def _failing(contracts: dict[int, DeliveryContract], now: datetime) -> Iterable[_Warning]:
    rows = ServiceMinute.objects.filter(contract__in=contracts, minute__gt=now - LOOKED_BACK, minute__lte=now)
    bad: dict[int, set[datetime]] = {}
    for contract, minute, ok, broken in rows.values_list("contract_id", "minute", "served", "failed"):
        share = contracts[contract].grade.error_share_thousandths
        share = WITHOUT_PROMISE if share is None else share
        if failed(Seen(served=ok, failed=broken), error_share_thousandths=share):
            bad.setdefault(contract, set()).add(minute)
    for contract, minutes in bad.items():
        row = contracts[contract]
        if len(minutes) >= FAILED_MINUTES and row.window_end is not None:
            for party in (row.buyer_id, row.provider_id):
                yield _Warning(party, Kind.BELOW_RATE, contract, None, row.window_end)


def _lapsing(now: datetime) -> Iterable[_Warning]:
    latest = Certificate.objects.values("deployment").annotate(end=Max("valid_until"))
    ending = latest.filter(end__gt=now, end__lte=now + CERTIFICATE_AHEAD, deployment__status=Deployment.Status.ACTIVE)
    for provider, deployment, end in ending.values_list("deployment__provider", "deployment", "end").order_by():
        yield _Warning(provider, Kind.CERTIFICATE_ENDS, None, deployment, end)
