"""Rows by COPY: the quickest way into Postgres, for the tables that take thousands at a time."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from django.db import connection
from psycopg import Connection
from psycopg.sql import SQL, Identifier

NULL = "\\N"
BINARY_HEADER, BINARY_TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
WORTH_A_THREAD_BYTES = 100_000
USUALLY_SECONDS, PROMPTLY_SECONDS = sys.getswitchinterval(), 0.000_1  # after which a thread lets another one run


def copy_text(table: str, columns: str, lines: Iterable[str]) -> None:
    """Insert rows given as tab-separated text without the line's end. Free text must come through `escape`."""
    body = "\n".join(lines)
    if not body:
        return
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(f"COPY {table} ({columns}) FROM STDIN") as stream,
    ):
        stream.write(body)
        stream.write("\n")


def copy_binary(table: str, columns: str, body: bytes) -> None:
    """Insert rows given as a whole binary COPY stream."""
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as stream,
    ):
        stream.write(body)


class Batch(NamedTuple):
    """Rows of a table in the binary format, in parts."""

    table: str
    columns: LiteralString
    parts: Sequence[bytes]


@contextmanager
def storing(batches: Sequence[Batch]) -> Iterator[None]:
    """
    Insert batches while the block does other work, if there is enough of them for that to pay. The block must leave
    the database alone.
    """
    if sum(len(part) for batch in batches for part in batch.parts) < WORTH_A_THREAD_BYTES:
        for table, columns, parts in batches:
            copy_binary(table, columns, b"".join((BINARY_HEADER, *parts, BINARY_TRAILER)))
        yield
        return
    own = connection.connection  # which one thread at a time may use; Django's own objects are for one thread alone
    try:
        # Each piece that Postgres has taken needs the interpreter for the next one: not after 5 ms, as is usual.
        sys.setswitchinterval(PROMPTLY_SECONDS)
        with ThreadPoolExecutor(1) as pool:
            stored = pool.submit(_store, own, batches)
            yield
            with connection.wrap_database_errors:
                stored.result()
    finally:
        sys.setswitchinterval(USUALLY_SECONDS)


def _store(own: Connection[Any], batches: Sequence[Batch]) -> None:
    for table, columns, parts in batches:
        query = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(Identifier(table), SQL(columns))
        with own.cursor() as cursor, cursor.copy(query) as stream:
            for part in (BINARY_HEADER, *parts, BINARY_TRAILER):
                stream.write(part)


def escape(text: str) -> str:
    """Return free text as COPY wants it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def microseconds(moment: datetime) -> int:
    """Return a time as binary COPY wants it: microseconds since the year 2000."""
    return (moment - EPOCH) // MICROSECOND
