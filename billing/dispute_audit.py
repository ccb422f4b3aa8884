"""What must hold of disputes, credits and invoices that were given up, recomputed from charges and transfers."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from core.audit import Finding

_CREDITS = """
SELECT d.id, d.credit_micro, coalesce(-c.micro, 0), coalesce(t.micro, 0), d.settled_micro, coalesce(t.owed, 0)
FROM billing_dispute d
LEFT JOIN LATERAL (SELECT sum(buyer_amount_micro) AS micro FROM billing_charge
                   WHERE source_key = 'dispute:' || d.id) c ON true
LEFT JOIN LATERAL (
    SELECT sum(t.amount_micro) AS micro, sum(t.amount_micro) FILTER (WHERE a.kind = 'receivable') AS owed
    FROM billing_transfer t JOIN billing_account a ON a.id = t.credit_id
    WHERE t.key IN ('dispute:' || d.id, 'dispute:' || d.id || ':owed', 'dispute:' || d.id || ':vat',
                    'dispute:' || d.id || ':vat:owed') AND t.kind = 'allowance') t ON true
WHERE (d.credit_micro, d.credit_micro, d.settled_micro)
      IS DISTINCT FROM (coalesce(-c.micro, 0), coalesce(t.micro, 0), coalesce(t.owed, 0))
ORDER BY d.id
"""
_STRAY = """
SELECT c.source_key FROM billing_charge c LEFT JOIN billing_dispute d ON c.source_key = 'dispute:' || d.id
WHERE c.kind = 'allowance' AND d.id IS NULL
"""
_DUE = """
SELECT i.number, i.due_micro, p.paid, d.settled, d.held, w.micro, s.state
FROM billing_invoice i
JOIN LATERAL (SELECT coalesce(sum(amount_micro), 0) AS paid FROM billing_invoicepayment
              WHERE invoice_id = i.id) p ON true
JOIN LATERAL (SELECT coalesce(sum(settled_micro), 0) AS settled,
                     coalesce(sum(held_micro) FILTER (WHERE state = 'open'), 0) AS held
              FROM billing_dispute WHERE invoice_id = i.id) d ON true
JOIN LATERAL (SELECT coalesce(sum(x.amount_micro), 0) AS micro, count(t.id) AS booked, count(x.id) AS given
              FROM billing_writeoff x LEFT JOIN billing_transfer t
                ON t.key = 'write_off:' || x.invoice_id AND t.amount_micro = x.amount_micro
              WHERE x.invoice_id = i.id) w ON true
JOIN LATERAL (SELECT state FROM billing_invoicestate WHERE invoice_id = i.id ORDER BY id DESC LIMIT 1) s ON true
WHERE i.side = 'buyer' AND (
    p.paid + d.settled + d.held + w.micro > i.due_micro OR w.booked <> w.given
    OR (s.state = 'uncollectible') <> (w.given > 0)
    OR (s.state = 'paid' AND p.paid + d.settled <> i.due_micro)
    OR (s.state = 'open' AND i.due_micro > 0 AND p.paid + d.settled = i.due_micro)
    OR (s.state = 'uncollectible' AND p.paid + d.settled + w.micro <> i.due_micro))
ORDER BY i.id
"""
CHECK = "disputes-and-dues-add-up"


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def disputes_and_dues_add_up() -> Iterator[Finding]:
    """
    Each credit was charged and booked with its amount; what is paid, credited, disputed and given up of an invoice is
    at most what it has due, and its state says so.
    """
    for id_, credit, charged, booked, settled, owed in _rows(_CREDITS):
        yield Finding(CHECK, f"dispute {id_}", f"{credit}, {settled} of it owed",
                      f"charged {charged}, booked {booked}, {owed} of it owed")  # fmt: skip
    for (key,) in _rows(_STRAY):
        yield Finding(CHECK, key, "a dispute", "none")
    for number, due, paid, settled, held, given_up, state in _rows(_DUE):
        yield Finding(CHECK, f"{number} ({state})", f"due {due}",
                      f"paid {paid}, credited {settled}, disputed {held}, given up {given_up}")  # fmt: skip
