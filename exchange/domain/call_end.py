"""
When a call ends: at a moment that nobody can know before, and anybody can check after.

A call that closes at T with a random end of R seconds ends at T + offset, where

    offset in milliseconds = first 8 bytes of SHA-256("ciyuan call end" ‖ seed), big-endian, modulo (1,000·R + 1)

The seed is 32 random bytes. Its SHA-256 is published when the call opens, the seed itself once the call has ended.
"""

from datetime import datetime, timedelta
from hashlib import sha256

SEED_BYTES = 32
PREFIX = b"ciyuan call end"


def seed_hash(seed: bytes) -> str:
    """Return what is published before: the SHA-256 of the seed, as 64 hexadecimal digits."""
    return sha256(seed).hexdigest()


def random_offset(seed: bytes, random_seconds: int) -> timedelta:
    """Return by how much the call runs on: 0 to `random_seconds`, in whole milliseconds."""
    number = int.from_bytes(sha256(PREFIX + seed).digest()[:8], "big")
    return timedelta(milliseconds=number % (1_000 * random_seconds + 1))


def call_end(closes_at: datetime, seed: bytes, random_seconds: int, *, latest: datetime | None = None) -> datetime:
    """Return when the call ends, at `latest` at the latest."""
    ends_at = closes_at + random_offset(seed, random_seconds)
    return ends_at if latest is None else min(ends_at, latest)


def leaves_collar(price: int | None, reference: int, thousandths: int) -> bool:
    """Say whether a price lies farther from its reference than the collar allows; 0 for either is no collar."""
    if price is None or not reference or not thousandths:
        return False
    return abs(price - reference) > max(1, reference * thousandths // 1_000)
