"""The protocols of the usage door: each reads its own shape into events, and answers as its clients expect."""

from metering_ingest.dialects.base import Dialect
from metering_ingest.dialects.clouds import CLOUDS
from metering_ingest.dialects.litellm import LITELLM
from metering_ingest.dialects.native import NATIVE
from metering_ingest.dialects.otlp import OTLP

_DIALECTS: tuple[Dialect, ...] = (NATIVE, CLOUDS, LITELLM, *OTLP)
PATHS: tuple[str, ...] = tuple(dict.fromkeys(path for dialect in _DIALECTS for path in dialect.paths))


def of(path: str, media_type: str) -> Dialect | None:
    """Return the dialect of an address and content type (empty where the client named none)."""
    for dialect in _DIALECTS:
        if path in dialect.paths and (not media_type or media_type in dialect.media_types):
            return dialect
    return None


def what_is_taken(path: str) -> str:
    """Return a sentence on the content types of an address."""
    taken = [media for dialect in _DIALECTS if path in dialect.paths for media in dialect.media_types]
    return f"This address takes {', '.join(dict.fromkeys(taken))}."


__all__ = ["PATHS", "Dialect", "of", "what_is_taken"]
