"""Budgets are set, changed and closed; their periods are metered, and what is reached of them is said once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from core.errors import BadRequest, Conflict
from core.live import publish_on_commit
from core.money import format_tokens, format_yuan
from core.transactions import assert_in_transaction
from exchange.models import DeliveryContract
from identity.access import Actor
from identity.actions.events import emit
from identity.models import Organization
from metering_ingest import usage_queries
from metering_ingest.domain import budgets as rule
from metering_ingest.models import Budget, BudgetAlert, BudgetWindow, Meter

MAX_BUDGETS = 1_000


class BudgetExists(Conflict):
    """The same is limited already."""

    code = "budget-exists"


class BadBudget(BadRequest):
    """A budget that limits nothing."""

    code = "bad-budget"


def set_budget(
    *, organization: Organization, subject: str, tag: str, value: str, period: str, unit: str, limit: int, hard: bool,
    alert_thousandths: Sequence[int], now: datetime,
) -> Budget:  # fmt: skip
    """
    Limit what an organization uses, as a whole, by a key or by a tag.

    :param limit: micro-standard-tokens or micro-yuan.
    :raises BadBudget: a key or tag without a name, or a name where none belongs; shares out of range.
    :raises BudgetExists: there is one for the same subject, period and unit.
    """
    assert_in_transaction()
    if subject == Budget.Subject.KEY:
        tag = usage_queries.KEY_TAG
    if subject == Budget.Subject.ORGANIZATION and (tag or value):
        raise BadBudget("A budget of the whole organization names no key and no tag.", field="subject")
    if subject != Budget.Subject.ORGANIZATION and not (tag and value):
        raise BadBudget("Name the key, or the tag and its value.", field="key" if subject == "key" else "tag")
    if any(not 1 <= share <= 2_000 for share in alert_thousandths):
        raise BadBudget("alert_thousandths are from 1 to 2,000.", field="alert_thousandths")
    if Budget.objects.filter(organization=organization, closed_at=None).count() >= MAX_BUDGETS:
        raise BadBudget(f"An organization has at most {MAX_BUDGETS:,} budgets.", field="subject")
    try:
        with transaction.atomic():
            return Budget.objects.create(
                organization=organization, subject=subject, tag=tag, value=value, period=period, unit=unit,
                limit=limit, hard=hard, alert_thousandths=sorted(set(alert_thousandths)), created_at=now,
            )  # fmt: skip
    except IntegrityError:
        raise BudgetExists("This is limited already; change that budget instead.", field="subject") from None


def change_budget(*, budget: Budget, changes: dict[str, Any]) -> Budget:
    """Change limit, hardness or alerts. A lower limit refuses what comes next; what is reserved stays reserved."""
    assert_in_transaction()
    for name, value in changes.items():
        setattr(budget, name, value)
    if any(not 1 <= share <= 2_000 for share in budget.alert_thousandths):
        raise BadBudget("alert_thousandths are from 1 to 2,000.", field="alert_thousandths")
    budget.save(update_fields=list(changes))
    return budget


def close_budget(*, budget: Budget, now: datetime) -> Budget:
    """Close a budget: nothing is refused by it any more, what it counted stays. Again, nothing happens."""
    assert_in_transaction()
    Budget.objects.filter(pk=budget.pk, closed_at=None).update(closed_at=now)
    budget.refresh_from_db()
    return budget


def windows_of(budgets: Sequence[Budget], *, contract_id: int | None, now: datetime) -> list[BudgetWindow]:
    """
    Lock the running period of each budget, in the order of their ids; make those that are missing.

    Budgets per contract have one for the contract that is named, and none without.
    """
    wanted: list[BudgetWindow] = []
    for budget in sorted(budgets, key=lambda b: b.pk):
        period = rule.period_of(budget.period, now)
        if period is None and contract_id is None:
            continue
        wanted.append(
            BudgetWindow(
                budget=budget, start=period.start if period else rule.EPOCH,
                contract_id=0 if period else contract_id or 0, cap=budget.limit, hard=budget.hard,
            )
        )  # fmt: skip
    if not wanted:
        return []
    names = {(w.budget_id, w.start, w.contract_id) for w in wanted}

    def find() -> list[BudgetWindow]:
        rows = BudgetWindow.objects.select_for_update(no_key=True, of=("self",)).select_related("budget__organization")
        found = rows.filter(budget__in=[w.budget_id for w in wanted], start__in={w.start for w in wanted})
        return [w for w in found.order_by("pk") if (w.budget_id, w.start, w.contract_id) in names]

    found = (
        find()
        if BudgetWindow.objects.filter(
            budget__in=[w.budget_id for w in wanted], start__in={w.start for w in wanted}
        ).count()
        >= len(wanted)
        else []
    )
    if len(found) < len(wanted):
        BudgetWindow.objects.bulk_create(wanted, ignore_conflicts=True)
        found = find()
    return found


def meter_one(*, window_id: int, now: datetime) -> None:
    """Read from the rollups what was used in a period, and say which shares are reached."""
    assert_in_transaction()
    window = (
        BudgetWindow.objects.select_for_update(no_key=True, of=("self",))
        .select_related("budget__organization").get(pk=window_id)
    )  # fmt: skip
    window.metered = metered(window, now)
    window.metered_at = now
    window.save(update_fields=["metered", "metered_at"])
    alert(window, now=now)


def metered(window: BudgetWindow, now: datetime) -> int:
    """Return what the meters say was used of a window, in its budget's unit."""
    budget = window.budget
    actor = Actor(organization=budget.organization, scopes=frozenset())
    filters: dict[str, Any] = {"buyer": budget.organization_id}
    period = rule.period_of(budget.period, window.start)
    if period is not None:
        start, end = period.start, period.end
    else:
        contract = DeliveryContract.objects.get(pk=window.contract_id)
        filters["contract"] = contract.pk
        start, end = contract.window_start or contract.created_at, contract.window_end or now
        start, end = start.replace(minute=0, second=0, microsecond=0), end
    reporters = [Meter.Role.PROVIDER]
    if budget.tag:
        filters[f"{usage_queries.TAG}{budget.tag}"] = budget.value
        reporters.append(Meter.Role.BUYER)  # whichever of them carries the tag
    most = 0
    for role in reporters:
        for row in usage_queries.usage(actor, group_by=[], start=start, end=end, filters=filters, reported_by=role):
            most = max(most, row.work_micro_st if budget.unit == Budget.Unit.TOKENS else row.cost_micro)
    return most


def alert(window: BudgetWindow, *, now: datetime) -> list[int]:
    """Say, once each, which of the budget's shares are reached in a locked window; return those that are new."""
    budget = window.budget
    taken = window.used + window.held
    reached = rule.shares_reached(limit=budget.limit, taken=taken, shares=budget.alert_thousandths)
    if not reached:
        return []
    known = set(window.alerts.values_list("share_thousandths", flat=True))
    fresh = [share for share in reached if share not in known]
    for share in fresh:
        BudgetAlert.objects.create(window=window, share_thousandths=share, used=taken, limit=budget.limit, at=now)
        show = format_tokens if budget.unit == Budget.Unit.TOKENS else format_yuan
        data = {
            "budget": budget.pk, "subject": budget.subject, "tag": budget.tag or None, "value": budget.value or None,
            "period": budget.period, "start": window.start.isoformat(), "contract": window.contract_id or None,
            "unit": budget.unit, "share_thousandths": share, "used": show(taken), "limit": show(budget.limit),
        }  # fmt: skip
        publish_on_commit(f"organization.{budget.organization_id}", {"type": "budget", **data})
        emit(
            organization_id=budget.organization_id, type="budget.threshold", key=f"budget:{window.pk}:{share}",
            data=data, now=now,
        )  # fmt: skip
    return fresh
