"""`manage.py scaleout --plan`: how the usage tables would be spread over a Citus cluster. Nothing is changed."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from metering_ingest import scaleout

HEAD = """\
-- How the usage tables would be distributed by meter over a Citus cluster (Citus 14 on Postgres 18).
-- This is a plan: it has not met a Citus cluster here, and nothing has been changed. Try it on a copy first.
-- Before it: add shared_preload_libraries = 'citus' on every node, restart, and name the coordinator and the workers.
CREATE EXTENSION IF NOT EXISTS citus;
SELECT citus_set_coordinator_host('COORDINATOR', 5432);
SELECT citus_add_node('WORKER-1', 5432);  -- and so on, one for each worker
"""
TAIL = """\
-- Everything else stays where it is, on the coordinator: ledger, orders, journal, sign-in, and the small tables that
-- usage is joined with (meters, contracts, deployments). late_usage stays too; it is keyed by contract, and a request
-- that marks it commits on the coordinator and on one worker (two-phase, by Citus itself).
-- New days: ensure_days() makes partitions with CREATE TABLE and ATTACH PARTITION, which Citus distributes with their
-- parent. After it: SELECT citus_rebalance_start(); and, weekly, manage.py audit.
"""


class Command(BaseCommand):
    """Prints SQL for a person to read and run; reads the catalog alone."""

    help = "Print the SQL that would distribute the usage tables over a Citus cluster, and what it would move."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--plan", action="store_true", help="Print the plan; there is no other mode.")
        parser.add_argument("--shards", type=int, default=64, help="Shards of each table (default 64).")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["plan"]:
            raise CommandError("Only the plan is there: manage.py scaleout --plan. Running it is for a person.")
        if not 1 <= options["shards"] <= 64_000:
            raise CommandError("--shards is 1 to 64,000.")
        tables = scaleout.usage_tables()
        unfit = [f"{table.name}: {reason}" for table in tables for reason in table.unfit]
        if unfit:
            raise CommandError("These tables cannot be distributed as they are:\n" + "\n".join(unfit))
        self.stdout.write(HEAD)
        place = f", shard_count := {options['shards']}"
        for table in tables:
            self.stdout.write(
                f"-- {table.name}: {table.rows:,} rows (estimated), {table.size_bytes / 2**20:,.1f} MiB"
                f"{f', {table.partitions} partitions' if table.partitions else ''} would move to the workers\n"
                f"SELECT create_distributed_table('{table.name}', 'meter_id'{place});"
            )
            place = f", colocate_with := '{tables[0].name}'"
        size = sum(table.size_bytes for table in tables)
        rows = sum(table.rows for table in tables)
        self.stdout.write(f"-- In all {rows:,} rows and {size / 2**20:,.1f} MiB would move.\n")
        self.stdout.write(TAIL)
