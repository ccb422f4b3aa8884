"""
Leases: an organization's programs say again and again that they are there; when they fall silent, their orders go.

An organization has one lease. Under it are its orders with `cancel_on_disconnect`, which need one to be accepted.
"""

from datetime import datetime, timedelta

from billing.actions import ledger
from billing.domain import accounts
from core.errors import BadRequest
from core.transactions import assert_in_transaction
from exchange import queries
from exchange.actions.hints import hint
from exchange.models import Intervention, Lease
from identity.models import Organization

CLOCKS_DIFFER = timedelta(minutes=1)  # at most, between two requests that met at a lock

SHORTEST_SECONDS, LONGEST_SECONDS = 2, 3_600


class BadLease(BadRequest):
    """A lease of a length that is not offered."""

    code = "bad-lease"


def renew_lease(*, organization: Organization, seconds: int, now: datetime) -> Lease:
    """
    Begin a lease, or renew the one there is: it runs for `seconds` from now.

    :raises BadLease: for less than 2 seconds or more than an hour.
    """
    assert_in_transaction()
    if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        raise BadLease(f"A lease runs from {SHORTEST_SECONDS} to {LONGEST_SECONDS} seconds.", field="seconds")
    expires_at = now + timedelta(seconds=seconds)
    lease, created = Lease.objects.select_for_update(no_key=True).get_or_create(
        organization=organization, defaults={"begun_at": now, "renewed_at": now, "expires_at": expires_at}
    )
    if created:
        return lease
    if lease.ended_at is None and lease.expires_at <= now:
        _end(lease, now=now)  # it ran out before this heartbeat: what was under it goes, and a new one begins
    if lease.ended_at is not None:
        lease.begun_at, lease.ended_at = now, None
    lease.renewed_at, lease.expires_at = now, expires_at
    lease.save(update_fields=["begun_at", "renewed_at", "expires_at", "ended_at"])
    return lease


def end_lease(*, organization_id: int, now: datetime, only_expired: bool = False) -> bool:
    """
    End a lease and cancel the orders under it; says whether this call did. With `only_expired` one that has been
    renewed meanwhile is left alone.
    """
    assert_in_transaction()
    lease = Lease.objects.select_for_update(no_key=True).filter(organization_id=organization_id, ended_at=None).first()
    if lease is None or (only_expired and lease.expires_at > now):
        return False
    _end(lease, now=now)
    return True


def _end(lease: Lease, *, now: datetime) -> None:
    """End a locked lease. Orders being accepted under it are waited for: they hold the account's lock."""
    ledger.lock_accounts([accounts.available(lease.organization_id)])
    lease.ended_at = now
    lease.save(update_fields=["ended_at"])
    since = lease.begun_at - CLOCKS_DIFFER  # an order read its clock before it waited for the lease to begin
    markets = queries.markets_with_orders(lease.organization_id, since=since, under_lease=True)
    Intervention.objects.bulk_create(
        Intervention(
            market_id=market,
            kind=Intervention.Kind.LEASE_EXPIRED,
            organization_id=lease.organization_id,
            requested_at=at,
        )
        for market, at in queries.after_what_waits(markets, now).items()
    )
    hint(markets)
