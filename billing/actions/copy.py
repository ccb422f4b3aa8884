"""Transfers into Postgres by binary COPY: postings row by row, bulks as records of numpy."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from django.db import connection

from billing.domain.accounts import AccountRef
from billing.domain.bulk import Bulk
from billing.domain.postings import Posting

COPY = """
COPY billing_transfer (id, debit_id, credit_id, amount_micro, excess_micro, pending_id, booked_at, booked_on, stage,
                       kind, key, label) FROM STDIN (FORMAT BINARY)
"""
TYPES = ["uuid", "int8", "int8", "int8", "int8", "uuid", "timestamptz", "date", "int2", "varchar", "varchar", "varchar"]
HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(2000, 1, 1)
CHUNK = 16_384


def insert_postings(
    postings: Iterable[Posting], ids: Mapping[AccountRef, int], *, booked_at: datetime, booked_on: date
) -> None:
    """Insert a row per posting, each with an id; `ids` are the accounts'."""
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(COPY) as stream:
        stream.set_types(TYPES)
        write = stream.write_row
        for key, kind, stage, debit, credit, amount, excess, pending_id, id_, label, _ in postings:
            write((id_, ids[debit], ids[credit], amount, excess, pending_id, booked_at, booked_on, stage, kind, key,
                   label))


def insert_bulk(bulk: Bulk, ids: Mapping[AccountRef, int], *, booked_at: datetime, booked_on: date) -> None:
    """Insert a row per movement of a bulk, a chunk at a time, so that Postgres works while the next is encoded."""
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(COPY) as stream:
        stream.write(HEADER)
        for chunk in encode_bulk(bulk, ids, booked_at=booked_at, booked_on=booked_on):
            stream.write(chunk)
        stream.write(TRAILER)


def encode_bulk(
    bulk: Bulk, ids: Mapping[AccountRef, int], *, booked_at: datetime, booked_on: date
) -> Iterator[bytes]:
    """Yield the rows of a bulk as the binary format has them: each field its length, then its bytes, big-endian."""
    account_ids = np.fromiter((ids[account] for account in bulk.accounts), np.int64, len(bulk.accounts))
    with_hold = bulk.pending_ids is not None
    kind = bulk.kind.encode()
    keys, transfer_ids = bulk.keys(), bulk.ids()
    span = booked_at - EPOCH
    fixed = {
        "excess": 0, "at": (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds,
        "on": (booked_on - EPOCH_DAY).days, "stage": int(bulk.stage), "kind": kind}
    layout = _layout(kind=len(kind), key=keys.itemsize, with_hold=with_hold)
    rows = np.zeros(min(CHUNK, len(keys)), layout)
    rows["fields"] = 12
    for name in layout.names or ():
        if name.endswith("_length"):
            field = name.removesuffix("_length")
            rows[name] = layout[field].itemsize if field in (layout.names or ()) else -1 if field == "pending" else 0
    for name, value in fixed.items():
        rows[name] = value
    for start in range(0, len(keys), CHUNK):
        part = slice(start, start + CHUNK)
        chunk = rows[: len(keys[part])]
        chunk["id"], chunk["key"] = transfer_ids[part], keys[part]
        chunk["debit"], chunk["credit"] = account_ids[bulk.debit[part]], account_ids[bulk.credit[part]]
        chunk["amount"] = bulk.amount_micro[part]
        if bulk.excess_micro is not None:
            chunk["excess"] = bulk.excess_micro[part]
        if bulk.pending_ids is not None:
            chunk["pending"] = bulk.pending_ids[part]
        yield chunk.tobytes()


def _layout(*, kind: int, key: int, with_hold: bool) -> np.dtype[Any]:
    """Return the record of a row whose texts have these lengths. A null and an empty text are a length alone."""
    fields = [("id", "V16"), ("debit", ">i8"), ("credit", ">i8"), ("amount", ">i8"), ("excess", ">i8"),
              ("pending", "V16" if with_hold else None), ("at", ">i8"), ("on", ">i4"), ("stage", ">i2"),
              ("kind", f"S{kind}"), ("key", f"S{key}"), ("label", None)]
    record: list[tuple[str, str]] = [("fields", ">i2")]
    for name, type_ in fields:
        record.append((f"{name}_length", ">i4"))
        if type_ is not None:
            record.append((name, type_))
    return np.dtype(record)
