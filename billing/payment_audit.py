"""What must hold of money that comes in and goes out, recomputed from bank lines, deposits, payouts and transfers."""

from collections.abc import Iterator

from django.db import connection

from core.audit import Finding
from core.money import format_yuan

_DEPOSITS = """
WITH got AS (
    SELECT split_part(t.key, ':', 2)::bigint AS id, sum(t.amount_micro) AS micro,
           sum(t.amount_micro) FILTER (WHERE c.kind = 'receivable') AS debt,
           min(c.organization_id) AS least, max(c.organization_id) AS most
    FROM billing_transfer t JOIN billing_account c ON c.id = t.credit_id
    WHERE t.kind = 'deposit' AND t.key LIKE 'deposit:%' GROUP BY 1)
SELECT coalesce(d.id, got.id), d.amount_micro, got.micro, d.settled_debt_micro, coalesce(got.debt, 0),
       d.organization_id, got.least, got.most
FROM billing_deposit d FULL JOIN got ON got.id = d.id
WHERE (d.amount_micro, d.settled_debt_micro, d.organization_id, d.organization_id)
      IS DISTINCT FROM (got.micro, coalesce(got.debt, 0), got.least, got.most)
ORDER BY 1
"""
# What is noted on documents is at most what was settled: the rest paid charges that stood on no document yet.
_NOTED = """
SELECT 'deposit ' || d.id, d.settled_debt_micro, sum(n.amount_micro)
FROM billing_invoicepayment n JOIN billing_deposit d ON d.id = n.deposit_id GROUP BY d.id
HAVING sum(n.amount_micro) > d.settled_debt_micro
UNION ALL
SELECT 'set-off of payout ' || n.payout_id, coalesce(t.amount_micro, 0), sum(n.amount_micro)
FROM billing_invoicepayment n
LEFT JOIN billing_transfer t ON t.key = 'payout:' || n.payout_id || ':setoff' AND t.kind = 'setoff'
WHERE n.payout_id IS NOT NULL GROUP BY n.payout_id, t.amount_micro
HAVING sum(n.amount_micro) > coalesce(t.amount_micro, 0)
ORDER BY 1
"""

_LINES = """
SELECT l.reference, l.amount_micro, b.state,
       coalesce(d.amount_micro, p.amount_micro),
       (SELECT sum(t.amount_micro) FROM billing_transfer t
        WHERE t.key = 'bankline:' || l.id AND t.kind = 'suspense')
FROM billing_bankline l JOIN billing_banklinebooking b ON b.line_id = l.id
LEFT JOIN billing_deposit d ON d.id = b.deposit_id LEFT JOIN billing_payout p ON p.id = b.payout_id
WHERE CASE b.state
    WHEN 'unexplained' THEN l.amount_micro > 0
    WHEN 'matched' THEN coalesce(d.amount_micro, p.amount_micro) IS DISTINCT FROM abs(l.amount_micro)
    ELSE l.amount_micro IS DISTINCT FROM (SELECT sum(t.amount_micro) FROM billing_transfer t
                                          WHERE t.key = 'bankline:' || l.id AND t.kind = 'suspense')
         OR (b.state <> 'suspense' AND coalesce(d.amount_micro, p.amount_micro) IS DISTINCT FROM l.amount_micro)
    END
ORDER BY l.id
"""

_SUSPENSE = """
SELECT coalesce((SELECT sum(l.amount_micro) FROM billing_bankline l
                 JOIN billing_banklinebooking b ON b.line_id = l.id WHERE b.state = 'suspense'), 0),
       coalesce((SELECT sum(posted_micro) FROM billing_account
                 WHERE kind = 'suspense' AND organization_id IS NULL AND scope = 'bank'), 0)
"""

_PAYOUTS = """
WITH moved AS (
    SELECT p.id,
           coalesce(sum(t.amount_micro) FILTER (WHERE t.key = 'payout:' || p.id), 0) AS aside,
           coalesce(sum(t.amount_micro) FILTER (WHERE t.key = 'payout:' || p.id || ':paid'), 0) AS paid,
           coalesce(sum(t.amount_micro) FILTER (WHERE t.key IN ('payout:' || p.id || ':back',
                                                                'payout:' || p.id || ':returned')), 0) AS back
    FROM billing_payout p LEFT JOIN billing_transfer t
      ON t.key IN ('payout:' || p.id, 'payout:' || p.id || ':paid', 'payout:' || p.id || ':back',
                   'payout:' || p.id || ':returned')
    GROUP BY p.id)
SELECT p.id, p.state, p.amount_micro, m.aside, m.paid, m.back
FROM billing_payout p JOIN moved m ON m.id = p.id
WHERE m.aside <> p.amount_micro
   OR CASE WHEN p.state = 'paid' THEN m.paid <> p.amount_micro OR m.back <> 0
           WHEN p.state IN ('failed', 'cancelled') THEN m.back <> p.amount_micro OR m.paid NOT IN (0, p.amount_micro)
           ELSE m.paid <> 0 OR m.back <> 0 END
ORDER BY p.id
"""

_ON_ITS_WAY = """
WITH open AS (SELECT coalesce(organization_id, 0) AS owner, sum(amount_micro) AS micro FROM billing_payout
              WHERE state IN ('waiting', 'approved', 'sent') GROUP BY 1),
stands AS (SELECT coalesce(organization_id, 0) AS owner, sum(posted_micro) AS micro FROM billing_account
           WHERE kind = 'payout' GROUP BY 1)
SELECT coalesce(o.owner, s.owner), coalesce(o.micro, 0), coalesce(s.micro, 0)
FROM open o FULL JOIN stands s ON s.owner = o.owner WHERE coalesce(o.micro, 0) <> coalesce(s.micro, 0)
"""

_REFUNDS = """
SELECT d.id, d.amount_micro, sum(p.amount_micro) FROM billing_deposit d JOIN billing_payout p ON p.deposit_id = d.id
WHERE p.state NOT IN ('failed', 'cancelled') GROUP BY d.id HAVING sum(p.amount_micro) > d.amount_micro
"""

_APPROVALS = """
SELECT p.id, p.approvals_needed, count(a.id), count(a.id) FILTER (WHERE a.by = p.requested_by)
FROM billing_payout p LEFT JOIN billing_payoutapproval a ON a.payout_id = p.id
WHERE p.state IN ('approved', 'sent', 'paid') GROUP BY p.id
HAVING count(a.id) < p.approvals_needed OR count(a.id) FILTER (WHERE a.by = p.requested_by) > 0
"""

_STRIPE = """
SELECT p.id, p.state, p.amount_micro, d.amount_micro, p.intent, d.reference
FROM billing_stripepayment p FULL JOIN billing_deposit d ON d.id = p.deposit_id
WHERE (d.method = 'stripe' OR p.id IS NOT NULL)
  AND CASE WHEN p.id IS NULL THEN true
           WHEN p.state = 'succeeded' THEN (p.amount_micro, p.intent, p.organization_id)
                                           IS DISTINCT FROM (d.amount_micro, d.reference, d.organization_id)
           ELSE d.id IS NOT NULL END
"""


def _rows(sql: str) -> list[tuple]:  # type: ignore[type-arg]
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def deposits_are_transfers() -> Iterator[Finding]:
    """Each deposit was booked with its amount, to its organization, its debts as it says; and nothing else was."""
    for id_, amount, booked, debt, booked_debt, owner, least, most in _rows(_DEPOSITS):
        expected = f"{amount} ({debt} for debts) to {owner}"
        found = f"{booked} ({booked_debt} for debts) to {least}" + ("" if least == most else f" and {most}")
        yield Finding("deposits-are-transfers", f"deposit {id_}", expected, found)
    for what, settled, noted in _rows(_NOTED):
        yield Finding("deposits-are-transfers", what, f"at most {settled} noted on documents", str(noted))


def bank_lines_are_booked() -> Iterator[Finding]:
    """Each bank line's booking is of its amount, and what waits for an owner is what suspense holds."""
    for reference, amount, state, taken, suspended in _rows(_LINES):
        yield Finding("bank-lines-are-booked", f"{reference} ({state})", str(amount), f"{taken} from {suspended}")
    for lines, stands in _rows(_SUSPENSE):
        if lines != stands:
            yield Finding("bank-lines-are-booked", "suspense", format_yuan(int(lines)), format_yuan(int(stands)))


def payouts_are_transfers() -> Iterator[Finding]:
    """Each payout's money was set aside once, and left or came back as its state says."""
    for id_, state, amount, aside, paid, back in _rows(_PAYOUTS):
        yield Finding("payouts-are-transfers", f"PO{id_:08d} ({state})", str(amount),
                      f"set aside {aside}, paid {paid}, back {back}")  # fmt: skip
    for owner, expected, stands in _rows(_ON_ITS_WAY):
        yield Finding("payouts-are-transfers", f"on its way to {owner or 'payers'}", format_yuan(int(expected)),
                      format_yuan(int(stands)))  # fmt: skip
    for id_, needed, given, own in _rows(_APPROVALS):
        yield Finding("payouts-are-transfers", f"PO{id_:08d} approvals", f"{needed} of others", f"{given}, own {own}")
    for id_, amount, gone in _rows(_REFUNDS):
        yield Finding("payouts-are-transfers", f"refunds of deposit {id_}", f"at most {amount}", str(gone))


def stripe_payments_are_deposits() -> Iterator[Finding]:
    """Each payment that succeeded at Stripe is one deposit of its amount under its intent, and no other deposit is."""
    for id_, state, amount, deposited, intent, reference in _rows(_STRIPE):
        yield Finding("stripe-payments-are-deposits", f"payment-{id_} ({state}, {intent})", str(amount),
                      f"{deposited} ({reference})")  # fmt: skip
