"""Identifiers made by the application: time-ordered, so that large tables grow at their end."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Return a UUIDv7: 48 bits of milliseconds, then randomness. Later ids sort after earlier ones."""
    return uuid7()
