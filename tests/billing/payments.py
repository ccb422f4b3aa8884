"""Builders for bank statements and the other side of payments."""

import csv
import io
from datetime import date
from functools import partial

from billing import payout_queries
from billing.actions.banking import book_line, import_statement
from billing.actions.payouts import make_batch, request_refund
from billing.audit import CHECKS
from billing.domain.accounts import receivable, revenue
from billing.domain.bank_files import payment_reference
from billing.domain.postings import Posting, Stage
from billing.models import BankAccount, BankLine, Deposit, Invoice, InvoiceState
from core.transactions import durable
from tests.billing.given import post
from tests.given import NOW

HEADER = "交易流水号,交易时间,金额,对方户名,对方账号,摘要"


def statement_text(*lines):
    """A bank statement of (reference, amount, payer, payer's account, purpose) each."""
    out = io.StringIO()
    csv.writer(out).writerows(
        [reference, "2026-11-20 10:00:00", amount, payer, account, purpose]
        for reference, amount, payer, account, purpose in lines
    )
    return f"{HEADER}\n{out.getvalue()}"


def given_statement(*lines, now=NOW):
    """An imported statement whose lines are booked."""
    content = statement_text(*lines).encode()
    statement = durable(partial(import_statement, content=content, name="test.csv", now=now))
    for line_id in payout_queries.lines_to_book():
        durable(partial(book_line, line_id=line_id, now=now))
    return statement


def clean_books():
    """Whether the audit of billing finds nothing; it says what where it does."""
    findings = [str(finding) for _, check in CHECKS for finding in check()]
    assert findings == []
    return True


def given_open_invoice(buyer, due_micro):
    """A document of which `due_micro` is owed, without the day that leads to one."""
    post(Posting("owes", "test", Stage.POSTED, receivable(buyer.pk), revenue(), due_micro))
    invoice = Invoice.objects.create(
        kind="invoice", side="buyer", number="INV-TEST-1", organization=buyer, cycle="monthly", period_start=NOW,
        period_end=NOW, issued_at=NOW, due_on=date(2026, 12, 5), exact_micro=due_micro, rounding_micro=0,
        net_micro=due_micro, tax_micro=0, total_micro=due_micro, due_micro=due_micro, issuer={}, customer={},
    )  # fmt: skip
    InvoiceState.objects.create(invoice=invoice, state="open", at=NOW)


def given_payments(buyer, provider):
    """One of everything that money leaves behind, by the names of the addresses' parameters."""
    given_statement(
        ("L1", "10", buyer.name, "6222000000000001", payment_reference(buyer.pk)), ("L2", "5", "?", "1", "?")
    )
    deposit = Deposit.objects.get(reference="L1")
    refund = durable(partial(request_refund, deposit_id=deposit.pk, amount_micro=10**6, by="key:1", now=NOW))
    batch = durable(partial(make_batch, now=NOW))
    account = BankAccount.objects.create(organization=provider, holder="x", number="622200", bank="y", created_at=NOW)
    return {
        "deposit_id": deposit.pk,
        "line_id": BankLine.objects.get(reference="L2").pk,
        "payout_id": refund.pk,
        "batch_id": batch.pk,
        "account_id": account.pk,
    }
