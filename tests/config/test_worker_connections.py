"""A worker's connection to the database outlives its tasks, until it is broken."""

import pytest
from celery.fixups.django import DjangoWorkerFixup
from django.db import connection, connections

from config.celery import _look_after_connections, app


def backend(using=connection):
    with using.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_worker_keeps_its_connection_and_replaces_a_dead_one():
    around = DjangoWorkerFixup(app)

    def task():
        around.close_database()
        _look_after_connections()
        found = backend()
        around.close_database()
        return found

    first = task()
    assert task() == first
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [first])
    other.close()
    assert task() != first
