"""Damage to the books behind every rule, for tests of what the audit says."""

from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def without_triggers():
    """Change insert-only rows, as somebody with the database's keys could."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        yield
        cursor.execute("SET LOCAL session_replication_role = origin")
