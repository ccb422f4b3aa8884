"""The usage tables can be distributed by an existing Postgres-compatible engine: read from the catalog."""

import io
import re
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

pytestmark = pytest.mark.django_db
LARGE = ["usage_event", "usage_rollup", "usage_tag_rollup", "untimed_identity", "usage_void", "rejected_event"]


def rows(sql: str, *values: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


@pytest.mark.parametrize("table", LARGE)
def test_a_usage_table_keeps_the_rules(table: str) -> None:
    key = [name for (name,) in rows(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
        " WHERE i.indrelid = %s::regclass AND i.indisprimary", table)]  # fmt: skip
    assert "meter_id" in key, "the distribution column is in the primary key"
    assert rows("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", table) == []
    assert rows("SELECT conname FROM pg_constraint WHERE confrelid = %s::regclass", table) == [], "nothing refers to it"
    assert rows("SELECT conname FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'f'", table) == []
    defaults = rows("SELECT adbin FROM pg_attrdef WHERE adrelid = %s::regclass", table)
    assert defaults == [], "ids are made by the application, never by a sequence"
    unique = rows(
        "SELECT i.indexrelid::regclass::text FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique"
        " AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
        " AND a.attname = 'meter_id')", table)  # fmt: skip
    assert unique == [], "a unique index holds the distribution column"


def test_events_are_partitioned_by_their_key() -> None:
    assert rows("SELECT pg_get_partkeydef('usage_event'::regclass)") == [("RANGE (event_key)",)]


def test_the_plan_distributes_every_usage_table_by_meter_and_changes_nothing() -> None:
    tables = set(rows("SELECT relname FROM pg_class"))
    printed = io.StringIO()
    call_command("scaleout", "--plan", "--shards", "32", stdout=printed)
    plan = printed.getvalue()
    for table in LARGE:
        assert plan.count(f"SELECT create_distributed_table('{table}', 'meter_id', ") == 1
    assert plan.count("shard_count := 32") == 1, "the others lie with the first"
    assert "it has not met a Citus cluster here" in plan
    assert re.search(r"-- In all [\d,]+ rows and [\d.,]+ MiB would move\.", plan)
    assert set(rows("SELECT relname FROM pg_class")) == tables
    with pytest.raises(CommandError, match="--plan"):
        call_command("scaleout")


def test_the_plan_refuses_a_table_that_breaks_the_rules() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE other (id bigint PRIMARY KEY)")
        cursor.execute("ALTER TABLE usage_void ADD other_id bigint REFERENCES other")
    with pytest.raises(CommandError, match="usage_void: it is tied by the foreign key"):
        call_command("scaleout", "--plan", stdout=io.StringIO())
