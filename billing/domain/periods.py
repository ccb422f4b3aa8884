"""Months of account: which one a charge counts in, when one may be closed, and the days of a month. Pure."""

from datetime import date, datetime, time, timedelta

from core.periods import Period, shanghai_date, shanghai_month, shanghai_time

CLOSES_ON_DAY = 4  # of the following month: usage may come late until the end of the 3rd


def month_of(occurred: Period) -> date:
    """Return the first day of the month (Asia/Shanghai) in which a delivery ended."""
    return shanghai_date(occurred.end - timedelta(microseconds=1)).replace(day=1)


def following(month: date) -> date:
    """Return the first day of the next month."""
    return (month + timedelta(days=32)).replace(day=1)


def last_day(month: date) -> date:
    """Return a month's last day."""
    return following(month) - timedelta(days=1)


def whole(month: date) -> Period:
    """Return a month as a period."""
    return shanghai_month(month)


def may_close_from(month: date) -> datetime:
    """Return the moment from which a month may be closed."""
    return shanghai_time(following(month).replace(day=CLOSES_ON_DAY), time())


def booked_month(occurred: Period, *, last_closed: date | None) -> date:
    """Return the month that a charge counts in: that of its delivery, or, closed already, the first open one."""
    own = month_of(occurred)
    return own if last_closed is None or own > last_closed else following(last_closed)
