"""
How long one contract's month of usage takes to read: from the rollup, which is what queries read, and from the events.

    python -m benchmarks.usage             # FULL=1: ten million events of 100 contracts; else one million
    python -m benchmarks.usage --rows N

Both add up every class of one of 100 equal contracts; the events with the indexes that the table has. `flat` compares
the rollup's reading with that over a tenth of the events: what is read is hours and classes, not events.
"""

import argparse
import os
from typing import Any

from benchmarks import database
from benchmarks.baselines import usage_rows
from benchmarks.harness import Case, environment, interleave, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000 if os.environ.get("FULL") else 1_000_000)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    print(environment())
    database.start()

    from django.db import connection

    from core.periods import Period
    from identity.access import Actor
    from metering_ingest import queries
    from metering_ingest.actions.recount import recount
    from metering_ingest.ingest_workers import own_connection
    from metering_ingest.models import Meter
    from tests.given import given_organization

    usage_rows.fill(own_connection(), options.rows)
    usage_rows.tenth(own_connection())
    own_connection().execute("CHECKPOINT")
    start, end = usage_rows.month()
    operator = Actor(organization=given_organization("operator"), scopes=frozenset({"read", "operate"}))
    meter = _given_meter(start)
    assert meter == 1, "the events are those of meter 1"
    assert Meter.objects.count() == 1
    number = iter(range(1, 10**9))

    def contract() -> int:
        return 1 + next(number) % usage_rows.CONTRACTS

    def from_rollup(contract_id: int) -> Any:
        return queries.usage(operator, group_by=["class"], start=start, end=end, filters={"contract": contract_id})

    def from_events(contract_id: int) -> Any:
        return recount([contract_id], [1], Period(start, end))

    def of_a_tenth(contract_id: int) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = tenth, public")
            try:
                return from_rollup(contract_id)
            finally:
                cursor.execute("SET search_path = public")

    sums = {row.group[0]: row.quantity for row in from_rollup(7)}
    assert sums == from_events(7)[0].tokens, (sums, from_events(7))

    def with_path(contract_id: int) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path = public")
            try:
                return from_rollup(contract_id)
            finally:
                cursor.execute("SET search_path = public")

    timings = interleave(
        {
            "from events": Case(from_events, contract), "from rollup": Case(from_rollup, contract),
            "rollup, with path": Case(with_path, contract), "rollup of a tenth": Case(of_a_tenth, contract),
        },
        repeats=options.repeats,
    )  # fmt: skip
    print(timings.table(f"one contract's month of {options.rows:,} events"))
    report(
        {
            "rows": options.rows,
            "rollup_vs_events": timings.ratio("from events", "from rollup"),
            "flat": timings.ratio("rollup, with path", "rollup of a tenth"),
        }
    )


def _given_meter(now: Any) -> int:
    """The provider's meter that the events are of."""
    from django.db import transaction

    from tests.given import given_deployment
    from tests.metering.given import given_meter

    with transaction.atomic():
        return given_meter(given_deployment()).pk


if __name__ == "__main__":
    main()
