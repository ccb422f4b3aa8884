"""
The two files of an archived day: its events as Parquet, in key order, and its identities, sorted, for look-ups.

An identity is 48 bytes: digest of (source, id), time in milliseconds, meter, when it was received, and a digest of the
content. Sorted by the first ten bytes, an event is found by its key, and the same id at another time beside it.
"""

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import duckdb
import numpy as np
from numpy.typing import NDArray

from metering_ingest.domain.event_key import DIGEST_BYTES
from metering_ingest.domain.rows import COLUMNS

CONTENT_BYTES = 16
RECORD = np.dtype([
    ("digest", ">u8"), ("rest", ">u2"), ("ms", "V6"), ("meter", ">i8"), ("received_us", ">i8"), ("content", "V16"),
])  # fmt: skip
_IDENTITY_BYTES = DIGEST_BYTES + 6 + 8
_TYPES = {
    "event_key": "UUID", "received_at": "TIMESTAMPTZ", "source": "VARCHAR", "id": "VARCHAR", "subject": "VARCHAR",
    "details": "VARCHAR", "length_band": "SMALLINT",
    **dict.fromkeys(("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), "INTEGER"),
}  # fmt: skip
COLUMN_TYPES = {name: _TYPES.get(name, "BIGINT") for name in COLUMNS}
_SUMS = ("requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "input_micro_st",
         "cached_micro_st", "output_micro_st")  # fmt: skip
CSV_NULL = "\\N"


class Identity(NamedTuple):
    """One archived event: its key, meter, when it was received (microseconds since 1970), a digest of its content."""

    key: bytes
    meter_id: int
    received_us: int
    content: bytes


@contextmanager
def _duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1, "memory_limit": "512MB"}) as database:
        database.execute("SET TimeZone = 'UTC'")
        yield database


def write_parquet(csv: Path, target: Path) -> dict[str, int]:
    """
    Make the Parquet file of events from CSV (columns in the order of COLUMNS), in key order and on disk.

    :returns: the number of events and the sums of what was written, read back from the file.
    """
    scratch = target.with_suffix(".new")
    with _duckdb() as database:
        events = database.read_csv(
            str(csv), header=False, columns=COLUMN_TYPES, delimiter=",", quotechar='"', escapechar='"',
            na_values=[CSV_NULL], allow_quoted_nulls=False, parallel=False,
        )  # fmt: skip
        events.order("event_key, meter_id").write_parquet(str(scratch), compression="zstd", row_group_size=50_000)
        sums = ", ".join(f"coalesce(sum({name}), 0)::BIGINT" for name in _SUMS)
        texts = "coalesce(sum(strlen(source) + strlen(id) + strlen(subject) + coalesce(strlen(details), 0)), 0)::BIGINT"
        found = database.execute(f"SELECT count(*), {sums}, {texts} FROM read_parquet(?)", [str(scratch)]).fetchone()
    assert found is not None
    _put(scratch, target)
    return dict(zip(("events", *_SUMS, "text_bytes"), found, strict=True))


#: The same sums as `write_parquet` returns, of a table.
TABLE_SUMS = (
    "SELECT count(*), "
    + ", ".join(f"coalesce(sum({name}), 0)::bigint" for name in _SUMS)
    + ", coalesce(sum(octet_length(source) + octet_length(id) + octet_length(subject)"
    " + coalesce(octet_length(details::text), 0)), 0)::bigint FROM {table}"
)
SUM_NAMES = ("events", *_SUMS, "text_bytes")


def write_identities(identities: Iterable[Identity], target: Path) -> None:
    """Write the sorted identities, on disk when this returns."""
    records = b"".join(
        i.key[6:] + i.key[:6] + i.meter_id.to_bytes(8, "big", signed=True)
        + i.received_us.to_bytes(8, "big", signed=True) + i.content
        for i in identities
    )  # fmt: skip
    table = np.frombuffer(records, dtype="V48")
    scratch = target.with_suffix(".new")
    scratch.write_bytes(np.sort(table.view("S48")).tobytes() if len(table) else b"")
    _put(scratch, target)


def _put(scratch: Path, target: Path) -> None:
    for path in (scratch,):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    scratch.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def file_digest(path: Path) -> str:
    """Return the BLAKE2b-256 of a file, in hexadecimal digits."""
    digest = blake2b(digest_size=32)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def find(path: Path, meter_id: int, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the content digests of those events of a meter that the file has, by key."""
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            return found
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            meter = meter_id.to_bytes(8, "big", signed=True)
            for key in keys:
                wanted = key[6:] + key[:6] + meter
                low, high = 0, size // RECORD.itemsize
                while low < high:
                    middle = (low + high) // 2
                    at = middle * RECORD.itemsize
                    if data[at : at + _IDENTITY_BYTES] < wanted:
                        low = middle + 1
                    else:
                        high = middle
                at = low * RECORD.itemsize
                if data[at : at + _IDENTITY_BYTES] == wanted:
                    found[key] = data[at + RECORD.itemsize - CONTENT_BYTES : at + RECORD.itemsize]
    return found


def alike(path: Path, others: NDArray[Any]) -> list[tuple[Identity, Identity]]:
    """
    Return pairs (of the file, of `others`) with the same meter, source and id.

    :param others: identities as `load` returns them.
    """
    mine = load(path)
    candidates = mine[np.isin(mine["digest"], others["digest"])]
    if not len(candidates):
        return []
    by_identity: dict[tuple[int, int, int], list[Identity]] = {}
    for record in others[np.isin(others["digest"], candidates["digest"])]:
        by_identity.setdefault(_named(record), []).append(_identity(record))
    return [
        (_identity(record), other) for record in candidates for other in by_identity.get(_named(record), [])
    ]  # fmt: skip


def load(path: Path) -> NDArray[Any]:
    """Return a file's identities as an array that lies on disk."""
    return np.memmap(path, dtype=RECORD, mode="r") if path.stat().st_size else np.empty(0, dtype=RECORD)


def _named(record: Any) -> tuple[int, int, int]:
    return int(record["digest"]), int(record["rest"]), int(record["meter"])


def _identity(record: Any) -> Identity:
    digest = int(record["digest"]).to_bytes(8, "big") + int(record["rest"]).to_bytes(2, "big")
    return Identity(
        record["ms"].tobytes() + digest, int(record["meter"]), int(record["received_us"]), record["content"].tobytes()
    )


def one_event(path: Path, meter_id: int, key: bytes) -> Mapping[str, Any] | None:
    """Return one archived event by column, but for when it was received; None where the file has it not."""
    with _duckdb() as database:
        cursor = database.execute(
            "SELECT * EXCLUDE (received_at) FROM read_parquet(?) WHERE event_key = ? AND meter_id = ?",
            [str(path), UUID(bytes=key), meter_id],
        )
        row = cursor.fetchone()
        names = [column[0] for column in cursor.description or []]
    return None if row is None else dict(zip(names, row, strict=True))


def write_csv(paths: Iterable[Path], target: Path, *, first: UUID, last: UUID) -> None:
    """Write archived events with first <= key < last as CSV in the order of COLUMNS, for Postgres to read."""
    names = ", ".join(COLUMNS)
    with _duckdb() as database:
        database.execute(
            f"COPY (SELECT {names} FROM read_parquet({[str(path) for path in paths]!r})"
            f" WHERE event_key >= '{first}'::UUID AND event_key < '{last}'::UUID)"
            f" TO '{target}' (FORMAT csv, HEADER false, NULLSTR '{CSV_NULL}', FORCE_QUOTE (source, id, subject))"
        )


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
