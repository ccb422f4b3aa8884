"""
COPY of usage rows in as few messages as it takes. A waiting process's turn comes late on a busy machine, so each round
trip less is felt: the transaction's beginning travels with the COPY that it is for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.generators import copy_end, copy_to, execute

from metering_ingest.domain.rows import COLUMNS

NAMES = ", ".join(COLUMNS)
_FAILED = (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE)


@contextmanager
def copying(
    connection: "psycopg.Connection[Any]", table: str, *, begin: str = ""
) -> Iterator[Callable[[bytes], None]]:
    """
    Yield what takes the chunks of `copy_rows`. The database takes rows in while the next ones are being encoded.

    psycopg's own COPY wants to be alone in its message; beneath it, libpq takes several statements and stops at it.

    :param begin: statements that go before it in the same message, ended with a semicolon. They have been carried out
        when the body starts.
    """
    pgconn = connection.pgconn
    statement = f"{begin}COPY {table} ({NAMES}) FROM STDIN (FORMAT BINARY)"
    pgconn.send_query(statement.encode())
    for result in connection.wait(execute(pgconn)):
        if result.status in _FAILED:
            raise error_from_result(result)
    try:
        yield lambda chunk: connection.wait(copy_to(pgconn, chunk))
    except BaseException:
        if pgconn.status == pq.ConnStatus.OK and pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
            _give_up(connection)
        raise
    connection.wait(copy_end(pgconn, None))


def _give_up(connection: "psycopg.Connection[Any]") -> None:
    """End a COPY whose rows could not be made; the database answers with an error, as it should."""
    try:
        connection.wait(copy_end(connection.pgconn, b"the rows could not be made"))
    except psycopg.Error:
        return
