"""When a charge is due for a document, and on which one it goes."""

from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from core.periods import Period, shanghai_date, shanghai_day, shanghai_month, shanghai_week


class Cycle(StrEnum):
    """How often an organization gets documents."""

    SETTLEMENT = "settlement"  # one per settled market
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class Batch(NamedTuple):
    """What goes on one document: a settled scope, or a calendar period in Shanghai."""

    cycle: Cycle
    scope: str = ""
    period: Period | None = None


_CALENDAR = {Cycle.DAILY: shanghai_day, Cycle.WEEKLY: shanghai_week, Cycle.MONTHLY: shanghai_month}


def calendar_period(cycle: Cycle, day: date) -> Period:
    """Return the cycle's period that contains a day in Shanghai."""
    return _CALENDAR[cycle](day)


def batch_of(*, cycle: Cycle, scope: str, scope_is_settled: bool, charged_at: datetime, now: datetime) -> Batch | None:
    """
    Return on which document a charge goes, or None while that one is not complete.

    A calendar cycle goes by the time of **charging**: nothing is charged in a period that is over, so its document is
    complete. A market's charges wait for the market's settlement; a scope that never settles as a whole (usage without
    contract) is billed daily instead.
    """
    if cycle is Cycle.SETTLEMENT:
        if scope_is_settled:
            return Batch(cycle, scope=scope)
        if scope.startswith("market:"):
            return None
        cycle = Cycle.DAILY
    period = calendar_period(cycle, shanghai_date(charged_at))
    return Batch(cycle, period=period) if period.end <= now else None
