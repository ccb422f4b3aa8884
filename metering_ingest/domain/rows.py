"""
Rows as the database's binary COPY wants them, and the rollup that the same batch adds up to.

The fixed columns of all rows are one big-endian record array. Texts join it as columns as far as they are of one length
in all rows, as ids of a meter mostly are; the rest follows row by row.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metering_ingest.domain.classes import CACHED, CODES, INPUT, OUTPUT, REASONING, REQUESTS
from metering_ingest.domain.pipeline import Prepared, chosen

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
CHUNK_ROWS = 1_000
NULL = b"\xff\xff\xff\xff"
#: Postgres counts microseconds from 2000-01-01.
POSTGRES_EPOCH_US = 946_684_800_000_000

FIXED_COLUMNS = (
    ("event_key", "V16"), ("meter_id", ">i8"), ("contract_id", ">i8"), ("deployment_id", ">i8"), ("received_at", ">i8"),
    ("input_micro_st", ">i8"), ("cached_micro_st", ">i8"), ("output_micro_st", ">i8"),
    ("requests", ">i4"), ("input_tokens", ">i4"), ("cached_tokens", ">i4"), ("output_tokens", ">i4"),
    ("reasoning_tokens", ">i4"), ("length_band", ">i2"),
)  # fmt: skip
TEXT_COLUMNS = ("source", "id", "subject", "details")
COLUMNS = (*(name for name, _ in FIXED_COLUMNS), *TEXT_COLUMNS)

_RECORD = np.dtype(
    [("fields", ">i2")] + [pair for name, kind in FIXED_COLUMNS for pair in ((f"{name}_length", ">i4"), (name, kind))]
)
_TEMPLATE = np.zeros(1, dtype=_RECORD)
_TEMPLATE["fields"] = len(COLUMNS)
for _name, _kind in FIXED_COLUMNS:
    _TEMPLATE[f"{_name}_length"] = np.dtype(_kind).itemsize
_PREFIX = [length.to_bytes(4, "big") for length in range(2_048)]


def copy_rows(batch: Prepared, *, received_us: int, only: Sequence[int] | None = None) -> Iterator[bytes]:
    """
    Yield the body of `COPY usage_event (COLUMNS) FROM STDIN BINARY` in chunks, header and end included.

    :param received_us: microseconds since 1970 at which the exchange received it.
    :param only: the rows to write, by their place in the batch, in order; all of them where None.
    """
    at: Any = slice(None) if only is None else np.array(only, dtype=np.int64)
    fixed = _fixed(batch, received_us)[at].view(f"V{_RECORD.itemsize}")
    columns, rest = _texts(batch, only)
    records = np.empty(len(fixed), dtype=_record_with(tuple(column.itemsize for column in columns)))
    records["fixed"] = fixed
    for number, column in enumerate(columns):
        records[f"text{number}"] = column
    yield COPY_HEADER
    for first in range(0, len(records), CHUNK_ROWS):
        part = records[first : first + CHUNK_ROWS]
        if not rest:
            yield part.tobytes()
            continue
        whole = part.view(f"V{records.itemsize}").tolist()
        ends = [column[first : first + CHUNK_ROWS] for column in rest]
        # Row by row, but in the interpreter's own loops.
        yield b"".join(chain.from_iterable(zip(whole, *ends, strict=True)))
    yield COPY_END


@lru_cache(256)
def _record_with(widths: tuple[int, ...]) -> np.dtype[np.void]:
    """The fixed columns as one field, then texts with their lengths before them."""
    texts = ((f"text{number}", f"V{width}") for number, width in enumerate(widths))
    return np.dtype([("fixed", f"V{_RECORD.itemsize}"), *texts])


def _fixed(batch: Prepared, received_us: int) -> NDArray[np.void]:
    """The number of fields and the fixed columns of every row."""
    records = np.repeat(_TEMPLATE, len(batch))
    records["event_key"] = batch.keys.view("V16")[:, 0]
    records["meter_id"] = batch.meter.meter_id
    records["contract_id"] = batch.contract_id
    records["deployment_id"] = batch.meter.deployment_id
    records["received_at"] = received_us - POSTGRES_EPOCH_US
    records["input_micro_st"], records["cached_micro_st"], records["output_micro_st"] = batch.work
    records["requests"], records["input_tokens"], records["cached_tokens"] = batch.requests, batch.fresh, batch.cached
    records["output_tokens"], records["reasoning_tokens"] = batch.visible, batch.reasoning
    records["length_band"] = batch.band
    return records


def _texts(batch: Prepared, only: Sequence[int] | None) -> tuple[list[NDArray[np.void]], list[list[bytes]]]:
    """
    Return source, id, and subject with details, every text with its length before it: first those that are of one
    length in all rows, as arrays (of one element where all are the same), then the rest, as lists.
    """
    source, id_ = chosen(batch.source, only), chosen(batch.id, only)
    subject, details = chosen(batch.subject, only), chosen(batch.details, only)
    found: list[NDArray[np.void]] = []
    source_of = {text: _prefixed(text.encode()) for text in set(source)}
    subject_of = {text: _prefixed(text.encode()) + NULL for text in set(subject)}
    if len(source_of) == 1:
        found.append(_array(list(source_of.values())))
    elif len(set(map(len, source_of.values()))) == 1:
        found.append(_array(list(map(source_of.__getitem__, source))))
    sizes = set(map(len, id_))
    if found and len(sizes) == 1:
        found += [_array([_PREFIX[sizes.pop()]]), _array(id_)]
    plain = not any(details)
    if len(found) == 3 and plain and len(set(map(len, subject_of.values()))) == 1:
        found.append(_array(list(map(subject_of.__getitem__, subject))))
        return found, []
    ends = list(map(subject_of.__getitem__, subject))
    if not plain:
        ends = list(map(_with_details, ends, details))
    if len(found) == 3:
        return found, [ends]
    ids = list(map(_prefixed, id_))
    return found, [ids, ends] if found else [list(map(source_of.__getitem__, source)), ids, ends]


def _array(texts: Sequence[bytes]) -> NDArray[np.void]:
    """Texts of one length as an array."""
    return np.frombuffer(b"".join(texts), dtype=f"V{len(texts[0])}")


def _with_details(end: bytes, details: bytes | None) -> bytes:
    """Put the details where `end`, a subject and a null, says that there are none."""
    if details is None:
        return end
    return end[: -len(NULL)] + (len(details) + 1).to_bytes(4, "big") + b"\x01" + details


def _prefixed(encoded: bytes) -> bytes:
    return _PREFIX[len(encoded)] + encoded


Rollup = list[tuple[int, int, int, int, int, int, int, int]]
"""Rows of (contract, deployment, hour, band, class, quantity, work_micro_st, events), in key order."""


def rollup(batch: Prepared, only: Sequence[int] | None = None) -> Rollup:
    """
    Return what the batch adds to the rollup, in key order.

    :param only: the rows to count, by their place in the batch; all of them where None.
    """
    at: NDArray[np.int64] = np.arange(len(batch)) if only is None else np.array(only, dtype=np.int64)
    if not at.size:
        return []
    contract, hour, band = batch.contract_id[at], batch.hour[at], batch.band[at]
    order = np.lexsort((band, hour, contract))
    contract, hour, band, at = contract[order], hour[order], band[order], at[order]
    starts = np.concatenate(
        ([0], np.nonzero((np.diff(contract) != 0) | (np.diff(hour) != 0) | (np.diff(band) != 0))[0] + 1)
    )
    deployment = batch.meter.deployment_id
    nothing = np.zeros(len(batch), dtype=np.int64)
    rows: dict[tuple[int, int, int, int, int], tuple[int, int, int]] = {}
    groups = list(zip(contract[starts].tolist(), hour[starts].tolist(), band[starts].tolist(), strict=True))
    for code, quantity, work in (
        (REQUESTS, batch.requests, nothing), (INPUT, batch.fresh, batch.work[0]), (CACHED, batch.cached, batch.work[1]),
        (OUTPUT, batch.visible, batch.work[2]), (REASONING, batch.reasoning, nothing),
    ):  # fmt: skip
        quantities = np.add.reduceat(quantity[at], starts).tolist()
        works = np.add.reduceat(work[at], starts).tolist()
        counted = np.add.reduceat(((quantity[at] != 0) | (work[at] != 0)).astype(np.int64), starts).tolist()
        for (c, h, b), q, w, events in zip(groups, quantities, works, counted, strict=True):
            if events:
                rows[c, deployment, h, b, code] = (q, w, events)
    if batch.extras:
        for row in at.tolist():
            for name, count in batch.extras.get(row, {}).items():
                key = (int(batch.contract_id[row]), deployment, int(batch.hour[row]), int(batch.band[row]), CODES[name])
                q, w, events = rows.get(key, (0, 0, 0))
                rows[key] = (q + count, w, events + 1)
    return [(*key, *rows[key]) for key in sorted(rows)]


TagRollup = list[tuple[int, int, int, str, str, int, int, int, int]]
"""Rows of (contract, deployment, hour, tag, value, class, quantity, work_micro_st, events), in key order."""


def tag_rollup(batch: Prepared, only: Sequence[int] | None = None) -> TagRollup:
    """Return what the batch's tagged events add to the rollup by tag; see `rollup`. Without tags it costs nothing."""
    if not batch.tags:
        return []
    tagged = batch.tags.keys() if only is None else batch.tags.keys() & set(only)
    sums: dict[tuple[int, int, int, str, str, int], list[int]] = {}
    for row in tagged:
        counts = [
            (REQUESTS, int(batch.requests[row]), 0), (INPUT, int(batch.fresh[row]), int(batch.work[0][row])),
            (CACHED, int(batch.cached[row]), int(batch.work[1][row])),
            (OUTPUT, int(batch.visible[row]), int(batch.work[2][row])), (REASONING, int(batch.reasoning[row]), 0),
            *((CODES[name], count, 0) for name, count in batch.extras.get(row, {}).items()),
        ]  # fmt: skip
        place = (int(batch.contract_id[row]), batch.meter.deployment_id, int(batch.hour[row]))
        for key, *added in tagged_rows(place, batch.tags[row], counts):
            total = sums.setdefault(key, [0, 0, 0])
            for i in range(3):
                total[i] += added[i]
    return [(*key, *sums[key]) for key in sorted(sums)]  # type: ignore[misc]


def tagged_rows(
    place: tuple[int, int, int], tags: Mapping[str, str], counts: Sequence[tuple[int, int, int]], sign: int = 1
) -> Iterator[tuple[tuple[int, int, int, str, str, int], int, int, int]]:
    """
    Yield (key, quantity, work, events) of one event for each of its tags and classes.

    :param place: contract, deployment and hour since 1970.
    :param counts: (class, quantity, work) of the event.
    """
    for name, value in tags.items():
        for code, quantity, work in counts:
            if quantity or work:
                yield (*place, name, value, code), sign * quantity, sign * work, sign
