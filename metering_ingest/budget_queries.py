"""Named reads of budgets and authorizations."""

from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet

from identity.access import Actor
from metering_ingest.domain import budgets as rule
from metering_ingest.models import Authorization, Budget, BudgetWindow

METERED_EVERY = timedelta(seconds=5)
WINDOWS_A_SWEEP = 200


def budgets_readable(actor: Actor) -> "QuerySet[Budget]":
    """Return the budgets of the organizations that the actor may see."""
    return Budget.objects.filter(organization__in=actor.organizations_readable())


def authorizations_readable(actor: Actor) -> "QuerySet[Authorization]":
    """Return the authorizations of the organizations that the actor may see."""
    return Authorization.objects.filter(organization__in=actor.organizations_readable())


def running_windows(budget: Budget, now: datetime) -> list[BudgetWindow]:
    """Return a budget's period that is running, if anything happened in it; of one per contract, the last ten."""
    period = rule.period_of(budget.period, now)
    rows = budget.windows.order_by("-pk")
    return list(rows.filter(start=period.start) if period is not None else rows[:10])


def budgets_to_open(now: datetime) -> list[Budget]:
    """Return calendar budgets whose running period has no row yet: the meters may have something to say of it."""
    day, month = (rule.period_of(kind, now) for kind in (rule.DAY, rule.MONTH))
    assert day is not None and month is not None
    running = BudgetWindow.objects.filter(
        Q(budget__period=rule.DAY, start=day.start) | Q(budget__period=rule.MONTH, start=month.start)
    )
    rows = Budget.objects.filter(closed_at=None).exclude(period=rule.CONTRACT)
    return list(rows.exclude(pk__in=running.values("budget_id")).order_by("pk")[:WINDOWS_A_SWEEP])


def windows_to_meter(now: datetime) -> list[int]:
    """Return running periods that have not been metered for five seconds, the longest waiting first."""
    day, month = (rule.period_of(kind, now) for kind in (rule.DAY, rule.MONTH))
    assert day is not None and month is not None
    rows = BudgetWindow.objects.filter(
        Q(budget__period=rule.DAY, start=day.start)
        | Q(budget__period=rule.MONTH, start=month.start)
        | Q(budget__period=rule.CONTRACT),
        Q(metered_at=None) | Q(metered_at__lte=now - METERED_EVERY),
        budget__closed_at=None,
    )
    return list(
        rows.order_by(F("metered_at").asc(nulls_first=True), "pk").values_list("pk", flat=True)[:WINDOWS_A_SWEEP]
    )
