"""Hours whose reports no chip could have produced are flagged."""

from collections import defaultdict
from datetime import datetime, timedelta

from django.db import connection

from core.transactions import assert_in_transaction
from metering_ingest.domain.plausibility import Reported, floor
from metering_ingest.domain.reconciliation import CODES_OF, INPUT, OUTPUT
from metering_ingest.models import ImplausibleHour
from providers.queries import deployments

LOOK_BACK = timedelta(hours=26)
HOUR_SECONDS = 3_600

_REPORTED = """
    SELECT r.deployment_id, r.hour, r.length_band,
        coalesce(sum(r.quantity) FILTER (WHERE r.token_class = ANY(%(input)s)), 0)::bigint,
        coalesce(sum(r.quantity) FILTER (WHERE r.token_class = ANY(%(output)s)), 0)::bigint
    FROM metering_ingest_meter m JOIN usage_rollup r ON r.meter_id = m.id
    WHERE m.role = 'provider' AND r.hour >= %(since)s GROUP BY 1, 2, 3
"""


def flag_implausible(*, now: datetime, since: datetime | None = None) -> int:
    """
    Flag hours in which a deployment reports more than its accelerators can do; unflag those that no longer do.

    :returns: how many hours are flagged since then.
    """
    assert_in_transaction()
    since = since or now - LOOK_BACK
    hours: defaultdict[tuple[int, datetime], dict[int, Reported]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(_REPORTED, {"input": CODES_OF[INPUT], "output": CODES_OF[OUTPUT], "since": since})
        for deployment_id, hour, band, fresh, output in cursor.fetchall():
            hours[deployment_id, hour][band] = Reported(fresh, output)
    known = deployments().in_bulk({deployment_id for deployment_id, _ in hours})
    flagged: list[ImplausibleHour] = []
    for (deployment_id, hour), bands in sorted(hours.items()):
        deployment = known[deployment_id]
        card = deployment.grade.model_card
        least = floor(
            bands, card=card.standard_card(), total_params=card.total_params,
            hardware=deployment.accelerator.hardware(), count=deployment.accelerator_count,
            precision=deployment.precision,
        )  # fmt: skip
        if least.seconds > HOUR_SECONDS:
            flagged.append(
                ImplausibleHour(
                    deployment=deployment, hour=hour, floor_seconds=int(least.seconds), bound=least.bound,
                    input_tokens=sum(band.fresh for band in bands.values()),
                    output_tokens=sum(band.output for band in bands.values()), flagged_at=now,
                )
            )  # fmt: skip
    still = {(row.deployment_id, row.hour) for row in flagged}
    for row in ImplausibleHour.objects.filter(hour__gte=since):
        if (row.deployment_id, row.hour) not in still:
            row.delete()
    ImplausibleHour.objects.bulk_create(
        flagged, update_conflicts=True, unique_fields=["deployment", "hour"],
        update_fields=["floor_seconds", "bound", "input_tokens", "output_tokens"],
    )  # fmt: skip
    return len(flagged)
