"""What billing does by itself: sweeps for what is due. Each tolerates a second delivery."""

import contextlib
import logging
from datetime import timedelta
from functools import partial

from celery import shared_task
from django.conf import settings
from django.db import DatabaseError

from billing import (
    credit_queries,
    dunning_queries,
    funding_queries,
    journal_queries,
    payout_queries,
    queries,
    stripe_sweeps,
    tax_queries,
)
from billing.actions.banking import book_line
from billing.actions.credits import expire
from billing.actions.dunning import remind, settle_hold
from billing.actions.funding import return_unused
from billing.actions.invoices import issue_invoices
from billing.actions.journal import close_day, seal_day
from billing.actions.payouts import PayoutRefused, request_payout
from billing.actions.sweep import sweep_market
from billing.actions.tax_invoices import request_monthly
from billing.stripe_door import StripeUnavailable
from core import clock
from core.errors import Problem
from core.periods import shanghai_date, shanghai_month
from core.transactions import durable

log = logging.getLogger(__name__)


@shared_task
def issue_due_invoices() -> int:
    """Issue the documents of every organization whose charges are due; one organization's trouble is its own."""
    issued = 0
    for organization_id in queries.organizations_waiting():
        try:
            issued += len(durable(partial(issue_invoices, organization_id=organization_id, now=clock.now())))
        except DatabaseError:
            log.exception("documents of organization %s were not issued", organization_id)
    return issued


@shared_task
def sweep_settled_markets() -> int:
    """Sweep what later revisions brought into the collecting accounts of markets that are settled."""
    scopes = queries.scopes_to_sweep()
    return sum(durable(partial(sweep_market, scope=scope, now=clock.now())) for scope in scopes)


@shared_task
def return_unused_credits() -> int:
    """Give back to bundles and gifts what markets no longer have of theirs; return how many markets gave some."""
    given = 0
    for organization_id, scope in funding_queries.fundings_to_look_at(clock.now()):
        given += bool(durable(partial(return_unused, organization_id=organization_id, scope=scope, now=clock.now())))
    return given


@shared_task
def expire_credits() -> int:
    """Take back what is left of bundles and gifts that have expired; return how many there were."""
    now = clock.now()
    rows = credit_queries.expired_credits(now)
    return sum(durable(partial(expire, credit_id=row.pk, now=now)) > 0 for row in rows)


@shared_task
def seal_journal() -> int:
    """Close and seal the days that are over, in order; a day closed by another worker is sealed by whoever comes."""
    sealed = 0
    for day in journal_queries.days_to_seal(clock.now()):
        durable(partial(close_day, day=day, now=clock.now()))
        durable(partial(seal_day, day=day, now=clock.now()))
        sealed += 1
    return sealed


@shared_task
def book_bank_lines() -> int:
    """Book the bank lines that are stored and not booked; one line's trouble is its own."""
    booked = 0
    for line_id in payout_queries.lines_to_book():
        try:
            durable(partial(book_line, line_id=line_id, now=clock.now()))
            booked += 1
        except DatabaseError:
            log.exception("bank line %s was not booked", line_id)
    return booked


@shared_task
def pay_providers() -> int:
    """Request the payouts that are due, of each provider that has a verified account."""
    requested = 0
    for organization_id in payout_queries.providers_with_payable():
        with contextlib.suppress(PayoutRefused):
            durable(partial(request_payout, organization_id=organization_id, by="schedule", now=clock.now()))
            requested += 1
    return requested


@shared_task
def dun() -> int:
    """Remind of what is due, and begin or end the holds of who is overdue too long."""
    now = clock.now()
    today = shanghai_date(now)
    due_by = today - timedelta(days=min(settings.DUNNING_STEPS_DAYS, default=0))
    reminded = 0
    for invoice_id in dunning_queries.invoices_to_remind(due_by=due_by):
        reminded += durable(partial(remind, invoice_id=invoice_id, now=now)) is not None
    before = today - timedelta(days=settings.DUNNING_HOLD_AFTER_DAYS)
    for organization_id in dunning_queries.holds_to_settle(due_before=before):
        durable(partial(settle_hold, organization_id=organization_id, now=now))
    return reminded


@shared_task
def request_monthly_tax_invoices() -> int:
    """Ask for the tax invoices of the months that are over, for whoever wants them monthly."""
    now = clock.now()
    before = shanghai_month(shanghai_date(now)).start
    asked = 0
    for title in tax_queries.monthly_titles():
        try:
            asked += len(durable(partial(request_monthly, title=title, before=before, now=now)))
        except Problem as problem:
            log.warning("tax invoices of organization %s were not asked for: %s", title.organization_id, problem.detail)
    return asked


@shared_task
def talk_with_stripe() -> int:
    """Handle what Stripe has announced, top up, send refunds and payouts. It runs where tasks talk to the outside."""
    stripe = stripe_sweeps.door()
    if stripe is None:
        return 0
    now = clock.now()
    return (
        stripe_sweeps.handle_events(stripe, now=now)
        + stripe_sweeps.top_up(stripe, now=now)
        + stripe_sweeps.send_payouts(stripe, now=now)
    )


@shared_task
def reconcile_stripe() -> int:
    """Look through Stripe's events and balance transactions for what no webhook told."""
    stripe = stripe_sweeps.door()
    try:
        return 0 if stripe is None else stripe_sweeps.reconcile(stripe, now=clock.now())
    except StripeUnavailable as error:
        log.warning("reconciliation with Stripe waits: %s", error)
        return 0
