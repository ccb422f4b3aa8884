"""
The key under which an event is stored once: 48 bits of its time in milliseconds, then BLAKE2b-80 of (source, id).

The time in front makes new rows land at the end of the index; the digest makes the key the same whenever the same
event is sent again. The same (source, id) at *another* time has another key and the same digest: that is found
before settlement, by the digest alone.
"""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DIGEST_BYTES = 10
MILLISECOND = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """Return whole milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // MILLISECOND


def moment_of(ms: int) -> datetime:
    """Return the aware UTC time of whole milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=ms)


def identity_digest(source: str, id_: str) -> bytes:
    """Return the ten bytes that name an event of a meter, whatever its time."""
    return blake2b(f"{source}\0{id_}".encode(), digest_size=DIGEST_BYTES).digest()


def event_key(ms: int, digest: bytes) -> bytes:
    """Return the sixteen bytes of the key."""
    return ms.to_bytes(6, "big") + digest


def first_key(ms: int) -> bytes:
    """Return the lowest key of a millisecond: where a half-open range of keys starts."""
    return ms.to_bytes(6, "big") + bytes(DIGEST_BYTES)


def milliseconds_of(key: bytes) -> int:
    """Return the time in a key, in milliseconds since 1970."""
    return int.from_bytes(key[:6], "big")
