"""What must hold of bundles and gifts: their accounts hold what is left of those that have not expired, and no more."""

from collections.abc import Iterator

from django.db import connection

from core import clock
from core.audit import Finding
from core.money import format_yuan

SWEPT_WITHIN = "1 hour"


def credits_are_their_transfers() -> Iterator[Finding]:
    """Each bundle and gift was paid into its account once, whole; and no such account is without one."""
    with connection.cursor() as cursor:
        cursor.execute("""
            WITH granted AS (
                SELECT a.kind, a.scope, a.organization_id,
                    coalesce(sum(t.amount_micro)
                        FILTER (WHERE t.kind IN ('gift', 'bundle_purchase', 'bundle_bonus')), 0) AS worth,
                    coalesce(sum(t.amount_micro) FILTER (WHERE t.kind = 'bundle_purchase'), 0) AS paid
                FROM billing_account a LEFT JOIN billing_transfer t ON t.credit_id = a.id
                WHERE a.kind IN ('gift', 'bundle') GROUP BY a.id)
            SELECT coalesce(g.scope, 'credit:' || c.id), coalesce(c.worth_micro, 0), coalesce(c.paid_micro, 0),
                coalesce(g.worth, 0), coalesce(g.paid, 0)
            FROM granted g FULL JOIN billing_credit c
                ON g.scope = 'credit:' || c.id AND g.kind = c.kind AND g.organization_id = c.organization_id
            WHERE (coalesce(c.worth_micro, 0), coalesce(c.paid_micro, 0)) <> (coalesce(g.worth, 0), coalesce(g.paid, 0))
        """)
        for scope, worth, paid, got, got_paid in cursor.fetchall():
            yield Finding(
                "credits-are-their-transfers", scope, f"{format_yuan(worth)}, paid {format_yuan(paid)}",
                f"{format_yuan(int(got))}, paid {format_yuan(int(got_paid))}",
            )  # fmt: skip


def bundle_liability_is_unexpired() -> Iterator[Finding]:
    """What is owed in usage is what is left of unexpired bundles: nothing stands on one that expired an hour ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT a.kind, a.scope, a.posted_micro FROM billing_account a
            JOIN billing_credit c ON a.scope = 'credit:' || c.id AND a.kind = c.kind
            WHERE a.posted_micro <> 0 AND c.expires_at < %s::timestamptz - %s::interval
            """,
            [clock.now(), SWEPT_WITHIN],
        )
        for kind, scope, posted in cursor.fetchall():
            yield Finding("bundle-liability-is-unexpired", f"{kind} {scope}", "0.00", format_yuan(posted))
