"""
The Chinese working calendar, and a day's delivery windows in Asia/Shanghai.

Demand for inference follows office hours, so the windows that sell at a discount follow the calendar: today's practice
is workdays 00:00–09:00, 12:00–14:00 and 18:00–24:00, and all other days throughout. Public holidays and the weekends
worked to make up for them are announced by the State Council each autumn for the year to come; they come from
`chinesecalendar`. For a year that is not in it, weekdays count as workdays, and `calendar_note` says so.

Days and slots are local; windows are aware UTC, half-open, and of one grade never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from chinese_calendar import constants as _published

from core.periods import SHANGHAI

MINUTES_OF_DAY = 24 * 60
#: Kinds name a window in reference prices, statistics and pages: short, lower case.
MAX_KIND_LENGTH = 24
MAX_SLOTS = 24

_PUBLISHED_YEARS = frozenset(day.year for day in _published.holidays)
#: From this day of December on, the New Year holiday of the next year's notice may reach into this year.
_NEXT_NOTICE_FROM = (12, 29)


class ScheduleError(ValueError):
    """A window schedule that cannot be used. `field` is the path of what is wrong in its JSON."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DailySlot:
    """A part of a local day: minutes from midnight, half-open, at most 1,440."""

    kind: str
    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class WindowSchedule:
    """Which parts of a workday and of any other day are delivery windows of their own, each in order of time."""

    workday: tuple[DailySlot, ...]
    other_day: tuple[DailySlot, ...]

    @classmethod
    def from_json(cls, data: object) -> WindowSchedule:
        """
        Read a schedule: `{"workday": [{"kind", "start": "HH:MM", "end": "HH:MM"}, …], "other_day": […]}`, or
        `{"every_minutes": 3, "kind": "short"}` for windows of equal length without a gap, on all days alike.

        :raises ScheduleError: for a missing or unknown field, a time that is none, slots that overlap or are out of
            order, a kind used twice in a day, or a length that does not divide a day.
        """
        if isinstance(data, Mapping) and "every_minutes" in data:
            return cls._every(data)
        fields = _object("schedule", data, ("workday", "other_day"))
        schedule = cls(workday=_slots("workday", fields["workday"]), other_day=_slots("other_day", fields["other_day"]))
        if not schedule.workday and not schedule.other_day:
            raise ScheduleError("schedule", "has no window on any day")
        return schedule

    @classmethod
    def _every(cls, data: Mapping[Any, Any]) -> WindowSchedule:
        fields = _object("schedule", data, ("every_minutes", "kind"))
        minutes = fields["every_minutes"]
        if isinstance(minutes, bool) or not isinstance(minutes, int) or minutes < 1 or MINUTES_OF_DAY % minutes:
            raise ScheduleError("every_minutes", f"must be whole minutes that divide 1,440, not {minutes!r}")
        kind = _kind("kind", fields["kind"])
        slots = tuple(DailySlot(kind, start, start + minutes) for start in range(0, MINUTES_OF_DAY, minutes))
        return cls(workday=slots, other_day=slots)

    def to_json(self) -> dict[str, Any]:
        """The form that `from_json` reads."""
        first = self.workday[0] if self.workday else None
        if first and len(self.workday) > 1 and {slot.kind for slot in self.workday} == {first.kind}:
            return {"every_minutes": first.end_minute, "kind": first.kind}
        return {
            name: [{"kind": s.kind, "start": _clock(s.start_minute), "end": _clock(s.end_minute)} for s in slots]
            for name, slots in (("workday", self.workday), ("other_day", self.other_day))
        }


#: Today's practice. A day off is one market: "throughout" is one window, not three that follow each other.
DEFAULT_SCHEDULE = WindowSchedule(
    workday=(DailySlot("night", 0, 540), DailySlot("noon", 720, 840), DailySlot("evening", 1080, 1440)),
    other_day=(DailySlot("all_day", 0, 1440),),
)


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """
    One delivery window.

    :param kind: stable name of the slot, such as `night`, `noon`, `evening`, `all_day`.
    :param date: the local day.
    :param start: first instant, aware UTC.
    :param end: first instant after it, aware UTC.
    :param calendar_known: False where the day's holidays were not published, so that weekdays decided.
    """

    kind: str
    date: date
    start: datetime
    end: datetime
    calendar_known: bool


def holidays_published(day: date) -> bool:
    """Whether the notices that decide this day are known: its year's, and at the end of December the next year's."""
    if day.year not in _PUBLISHED_YEARS:
        return False
    return (day.month, day.day) < _NEXT_NOTICE_FROM or day.year + 1 in _PUBLISHED_YEARS


def is_workday(day: date) -> bool:
    """
    Whether China works on this day: weekdays without the public holidays, and the weekends that make up for them.

    Where the holidays are not published (`holidays_published`), weekdays are workdays.
    """
    if day in _published.holidays:
        return False
    return day.weekday() < 5 or day in _published.workdays


def calendar_note(day: date) -> str | None:
    """A sentence for people where the day's holidays are not published, else None."""
    if holidays_published(day):
        return None
    year = day.year if day.year not in _PUBLISHED_YEARS else day.year + 1
    return f"The public holidays of {year} are not published yet: weekdays count as workdays."


def offpeak_windows(day: date, schedule: WindowSchedule = DEFAULT_SCHEDULE) -> list[DailyWindow]:
    """The windows of one local day, in order of time. A slot until 24:00 ends at the next local midnight."""
    slots = schedule.workday if is_workday(day) else schedule.other_day
    known = holidays_published(day)
    return [
        DailyWindow(
            kind=slot.kind,
            date=day,
            start=_instant(day, slot.start_minute),
            end=_instant(day, slot.end_minute),
            calendar_known=known,
        )
        for slot in slots
    ]


def windows_starting(
    start: datetime, end: datetime, schedule: WindowSchedule = DEFAULT_SCHEDULE
) -> Iterator[DailyWindow]:
    """The windows whose first instant lies in [start, end), in order of time."""
    day = start.astimezone(SHANGHAI).date()
    while _instant(day, 0) < end:
        for window in offpeak_windows(day, schedule):
            if start <= window.start < end:
                yield window
        day += timedelta(days=1)


@lru_cache(maxsize=4_096)
def _instant(day: date, minute: int) -> datetime:
    local = datetime.combine(day + timedelta(days=minute // MINUTES_OF_DAY), time(), tzinfo=SHANGHAI)
    return (local + timedelta(minutes=minute % MINUTES_OF_DAY)).astimezone(UTC)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _object(where: str, data: object, keys: tuple[str, ...]) -> Mapping[Any, Any]:
    if not isinstance(data, Mapping):
        raise ScheduleError(where, f"must be an object with {', '.join(keys)}")
    for key in data:
        if key not in keys:
            raise ScheduleError(where, f"has an unknown field {key!r}; known are {', '.join(keys)}")
    for key in keys:
        if key not in data:
            raise ScheduleError(where, f"lacks {key!r}")
    return data


def _slots(where: str, data: object) -> tuple[DailySlot, ...]:
    if not isinstance(data, list | tuple):
        raise ScheduleError(where, "must be a list of {kind, start, end}")
    if len(data) > MAX_SLOTS:
        raise ScheduleError(where, f"has {len(data)} windows; a day has at most {MAX_SLOTS} of them")
    slots: list[DailySlot] = []
    for i, item in enumerate(data):
        path = f"{where}[{i}]"
        fields = _object(path, item, ("kind", "start", "end"))
        slot = DailySlot(
            kind=_kind(f"{path}.kind", fields["kind"]),
            start_minute=_minute(f"{path}.start", fields["start"]),
            end_minute=_minute(f"{path}.end", fields["end"]),
        )
        if slot.end_minute <= slot.start_minute:
            raise ScheduleError(f"{path}.end", f"{fields['end']} is not after the start, {fields['start']}")
        if slots and slot.start_minute < slots[-1].end_minute:
            raise ScheduleError(f"{path}.start", f"{fields['start']} is before the end of the window that precedes it")
        if any(slot.kind == other.kind for other in slots):
            raise ScheduleError(f"{path}.kind", f"{slot.kind!r} names two windows of one day")
        slots.append(slot)
    return tuple(slots)


def _kind(path: str, value: object) -> str:
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= MAX_KIND_LENGTH
        or not all("a" <= c <= "z" or c == "_" for c in value)
    ):
        raise ScheduleError(path, f"must be 1 to {MAX_KIND_LENGTH} letters a–z or _, not {value!r}")
    return value


def _minute(path: str, value: object) -> int:
    """Minutes of "HH:MM", from 00:00 to 24:00."""
    if isinstance(value, str) and len(value) == 5 and value[2] == ":" and value.isascii():
        hours, minutes = value[:2], value[3:]
        if hours.isdigit() and minutes.isdigit() and int(minutes) < 60:
            total = int(hours) * 60 + int(minutes)
            if total <= MINUTES_OF_DAY:
                return total
    raise ScheduleError(path, f"must be a time from 00:00 to 24:00 as HH:MM, not {value!r}")
