"""
Whether a promise of service was kept: three sides saw a contract's minutes, and two of them decide.

The buyer's gateway and the provider's guard report what became of requests, minute by minute; the exchange's own
probes stand for the minutes until the next one. A side that saw nothing says nothing, but for a guard: one that runs
reports every minute, so that its silence is a failure. Refusals for rate are nobody's failure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

MINUTE = timedelta(minutes=1)
PROBE_EVERY = timedelta(minutes=5)
MOST_MINUTES = 5_000
MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_COUNT = 10**9
#: An hour is late when more than 5 in 100 were; a single late answer among few shows nothing.
LATE_IN_A_HUNDRED, LEAST_LATE = 5, 2


class ReportUnreadable(ValueError):
    """The body is no report; `field` names what is wrong."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ReportedMinute(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """What a meter saw of a contract at a deployment in a minute; without a contract: that it was running."""

    minute: datetime
    deployment: int
    contract: int | None = None
    served: int = 0
    failed: int = 0
    limited: int = 0
    first_measured: int = 0
    first_late: int = 0
    first_token_ms: int | None = None
    token_measured: int = 0
    token_late: int = 0
    token_ms: int | None = None


class Report(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """:param run: names the process that counted; counts of several are added up."""

    run: str
    minutes: list[ReportedMinute]


_COUNTS = (
    "served", "failed", "limited", "first_measured", "first_late", "first_token_ms", "token_measured", "token_late",
    "token_ms",
)  # fmt: skip


def decode_report(body: bytes) -> Report:
    """:raises ReportUnreadable: with what is wrong."""
    try:
        report = msgspec.json.decode(body, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReportUnreadable(f"This is no report: {error}.", "body") from None
    if not 0 < len(report.run) <= 64 or not report.run.isprintable():
        raise ReportUnreadable("run has 1 to 64 printable characters.", "run")
    if not 0 < len(report.minutes) <= MOST_MINUTES:
        raise ReportUnreadable(f"A report has 1 to {MOST_MINUTES:,} minutes.", "minutes")
    for number, row in enumerate(report.minutes):
        where = f"minutes[{number}]"
        if row.minute.tzinfo is None or row.minute.second or row.minute.microsecond:
            raise ReportUnreadable(f"{where}.minute is the beginning of a minute, with its zone.", f"{where}.minute")
        for name in _COUNTS:
            value = getattr(row, name)
            if value is not None and not 0 <= value <= MAX_COUNT:
                raise ReportUnreadable(f"{where}.{name} is from 0 to {MAX_COUNT:,}.", f"{where}.{name}")
        if row.first_late > row.first_measured or row.token_late > row.token_measured:
            raise ReportUnreadable(f"{where} has more late answers than measured ones.", where)
    return report


@dataclass(frozen=True, slots=True)
class Seen:
    """What one side saw, over a minute or an hour."""

    served: int = 0
    failed: int = 0
    limited: int = 0
    first_measured: int = 0
    first_late: int = 0
    token_measured: int = 0
    token_late: int = 0

    def __add__(self, other: "Seen") -> "Seen":
        return Seen(
            self.served + other.served, self.failed + other.failed, self.limited + other.limited,
            self.first_measured + other.first_measured, self.first_late + other.first_late,
            self.token_measured + other.token_measured, self.token_late + other.token_late,
        )  # fmt: skip


def failed(seen: Seen | None, *, error_share_thousandths: int) -> bool | None:
    """Whether more failed than was promised; None where nothing was tried below the rate limit."""
    if seen is None or not seen.served + seen.failed:
        return None
    return seen.failed * 1_000 > error_share_thousandths * (seen.served + seen.failed)


def late(seen: Seen | None) -> bool | None:
    """Whether more than 5 in 100 answers missed a promised time; None where none was measured."""
    if seen is None or not seen.first_measured + seen.token_measured:
        return None
    return _missed(seen.first_late, seen.first_measured) or _missed(seen.token_late, seen.token_measured)


def _missed(late_ones: int, measured: int) -> bool:
    return late_ones >= LEAST_LATE and late_ones * 100 > LATE_IN_A_HUNDRED * measured


def two_of_three(sides: Iterable[bool | None]) -> bool:
    """Whether at least two sides show a failure."""
    return sum(side is True for side in sides) >= 2


def minutes_of(start: datetime, end: datetime) -> list[datetime]:
    """The minutes that lie wholly in a time."""
    first = start.replace(second=0, microsecond=0)
    if first < start:
        first += MINUTE
    return [first + n * MINUTE for n in range(max(0, (end - first) // MINUTE))]
