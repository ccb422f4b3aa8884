"""
How fast usage is recomputed from its events and compared with the rollup, as the audit does before anybody trusts it.

    python -m benchmarks.reconcile         # FULL=1: ten million events; else one million

The figure is events a second, and how much this process's memory grows over ten times the events.
"""

import argparse
import os
import resource
from typing import Any

from benchmarks import database
from benchmarks.baselines import usage_rows
from benchmarks.harness import environment, interleave, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000 if os.environ.get("FULL") else 1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(environment())
    database.start()

    from metering_ingest.audit import rollups_are_events
    from metering_ingest.ingest_workers import own_connection

    connection = own_connection()
    most: dict[int, int] = {}
    seconds = 0.0
    for rows in (options.rows // 10, options.rows):
        connection.execute("TRUNCATE usage_event, usage_rollup")
        usage_rows.fill(connection, rows)

        def recompute() -> Any:
            found = list(rollups_are_events())
            assert not found, found[0]

        timings = interleave({f"{rows:,} events": recompute}, repeats=options.repeats)
        print(timings.table("recomputed from events and compared with the rollup"))
        seconds = timings.median(f"{rows:,} events")
        most[rows] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    small, large = most.values()
    report(
        {
            "rows": options.rows,
            "events_per_second": options.rows / seconds,
            "memory_at_ten_times_the_events": large / small,
        }
    )


if __name__ == "__main__":
    main()
