"""What must always hold in the books, recomputed from the insert-only rows. Run by `manage.py audit`."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from billing.book_totals import documents_are_charges_are_ledger
from billing.credit_audit import (
    bundle_liability_is_unexpired,
    credits_are_their_transfers,
    fundings_are_their_transfers,
)
from billing.dispute_audit import disputes_and_dues_add_up
from billing.document_audit import documents_are_drawn_up_again
from billing.payment_audit import (
    bank_lines_are_booked,
    deposits_are_transfers,
    payouts_are_transfers,
    stripe_payments_are_deposits,
)
from billing.period_audit import closed_months_stay, reports_sum_to_the_ledger
from billing.sealed_audit import day_balances_are_transfers, the_journal_is_sealed
from billing.tax_audit import tax_invoices_are_their_documents
from core.audit import Check, Finding
from core.money import format_yuan, work_cost_micro


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def ledger_sums_to_zero() -> Iterator[Finding]:
    """All balances together are zero."""
    total = _rows("SELECT coalesce(sum(posted_micro), 0) FROM billing_account")[0][0]
    if total:
        yield Finding("ledger-sums-to-zero", "all accounts", "0.00", format_yuan(int(total)))


def balances_are_transfers() -> Iterator[Finding]:
    """Each account's balances are what its transfers add up to."""
    for name, posted, held, from_posted, from_held in _rows("""
        WITH movement (account_id, posted, held) AS (
            SELECT debit_id,
                   CASE WHEN stage IN (0, 2) THEN -amount_micro ELSE 0 END,
                   CASE stage WHEN 1 THEN amount_micro WHEN 2 THEN -amount_micro - excess_micro
                              WHEN 3 THEN -amount_micro ELSE 0 END
            FROM billing_transfer
            UNION ALL
            SELECT credit_id, amount_micro, 0 FROM billing_transfer WHERE stage IN (0, 2)
        ), total AS (SELECT account_id, sum(posted) AS posted, sum(held) AS held FROM movement GROUP BY account_id)
        SELECT concat_ws('/', a.kind, coalesce(a.organization_id::text, '-'), nullif(a.scope, '')),
               a.posted_micro, a.held_micro, coalesce(t.posted, 0), coalesce(t.held, 0)
        FROM billing_account a LEFT JOIN total t ON t.account_id = a.id
        WHERE (a.posted_micro, a.held_micro) <> (coalesce(t.posted, 0), coalesce(t.held, 0))
        ORDER BY a.id
    """):
        yield Finding("balances-are-transfers", name, f"posted {from_posted} held {from_held}",
                      f"posted {posted} held {held}")


def nobody_is_overdrawn() -> Iterator[Finding]:
    """The constraints say so already; this says so where somebody took them away."""
    for name, posted, held in _rows("""
        SELECT concat_ws('/', kind, organization_id, nullif(scope, '')), posted_micro, held_micro FROM billing_account
        WHERE held_micro < 0 OR (NOT may_overdraw AND posted_micro < held_micro) ORDER BY id
    """):
        yield Finding("nobody-is-overdrawn", name, "posted >= held >= 0", f"posted {posted} held {held}")


def holds_are_used_within_themselves() -> Iterator[Finding]:
    """What was posted and released of a hold is at most the hold, and taken from the account that holds."""
    for key, amount, used, strangers in _rows("""
        WITH used AS (
            SELECT u.pending_id, sum(u.amount_micro + u.excess_micro) AS micro,
                   count(*) FILTER (WHERE u.debit_id <> h.debit_id) AS strangers
            FROM billing_transfer u JOIN billing_transfer h ON h.id = u.pending_id AND h.stage = 1
            GROUP BY u.pending_id)
        SELECT h.key, h.amount_micro, used.micro, used.strangers
        FROM used JOIN billing_transfer h ON h.id = used.pending_id
        WHERE used.micro > h.amount_micro OR used.strangers > 0
    """):
        yield Finding("holds-are-used-within-themselves", key, f"at most {amount}",
                      f"{used}" if not strangers else f"{used}, {strangers} times from another account")
    for key, in _rows("""
        SELECT u.key FROM billing_transfer u LEFT JOIN billing_transfer h ON h.id = u.pending_id AND h.stage = 1
        WHERE u.pending_id IS NOT NULL AND h.id IS NULL
    """):
        yield Finding("holds-are-used-within-themselves", key, "a hold", "none")


def charges_are_quantity_times_price() -> Iterator[Finding]:
    """A delivered line is quantity × price, the sum over its revisions too."""
    for key, quantity, prices, amounts in _rows("""
        SELECT source_key, sum(quantity_micro_st),
               array[min(buyer_price_nano), max(buyer_price_nano), min(seller_price_nano), max(seller_price_nano)],
               array[sum(buyer_amount_micro), sum(seller_amount_micro)]
        FROM billing_charge WHERE kind IN ('used', 'overage') GROUP BY source_key ORDER BY source_key
    """):
        if prices[0] != prices[1] or prices[2] != prices[3]:
            yield Finding("charges-are-quantity-times-price", key, "one price over all revisions", str(prices))
            continue
        expected = [work_cost_micro(work_micro_st=int(quantity), price_nano=price) for price in prices[::2]]
        if expected != [int(amount) for amount in amounts]:
            yield Finding("charges-are-quantity-times-price", key, str(expected), str([int(a) for a in amounts]))


def charges_are_paid() -> Iterator[Finding]:
    """Providers got (or were due) what charges say they earned, and the fee accounts of each scope what they say."""
    for provider, earned, got in _rows("""
        WITH earned AS (SELECT provider_id, sum(seller_amount_micro - fee_micro) AS micro
                        FROM billing_charge GROUP BY provider_id),
        got AS (SELECT a.organization_id, sum(micro) AS micro FROM (
                    SELECT credit_id AS account_id, amount_micro AS micro FROM billing_transfer
                    WHERE kind IN ('proceeds', 'bond_call', 'default_cover', 'penalty_back', 'compensation_back')
                    UNION ALL
                    SELECT debit_id, -amount_micro FROM billing_transfer
                    WHERE kind IN ('proceeds_back', 'default_repaid', 'penalty', 'compensation', 'replacement')) m
                JOIN billing_account a ON a.id = m.account_id GROUP BY a.organization_id)
        SELECT coalesce(e.provider_id, g.organization_id), coalesce(e.micro, 0), coalesce(g.micro, 0)
        FROM earned e FULL JOIN got g ON g.organization_id = e.provider_id
        WHERE coalesce(e.micro, 0) <> coalesce(g.micro, 0)
    """):
        yield Finding("charges-are-paid", f"provider {provider}", format_yuan(int(earned)), format_yuan(int(got)))
    for scope, fees, got in _rows("""
        WITH fees AS (SELECT scope, sum(fee_micro) AS micro FROM billing_charge GROUP BY scope),
        got AS (SELECT a.scope, sum(micro) AS micro FROM (
                    SELECT credit_id AS account_id, amount_micro AS micro FROM billing_transfer
                    WHERE kind IN ('fee', 'fee_vat')
                    UNION ALL
                    SELECT debit_id, -amount_micro FROM billing_transfer WHERE kind IN ('fee_back', 'fee_vat_back')) m
                JOIN billing_account a ON a.id = m.account_id GROUP BY a.scope)
        SELECT coalesce(f.scope, g.scope), coalesce(f.micro, 0), coalesce(g.micro, 0)
        FROM fees f FULL JOIN got g ON g.scope = f.scope WHERE coalesce(f.micro, 0) <> coalesce(g.micro, 0)
    """):
        yield Finding("charges-are-paid", f"fees of {scope}", format_yuan(int(fees)), format_yuan(int(got)))


def settled_markets_are_empty() -> Iterator[Finding]:
    """A settled market's escrow is zero."""
    for scope, posted in _rows("""
        SELECT a.scope, a.posted_micro FROM billing_account a JOIN billing_settledscope s ON s.scope = a.scope
        WHERE a.posted_micro <> 0 AND a.kind = 'escrow'
    """):
        yield Finding("settled-markets-are-empty", f"escrow of {scope}", "0.00", format_yuan(posted))


def invoices_are_charges_and_rounding() -> Iterator[Finding]:
    """Each document is the sum of its lines, each line of its charges, and its rounding line is a transfer."""
    for number, what, expected, found in _rows("""
        WITH line AS (
            SELECT invoice_id, sum(amount_micro) AS exact, sum(printed_micro) AS printed
            FROM billing_invoiceline GROUP BY invoice_id),
        tax AS (SELECT invoice_id, sum(gross_micro) AS gross, sum(tax_micro) AS tax FROM billing_invoicetax
                GROUP BY invoice_id),
        rounding AS (
            SELECT t.key, sum(CASE WHEN d.kind = 'rounding' THEN -t.amount_micro ELSE t.amount_micro END) AS micro
            FROM billing_transfer t JOIN billing_account d ON d.id = t.debit_id
            WHERE t.kind IN ('invoice_rounding', 'statement_rounding') GROUP BY t.key)
        SELECT i.number, c.what, c.expected, c.found
        FROM billing_invoice i LEFT JOIN line ON line.invoice_id = i.id LEFT JOIN tax ON tax.invoice_id = i.id
        CROSS JOIN LATERAL (VALUES
            ('exact', line.exact, i.exact_micro), ('printed', line.printed, i.total_micro),
            ('gross', tax.gross, i.total_micro), ('tax', tax.tax, i.tax_micro),
            ('rounding', (SELECT coalesce(sum(CASE WHEN i.side = 'provider' THEN -micro ELSE micro END), 0)
                          FROM rounding WHERE key IN ('rounding:' || i.number, 'rounding:' || i.number || '+1')),
             i.rounding_micro)
        ) AS c (what, expected, found)
        WHERE c.expected IS DISTINCT FROM c.found ORDER BY i.id
    """):
        yield Finding("invoices-are-charges-and-rounding", f"{number} {what}", str(expected), str(found))
    for number, line, expected, found in _rows("""
        SELECT i.number, l.number,
               sum(CASE ic.side WHEN 'buyer' THEN c.buyer_amount_micro ELSE c.seller_amount_micro END), l.amount_micro
        FROM billing_invoicecharge ic JOIN billing_charge c ON c.id = ic.charge_id
        JOIN billing_invoiceline l ON l.id = ic.line_id JOIN billing_invoice i ON i.id = l.invoice_id
        GROUP BY i.id, l.id
        HAVING sum(CASE ic.side WHEN 'buyer' THEN c.buyer_amount_micro ELSE c.seller_amount_micro END) <> l.amount_micro
        ORDER BY i.id, l.number
    """):
        yield Finding("invoices-are-charges-and-rounding", f"{number} line {line}", str(expected), str(found))
    for number, expected, found in _rows("""
        SELECT i.number, -sum(c.fee_micro), coalesce((SELECT sum(f.amount_micro) FROM billing_invoiceline f
                                             WHERE f.invoice_id = i.id AND f.section = 'fee'), 0)
        FROM billing_invoice i JOIN billing_invoiceline l ON l.invoice_id = i.id
        JOIN billing_invoicecharge ic ON ic.line_id = l.id JOIN billing_charge c ON c.id = ic.charge_id
        WHERE i.side = 'provider' GROUP BY i.id
        HAVING -sum(c.fee_micro) <> coalesce((SELECT sum(f.amount_micro) FROM billing_invoiceline f
                                     WHERE f.invoice_id = i.id AND f.section = 'fee'), 0)
    """):
        yield Finding("invoices-are-charges-and-rounding", f"{number} fees", str(expected), str(found))


def every_charge_has_its_document() -> Iterator[Finding]:
    """On each side that it shows on, a charge stands on one document or waits for it: never both, never neither."""
    for charge, side, documents in _rows("""
        SELECT c.source_key || ' r' || c.revision, s.side, count(ic.charge_id) + count(w.id)
        FROM billing_charge c JOIN (VALUES ('buyer'), ('provider')) AS s (side)
            ON CASE s.side WHEN 'provider' THEN c.kind <> 'allowance'
               ELSE c.kind NOT IN ('compensation', 'replacement', 'from_bond', 'from_default', 'probe') END
        LEFT JOIN (
            SELECT t.charge_id, t.side FROM billing_invoicecharge t JOIN billing_invoiceline l ON l.id = t.line_id
            WHERE NOT EXISTS (SELECT FROM billing_invoicestate x
                              WHERE x.invoice_id = l.invoice_id AND x.state = 'withdrawn')
        ) ic ON ic.charge_id = c.id AND ic.side = s.side
        LEFT JOIN billing_waitingcharge w ON w.charge_id = c.id AND w.side = s.side
        GROUP BY c.id, s.side HAVING count(ic.charge_id) + count(w.id) <> 1
    """):
        yield Finding("every-charge-has-its-document", f"{charge} ({side})", "1", str(documents))


def numbers_have_no_gaps() -> Iterator[Finding]:
    """The numbers of a series are 1, 2, 3 … up to the last one taken."""
    for name, last, found in _rows("""
        SELECT s.name, s.last_number, count(i.id)
        FROM billing_documentseries s LEFT JOIN billing_invoice i
          ON i.number LIKE s.name || '-%' AND split_part(i.number, '-', 2)::int BETWEEN 1 AND s.last_number
        GROUP BY s.id HAVING count(i.id) <> s.last_number
    """):
        yield Finding("numbers-have-no-gaps", name, f"{last} documents", f"{found}")


CHECKS: list[Check] = [
    ("ledger-sums-to-zero", ledger_sums_to_zero),
    ("balances-are-transfers", balances_are_transfers),
    ("nobody-is-overdrawn", nobody_is_overdrawn),
    ("holds-are-used-within-themselves", holds_are_used_within_themselves),
    ("charges-are-quantity-times-price", charges_are_quantity_times_price),
    ("charges-are-paid", charges_are_paid),
    ("settled-markets-are-empty", settled_markets_are_empty),
    ("invoices-are-charges-and-rounding", invoices_are_charges_and_rounding),
    ("documents-are-charges-are-ledger", documents_are_charges_are_ledger),
    ("documents-are-drawn-up-again", documents_are_drawn_up_again),
    ("every-charge-has-its-document", every_charge_has_its_document),
    ("numbers-have-no-gaps", numbers_have_no_gaps),
    ("credits-are-their-transfers", credits_are_their_transfers),
    ("bundle-liability-is-unexpired", bundle_liability_is_unexpired),
    ("fundings-are-their-transfers", fundings_are_their_transfers),
    ("deposits-are-transfers", deposits_are_transfers),
    ("bank-lines-are-booked", bank_lines_are_booked),
    ("payouts-are-transfers", payouts_are_transfers),
    ("stripe-payments-are-deposits", stripe_payments_are_deposits),
    ("tax-invoices-are-their-documents", tax_invoices_are_their_documents),
    ("disputes-and-dues-add-up", disputes_and_dues_add_up),
    ("reports-sum-to-the-ledger", reports_sum_to_the_ledger),
    ("closed-months-stay", closed_months_stay),
    ("the-journal-is-sealed", the_journal_is_sealed),
    ("day-balances-are-transfers", day_balances_are_transfers),
]
