"""The product's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core import clock

DAY = datetime(2026, 11, 20, 16, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path, settings):
    settings.CLOCK_FILE = str(tmp_path / "clock.json")
    return tmp_path / "clock.json"


def seconds_between(one: datetime, other: datetime) -> float:
    return abs((one - other).total_seconds())


def test_shows_real_time_by_default():
    assert seconds_between(clock.now(), datetime.now(UTC)) < 1
    assert clock.now().tzinfo is UTC


def test_shows_real_time_until_the_file_is_there(file: Path):
    assert seconds_between(clock.now(), datetime.now(UTC)) < 1


def test_moves_and_speeds_up_for_everyone_who_reads_the_file(file: Path):
    ahead = datetime.now(UTC) + timedelta(days=400)
    assert clock.set_clock(file, product=ahead, speed=0) == ahead
    assert clock.now() == ahead
    clock.set_clock(file, speed=3600)
    assert clock.now() >= ahead
    assert clock.real_seconds_until(clock.now() + timedelta(hours=1)) == pytest.approx(1, abs=0.1)


def test_a_new_clock_may_start_in_the_past(file: Path):
    assert clock.set_clock(file, product=DAY, speed=0) == DAY
    assert clock.now() == DAY


def test_refuses_to_go_back(file: Path):
    clock.set_clock(file, product=DAY, speed=0)
    with pytest.raises(clock.ClockMovedBack, match="cannot go back"):
        clock.set_clock(file, product=DAY - timedelta(seconds=1))
    with pytest.raises(clock.ClockMovedBack):
        clock.set_clock(file, speed=-1)
    assert clock.now() == DAY


def test_a_standing_clock_never_arrives(file: Path):
    clock.set_clock(file, product=DAY, speed=0)
    assert clock.real_seconds_until(DAY + timedelta(seconds=1)) == float("inf")
    assert clock.real_seconds_until(DAY) == 0
