"""What a protocol of the usage door is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from metering_ingest.actions.store import Result
from metering_ingest.domain.events import Decoded


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body that a client of the protocol understands."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """A protocol: its addresses and content types, how it is read and how it is answered."""

    name: str
    paths: tuple[str, ...]
    media_types: tuple[str, ...]
    decode: Callable[[bytes], Decoded]
    answer: Callable[[Decoded, Sequence[Result]], Reply]
