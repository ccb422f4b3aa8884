"""The one transaction that a door opens, and what to do when the database asks to try again."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection, transaction

T = TypeVar("T")

DEADLOCK, SERIALIZATION_FAILURE = "40P01", "40001"
ATTEMPTS = 6


def assert_in_transaction() -> None:
    """Actions change rows only inside their door's transaction; this says so."""
    if not connection.in_atomic_block:
        raise RuntimeError("an action was called outside a transaction: its door opens it")


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database error, as Postgres gave it."""
    return getattr(error.__cause__, "sqlstate", None) or getattr(error, "sqlstate", None)


def durable(work: Callable[[], T]) -> T:
    """
    Run `work` in one outermost transaction; on a deadlock or serialization failure run it again, a few times.

    Already inside a transaction (a test, an outer door) the work is a savepoint of it: a refusal leaves nothing.
    """
    if connection.in_atomic_block:
        with transaction.atomic():
            return work()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                return work()
        except OperationalError as error:
            if sqlstate(error) not in (DEADLOCK, SERIALIZATION_FAILURE) or attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.01 * 2**attempt))
    raise AssertionError("unreachable")
