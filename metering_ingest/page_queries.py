"""Named reads behind metering's pages."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q, Sum

from identity.access import Actor
from metering_ingest import queries
from metering_ingest.models import Meter, RejectedEvent, UsageRollup


@dataclass(frozen=True, slots=True)
class MeterHealth:
    """A meter with what it has done in the last day; `last_hour` is the latest hour that it reported."""

    meter: Meter
    last_hour: datetime | None
    events: int
    work_micro_st: int
    set_aside: int


def used_micro_st(contract_ids: Collection[int]) -> dict[int, int]:
    """Return the work that each contract has used so far, as its provider's meters report it."""
    if not contract_ids:
        return {}
    rows = UsageRollup.objects.filter(contract_id__in=contract_ids)
    meters = set(rows.values_list("meter_id", flat=True).distinct())
    providers = Meter.objects.filter(pk__in=meters, role=Meter.Role.PROVIDER).values_list("pk", flat=True)
    sums = rows.filter(meter_id__in=list(providers)).values_list("contract_id").annotate(work=Sum("work_micro_st"))
    return dict(sums)


def meters_with_health(actor: Actor, *, now: datetime) -> list[MeterHealth]:
    """Return the meters of the actor's own organization, open ones first, with their last day."""
    meters = list(
        queries.meters_readable(actor)
        .filter(organization_id=actor.organization_id)
        .select_related("deployment")
        .order_by("closed_at", "name")[:200]
    )
    ids = [meter.pk for meter in meters]
    recent = Q(hour__gte=now - timedelta(days=1))
    sums = {
        row["meter_id"]: row
        for row in UsageRollup.objects.filter(meter_id__in=ids, hour__gte=now - timedelta(days=31))
        .values("meter_id")
        .annotate(
            last=Max("hour"),
            events_day=Sum("events", filter=recent, default=0),
            work_day=Sum("work_micro_st", filter=recent, default=0),
        )
    }
    kept = RejectedEvent.objects.filter(meter_id__in=ids, resolved_at__isnull=True)
    aside = dict(kept.values_list("meter_id").annotate(count=Count("*")))
    return [
        MeterHealth(
            meter=meter,
            last_hour=found["last"] if (found := sums.get(meter.pk)) else None,
            events=found["events_day"] if found else 0,
            work_micro_st=found["work_day"] if found else 0,
            set_aside=aside.get(meter.pk, 0),
        )
        for meter in meters
    ]
