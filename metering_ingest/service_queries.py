"""Reads of the evidence of service, of what was found by it, and of what is due to be looked at."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import connection
from django.db.models import Exists, OuterRef, Q, Sum

from exchange.models import ContractDeployment, Market
from identity.access import Actor
from metering_ingest.domain.service import MINUTE, PROBE_EVERY, Seen
from metering_ingest.models import (
    FindingRuling,
    Meter,
    Probe,
    ServiceFinding,
    ServiceMinute,
    ServiceReview,
    ServiceWarning,
    UsageRollup,
)
from providers.models import Deployment, Grade

if TYPE_CHECKING:
    from django.db.models import QuerySet

HOUR = timedelta(hours=1)
PROMISES = (
    Q(grade__error_share_thousandths__isnull=False)
    | Q(grade__first_token_p95_ms__isnull=False)
    | Q(grade__per_token_p95_ms__isnull=False)
)
MARKETS_A_SWEEP = 20


class Evidence:
    """
    What three sides saw of a contract at a deployment from `start` to `end`.

    `gateway` and `guard` are by minute; `guarded_since` is the first minute that a guard ever reported for the
    deployment (None: none ever did), `up` the minutes in which one was running.
    """

    def __init__(
        self, rows: list[ServiceMinute], up: set[datetime], guarded_since: datetime | None, probes: list[Probe],
        grade: Grade,
    ) -> None:  # fmt: skip
        self.gateway: dict[datetime, Seen] = {}
        self.guard: dict[datetime, Seen] = {}
        self._up, self._guarded_since, self._probes, self._grade = up, guarded_since, probes, grade
        for row in rows:
            side = self.gateway if row.meter.role == Meter.Role.BUYER else self.guard
            side[row.minute] = side.get(row.minute, Seen()) + Seen(
                row.served, row.failed, row.limited, row.first_measured, row.first_late, row.token_measured,
                row.token_late,
            )  # fmt: skip

    def silent(self, minute: datetime) -> bool:
        """Whether a guard that reports every minute did not report this one."""
        return self._guarded_since is not None and self._guarded_since < minute and minute not in self._up

    def probe_failed(self, minute: datetime) -> bool | None:
        """What the last probe before the minute's end said, if it is not older than until the next one was due."""
        for probe in reversed(self._probes):
            if probe.at < minute + MINUTE:
                return not probe.ok if probe.at >= minute + MINUTE - PROBE_EVERY - MINUTE else None
        return None

    def by_hour(self) -> dict[datetime, tuple[Seen | None, Seen | None, Seen | None]]:
        """By hour of UTC, what gateway, guard and probes saw in it."""
        hours: dict[datetime, list[Seen | None]] = {}
        sides = [*((0, minute, seen) for minute, seen in self.gateway.items()),
                 *((1, minute, seen) for minute, seen in self.guard.items()),
                 *((2, probe.at, self._measured(probe)) for probe in self._probes if probe.ok)]  # fmt: skip
        for side, at, seen in sides:
            three = hours.setdefault(at.replace(minute=0, second=0, microsecond=0), [None, None, None])
            three[side] = (three[side] or Seen()) + seen
        return {hour: (three[0], three[1], three[2]) for hour, three in sorted(hours.items())}

    def _measured(self, probe: Probe) -> Seen:
        def beyond(value: int | None, promised: int | None) -> tuple[int, int]:
            return (0, 0) if value is None or promised is None else (1, int(value > promised))

        first, token = (
            beyond(probe.first_token_ms, self._grade.first_token_p95_ms),
            beyond(probe.token_ms, self._grade.per_token_p95_ms),
        )
        return Seen(1, 0, 0, first[0], first[1], token[0], token[1])


def evidence(contract_id: int, deployment_id: int, start: datetime, end: datetime, *, grade: Grade) -> Evidence:
    """Return what is on record of a contract at a deployment in a time."""
    of_deployment = ServiceMinute.objects.filter(deployment_id=deployment_id)
    in_time = of_deployment.filter(minute__gte=start - MINUTE, minute__lt=end)
    rows = list(in_time.filter(contract_id=contract_id).select_related("meter"))
    guards = of_deployment.filter(meter__role=Meter.Role.PROVIDER)
    up = set(guards.filter(minute__gte=start - MINUTE, minute__lt=end).values_list("minute", flat=True))
    first = guards.filter(minute__lt=end).order_by("minute").values_list("minute", flat=True).first()
    probes = list(
        Probe.objects.filter(deployment_id=deployment_id, at__gte=start - 2 * PROBE_EVERY, at__lt=end).order_by("at")
    )
    return Evidence(rows, up, first, probes, grade)


def work_micro_st(contract_id: int, deployment_id: int, hour: datetime) -> int:
    """Return the work of a contract at a deployment in an hour, as its provider's meters reported it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(sum(r.work_micro_st), 0)::bigint FROM usage_rollup r
            JOIN metering_ingest_meter m ON m.id = r.meter_id AND m.role = 'provider'
            WHERE r.contract_id = %s AND r.deployment_id = %s AND r.hour = %s
            """,
            [contract_id, deployment_id, hour],
        )
        return max(0, int(cursor.fetchone()[0]))


def probed_micro_st(deployment_id: int, now: datetime) -> dict[int, int]:
    """Return what the exchange's own requests have taken of a deployment in windows that are open, by contract."""
    serves = ContractDeployment.objects.filter(
        deployment=deployment_id, contract__window_start__lte=now, contract__window_end__gt=now
    )
    rows = UsageRollup.objects.filter(
        contract_id__in=[-contract for contract in serves.values_list("contract_id", flat=True)],
        deployment_id=deployment_id,
    )
    sums = rows.values("contract_id").annotate(work=Sum("work_micro_st")).order_by("contract_id")
    return {-row["contract_id"]: row["work"] for row in sums}


def markets_to_review(now: datetime, *, after_thousandths: int) -> list[int]:
    """Return markets with a promise whose window is over for that part of their grace and that nobody has reviewed."""
    rows = (
        Market.objects.filter(PROMISES, phase__in=(Market.Phase.DELIVERING, Market.Phase.SETTLED))
        .filter(window_end__lte=now, window_end__gt=now - timedelta(days=90), finalized_at__isnull=True)
        .exclude(Exists(ServiceReview.objects.filter(market=OuterRef("pk"))))
        .order_by("window_end", "pk")
        .values_list("pk", "window_end", "grade__grace_seconds")
    )
    due = [
        pk for pk, end, grace in rows if end + timedelta(seconds=grace) * after_thousandths / 1_000 <= now
    ]  # fmt: skip
    return due[:MARKETS_A_SWEEP]


def findings_to_stand(now: datetime) -> list[int]:
    """Return findings that nobody has objected to and whose time to do so is over."""
    rows = ServiceFinding.objects.filter(ruling__isnull=True, objections__isnull=True, decided_from__lte=now)
    return list(rows.filter(contract__market__finalized_at__isnull=True).order_by("pk").values_list("pk", flat=True))


def open_findings(market_id: int) -> "QuerySet[ServiceFinding]":
    """Return the findings on a market's contracts that are not decided."""
    return ServiceFinding.objects.filter(contract__market_id=market_id, ruling__isnull=True)


def deployments_to_probe(now: datetime) -> list[int]:
    """Return deployments that serve a grade with a promise in a window that is open, and were not probed lately."""
    lately = Probe.objects.filter(deployment=OuterRef("pk"), at__gt=now - PROBE_EVERY)
    serving = ContractDeployment.objects.filter(
        deployment=OuterRef("pk"), contract__window_start__lte=now, contract__window_end__gt=now,
        until__isnull=True,
    )  # fmt: skip
    rows = Deployment.objects.filter(PROMISES).filter(Exists(serving)).exclude(Exists(lately))
    return list(rows.order_by("pk").values_list("pk", flat=True))


def findings_readable(actor: Actor) -> "QuerySet[ServiceFinding]":
    """Return the findings that an actor may see: those of either side, or all for operator and auditor."""
    rows = ServiceFinding.objects.select_related("contract__buyer", "contract__provider", "ruling", "claim")
    rows = rows.prefetch_related("objections__by")
    if actor.is_operator or actor.reads_everything:
        return rows
    mine = actor.organization_id
    return rows.filter(Q(contract__buyer_id=mine) | Q(contract__provider_id=mine))


def minutes_readable(actor: Actor) -> "QuerySet[ServiceMinute]":
    """Return what meters saw of contracts that an actor may see, the newest first."""
    rows = ServiceMinute.objects.filter(contract__isnull=False).select_related("meter", "report")
    rows = rows.order_by("-minute", "-pk")
    if actor.is_operator or actor.reads_everything:
        return rows
    mine = actor.organization_id
    return rows.filter(Q(contract__buyer_id=mine) | Q(contract__provider_id=mine))


def probes_readable(actor: Actor) -> "QuerySet[Probe]":
    """Return probes of one's own deployments and of those that serve one's contracts, the newest first."""
    rows = Probe.objects.order_by("-at", "-pk")
    if actor.is_operator or actor.reads_everything:
        return rows
    mine = ContractDeployment.objects.filter(
        deployment=OuterRef("deployment"), contract__buyer_id=actor.organization_id, since__lte=OuterRef("at")
    )
    return rows.filter(Q(deployment__provider_id=actor.organization_id) | Exists(mine))


def late_work(contract_ids: Iterable[int]) -> dict[int, tuple[int, int]]:
    """By contract: work in late hours that upheld findings name, in micro-ST, and the reduction in thousandths."""
    rows = ServiceFinding.objects.filter(
        contract__in=list(contract_ids), ruling__verdict=FindingRuling.Verdict.UPHELD, late_work_micro_st__gt=0
    )
    found: dict[int, tuple[int, int]] = {}
    for contract, work, share in rows.values_list(
        "contract_id", "late_work_micro_st", "contract__grade__late_reduction_thousandths"
    ):
        found[contract] = (found.get(contract, (0, 0))[0] + work, share)
    return found


def state_of(row: ServiceFinding) -> str:
    """Return what a finding is: open, disputed, upheld or rejected."""
    if (ruling := getattr(row, "ruling", None)) is not None:
        return str(ruling.verdict)
    return "disputed" if row.objections.all() else "open"


def warnings_shown(actor: Actor, now: datetime) -> "QuerySet[ServiceWarning]":
    """Return the organization's warnings that are not over, but for little use, which the overview shows by itself."""
    rows = ServiceWarning.objects.filter(organization=actor.organization, until__gt=now)
    return rows.exclude(kind=ServiceWarning.Kind.LITTLE_USED).select_related("deployment")
