"""Statements of the hot paths: read, checked and planned by Postgres once per connection, not once per call."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from django.db import connection


def execute(sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> "psycopg.Cursor[Any]":
    """
    Run a statement in the current transaction and return the cursor that holds its rows.

    For the few statements that run with every order or every batch of events. The text must be one of a fixed few:
    each connection keeps what it prepared. Rows come as Postgres has them, without
    what a model's fields would make of them.
    """
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return psycopg.Cursor(connection.connection).execute(sql, parameters, prepare=True)


def one(sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> tuple[Any, ...]:
    """Run a statement that gives exactly one row, and return it."""
    [row] = execute(sql, parameters).fetchall()
    return tuple(row)
