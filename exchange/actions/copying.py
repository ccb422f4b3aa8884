"""Rows by COPY: the quickest way into Postgres, for the tables that take thousands at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import connection
from psycopg.copy import QueuedLibpqWriter

NULL = "\\N"
BINARY_HEADER, BINARY_TRAILER = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


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


@contextmanager
def copying_binary(table: str, columns: str) -> Iterator[Callable[[bytes], None]]:
    """
    Insert rows in the binary format, which the block gives to what it is given: they are sent by a thread of their own,
    so that the block may go on with other work. It must not use the database.
    """
    with connection.cursor() as cursor, connection.wrap_database_errors:
        sender = QueuedLibpqWriter(cursor.cursor)
        with cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)", writer=sender) as stream:
            stream.write(BINARY_HEADER)
            yield stream.write
            stream.write(BINARY_TRAILER)


def escape(text: str) -> str:
    """Return free text as COPY wants it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def microseconds(moment: datetime) -> int:
    """Return a time as binary COPY wants it: microseconds since the year 2000."""
    return (moment - EPOCH) // MICROSECOND
