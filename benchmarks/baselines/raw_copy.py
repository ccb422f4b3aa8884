"""
Raw COPY, the measure of everything that stores rows: binary, one connection, a plain logged table of the same columns
without index, the same batch and commit, encoding included; each row written as psycopg documents it.
"""

from collections.abc import Sequence
from typing import Any

import psycopg

TYPES = {
    "bigint": "int8", "integer": "int4", "smallint": "int2", "uuid": "uuid", "timestamp with time zone": "timestamptz",
    "character varying": "varchar", "jsonb": "jsonb", "bytea": "bytea", "date": "date",
}


class RawCopy:
    """A plain copy of a table, and how fast rows go into it."""

    def __init__(self, connection: psycopg.Connection[Any], table: str) -> None:
        self.connection = connection
        self.table = f"raw_{table}"
        columns = connection.execute(
            "SELECT data_type FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position", [table]
        ).fetchall()
        self.types = [TYPES[kind] for (kind,) in columns]
        connection.execute(f"DROP TABLE IF EXISTS {self.table}".encode())
        connection.execute(f"CREATE TABLE {self.table} AS SELECT * FROM {table} LIMIT 0".encode())
        connection.commit()

    def write(self, rows: Sequence[tuple[Any, ...]], *, commit: bool = True) -> None:
        """Encode the rows and store them in one committed batch, or leave the commit to the next table's."""
        query = f"COPY {self.table} FROM STDIN (FORMAT BINARY)".encode()
        with self.connection.cursor() as cursor, cursor.copy(query) as stream:
            stream.set_types(self.types)
            for row in rows:
                stream.write_row(row)
        if commit:
            self.connection.commit()
