"""Authentication by API key, for the API and for the ingest endpoint beside it."""

import hashlib
import threading
from dataclasses import dataclass
from datetime import datetime
from time import monotonic

from identity.access import Actor
from identity.models import ApiKey

PREFIX = "ck_"
CACHE_SECONDS = 1.0
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A valid key: the actor it stands for and when it ends."""

    actor: Actor
    expires_at: datetime | None


_cache: dict[bytes, tuple[float, KnownKey | None]] = {}
_cache_lock = threading.Lock()


def digest_of(secret: str) -> bytes:
    """Return what is stored of a key's secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def authenticate_key(secret: str, *, now: datetime) -> Actor | None:
    """
    Return the actor of a key that is known, not revoked and not expired at `now`; None otherwise.

    An answer is cached in this process for one second at most, so a revocation takes effect within that time.
    """
    if not secret.startswith(PREFIX) or len(secret) > 100:
        return None
    digest = digest_of(secret)
    cached = _cache.get(digest)
    if cached is None or monotonic() - cached[0] > CACHE_SECONDS:
        cached = (monotonic(), _look_up(digest))
        with _cache_lock:
            if len(_cache) >= CACHE_SIZE:
                _cache.clear()
            _cache[digest] = cached
    known = cached[1]
    if known is None or (known.expires_at is not None and known.expires_at <= now):
        return None
    return known.actor


def cached_actor(secret: str, *, now: datetime) -> Actor | None:
    """Return what `authenticate_key` would without asking the database, or None where it would have to ask."""
    if len(secret) > 100:
        return None
    cached = _cache.get(digest_of(secret))
    if cached is None or monotonic() - cached[0] > CACHE_SECONDS or cached[1] is None:
        return None
    known = cached[1]
    return None if known.expires_at is not None and known.expires_at <= now else known.actor


def forget_cached_keys() -> None:
    """Look every key up again: a key was made or revoked in this process."""
    with _cache_lock:
        _cache.clear()


def _look_up(digest: bytes) -> KnownKey | None:
    key = ApiKey.objects.select_related("organization").filter(digest=digest, revoked_at=None).first()
    if key is None:
        return None
    return KnownKey(
        actor=Actor(
            organization=key.organization,
            scopes=frozenset(key.scopes),
            api_key_id=key.pk,
            meter_id=key.meter_id,
        ),
        expires_at=key.expires_at,
    )
