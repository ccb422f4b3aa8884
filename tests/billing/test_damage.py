"""Each check of the audit names the first difference that a single damaged row makes."""

from datetime import date, timedelta
from functools import partial

import pytest
from django.db import connection

from billing.actions.invoices import issue_invoices
from billing.actions.payouts import request_refund
from billing.actions.periods import close_period, propose_close
from billing.audit import CHECKS
from billing.domain.accounts import available, escrow
from billing.domain.postings import Posting, Stage
from billing.models import BankAccount
from core.transactions import durable
from tests.billing.damage import without_triggers
from tests.billing.given import charge_input, given_charges, given_deposit, pay, post
from tests.billing.payments import given_statement
from tests.billing.taxes import given_tax_invoice
from tests.given import NOW, given_organization

pytestmark = pytest.mark.django_db
LATER = NOW + timedelta(days=30)
DAMAGE = {
    "ledger-sums-to-zero": "UPDATE billing_account SET posted_micro = posted_micro + 1 WHERE kind = 'revenue'",
    "balances-are-transfers": "UPDATE billing_account SET posted_micro = posted_micro + 1 WHERE kind = 'payable'",
    "nobody-is-overdrawn": "ALTER TABLE billing_account DROP CONSTRAINT account_not_overdrawn;"
    " UPDATE billing_account SET posted_micro = -1 WHERE kind = 'available'",
    "holds-are-used-within-themselves": "UPDATE billing_transfer SET amount_micro = amount_micro + 1 WHERE stage = 3",
    "charges-are-quantity-times-price": "UPDATE billing_charge SET quantity_micro_st = quantity_micro_st + 1000000",
    "charges-are-paid": "DELETE FROM billing_transfer WHERE kind = 'proceeds'",
    "settled-markets-are-empty": "UPDATE billing_account SET posted_micro = 1 WHERE kind = 'escrow'",
    "invoices-are-charges-and-rounding": "UPDATE billing_invoiceline SET amount_micro = amount_micro + 1",
    "documents-are-drawn-up-again": "UPDATE billing_invoiceline SET labels = '{}'",
    "every-charge-has-its-document": "DELETE FROM billing_invoicecharge",
    "numbers-have-no-gaps": "UPDATE billing_documentseries SET last_number = last_number + 1",
    "deposits-are-transfers": "UPDATE billing_deposit SET amount_micro = amount_micro + 1",
    "bank-lines-are-booked": "UPDATE billing_bankline SET amount_micro = amount_micro + 1",
    "payouts-are-transfers": "UPDATE billing_payout SET amount_micro = amount_micro + 10000",
    "stripe-payments-are-deposits": "UPDATE billing_deposit SET method = 'stripe'",
    "tax-invoices-are-their-documents": "UPDATE billing_taxinvoice SET state = 'issued'",
    "disputes-and-dues-add-up": "UPDATE billing_invoicestate SET state = 'uncollectible'",
    "reports-sum-to-the-ledger": "UPDATE billing_charge SET fee_micro = fee_micro + 1",
    "closed-months-stay": "UPDATE billing_charge SET seller_amount_micro = seller_amount_micro + 1",
}


@pytest.fixture
def books():
    """A little of everything: deposits, a hold, charges on documents, a tax invoice, a refund, a closed month."""
    given_organization("operator")
    buyer, provider = given_organization(), given_organization("provider")
    deposit = given_deposit(buyer, 10**10)
    charge = charge_input(buyer, provider)
    post(Posting("t", "trade", Stage.POSTED, available(buyer.pk), escrow(charge.scope), charge.buyer_amount_micro))
    [hold] = post(Posting("h", "order_hold", Stage.PENDING, available(buyer.pk), escrow("market:2"), 5))
    post(Posting("r", "release", Stage.RELEASE, available(buyer.pk), escrow("market:2"), 5, pending_id=hold))
    given_charges(charge, postings=pay(charge))
    for organization in (buyer, provider):
        durable(partial(issue_invoices, organization_id=organization.pk, now=NOW))
    given_tax_invoice(buyer)
    given_statement(("L1", "10", "somebody", "622", "?"))
    BankAccount.objects.create(
        organization=buyer, holder="x", number="6222", bank="y", created_at=NOW, verified_at=NOW
    )
    durable(partial(request_refund, deposit_id=deposit.pk, amount_micro=10**6, by="key:1", now=NOW))
    month = date(2026, 11, 1)
    durable(partial(propose_close, month=month, by="user:1", now=LATER, actor=None))
    durable(partial(close_period, month=month, by="user:2", now=LATER, actor=None))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_row_is_named(books, name):
    check = dict(CHECKS)[name]
    assert not list(check())
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with without_triggers(), connection.cursor() as cursor:
        cursor.execute(DAMAGE[name])
    assert next(check()).check == name
