import psycopg
import pytest
from django.db import IntegrityError, connection, transaction

from core import prepared

pytestmark = pytest.mark.django_db


def test_a_statement_is_prepared_once_and_kept():
    sql = "SELECT %s::bigint + 1 AS kept_once"
    assert [prepared.execute(sql, [number]).fetchone() for number in (1, 2, 3)] == [(2,), (3,), (4,)]
    (count,) = prepared.execute(
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s", ["%kept_once%"]
    ).fetchone()
    assert count == 1


def test_errors_are_django_s_and_undo_the_transaction():
    with pytest.raises(IntegrityError) as caught, transaction.atomic():
        prepared.execute("INSERT INTO core_idempotencyrecord (organization_id) VALUES (%s)", [1])
    assert isinstance(caught.value.__cause__, psycopg.errors.NotNullViolation)
    assert prepared.execute("SELECT 1").fetchone() == (1,)
    assert connection.in_atomic_block
