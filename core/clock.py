"""
The product's clock: every door asks `now()` and passes it on; nothing below a door knows the time.

It is the real time unless the setting CLOCK_FILE names a file that maps real time to product time. All processes of an
instance share that file, so a replayed day or a sandbox can move and speed up time for all of them at once:

    {"real": "2026-11-21T08:00:00+00:00", "product": "2026-11-20T16:00:00+00:00", "speed": 60.0}

Product time only moves forwards.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings


class ClockMovedBack(ValueError):
    """The clock was asked to go to an earlier product time than it shows."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """Product time is `product` at the real instant `real`, and runs `speed` times as fast from there."""

    real: datetime
    product: datetime
    speed: float

    def at(self, real: datetime) -> datetime:
        return self.product + (real - self.real) * self.speed


_REAL = Mapping(real=datetime(2000, 1, 1, tzinfo=UTC), product=datetime(2000, 1, 1, tzinfo=UTC), speed=1.0)
_seen: tuple[str, int, Mapping] | None = None  # path, modification time in ns, what it said


def now() -> datetime:
    """The product's time, aware, in UTC."""
    real = datetime.now(UTC)
    path: str | None = settings.CLOCK_FILE
    return real if path is None else _mapping(path).at(real)


def real_now() -> datetime:
    """The real time, for what happens on the wire: retries, leases, signatures. Nothing of the market's hangs on it."""
    return datetime.now(UTC)


def speed() -> float:
    """Product seconds per real second."""
    path: str | None = settings.CLOCK_FILE
    return 1.0 if path is None else _mapping(path).speed


def real_seconds_until(moment: datetime) -> float:
    """Real seconds until the product's clock shows `moment` (0 when it has passed; infinite when it stands still)."""
    ahead = (moment - now()).total_seconds()
    path: str | None = settings.CLOCK_FILE
    speed = 1.0 if path is None else _mapping(path).speed
    if ahead <= 0:
        return 0.0
    return ahead / speed if speed > 0 else float("inf")


def set_clock(path: str | Path, *, product: datetime | None = None, speed: float | None = None) -> datetime:
    """
    Write the clock file at once for all processes, and return the product time it now shows.

    :param product: the product time of this instant; None keeps what it shows.
    :param speed: product seconds per real second (0 stops it); None keeps it.
    :raises ClockMovedBack: when `product` lies before what the clock shows.
    """
    path = Path(path)
    real = datetime.now(UTC)
    current = _read(path) if path.exists() else None
    shown = real if current is None else current.at(real)
    if product is not None and current is not None and product < shown:
        raise ClockMovedBack(f"The clock shows {shown.isoformat()} and cannot go back to {product.isoformat()}.")
    if speed is not None and speed < 0:
        raise ClockMovedBack(f"A clock cannot run at {speed} times real time.")
    mapping = Mapping(
        real=real,
        product=(product if product is not None else shown).astimezone(UTC),
        speed=speed if speed is not None else (1.0 if current is None else current.speed),
    )
    body = {"real": mapping.real.isoformat(), "product": mapping.product.isoformat(), "speed": mapping.speed}
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    scratch.write_text(json.dumps(body))
    scratch.replace(path)
    return mapping.product


def wait_until(moment: datetime) -> None:
    """Sleep until the product's clock shows `moment`, following changes of its speed."""
    while (left := real_seconds_until(moment)) > 0:
        time.sleep(min(left, 0.2))


def _mapping(path: str) -> Mapping:
    """The file's content, read again when its modification time changes. No file yet: real time."""
    global _seen
    try:
        changed = os.stat(path).st_mtime_ns  # noqa: PTH116 (a third of the cost of Path's, on every call)
    except FileNotFoundError:
        return _REAL
    if _seen is None or _seen[0] != path or _seen[1] != changed:
        _seen = (path, changed, _read(Path(path)))
    return _seen[2]


def _read(path: Path) -> Mapping:
    body = json.loads(path.read_text())
    return Mapping(
        real=datetime.fromisoformat(body["real"]),
        product=datetime.fromisoformat(body["product"]),
        speed=float(body["speed"]),
    )
