"""Half-open periods of aware UTC time, and the days and months of Shanghai."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

SHANGHAI = ZoneInfo("Asia/Shanghai")


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """From `start` up to, not including, `end`; both aware, kept in UTC. Refuses an empty or reversed one."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a period needs times with a zone")
        if self.end <= self.start:
            raise ValueError("a period ends after it starts")

    @property
    def duration(self) -> timedelta:
        """How long it lasts."""
        return self.end - self.start

    @property
    def minutes(self) -> int:
        """Whole minutes, rounded up: a rate over this many never promises less than the quantity."""
        return -(-self.duration // timedelta(minutes=1))

    def contains(self, moment: datetime) -> bool:
        """Whether `moment` lies in it: the start does, the end does not."""
        return self.start <= moment < self.end

    def overlaps(self, other: "Period") -> bool:
        """Whether they share a moment."""
        return self.start < other.end and other.start < self.end


def day_of(text: str) -> date:
    """
    Return the day that a text such as 2026-11-20 names.

    :raises ValueError: it names none, or one so far away that the midnights around it are no moments.
    """
    day = date.fromisoformat(text)
    if not 1970 <= day.year < 9999:
        raise ValueError(f"{text} is too far away")
    return day


def shanghai_date(moment: datetime) -> date:
    """Return the calendar date in Shanghai."""
    return moment.astimezone(SHANGHAI).date()


def shanghai_time(day: date, at: time) -> datetime:
    """Return that wall-clock time in Shanghai, in UTC."""
    return datetime.combine(day, at, tzinfo=SHANGHAI).astimezone(UTC)


def shanghai_day(day: date) -> Period:
    """Return the day in Shanghai, midnight to midnight."""
    return Period(shanghai_time(day, time()), shanghai_time(day + timedelta(days=1), time()))


def shanghai_week(day: date) -> Period:
    """Return the week (Monday first) of `day` in Shanghai."""
    monday = day - timedelta(days=day.weekday())
    return Period(shanghai_time(monday, time()), shanghai_time(monday + timedelta(days=7), time()))


def shanghai_month(day: date) -> Period:
    """Return the calendar month of `day` in Shanghai."""
    first = day.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Period(shanghai_time(first, time()), shanghai_time(following, time()))
