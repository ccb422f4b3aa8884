"""The test database itself: rolled back or cloned anew, and races run on connections of their own."""

from __future__ import annotations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction


def count() -> int:
    return ContentType.objects.filter(app_label="made_up").count()


@pytest.mark.parametrize("_run", range(2))
@pytest.mark.django_db(transaction=True)
def test_commits_are_gone_after_the_test(_run, django_capture_on_commit_callbacks):
    assert count() == 0
    ran = []
    with transaction.atomic():
        ContentType.objects.create(app_label="made_up", model="thing")
        transaction.on_commit(lambda: ran.append(1))
    assert ran == [1]
    assert count() == 1


@pytest.mark.django_db(transaction=True)
def test_what_migrations_made_is_still_there():
    assert ContentType.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_race_runs_on_separate_connections(race):
    def backend() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            return cursor.fetchone()[0]

    assert len(set(race(*[backend] * 8))) == 8


@pytest.mark.django_db
def test_the_server_is_the_real_one():
    assert connection.pg_version // 10_000 == 18
