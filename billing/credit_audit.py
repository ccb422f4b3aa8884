"""What must hold of bundles and gifts: their accounts hold what is left of those that have not expired, and no more."""

from collections.abc import Iterator

from django.db import connection

from billing.domain.accounts import available
from billing.funding_queries import fundings_of, in_market_micro
from billing.queries import account_balance
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


def fundings_are_their_transfers() -> Iterator[Finding]:
    """
    What each bundle and gift put into a market and got back is booked so; and of settled markets nothing waits that it
    could have back.
    """
    with connection.cursor() as cursor:
        cursor.execute("""
            WITH moved AS (
                SELECT substr(a.scope, 8)::bigint AS credit_id, t.label AS scope,
                    sum(t.amount_micro) FILTER (WHERE t.kind = 'credit_draw') AS drawn,
                    sum(t.amount_micro) FILTER (WHERE t.kind = 'credit_return') AS returned
                FROM billing_transfer t
                JOIN billing_account a ON a.id = CASE t.kind WHEN 'credit_draw' THEN t.debit_id ELSE t.credit_id END
                WHERE t.kind IN ('credit_draw', 'credit_return') GROUP BY 1, 2)
            SELECT coalesce(f.credit_id, m.credit_id), coalesce(f.scope, m.scope), coalesce(m.drawn, 0),
                coalesce(m.returned, 0), coalesce(f.drawn_micro, 0), coalesce(f.returned_micro, 0)
            FROM moved m FULL JOIN billing_marketfunding f ON f.credit_id = m.credit_id AND f.scope = m.scope
            WHERE (coalesce(m.drawn, 0), coalesce(m.returned, 0))
                <> (coalesce(f.drawn_micro, 0), coalesce(f.returned_micro, 0)) ORDER BY 1, 2
        """)
        for credit, scope, drawn, returned, noted, noted_back in cursor.fetchall():
            yield Finding(
                "fundings-are-their-transfers", f"credit:{credit} in {scope}",
                f"{format_yuan(int(drawn))} drawn, {format_yuan(int(returned))} returned",
                f"{format_yuan(noted)} drawn, {format_yuan(noted_back)} returned",
            )  # fmt: skip
        cursor.execute(
            "SELECT DISTINCT c.organization_id, f.scope FROM billing_marketfunding f"
            " JOIN billing_credit c ON c.id = f.credit_id JOIN billing_settledscope s ON s.scope = f.scope"
            " WHERE f.drawn_micro > f.returned_micro AND s.settled_at < %s::timestamptz - %s::interval ORDER BY 1, 2",
            [clock.now(), SWEPT_WITHIN],
        )
        settled = cursor.fetchall()
    for organization_id, scope in settled:
        waits = sum(row.outstanding_micro for row in fundings_of(organization_id, scope)) - max(
            0, in_market_micro(organization_id, scope)
        )
        if waits > 0 and account_balance(available(organization_id)).free_micro > 0:
            yield Finding(
                "fundings-are-their-transfers", f"organization {organization_id} in {scope}", "0.00 to give back",
                format_yuan(waits),
            )  # fmt: skip
