"""Times and keys of many events at once; `event_key` says what a key is."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from metering_ingest.domain.event_key import DIGEST_BYTES
from metering_ingest.domain.events import Event

Ints = NDArray[np.int64]


def milliseconds_of_all(events: Sequence[Event]) -> Ints:
    """Event times in whole milliseconds, rounded down. A float64 holds a time's microseconds well enough to round."""
    seconds = np.fromiter(map(datetime.timestamp, [event.time for event in events]), np.float64, len(events))  # type: ignore[arg-type]
    return np.round(seconds * 1e6).astype(np.int64) // 1_000


def keys_of_all(sources: Sequence[str], ids: Sequence[bytes], ms: Ints) -> NDArray[np.uint8]:
    """The keys of events as rows of sixteen bytes. Each source is hashed once and its state copied for every id."""
    begun = {source: blake2b(f"{source}\0".encode(), digest_size=DIGEST_BYTES) for source in set(sources)}
    of_event = repeat(begun[sources[0]]) if len(begun) == 1 else map(begun.__getitem__, sources)
    digests = []
    for state, id_ in zip(of_event, ids, strict=False):
        digest = state.copy()
        digest.update(id_)
        digests.append(digest.digest())
    keys = np.empty((len(ids), 16), dtype=np.uint8)
    stamps = np.clip(ms, 0, 2**48 - 1).astype(">u8").view(np.uint8).reshape(-1, 8)
    keys[:, :6] = stamps[:, 2:]
    keys[:, 6:] = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    return keys
