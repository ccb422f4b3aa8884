"""Budgets: which period of one is running, what is left of it, and which shares of it were reached."""

from collections.abc import Iterable
from datetime import UTC, datetime

from core.periods import Period, shanghai_date, shanghai_day, shanghai_month

DAY, MONTH, CONTRACT = "day", "month", "contract"
#: A contract's one period begins at the beginning: its id tells the windows apart.
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def period_of(kind: str, now: datetime) -> Period | None:
    """Return the calendar period in Shanghai that is running; None for budgets per contract."""
    if kind == CONTRACT:
        return None
    day = shanghai_date(now)
    return shanghai_day(day) if kind == DAY else shanghai_month(day)


def left(*, limit: int, used: int, held: int) -> int:
    """Return what may still be reserved."""
    return max(0, limit - used - held)


def shares_reached(*, limit: int, taken: int, shares: Iterable[int]) -> list[int]:
    """Return the shares (thousandths of the limit) that are used or held; of a limit of 0, all at the first use."""
    return [share for share in sorted(shares) if taken > 0 and taken * 1_000 >= share * limit]
