"""Usage of 100 equal contracts over a month, and its rollup, made in the database."""

from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2026, 10, 1, tzinfo=UTC)
DAYS = 30
CONTRACTS = 100

_EVENTS = """
    INSERT INTO usage_event SELECT
        (lpad(to_hex(%(start)s + n * %(span)s::bigint / %(count)s), 12, '0') || substr(md5(n::text), 1, 20))::uuid,
        1, 1 + n %% {contracts}, 1, now(), 150000000, 5000000, 60000000, 1, 400, 400, 250, 0, 0, 'gateway/1',
        'chatcmpl-' || substr(md5(n::text), 1, 24), 'buyer-' || n %% {contracts}, NULL
    FROM generate_series(%(first)s::bigint, %(last)s::bigint - 1) AS n
"""
_ROLLUP = """
    INSERT INTO {table} (meter_id, contract_id, deployment_id, hour, length_band, token_class, quantity, work_micro_st,
        events)
    SELECT meter_id, contract_id, deployment_id, hour, 0, class, sum(quantity), sum(work), count(*)
    FROM (
        SELECT meter_id, contract_id, deployment_id, to_timestamp(floor(
                (('x' || encode(substring(uuid_send(event_key) FROM 1 FOR 6), 'hex'))::bit(48)::bigint) / 3600000)
                * 3600) AS hour, c.class, c.quantity, c.work
        FROM {source} AS e, LATERAL (VALUES (1, requests, 0), (2, input_tokens, input_micro_st),
            (3, cached_tokens, cached_micro_st), (4, output_tokens, output_micro_st)) AS c (class, quantity, work)
    ) AS lines GROUP BY 1, 2, 3, 4, 6
"""
# Every tenth event of each contract's hour: the same hours, with less in them.
_TENTH = """(
    SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY contract_id, floor(
        (('x' || encode(substring(uuid_send(event_key) FROM 1 FOR 6), 'hex'))::bit(48)::bigint) / 3600000)) AS number
        FROM usage_event) AS numbered WHERE number % 10 = 1
)"""


def fill(connection: Any, rows: int, days: int = DAYS) -> None:
    """Put the first days' events of a month of so many `rows` into the table, day by day, and add them up."""
    from metering_ingest.actions.partitions import ensure_days

    first_day = (START - datetime(1970, 1, 1, tzinfo=UTC)).days
    ensure_days(connection, range(first_day, first_day + DAYS + 1))
    for day in range(days):
        connection.execute(
            _EVENTS.format(contracts=CONTRACTS),
            {
                "start": first_day * 86_400_000, "span": DAYS * 86_400_000, "count": rows,
                "first": rows * day // DAYS, "last": rows * (day + 1) // DAYS,
            },
        )  # fmt: skip
    connection.execute(_ROLLUP.format(table="usage_rollup", source="usage_event"))
    connection.execute("ANALYZE usage_event, usage_rollup")


def tenth(connection: Any) -> None:
    """Make the rollup of a tenth of the events as `tenth.usage_rollup`."""
    connection.execute("CREATE SCHEMA tenth")
    connection.execute("CREATE TABLE tenth.usage_rollup (LIKE public.usage_rollup INCLUDING ALL)")
    connection.execute(_ROLLUP.format(table="tenth.usage_rollup", source=_TENTH))
    connection.execute("ANALYZE tenth.usage_rollup")


def month() -> tuple[datetime, datetime]:
    """Return where the month begins and ends."""
    return START, START + timedelta(days=DAYS)
