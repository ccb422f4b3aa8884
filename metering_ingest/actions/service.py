"""Evidence of service comes in: what meters saw minute by minute."""

from collections.abc import Collection
from datetime import datetime, timedelta

from core.errors import BadRequest, Forbidden
from core.transactions import assert_in_transaction
from exchange.models import ContractDeployment, DeliveryContract
from metering_ingest.domain.service import Report, ReportUnreadable, decode_report
from metering_ingest.models import Meter, ServiceMinute, ServiceReport

AHEAD = timedelta(minutes=5)


class ReportInvalid(BadRequest):
    """The body is no report of service."""

    code = "service-report-invalid"


class NotOfThisMeter(Forbidden):
    """A meter reports on its own deployment and its organization's contracts."""

    code = "not-of-this-meter"


def record_report(*, meter: Meter, body: bytes, signature: bytes | None, now: datetime) -> int:
    """
    Keep a report with its minutes; those that are kept already stay as they are.

    :param body: the report as it was sent, its signature checked already.
    :returns: how many minutes are new.
    :raises ReportInvalid: it cannot be read, or speaks of minutes to come.
    :raises NotOfThisMeter: it speaks of what the meter has not seen; nothing of it is kept.
    """
    assert_in_transaction()
    try:
        report = decode_report(body)
    except ReportUnreadable as error:
        raise ReportInvalid(str(error), field=error.field) from None
    _check(meter, report, now)
    known = ServiceMinute.objects.filter(
        meter=meter, run=report.run, minute__in={row.minute for row in report.minutes},
        deployment__in={row.deployment for row in report.minutes},
    )  # fmt: skip
    kept = set(known.values_list("minute", "deployment_id", "contract_id"))
    fresh = {
        key: row for row in report.minutes if (key := (row.minute, row.deployment, row.contract)) not in kept
    }  # fmt: skip
    if not fresh:
        return 0
    stored = ServiceReport.objects.create(
        meter=meter, run=report.run, body=body, signature=signature, received_at=now
    )
    ServiceMinute.objects.bulk_create(
        [
            ServiceMinute(
                report=stored, meter=meter, run=report.run, contract_id=row.contract, deployment_id=row.deployment,
                minute=row.minute, served=row.served, failed=row.failed, limited=row.limited,
                first_measured=row.first_measured, first_late=row.first_late, first_token_ms=row.first_token_ms,
                token_measured=row.token_measured, token_late=row.token_late, token_ms=row.token_ms,
            )
            for row in fresh.values()
        ],
        ignore_conflicts=True,
    )  # fmt: skip
    return len(fresh)


def _check(meter: Meter, report: Report, now: datetime) -> None:
    if meter.role == Meter.Role.ENGINE:
        raise NotOfThisMeter("Counters of an engine see no requests; guards and gateways report service.")
    if any(row.minute > now + AHEAD for row in report.minutes):
        raise ReportInvalid("A minute is reported when it is over.", field="minutes")
    pairs = {(row.contract, row.deployment) for row in report.minutes}
    if meter.role == Meter.Role.PROVIDER:
        if any(deployment != meter.deployment_id for _, deployment in pairs):
            raise NotOfThisMeter(f"This meter reports on deployment {meter.deployment_id}.", field="minutes")
        mine = DeliveryContract.objects.filter(provider=meter.organization_id)
    else:
        if any(contract is None for contract, _ in pairs):
            raise NotOfThisMeter("A buyer's meter reports on contracts.", field="minutes")
        mine = DeliveryContract.objects.filter(buyer=meter.organization_id)
    contracts = {contract for contract, _ in pairs if contract is not None}
    if unknown := contracts - set(mine.filter(pk__in=contracts).values_list("pk", flat=True)):
        raise NotOfThisMeter(f"Contract {min(unknown)} is none of this meter's organization.", field="minutes")
    if meter.role == Meter.Role.BUYER:
        _check_served(pairs)


def _check_served(pairs: Collection[tuple[int | None, int]]) -> None:
    rows = ContractDeployment.objects.filter(contract__in={contract for contract, _ in pairs})
    served = set(rows.values_list("contract_id", "deployment_id"))
    lists = set(
        DeliveryContract.objects.filter(
            pk__in={contract for contract, _ in pairs}, kind=DeliveryContract.Kind.LIST
        ).values_list("pk", flat=True)
    )
    for contract, deployment in pairs:
        if contract not in lists and (contract, deployment) not in served:
            raise NotOfThisMeter(f"Deployment {deployment} does not serve contract {contract}.", field="minutes")
