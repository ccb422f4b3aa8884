"""
What usage ingest is measured against: binary COPY through psycopg's row writer into a plain table of the same columns,
without index, one COPY and one commit per batch.
"""

from typing import Any

import psycopg

from metering_ingest.domain.rows import COLUMNS

TYPES = ["uuid", "int8", "int8", "int8", "timestamptz", "int8", "int8", "int8", "int4", "int4", "int4", "int4", "int4",
         "int2", "text", "text", "text", "jsonb"]  # fmt: skip


class RawCopy:
    """Rows into `raw_event`, a logged table without index, one COPY and one commit per batch."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        connection.execute("DROP TABLE IF EXISTS raw_event")
        connection.execute("CREATE TABLE raw_event (LIKE usage_event)")

    def store(self, rows: list[tuple[Any, ...]]) -> None:
        """Write rows of `COLUMNS`."""
        with self.connection.transaction(), self.connection.cursor().copy(
            f"COPY raw_event ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            copy.set_types(TYPES)
            for row in rows:
                copy.write_row(row)
