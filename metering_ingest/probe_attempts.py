"""
The names of the exchange's own attempts: to everybody else a name like any gateway's, a random UUID in hexadecimal.

Half of it is random, the other half a keyed digest of that and of the deployment, so that ingest knows its own without
asking the database, and nobody can make one. A name of a key that SECRET_KEY_FALLBACKS still holds is known too.
"""

import secrets
from functools import lru_cache
from hashlib import blake2b
from uuid import UUID

from django.conf import settings

HALF_BYTES, NAME_LENGTH = 8, 32


def new_attempt(deployment_id: int) -> str:
    """Return a new name for an attempt at a deployment."""
    return _name(secrets.token_bytes(HALF_BYTES), deployment_id, settings.SECRET_KEY)


def is_ours(attempt_id: str, *, deployment_id: int) -> bool:
    """Whether `new_attempt` made this name for that deployment."""
    if len(attempt_id) != NAME_LENGTH:
        return False
    try:
        chance = bytes.fromhex(attempt_id[: 2 * HALF_BYTES])
    except ValueError:
        return False
    keys = map(str, (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))
    return any(secrets.compare_digest(_name(chance, deployment_id, key).encode(), attempt_id.encode()) for key in keys)


def _name(chance: bytes, deployment_id: int, key: str) -> str:
    """The first half with the bits of a version 4 UUID is what the second is a digest of."""
    chance = UUID(bytes=chance + bytes(HALF_BYTES), version=4).bytes[:HALF_BYTES]
    digest = blake2b(b"%d:" % deployment_id + chance, key=_key(key), digest_size=HALF_BYTES).digest()
    return UUID(bytes=chance + digest, version=4).hex


@lru_cache(maxsize=8)
def _key(secret: str) -> bytes:
    return blake2b(secret.encode(), person=b"ciyuan probe", digest_size=32).digest()
