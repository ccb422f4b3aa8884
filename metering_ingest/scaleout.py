"""Which tables are laid out to be distributed by meter, read from the catalog, and what each would move."""

from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from metering_ingest.models import RejectedEvent, UntimedIdentity, UsageEvent, UsageRollup, UsageTagRollup, UsageVoid

TABLES = tuple(
    model._meta.db_table
    for model in (UsageEvent, UsageRollup, UsageTagRollup, UsageVoid, UntimedIdentity, RejectedEvent)
)
_SIZES = """
    SELECT c.oid::bigint, c.relname::text,
        (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid),
        coalesce((SELECT sum(pg_total_relation_size(t.relid)) FROM pg_partition_tree(c.oid) t),
            pg_total_relation_size(c.oid)),
        coalesce((SELECT sum(greatest(leaf.reltuples, 0)) FROM pg_partition_tree(c.oid) t
            JOIN pg_class leaf ON leaf.oid = t.relid WHERE t.isleaf), greatest(c.reltuples, 0))::bigint,
        EXISTS (SELECT FROM pg_index x JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'meter_id'
            AND a.attnum = ANY(x.indkey) WHERE x.indrelid = c.oid AND x.indisprimary)
    FROM pg_class c WHERE c.oid = ANY(%s::regclass[])
    ORDER BY 4 DESC, 2
"""
_TRIGGERS = "SELECT tgname::text FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal"
_REFERRING = """
    SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND (confrelid = %s OR conrelid = %s)
"""


@dataclass(frozen=True, slots=True)
class UsageTable:
    """A table whose primary key holds the meter. `rows` is the planner's estimate; `unfit`: what stands in the way."""

    name: str
    partitions: int
    size_bytes: int
    rows: int
    unfit: list[str] = field(default_factory=list)


def usage_tables() -> list[UsageTable]:
    """Return the tables that a plan distributes, the largest first."""
    found = []
    for oid, name, partitions, size, rows, by_meter in _rows(_SIZES, list(TABLES)):
        unfit = [] if by_meter else ["its primary key does not hold meter_id"]
        unfit += [f"it has the trigger {trigger}" for (trigger,) in _rows(_TRIGGERS, oid)]
        unfit += [f"it is tied by the foreign key {key}" for (key,) in _rows(_REFERRING, oid, oid)]
        found.append(UsageTable(name, int(partitions), int(size), int(rows), unfit))
    return found


def _rows(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
