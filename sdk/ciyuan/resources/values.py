"""How arguments become what the API takes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

Money = Decimal | str | int
Side = Literal["buy", "sell"]


def decimal_text(name: str, value: Money | None) -> str | None:
    """:raises TypeError: for a float, which does not hold what was meant."""
    if value is None:
        return None
    if isinstance(value, bool | float) or not isinstance(value, Decimal | str | int):
        raise TypeError(f"{name} must be a Decimal or text such as '0.0035', not {value!r}")
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def time_text(name: str, value: datetime | str | None) -> str | None:
    """:raises ValueError: for a time without a zone."""
    if value is None or isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{name} has no time zone: {value.isoformat()}")
    return value.isoformat()


def given(**values: Any) -> dict[str, Any]:
    """The arguments that were given."""
    return {name: value for name, value in values.items() if value is not None}


def window_body(window: tuple[datetime | str, datetime | str]) -> dict[str, str | None]:
    return {"start": time_text("window", window[0]), "end": time_text("window", window[1])}
