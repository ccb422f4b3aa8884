"""What must always hold in the books, recomputed from the insert-only rows. Run by `manage.py audit`."""

from collections.abc import Iterator
from typing import Any

from django.db import connection

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
                    SELECT credit_id AS account_id, amount_micro AS micro FROM billing_transfer WHERE kind = 'proceeds'
                    UNION ALL
                    SELECT debit_id, -amount_micro FROM billing_transfer WHERE kind = 'proceeds_back') m
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


CHECKS: list[Check] = [
    ("ledger-sums-to-zero", ledger_sums_to_zero),
    ("balances-are-transfers", balances_are_transfers),
    ("nobody-is-overdrawn", nobody_is_overdrawn),
    ("holds-are-used-within-themselves", holds_are_used_within_themselves),
    ("charges-are-quantity-times-price", charges_are_quantity_times_price),
    ("charges-are-paid", charges_are_paid),
    ("settled-markets-are-empty", settled_markets_are_empty),
]
