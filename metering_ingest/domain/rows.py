"""
Rows as the database's binary COPY wants them, and the rollup that the same batch adds up to.

The fixed columns of all rows are one big-endian record array; the texts follow row by row.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from metering_ingest.domain.classes import CACHED, CODES, INPUT, OUTPUT, REASONING, REQUESTS
from metering_ingest.domain.pipeline import Prepared

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


def copy_rows(batch: Prepared, *, received_us: int) -> Iterator[bytes]:
    """
    Yield the body of `COPY usage_event (COLUMNS) FROM STDIN BINARY` in chunks, header and end included.

    :param received_us: microseconds since 1970 at which the exchange received it.
    """
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
    fixed = records.view(f"V{_RECORD.itemsize}")
    source = {text: _prefixed(text) for text in set(batch.source)}
    subject = {text: _prefixed(text) + NULL for text in set(batch.subject)}
    plain = not any(batch.details)
    yield COPY_HEADER
    for first in range(0, len(batch), CHUNK_ROWS):
        part = slice(first, first + CHUNK_ROWS)
        ids = batch.id[part]
        ends: Iterable[bytes] = map(subject.__getitem__, batch.subject[part])
        if not plain:
            ends = map(_with_details, ends, batch.details[part])
        # Row by row, but in the interpreter's own loops: this is a tenth of the whole time.
        yield b"".join(
            chain.from_iterable(
                zip(
                    fixed[part].tolist(), map(source.__getitem__, batch.source[part]),
                    map(_PREFIX.__getitem__, map(len, ids)), ids, ends, strict=True,
                )
            )
        )  # fmt: skip
    yield COPY_END


def _with_details(end: bytes, details: bytes | None) -> bytes:
    """Put the details where `end`, a subject and a null, says that there are none."""
    if details is None:
        return end
    return end[: -len(NULL)] + (len(details) + 1).to_bytes(4, "big") + b"\x01" + details


def _prefixed(text: str) -> bytes:
    encoded = text.encode()
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
    chosen = batch.tags.keys() if only is None else batch.tags.keys() & set(only)
    sums: dict[tuple[int, int, int, str, str, int], list[int]] = {}
    for row in chosen:
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
