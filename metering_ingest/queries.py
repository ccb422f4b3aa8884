"""Named reads of meters, usage and what was rejected."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Exists, Max, OuterRef, Q, QuerySet

from core.money import MICRO_PER_TOKEN, cost_micro, share_micro
from exchange.domain.replacement import PENALTY_THOUSANDTHS
from exchange.models import DeliveryContract, Market
from identity.access import Actor
from metering_ingest.archived import events_between
from metering_ingest.domain.event_key import first_key, milliseconds
from metering_ingest.domain.routing import PENDING_CODE
from metering_ingest.models import (
    Claim,
    Discrepancy,
    LateUsage,
    Meter,
    RejectedEvent,
    ServiceFinding,
    SubjectAlias,
    UsageGap,
    UsageManifest,
)
from metering_ingest.usage_queries import usage as usage


def meters_readable(actor: Actor) -> "QuerySet[Meter]":
    """Return the meters of the organizations that the actor may see."""
    return Meter.objects.filter(organization__in=actor.organizations_readable()).select_related("deployment", "score")


def aliases_readable(actor: Actor) -> "QuerySet[SubjectAlias]":
    """Return the aliases that a provider registered, or that name the buyer."""
    readable = actor.organizations_readable()
    return SubjectAlias.objects.filter(Q(provider__in=readable) | Q(buyer__in=readable)).select_related("buyer")


def rejected_readable(actor: Actor) -> "QuerySet[RejectedEvent]":
    """Return rejected events of the actor's meters; of one meter for that meter's own key."""
    meters = Meter.objects.filter(organization__in=actor.organizations_readable())
    if actor.meter_id is not None:
        meters = meters.filter(pk=actor.meter_id)
    return RejectedEvent.objects.filter(meter_id__in=list(meters.values_list("pk", flat=True)))


def manifests_readable(actor: Actor, *, meter_id: int | None = None) -> "QuerySet[UsageManifest]":
    """Return what the actor's meters said they recorded."""
    rows = UsageManifest.objects.filter(meter__organization__in=actor.organizations_readable())
    return rows if meter_id is None else rows.filter(meter_id=meter_id)


def gaps_readable(actor: Actor, *, meter_id: int | None = None) -> "QuerySet[UsageGap]":
    """Return what the actor's meters recorded and is or was missing here."""
    rows = UsageGap.objects.filter(meter__organization__in=actor.organizations_readable())
    return rows if meter_id is None else rows.filter(meter_id=meter_id)


def hours_with_gaps() -> list[tuple[int, datetime]]:
    """Return the meters and hours of which something is missing."""
    rows = UsageGap.objects.filter(closed_at__isnull=True).values_list("meter_id", "hour")
    return list(rows.distinct().order_by("hour", "meter_id"))


def set_aside(
    *, meter_id: int | None = None, code: str | None = None, after: UUID | None = None
) -> "QuerySet[RejectedEvent]":
    """Return events that wait to be replayed, in the order of arrival, beginning behind the kept id `after`."""
    rows = RejectedEvent.objects.filter(resolved_at__isnull=True).order_by("kept_id")
    if meter_id is not None:
        rows = rows.filter(meter_id=meter_id)
    if code is not None:
        rows = rows.filter(code=code)
    return rows if after is None else rows.filter(kept_id__gt=after)


def delivered_tokens(contract_ids: Collection[int]) -> dict[int, int]:
    """Return the standard tokens of contracts that their providers' meters have reported so far, rounded up."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT r.contract_id, sum(r.work_micro_st)::bigint FROM usage_rollup r
            JOIN metering_ingest_meter m ON m.id = r.meter_id AND m.role = 'provider'
            WHERE r.contract_id = ANY(%s) GROUP BY 1
            """,
            [list(contract_ids)],
        )
        return {contract: -(-max(work, 0) // MICRO_PER_TOKEN) for contract, work in cursor.fetchall()}


def metered_requests(contract: DeliveryContract, request_ids: Collection[str]) -> int:
    """Return how many of these request ids the provider's meters have on record for a spot contract's window."""
    assert contract.window_start is not None and contract.window_end is not None
    meters = Meter.objects.filter(organization=contract.provider_id, role=Meter.Role.PROVIDER)
    first, last = (UUID(bytes=first_key(milliseconds(at))) for at in (contract.window_start, contract.window_end))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(DISTINCT e.id) FROM {events_between(first, last)} e
            WHERE e.event_key >= %s AND e.event_key < %s AND e.meter_id = ANY(%s) AND e.contract_id = %s
                AND e.id = ANY(%s)
                AND NOT EXISTS (SELECT FROM usage_void v WHERE v.event_key = e.event_key AND v.meter_id = e.meter_id)
            """,
            [
                first,
                last,
                list(meters.values_list("pk", flat=True)),
                contract.pk,
                list(request_ids),
            ],
        )
        return int(cursor.fetchone()[0])


def claims_readable(actor: Actor) -> "QuerySet[Claim]":
    """Return the claims that an actor may see: those of either side, or all for operator and auditor."""
    rows = Claim.objects.select_related("contract__buyer", "contract__provider", "contract__market__grade", "ruling")
    if actor.is_operator or actor.reads_everything:
        return rows
    mine = actor.organization_id
    return rows.filter(Q(contract__buyer_id=mine) | Q(contract__provider_id=mine))


def markets_to_finalize(now: datetime) -> list[int]:
    """Return settled markets whose dispute days are over and on which no claim or discrepancy is open, oldest first."""
    rows = (
        Market.objects.filter(phase=Market.Phase.SETTLED, finalized_at__isnull=True)
        .exclude(Exists(Claim.objects.filter(contract__market_id=OuterRef("pk"), ruling__isnull=True)))
        .exclude(Exists(Discrepancy.objects.filter(contract__market_id=OuterRef("pk"), state=Discrepancy.State.OPEN)))
        .exclude(Exists(ServiceFinding.objects.filter(contract__market_id=OuterRef("pk"), ruling__isnull=True)))
        .order_by("settled_at", "pk")
        .values_list("pk", "settled_at", "grade__dispute_days")
    )
    due = [pk for pk, settled_at, days in rows if settled_at is not None and settled_at + timedelta(days=days) <= now]
    return due[:FINAL_A_SWEEP]


def open_discrepancies(market_id: int) -> "QuerySet[Discrepancy]":
    """Return the discrepancies of a market's contracts that nobody has decided."""
    return Discrepancy.objects.filter(contract__market_id=market_id, state=Discrepancy.State.OPEN)


def open_claims(market_id: int) -> "QuerySet[Claim]":
    """Return the claims on a market's contracts that nobody has ruled on."""
    return Claim.objects.filter(contract__market_id=market_id, ruling__isnull=True)


def claimed_micro(market_id: int) -> dict[int, int]:
    """
    Return, by provider, what the open claims on a market's contracts may cost at most: the dearest lot's price and the
    penalty on it.
    """
    return _most_cost_micro(open_claims(market_id))


def claimed_once_micro(market_id: int, provider_id: int) -> int:
    """Return what all claims ever made on a provider's contracts in a market may have cost at most."""
    rows = Claim.objects.filter(contract__market_id=market_id, contract__provider_id=provider_id)
    return _most_cost_micro(rows).get(provider_id, 0)


def _most_cost_micro(claims: "QuerySet[Claim]") -> dict[int, int]:
    cost: dict[int, int] = {}
    rows = claims.annotate(dearest=Max("contract__lots__buyer_price_nano"))
    for claim in rows.select_related("contract"):
        price = cost_micro(tokens=claim.quantity_tokens, price_nano=claim.dearest)
        most = price + share_micro(price, PENALTY_THOUSANDTHS)
        cost[claim.contract.provider_id] = cost.get(claim.contract.provider_id, 0) + most
    return cost


LATE_A_SWEEP = 100
FINAL_A_SWEEP = 20
PENDING_A_SWEEP = 1_000


def late_usage() -> list[tuple[int, int]]:
    """Return contracts and hours (since 1970) that are to be settled again, the oldest first; one hour per contract."""
    marks = LateUsage.objects.order_by("since").values_list("contract_id", "hour")[:LATE_A_SWEEP]
    return [(int(contract), int(hour)) for contract, hour in marks]


def forget_late_usage(contract_id: int, hour: int) -> None:
    """Drop a mark of a period that has not been settled yet."""
    LateUsage.objects.filter(contract_id=contract_id, hour=hour).delete()


def list_usage_due(now: datetime) -> list[tuple[int, datetime]]:
    """Return list contracts with a moment of each day that is over (with its grace), has usage and is not settled."""
    sql = """
        SELECT used.contract_id, used.first_hour
        FROM (
            SELECT r.contract_id, date_trunc('day', r.hour, 'Asia/Shanghai') AS day, min(r.hour) AS first_hour,
                g.grace_seconds
            FROM exchange_deliverycontract c
            JOIN providers_grade g ON g.id = c.grade_id
            JOIN usage_rollup r ON r.contract_id = c.id
            WHERE c.kind = 'list' AND r.hour >= %(now)s - interval '40 days'
            GROUP BY 1, 2, 4
        ) AS used
        WHERE used.day + interval '1 day' + used.grace_seconds * interval '1 second' <= %(now)s
            AND NOT EXISTS (
                SELECT FROM metering_ingest_contractsettlement s
                WHERE s.contract_id = used.contract_id AND s.period_start = used.day)
        ORDER BY 2, 1 LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, {"now": now})
        return [(contract, hour) for contract, hour in cursor.fetchall()]


def pending_events() -> list[RejectedEvent]:
    """Return events that were sent before their market had made its contracts."""
    rows = RejectedEvent.objects.filter(code=PENDING_CODE, resolved_at__isnull=True)
    return list(rows.order_by("kept_id")[:PENDING_A_SWEEP])
