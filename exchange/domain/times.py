"""Times as the book counts them: nanoseconds since 1970, in whole microseconds, which is what Postgres keeps."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_ns(moment: datetime) -> int:
    """Return a time in nanoseconds since 1970, exactly."""
    return (moment - EPOCH) // MICROSECOND * 1_000


def from_ns(time_ns: int) -> datetime:
    """Return the aware UTC time of nanoseconds since 1970, floored to the microsecond."""
    return EPOCH + timedelta(microseconds=time_ns // 1_000)
