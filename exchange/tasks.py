"""
What happens in the background. Every task finds what is due in the rows, so a lost or doubled message does no harm.
"""

from functools import partial

import structlog
from celery import shared_task

from core import clock
from core.errors import Problem
from core.transactions import durable
from exchange import queries
from exchange.actions import advance as advancing
from exchange.actions import gate, hints, leases, markets, offers, rolling, surveillance
from exchange.models import Market, Offer

log = structlog.get_logger(__name__)


@shared_task(name="exchange.tasks.sweep")
def sweep() -> int:
    """End leases that have run out, hint every market in which something is due, and work on offers."""
    for organization_id in queries.leases_due(clock.now()):
        durable(partial(leases.end_lease, organization_id=organization_id, now=clock.now(), only_expired=True))
    due = queries.markets_due(clock.now())
    for market_id in due:
        hints.send(market_id)
    work_on_offers()
    return len(due)


@shared_task(name="exchange.tasks.advance_market")
def advance_market(market_id: int) -> None:
    """Do what is due in a market: its commands and phases, then its gate, then the start of its delivery."""
    hints.taken(market_id)
    advanced = durable(lambda: advancing.advance(market_id=market_id, now=clock.now()))
    if advanced.phase == Market.Phase.CLOSED:
        durable(lambda: gate.close_gate(market_id=market_id, now=clock.now()))
        durable(lambda: gate.begin_delivery(market_id=market_id, now=clock.now()))
    work_on_offers()


@shared_task(name="exchange.tasks.look_through_markets")
def look_through_markets() -> int:
    """Look through the markets whose gate has closed since, for what the operator should see."""
    due = queries.markets_to_look_through()
    return sum(durable(partial(surveillance.scan_market, market_id=pk, now=clock.now())) for pk in due)


@shared_task(name="exchange.tasks.schedule_markets")
def schedule_markets() -> int:
    """Create the markets that the grades' schedules want."""
    return len(durable(lambda: markets.schedule_markets(now=clock.now())))


def work_on_offers() -> None:
    """
    Offer what has waited for its call, finish what is being withdrawn, and roll over what stayed unsold, one capacity
    at a time.
    """
    if not queries.any_offers_to_work_on(clock.now()):
        return
    for capacity_id, state in queries.offers_due():
        work = offers.make_offer if state == Offer.State.WAITING else offers.finish_withdrawal
        try:
            durable(partial(work, capacity_id=capacity_id, now=clock.now()))
        except offers.OfferNotWaiting:
            continue  # another worker was quicker
    for capacity_id in queries.offers_to_roll(clock.now()):
        try:
            durable(partial(rolling.roll_over, capacity_id=capacity_id, now=clock.now()))
        except Problem as refused:
            log.info("capacity is not rolled over", capacity=capacity_id, reason=str(refused))
            durable(partial(rolling.give_up_rolling, capacity_id=capacity_id, now=clock.now()))
