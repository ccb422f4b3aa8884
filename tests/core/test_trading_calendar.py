"""Working days of China, and the windows that follow from them."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.periods import SHANGHAI
from core.trading_calendar import (
    DEFAULT_SCHEDULE,
    ScheduleError,
    WindowSchedule,
    calendar_note,
    holidays_published,
    is_workday,
    offpeak_windows,
    windows_starting,
)


def kinds(day: date) -> list[str]:
    return [window.kind for window in offpeak_windows(day)]


def test_a_workday_has_three_windows_in_local_hours():
    friday = date(2023, 11, 17)
    windows = offpeak_windows(friday)
    assert [(w.kind, w.start, w.end) for w in windows] == [
        ("night", datetime(2023, 11, 16, 16, tzinfo=UTC), datetime(2023, 11, 17, 1, tzinfo=UTC)),
        ("noon", datetime(2023, 11, 17, 4, tzinfo=UTC), datetime(2023, 11, 17, 6, tzinfo=UTC)),
        ("evening", datetime(2023, 11, 17, 10, tzinfo=UTC), datetime(2023, 11, 17, 16, tzinfo=UTC)),
    ]
    assert all(w.date == friday and w.calendar_known for w in windows)


def test_a_day_off_is_one_window():
    saturday = offpeak_windows(date(2026, 11, 21))
    assert [(w.kind, w.end - w.start) for w in saturday] == [("all_day", timedelta(hours=24))]
    assert saturday[0].start.astimezone(SHANGHAI).hour == 0


@pytest.mark.parametrize(
    ("day", "works"),
    [
        (date(2025, 1, 28), False),  # Tuesday, eve of the Spring Festival
        (date(2025, 2, 4), False),  # Tuesday, its last day
        (date(2025, 2, 5), True),
        (date(2025, 1, 26), True),  # the Sunday worked for it
        (date(2025, 2, 8), True),  # the Saturday worked for it
        (date(2026, 2, 17), False),  # Spring Festival 2026
        (date(2026, 2, 14), True),  # a Saturday worked for it
        (date(2026, 10, 1), False),
        (date(2026, 11, 20), True),
        (date(2023, 12, 31), False),
    ],
)
def test_holidays_and_worked_weekends(day, works):
    assert is_workday(day) is works
    assert kinds(day) == (["night", "noon", "evening"] if works else ["all_day"])


def test_a_year_without_published_holidays_uses_weekdays_and_says_so():
    new_year, saturday = date(2099, 1, 1), date(2099, 1, 3)
    assert (new_year.weekday(), is_workday(new_year), is_workday(saturday)) == (3, True, False)
    assert not any(w.calendar_known for w in offpeak_windows(new_year))
    assert calendar_note(new_year) == ("The public holidays of 2099 are not published yet: weekdays count as workdays.")
    assert calendar_note(date(2026, 5, 1)) is None


def test_the_last_days_of_december_wait_for_the_next_notice():
    """29 December 2018 was worked for New Year 2019: only the notice for 2019 said so."""
    assert is_workday(date(2018, 12, 29)) and not is_workday(date(2018, 12, 31))
    last_published = max(year for year in range(2004, 2100) if holidays_published(date(year, 6, 1)))
    december = date(last_published, 12, 30)
    assert not holidays_published(december)
    assert holidays_published(date(last_published, 12, 28))
    assert str(last_published + 1) in (calendar_note(december) or "")


@given(st.dates(min_value=date(2004, 1, 1), max_value=date(2100, 1, 1)))
def test_windows_of_following_days_never_overlap(day):
    windows = offpeak_windows(day) + offpeak_windows(day + timedelta(days=1))
    assert all(w.start < w.end for w in windows)
    assert all(a.end <= b.start for a, b in pairwise(windows))


def test_windows_that_start_within_a_stretch_of_time():
    thursday_noon = datetime(2026, 11, 19, 4, tzinfo=UTC)
    found = [(w.kind, w.date.day) for w in windows_starting(thursday_noon, thursday_noon + timedelta(days=2))]
    assert found == [("noon", 19), ("evening", 19), ("night", 20), ("noon", 20), ("evening", 20), ("all_day", 21)]


def test_a_schedule_of_short_windows_covers_the_day():
    schedule = WindowSchedule.from_json({"every_minutes": 3, "kind": "short"})
    windows = offpeak_windows(date(2026, 11, 20), schedule)
    assert len(windows) == 480 and windows[0].end == windows[1].start
    assert windows[-1].end == offpeak_windows(date(2026, 11, 21), schedule)[0].start
    assert schedule.to_json() == {"every_minutes": 3, "kind": "short"}


def test_a_schedule_survives_its_json():
    assert WindowSchedule.from_json(DEFAULT_SCHEDULE.to_json()) == DEFAULT_SCHEDULE
    once_a_day = {"every_minutes": 1440, "kind": "whole"}
    assert offpeak_windows(date(2026, 11, 20), WindowSchedule.from_json(once_a_day))[0].end - offpeak_windows(
        date(2026, 11, 20), WindowSchedule.from_json(once_a_day)
    )[0].start == timedelta(days=1)


def slot(kind="night", start="00:00", end="09:00", **more):
    return {"kind": kind, "start": start, "end": end, **more}


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ([], "schedule"),
        ({"workday": []}, "schedule"),
        ({"workday": [], "other_day": []}, "schedule"),
        ({"workday": [], "other_day": [], "holiday": []}, "schedule"),
        ({"workday": "all", "other_day": []}, "workday"),
        ({"workday": [slot(end="25:00")], "other_day": []}, "workday[0].end"),
        ({"workday": [slot(start="9:00")], "other_day": []}, "workday[0].start"),
        ({"workday": [slot(end="08:61")], "other_day": []}, "workday[0].end"),
        ({"workday": [slot(end="00:00")], "other_day": []}, "workday[0].end"),
        ({"workday": [slot(), slot("noon", "08:59", "12:00")], "other_day": []}, "workday[1].start"),
        ({"workday": [slot(), slot("night", "12:00", "13:00")], "other_day": []}, "workday[1].kind"),
        ({"workday": [slot(kind="Night 1")], "other_day": []}, "workday[0].kind"),
        ({"workday": [slot(colour="red")], "other_day": []}, "workday[0]"),
        ({"every_minutes": 7, "kind": "short"}, "every_minutes"),
        ({"every_minutes": True, "kind": "short"}, "every_minutes"),
        ({"every_minutes": 3}, "schedule"),
    ],
)
def test_a_wrong_schedule_is_refused_by_its_path(schedule, field):
    with pytest.raises(ScheduleError) as refused:
        WindowSchedule.from_json(schedule)
    assert refused.value.field == field
