"""Kinds of values in addresses."""

from datetime import date

from core.periods import day_of


class DayConverter:
    """A day, as in 2026-11-20."""

    regex = "[0-9]{4}-[0-9]{2}-[0-9]{2}"

    def to_python(self, value: str) -> date:
        return day_of(value)  # a ValueError here is Django's "no such address"

    def to_url(self, value: date) -> str:
        return value.isoformat()


class MonthConverter:
    """A month as `2026-11`; the view gets its first day."""

    regex = r"20[0-9]{2}-(0[1-9]|1[0-2])"

    def to_python(self, value: str) -> date:
        return day_of(f"{value}-01")

    def to_url(self, value: date) -> str:
        return f"{value:%Y-%m}"
