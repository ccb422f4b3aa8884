"""Named reads of what bundles and gifts have in markets."""

from datetime import datetime, timedelta

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q

from billing.models import MarketFunding, SettledScope

#: For so long after a market was settled a later revision may give money back; then its fundings are at rest.
REVISED_WITHIN = timedelta(days=100)

# Held, spent and not given back: what an organization's free money has in a market's escrow, or is held for it.
_IN_MARKET = """
SELECT coalesce(sum(CASE WHEN t.debit_id = e.id THEN -t.amount_micro
    WHEN t.stage IN (0, 1) THEN t.amount_micro WHEN t.stage = 2 THEN -t.excess_micro ELSE -t.amount_micro END), 0)
FROM billing_account a
JOIN billing_account e ON e.kind = 'escrow' AND e.scope = %s AND e.organization_id IS NULL
JOIN billing_transfer t ON (t.debit_id = a.id AND t.credit_id = e.id) OR (t.debit_id = e.id AND t.credit_id = a.id)
WHERE a.kind = 'available' AND a.organization_id = %s
"""


def in_market_micro(organization_id: int, scope: str) -> int:
    """Return what an organization holds or has spent in a market out of free money, less what came back."""
    with connection.cursor() as cursor:
        cursor.execute(_IN_MARKET, [scope, organization_id])
        return int(cursor.fetchone()[0])


def fundings_of(organization_id: int, scope: str | None = None) -> list[MarketFunding]:
    """Return what has something in a market, in the order in which it is drawn: gifts first."""
    rows = MarketFunding.objects.filter(credit__organization_id=organization_id, drawn_micro__gt=F("returned_micro"))
    if scope is not None:
        rows = rows.filter(scope=scope)
    return sorted(
        rows.select_related("credit"),
        key=lambda row: (
            row.scope, row.credit.kind != "gift", row.credit.priority, row.credit.expires_at, row.credit_id
        ),
    )  # fmt: skip


def unused_micro(organization_id: int) -> int:
    """
    Return what bundles and gifts have put into an organization's free money that no market has any more: it goes back
    to them, and is nobody's to withdraw meanwhile. The caller has `available` locked.
    """
    outstanding: dict[str, int] = {}
    for row in fundings_of(organization_id):
        outstanding[row.scope] = outstanding.get(row.scope, 0) + row.outstanding_micro
    return sum(
        max(0, micro - max(0, in_market_micro(organization_id, scope))) for scope, micro in outstanding.items()
    )


def fundings_to_look_at(now: datetime) -> list[tuple[int, str]]:
    """Return organizations and markets in which bundles or gifts have something that may come back."""
    at_rest = SettledScope.objects.filter(scope=OuterRef("scope"), settled_at__lt=now - REVISED_WITHIN)
    rows = MarketFunding.objects.filter(Q(drawn_micro__gt=F("returned_micro")) & ~Exists(at_rest))
    return sorted(set(rows.values_list("credit__organization_id", "scope")))
