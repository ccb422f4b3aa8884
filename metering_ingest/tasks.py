"""Sweeps: what the rows say is due is done, whoever calls and however often."""

import structlog
from celery import shared_task
from django.conf import settings
from django.db import connection

from core import clock
from core.periods import shanghai_date
from core.transactions import durable
from exchange.queries import markets_due_for_settlement
from metering_ingest import budget_queries, queries, reconciliation_queries, service_queries
from metering_ingest.actions import (
    archiving,
    authorizations,
    budgets,
    finality,
    findings,
    manifests,
    partitions,
    plausibility,
    probes,
    settlement,
    warnings,
)
from metering_ingest.actions.finality import NotFinalYet
from metering_ingest.actions.findings import FindingDecided
from metering_ingest.actions.manifests import check_hour
from metering_ingest.actions.reconciliation import compare_period
from metering_ingest.actions.replay import replay
from metering_ingest.actions.settlement import NotDueYet
from metering_ingest.domain.event_key import moment_of
from metering_ingest.domain.pipeline import HOUR_MS
from metering_ingest.ingest_workers import own_connection
from metering_ingest.models import Meter

log = structlog.get_logger(__name__)

MARKETS_A_SWEEP = 20


@shared_task(acks_late=True)
def settle_due_markets() -> int:
    """Send every market whose window and grace are over to be settled."""
    due = markets_due_for_settlement(clock.now())[:MARKETS_A_SWEEP]
    for market_id in due:
        settle_market.delay(market_id)
    return len(due)


@shared_task(acks_late=True)
def settle_market(market_id: int) -> int:
    """Settle one market; a second delivery finds nothing to do."""
    now = clock.now()
    try:
        return durable(lambda: settlement.settle_market(market_id=market_id, now=now))
    except NotDueYet:
        return 0


@shared_task(acks_late=True)
def finalize_due_markets() -> int:
    """Make final what has been settled and disputed long enough; a second delivery finds nothing to do."""
    now = clock.now()
    done = 0
    for market_id in queries.markets_to_finalize(now):
        try:
            done += durable(lambda m=market_id: finality.finalize_market(market_id=m, now=now))  # type: ignore[misc]
        except NotFinalYet:
            continue  # a claim came in between
    return done


@shared_task(acks_late=True)
def settle_late_usage() -> int:
    """Settle again what late events, voids and amendments have changed; drop marks of what is not due yet."""
    now = clock.now()
    pushed = 0
    for contract_id, hour in queries.late_usage():
        at = moment_of(hour * HOUR_MS)
        try:
            pushed += durable(lambda c=contract_id, a=at: settlement.settle_contract(contract_id=c, at=a, now=now))  # type: ignore[misc]
        except NotDueYet:
            # Its first settlement is still to come and counts everything.
            queries.forget_late_usage(contract_id, hour)
    return pushed


@shared_task(acks_late=True)
def settle_list_usage() -> int:
    """Settle the list usage of days that are over."""
    now = clock.now()
    pushed = 0
    for contract_id, at in queries.list_usage_due(now):
        try:
            pushed += durable(lambda c=contract_id, a=at: settlement.settle_contract(contract_id=c, at=a, now=now))  # type: ignore[misc]
        except NotDueYet:
            log.info("list usage is not due yet", contract=contract_id, day=str(shanghai_date(at)))
    return pushed


@shared_task(acks_late=True)
def make_partitions() -> None:
    """Make the days ahead, so that no request waits for a table."""
    connection.ensure_connection()
    partitions.ensure_days(own_connection(), partitions.days_ahead(clock.now()))


@shared_task(acks_late=True)
def archive_usage() -> int:
    """Move the oldest day that is old enough to the archive; one at a time, so that nothing else waits long."""
    now = clock.now()
    for day in archiving.archivable_days(older_than_days=settings.ARCHIVE_AFTER_DAYS, now=now)[:1]:
        try:
            return int(archiving.archive_day(day=day, now=now) is not None)
        except archiving.ChangedMeanwhile:
            log.info("events came in while a day was archived", day=str(day))
    return 0


@shared_task(acks_late=True)
def replay_pending() -> int:
    """Store events that waited for their market's contracts."""
    rows = queries.pending_events()
    return sum(replay(own_connection(), rows, now=clock.now()).values()) if rows else 0


@shared_task(acks_late=True)
def compare_meters() -> int:
    """Compare the meters of contracts whose usage changed; open discrepancies where they are too far apart."""
    now = clock.now()
    due = reconciliation_queries.periods_to_compare(now)
    return sum(durable(lambda d=d: compare_period(due=d, now=now)) for d in due)  # type: ignore[misc]


@shared_task(acks_late=True)
def check_gaps() -> int:
    """Look again at hours of which something was missing: it may have been sent or replayed since."""
    now = clock.now()
    short = 0
    for meter_id, hour in queries.hours_with_gaps():
        short += durable(lambda m=meter_id, h=hour: check_hour(meter=Meter.objects.get(pk=m), hour=h, now=now))  # type: ignore[misc]
    return short


@shared_task(acks_late=True)
def miss_manifests() -> int:
    """Notice hours of which no manifest came, from sources that send them."""
    now = clock.now()
    return durable(lambda: manifests.miss_manifests(now=now))


@shared_task(acks_late=True)
def review_service() -> int:
    """Look at the evidence of windows that are over; let findings stand that nobody objects to."""
    now = clock.now()
    done = 0
    for market_id in service_queries.markets_to_review(now, after_thousandths=findings.REVIEWED_AFTER):
        done += durable(lambda m=market_id: findings.review_market(market_id=m, now=now))  # type: ignore[misc]
    for finding_id in service_queries.findings_to_stand(now):
        try:
            durable(
                lambda f=finding_id: findings.rule_on_finding(  # type: ignore[misc]
                    finding_id=f, operator=None, upheld=True, note="", now=now
                )
            )
        except FindingDecided:
            continue  # an operator came in between
        done += 1
    return done


@shared_task(acks_late=True)
def warn_early() -> int:
    """Say once what needs a look: little used, a silent guard, failing requests, a certificate that ends soon."""
    now = clock.now()
    return durable(lambda: warnings.warn(now=now))


@shared_task(acks_late=True)
def probe_deployments() -> int:
    """Send a probe to every deployment that owes one to its promise."""
    due = service_queries.deployments_to_probe(clock.now())
    for deployment_id in due:
        probe.delay(deployment_id)
    return len(due)


@shared_task(acks_late=True)
def probe(deployment_id: int) -> bool:
    """Ask a deployment what it is asked every five minutes; a second delivery within that time asks nothing."""
    now = clock.now()
    if deployment_id not in service_queries.deployments_to_probe(now):
        return False
    asked = durable(lambda: probes.prepare(deployment_id=deployment_id, now=now))
    answer = probes.ask(asked)
    if answer is None:
        return False
    durable(lambda: probes.record(asked=asked, answer=answer, now=now))
    return answer.ok


@shared_task(acks_late=True)
def score_meters() -> int:
    """Bring the meters' scores up to date."""
    return durable(lambda: reconciliation_queries.score_meters(clock.now()))


@shared_task(acks_late=True)
def meter_budgets() -> int:
    """Read from the rollups what is used of each running budget, and alert at its shares."""
    now = clock.now()
    for budget in budget_queries.budgets_to_open(now):
        durable(lambda b=budget: budgets.windows_of([b], contract_id=None, now=now))  # type: ignore[misc]
    windows = budget_queries.windows_to_meter(now)
    for window_id in windows:
        durable(lambda w=window_id: budgets.meter_one(window_id=w, now=now))  # type: ignore[misc]
    return len(windows)


@shared_task(acks_late=True)
def expire_authorizations() -> int:
    """Give back what nobody settled in time."""
    return durable(lambda: authorizations.expire_due(now=clock.now()))


@shared_task(acks_late=True)
def flag_implausible() -> int:
    """Flag hours for which a deployment reports more than its accelerators can do."""
    return durable(lambda: plausibility.flag_implausible(now=clock.now()))
