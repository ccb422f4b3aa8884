"""
All documents together: charges and rounding lines come to the documents, and both to what the ledger has.

Two sides: `buyer` (invoices and their notes) and `provider` (settlement statements and theirs). A withdrawn document
counts nowhere: its charges stand on another one or wait. Amounts in micro-yuan.
"""

from collections.abc import Iterator
from typing import NamedTuple

from django.db import connection

from core.audit import Finding
from core.money import format_yuan

CHECK = "documents-are-charges-are-ledger"


class Totals(NamedTuple):
    """One side's sums over all documents that stand."""

    side: str
    documents: int
    charged_micro: int          # all charges of this side, a provider's less the fees
    waiting_micro: int          # of these, on no document yet
    rounding_micro: int         # the documents' rounding lines
    total_micro: int            # what the documents come to
    ledger_rounding_micro: int  # what the ledger booked as their rounding
    delivered_micro: int        # charges that the ledger's flows can be compared with
    ledger_micro: int           # those flows

    @property
    def documented_micro(self) -> int:
        """Return charges on documents with the documents' rounding."""
        return self.charged_micro - self.waiting_micro + self.rounding_micro


_DOCUMENTS = """
SELECT i.side, count(*), sum(i.rounding_micro)::bigint, sum(i.total_micro)::bigint
FROM billing_invoice i
WHERE NOT EXISTS (SELECT FROM billing_invoicestate s WHERE s.invoice_id = i.id AND s.state = 'withdrawn')
GROUP BY 1
"""
_CHARGES = """
SELECT s.side,
    sum(CASE s.side WHEN 'buyer' THEN c.buyer_amount_micro ELSE c.seller_amount_micro - c.fee_micro END)::bigint,
    coalesce(sum(CASE s.side WHEN 'buyer' THEN c.buyer_amount_micro ELSE c.seller_amount_micro - c.fee_micro END)
        FILTER (WHERE w.id IS NOT NULL), 0)::bigint
FROM billing_charge c JOIN (VALUES ('buyer'), ('provider')) AS s (side)
    ON CASE s.side WHEN 'provider' THEN c.kind <> 'allowance'
       ELSE c.kind NOT IN ('compensation', 'replacement', 'from_bond', 'from_default', 'probe') END
LEFT JOIN billing_waitingcharge w ON w.charge_id = c.id AND w.side = s.side
GROUP BY 1
"""
# A withdrawn invoice's rounding is mirrored under the same kind, so that both together are nothing.
_ROUNDING = """
SELECT CASE t.kind WHEN 'invoice_rounding' THEN 'buyer' ELSE 'provider' END,
    sum(CASE WHEN (d.kind = 'rounding') = (t.kind = 'statement_rounding') THEN t.amount_micro
        ELSE -t.amount_micro END)::bigint
FROM billing_transfer t JOIN billing_account d ON d.id = t.debit_id
WHERE t.kind IN ('invoice_rounding', 'statement_rounding') GROUP BY 1
"""
# What buyers put into a settled scope's escrow and did not get back, less what waits there for a ruling. Where somebody
# resold, the difference of its prices is among it, which is on no document: those scopes are left out.
_BUYERS = """
WITH flow AS (
    SELECT e.scope,
        sum(CASE WHEN t.credit_id = e.id THEN t.amount_micro ELSE -t.amount_micro END) AS micro,
        bool_or(t.kind IN ('trade', 'usage')) AS bought, bool_or(t.kind = 'resale') AS resold
    FROM billing_account e
    JOIN billing_transfer t ON (t.credit_id = e.id OR t.debit_id = e.id) AND t.stage IN (0, 2)
    JOIN billing_account o ON o.id = CASE WHEN t.credit_id = e.id THEN t.debit_id ELSE t.credit_id END
        AND o.kind IN ('available', 'receivable', 'gift', 'bundle', 'external')
    WHERE e.kind = 'escrow' AND EXISTS (SELECT FROM billing_settledscope s WHERE s.scope = e.scope)
    GROUP BY 1
), held AS (
    SELECT scope, sum(posted_micro) AS micro FROM billing_account WHERE kind = 'dispute' GROUP BY 1
), charged AS (
    SELECT scope, sum(buyer_amount_micro) AS micro FROM billing_charge
    WHERE kind NOT IN ('penalty', 'allowance', 'compensation', 'replacement', 'from_bond', 'from_default', 'probe')
    GROUP BY 1
)
SELECT f.scope, coalesce(c.micro, 0)::bigint, (f.micro - coalesce(h.micro, 0))::bigint
FROM flow f LEFT JOIN held h ON h.scope = f.scope LEFT JOIN charged c ON c.scope = f.scope
WHERE f.bought AND NOT f.resold ORDER BY f.scope
"""
_PROVIDERS = """
SELECT coalesce(sum(CASE WHEN kind IN ('proceeds', 'bond_call', 'default_cover', 'penalty_back', 'compensation_back')
    THEN amount_micro ELSE -amount_micro END), 0)::bigint
FROM billing_transfer WHERE kind IN ('proceeds', 'bond_call', 'default_cover', 'penalty_back', 'compensation_back',
    'proceeds_back', 'default_repaid', 'penalty', 'compensation', 'replacement')
"""


def _rows(sql: str) -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def book_totals() -> list[Totals]:
    """Return both sides' sums."""
    documents = {row[0]: [int(figure) for figure in row[1:]] for row in _rows(_DOCUMENTS)}
    charges = {row[0]: [int(figure) for figure in row[1:]] for row in _rows(_CHARGES)}
    rounding = {row[0]: int(row[1]) for row in _rows(_ROUNDING)}
    scopes = [(int(row[1]), int(row[2])) for row in _rows(_BUYERS)]
    flows = {
        "buyer": (sum(charged for charged, _ in scopes), sum(paid for _, paid in scopes)),
        "provider": (charges.get("provider", [0])[0], int(_rows(_PROVIDERS)[0][0])),
    }
    found = []
    for side in ("buyer", "provider"):
        count, lines, total = documents.get(side, [0, 0, 0])
        charged, waiting = charges.get(side, [0, 0])
        found.append(Totals(side, count, charged, waiting, lines, total, rounding.get(side, 0), *flows[side]))
    return found


def documents_are_charges_are_ledger() -> Iterator[Finding]:
    """
    All documents come to all charges on them and their rounding lines; the rounding lines to what the ledger booked;
    and what buyers were charged for deliveries to what they paid for them, market by market.
    """
    for row in book_totals():
        for what, expected, found in (
            ("documents", row.documented_micro, row.total_micro),
            ("rounding lines", row.ledger_rounding_micro, row.rounding_micro),
        ):
            if expected != found:
                yield Finding(CHECK, f"{row.side}: {what}", format_yuan(expected), format_yuan(found))
    for scope, charged, paid in _rows(_BUYERS):
        if charged != paid:
            yield Finding(CHECK, f"buyers of {scope}", format_yuan(int(charged)), format_yuan(int(paid)))
