"""Named reads behind metering's pages."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.core.cache import cache
from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from core.periods import SHANGHAI
from exchange.models import DeliveryContract
from identity.access import Actor
from metering_ingest import queries
from metering_ingest.domain.classes import REQUESTS
from metering_ingest.domain.event_key import first_key, milliseconds, milliseconds_of, moment_of
from metering_ingest.models import Meter, RejectedEvent, UsageEvent, UsageRollup


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


def delivered_today_micro_st(now: datetime) -> int:
    """Return the work in contracts' windows that providers' meters reported since Shanghai midnight; a minute old."""

    def summed() -> int:
        midnight = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
        due = DeliveryContract.objects.filter(market__window_end__gt=midnight, market__window_start__lte=now)
        rows = UsageRollup.objects.filter(contract_id__in=due.values("pk"), hour__gte=midnight)
        rows = rows.filter(meter_id__in=Meter.objects.filter(role=Meter.Role.PROVIDER).values("pk"))
        return int(rows.aggregate(work=Sum("work_micro_st", default=0))["work"])

    return int(cache.get_or_set(f"delivered:{now.astimezone(SHANGHAI):%Y-%m-%d}", summed, 60) or 0)


@dataclass(frozen=True, slots=True)
class LastEvent:
    """The latest request that a meter reported: when it ended, its names, and when it was received."""

    time: datetime
    source: str
    id: str
    received_at: datetime


def last_event(meter_id: int) -> LastEvent | None:
    """Return a meter's latest event, looked for in its last reported hour alone; None where that is archived."""
    hour = UsageRollup.objects.filter(meter_id=meter_id).aggregate(last=Max("hour"))["last"]
    if hour is None:
        return None
    begins = UUID(bytes=first_key(milliseconds(hour)))
    row = UsageEvent.objects.filter(meter_id=meter_id, event_key__gte=begins).order_by("-event_key").first()
    if row is None:
        return None
    return LastEvent(moment_of(milliseconds_of(row.event_key.bytes)), row.source, row.id, row.received_at)


def set_aside_by_reason(meter_id: int) -> list[tuple[str, int, datetime]]:
    """Return the codes of a meter's events that wait to be replayed, with how many there are and since when."""
    rows = RejectedEvent.objects.filter(meter_id=meter_id, resolved_at__isnull=True)
    found = rows.values_list("code").annotate(count=Count("*"), since=Min("received_at"))
    return [(code, count, since) for code, count, since in found.order_by("-count", "code")]


def meters_of(actor: Actor) -> "QuerySet[Meter]":
    """Return the meters of the actor's own organization."""
    return queries.meters_readable(actor).filter(organization_id=actor.organization_id).select_related("deployment")


def with_health(meters: Sequence[Meter], *, now: datetime) -> list[MeterHealth]:
    """Return meters with their last day."""
    ids = [meter.pk for meter in meters]
    recent = Q(hour__gte=now - timedelta(days=1))
    sums = {
        row["meter_id"]: row
        for row in UsageRollup.objects.filter(meter_id__in=ids, hour__gte=now - timedelta(days=31))
        .values("meter_id")
        .annotate(
            last=Max("hour"),
            # An event stands in a row of each of its classes: that of requests alone counts each once.
            events_day=Sum("events", filter=recent & Q(token_class=REQUESTS), default=0),
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
