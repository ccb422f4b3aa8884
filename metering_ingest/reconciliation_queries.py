"""Named reads of reconciliation: what is to be compared, what is open, how meters score."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Q, QuerySet

from identity.access import Actor
from metering_ingest.domain.reconciliation import LAG, DuePeriod
from metering_ingest.models import CounterReading, Discrepancy, MeterComparison, MeterScore

PERIODS_A_SWEEP = 50
SCORED_DAYS = 30


_DUE = """
    WITH periods AS (
        SELECT c.id AS contract_id, c.market_id, c.window_start AS start, c.window_end AS "end", g.grace_seconds
        FROM exchange_market m
        JOIN exchange_deliverycontract c ON c.market_id = m.id
        JOIN providers_grade g ON g.id = c.grade_id
        WHERE m.phase = 'delivering' AND m.window_start <= %(now)s
        UNION ALL
        SELECT c.id, NULL, d.day, d.day + interval '1 day', g.grace_seconds
        FROM exchange_deliverycontract c
        JOIN providers_grade g ON g.id = c.grade_id
        CROSS JOIN generate_series(
            date_trunc('day', %(now)s - g.grace_seconds * interval '1 second' - interval '1 day', 'Asia/Shanghai'),
            %(now)s, interval '1 day') AS d (day)
        WHERE c.kind = 'list'
    ), seen AS (
        SELECT p.*,
            concat_ws(':', count(DISTINCT r.hour) FILTER (
                WHERE r.hour + interval '1 hour' + least(%(lag)s, p.grace_seconds / 2) * interval '1 second'
                    <= %(now)s),
                sum(r.quantity), sum(r.events),
                (SELECT count(*) FROM counter_reading n JOIN metering_ingest_meter e ON e.id = n.meter_id
                 WHERE e.deployment_id = ANY(array_agg(DISTINCT r.deployment_id))
                    AND n.at BETWEEN p.start - interval '1 hour' AND p."end" + interval '1 hour'),
                p."end" + least(%(lag)s, p.grace_seconds / 2) * interval '1 second' <= %(now)s) AS fingerprint
        FROM periods p
        JOIN usage_rollup r ON r.contract_id = p.contract_id AND r.hour >= date_trunc('hour', p.start)
            AND r.hour < p."end"
        GROUP BY p.contract_id, p.market_id, p.start, p."end", p.grace_seconds
    )
    SELECT s.contract_id, s.market_id, s.start, s."end", s.grace_seconds, s.fingerprint FROM seen s
    LEFT JOIN metering_ingest_reconciliationmark k ON k.contract_id = s.contract_id AND k.period_start = s.start
    WHERE k.fingerprint IS DISTINCT FROM s.fingerprint AND NOT EXISTS (
        SELECT FROM metering_ingest_contractsettlement x
        WHERE x.contract_id = s.contract_id AND x.period_start = s.start)
    ORDER BY s."end", s.contract_id LIMIT %(limit)s
"""


def periods_to_compare(now: datetime) -> list[DuePeriod]:
    """
    Return contracts whose usage or readings changed, or of which another hour is over, since the last comparison.

    Of spot contracts those of markets in delivery or in their grace; of list contracts the days within their grace.
    What is settled already is compared by the settlement that a late event calls for.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DUE, {"now": now, "lag": int(LAG.total_seconds()), "limit": PERIODS_A_SWEEP})
        return [DuePeriod(*row) for row in cursor.fetchall()]


def discrepancies_readable(actor: Actor) -> "QuerySet[Discrepancy]":
    """Return the discrepancies of contracts that the actor's organization bought or sold; all for the operator."""
    rows = Discrepancy.objects.select_related("contract__buyer", "contract__provider", "contract__grade")
    if actor.is_operator or actor.reads_everything:
        return rows
    return rows.filter(Q(contract__buyer=actor.organization) | Q(contract__provider=actor.organization))


def comparisons(contract_ids: Sequence[int], start: datetime, end: datetime) -> "QuerySet[MeterComparison]":
    """Return what the meters of these contracts counted in [start, end), by contract, hour and class."""
    rows = MeterComparison.objects.filter(contract_id__in=contract_ids, hour__gte=start, hour__lt=end)
    return rows.order_by("contract_id", "hour", "token_class")


def readings_of(meter_id: int) -> "QuerySet[CounterReading]":
    """Return an engine meter's readings, the newest first."""
    return CounterReading.objects.filter(meter_id=meter_id).order_by("-at", "series")


_SCORES = """
    INSERT INTO metering_ingest_meterscore AS s (meter_id, compared, "right", scored_at)
    SELECT m.id, count(*), count(*) FILTER (WHERE CASE
        WHEN d.state = 'decided' THEN abs(d.accepted_quantity - counted.quantity) * 1000
            <= c.tolerance_thousandths * greatest(d.accepted_quantity, counted.quantity)
        ELSE c.agrees END), %(now)s
    FROM meter_comparison c
    CROSS JOIN unnest(c.meters) AS listed (id)
    JOIN metering_ingest_meter m ON m.id = listed.id
    CROSS JOIN LATERAL (SELECT CASE m.role WHEN 'provider' THEN c.provider_quantity WHEN 'buyer' THEN c.buyer_quantity
        ELSE c.engine_quantity END AS quantity) AS counted
    LEFT JOIN metering_ingest_discrepancy d
        ON d.contract_id = c.contract_id AND d.hour = c.hour AND d.token_class = c.token_class
    WHERE c.hour >= %(since)s AND coalesce(d.state, '') <> 'open' AND counted.quantity IS NOT NULL
        AND (c.buyer_quantity IS NOT NULL OR c.engine_quantity IS NOT NULL)
    GROUP BY m.id ORDER BY m.id
    ON CONFLICT (meter_id) DO UPDATE SET
        compared = excluded.compared, "right" = excluded."right", scored_at = excluded.scored_at
"""


def score_meters(now: datetime) -> int:
    """Work out every meter's score from the comparisons of the last 30 days that nobody is still to decide."""
    with connection.cursor() as cursor:
        cursor.execute(_SCORES, {"now": now, "since": now - timedelta(days=SCORED_DAYS)})
        return int(cursor.rowcount)


def scores(meter_ids: Sequence[int]) -> dict[int, MeterScore]:
    """Return the scores of these meters that have one."""
    return {row.meter_id: row for row in MeterScore.objects.filter(meter__in=meter_ids)}
