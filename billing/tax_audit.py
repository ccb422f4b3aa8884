"""What must hold of tax invoices, recomputed from documents and red invoices."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

from core.audit import Finding

_TOTALS = """
SELECT 'TI' || lpad(t.id::text, 8, '0'), t.net_micro, t.tax_micro, coalesce(d.net, 0), coalesce(d.tax, 0),
       coalesce(l.net, 0), coalesce(l.tax, 0)
FROM billing_taxinvoice t
LEFT JOIN LATERAL (
    SELECT sum(x.net_micro) AS net, sum(x.tax_micro) AS tax FROM billing_taxinvoicedocument td
    JOIN billing_invoicetax x ON x.invoice_id = td.invoice_id AND x.section = 'supply' AND x.vat_thousandths > 0
    WHERE td.tax_invoice_id = t.id) d ON true
LEFT JOIN LATERAL (
    SELECT sum(net_micro) AS net, sum(tax_micro) AS tax FROM billing_taxinvoiceline WHERE tax_invoice_id = t.id
) l ON true
WHERE (t.net_micro, t.tax_micro, t.net_micro, t.tax_micro)
      IS DISTINCT FROM (coalesce(d.net, 0), coalesce(d.tax, 0), coalesce(l.net, 0), coalesce(l.tax, 0))
ORDER BY t.id
"""
_STATES = """
SELECT 'TI' || lpad(t.id::text, 8, '0'), t.state, t.total_micro, coalesce(r.total, 0), coalesce(r.waiting, 0),
       d.counting
FROM billing_taxinvoice t
LEFT JOIN LATERAL (SELECT sum(total_micro) AS total, count(*) FILTER (WHERE number IS NULL) AS waiting
                   FROM billing_redinvoice WHERE tax_invoice_id = t.id) r ON true
LEFT JOIN LATERAL (SELECT count(*) AS counting FROM billing_taxinvoicedocument
                   WHERE tax_invoice_id = t.id AND counts) d ON true
WHERE t.total_micro + coalesce(r.total, 0) < 0
   OR (t.state = 'red_pending') <> (t.number IS NOT NULL AND coalesce(r.waiting, 0) > 0)
   OR (t.state = 'reversed') <> (t.number IS NOT NULL AND coalesce(r.waiting, 0) = 0
                                 AND t.total_micro + coalesce(r.total, 0) = 0)
   OR (t.state IN ('reversed', 'cancelled')) <> (d.counting = 0)
ORDER BY t.id
"""
_NOTES = """
SELECT n.number, coalesce(x.gross, 0), count(r.id), coalesce(sum(r.total_micro), 0)
FROM billing_invoice n
JOIN billing_taxinvoicedocument d ON d.invoice_id = n.refers_to_id AND d.counts
JOIN billing_taxinvoice t ON t.id = d.tax_invoice_id
LEFT JOIN LATERAL (SELECT sum(gross_micro) AS gross FROM billing_invoicetax
                   WHERE invoice_id = n.id AND section = 'supply' AND vat_thousandths > 0) x ON true
LEFT JOIN billing_redinvoice r ON r.note_id = n.id AND r.tax_invoice_id = t.id
WHERE n.kind = 'credit_note' AND n.side = 'buyer' AND coalesce(x.gross, 0) < 0
  AND NOT EXISTS (SELECT FROM billing_taxinvoicedocument o WHERE o.invoice_id = n.id AND o.tax_invoice_id = t.id)
GROUP BY n.id, x.gross HAVING coalesce(sum(r.total_micro), 0) <> coalesce(x.gross, 0)
ORDER BY n.id
"""
_WITHDRAWN = """
SELECT i.number FROM billing_invoice i JOIN billing_taxinvoicedocument d ON d.invoice_id = i.id AND d.counts
WHERE EXISTS (SELECT FROM billing_invoicestate s WHERE s.invoice_id = i.id AND s.state = 'withdrawn')
"""
CHECK = "tax-invoices-are-their-documents"


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def tax_invoices_are_their_documents() -> Iterator[Finding]:
    """
    A tax invoice and its lines come to its documents' taxable net and tax; red ones take back at most that; the state
    says what the numbers say; no credit note lacks its red invoice, and no withdrawn invoice has a tax invoice.
    """
    for name, net, tax, *found in _rows(_TOTALS):
        yield Finding(CHECK, name, f"{net} + {tax}", "documents {} + {}, lines {} + {}".format(*found))
    for name, state, total, red, waiting, counting in _rows(_STATES):
        yield Finding(CHECK, f"{name} ({state})", f"a state that fits {total}",
                      f"{red} red, {waiting} waiting, {counting} documents held")  # fmt: skip
    for number, expected, count, found in _rows(_NOTES):
        yield Finding(CHECK, number, f"a red invoice of {expected}", f"{count} of {found}")
    for (number,) in _rows(_WITHDRAWN):
        yield Finding(CHECK, number, "no tax invoice: it was withdrawn", "one")
