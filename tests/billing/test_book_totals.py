"""The sums of all documents against all charges and the ledger, and what the check says where a row is damaged."""

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import F

from billing.actions.invoices import issue_invoices
from billing.actions.withdrawals import withdraw_invoice
from billing.book_totals import book_totals, documents_are_charges_are_ledger
from billing.domain.accounts import available, escrow
from billing.domain.postings import Posting, Stage
from billing.models import Charge, Invoice, Transfer
from tests.billing.damage import without_triggers
from tests.billing.given import charge_input, given_charges, given_deposit, pay, post
from tests.given import NOW, given_organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def books():
    """Two charges of odd fractions, bought by trades, on documents of both sides."""
    given_organization("operator")
    buyer, provider = given_organization(), given_organization("provider")
    given_deposit(buyer, 10**10)
    odd = {"quantity_micro_st": 333_333_333_333, "buyer_price_nano": 1_234_567, "seller_price_nano": 1_234_567}
    charges = [
        charge_input(buyer, provider, source_key=f"contract:{number}:lot:1", scope=f"market:{number}", **odd)
        for number in (1, 2)
    ]
    for charge in charges:
        post(Posting(charge.source_key, "trade", Stage.POSTED, available(buyer.pk), escrow(charge.scope),
                     charge.buyer_amount_micro))  # fmt: skip
    given_charges(*charges, postings=[posting for charge in charges for posting in pay(charge)])
    for organization in (buyer, provider):
        with transaction.atomic():
            issue_invoices(organization_id=organization.pk, now=NOW)
    return buyer


def test_documents_are_charges_are_ledger(books, capsys):
    invoices, statements = book_totals()
    assert (invoices.documents, statements.documents) == (2, 2)
    assert invoices.total_micro == invoices.charged_micro + invoices.rounding_micro
    assert invoices.rounding_micro == invoices.ledger_rounding_micro != 0
    assert invoices.delivered_micro == invoices.ledger_micro == invoices.charged_micro
    assert statements.delivered_micro == statements.ledger_micro == statements.charged_micro
    call_command("book_totals")
    assert capsys.readouterr().out.startswith("2 invoices: ¥823.04 = charges 823.0446")


def test_a_withdrawn_invoice_counts_nowhere(books):
    with transaction.atomic():
        first = Invoice.objects.filter(side="buyer").first()
        withdraw_invoice(invoice_id=first.pk, reason="wrong title", actor=None, now=NOW)
    assert not list(documents_are_charges_are_ledger())
    invoices, _ = book_totals()
    assert invoices.documents == 1 and invoices.waiting_micro == invoices.charged_micro // 2


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda: Charge.objects.filter(scope="market:2").update(buyer_amount_micro=1), "buyer: documents"),
        (lambda: Invoice.objects.filter(side="provider").update(
            rounding_micro=F("rounding_micro") + 7, exact_micro=F("exact_micro") - 7), "provider: documents"),
        (lambda: Transfer.objects.filter(kind="invoice_rounding").delete(), "buyer: rounding lines"),
        (lambda: Transfer.objects.filter(key="contract:2:lot:1").update(amount_micro=9), "buyers of market:2"),
    ],
)
def test_a_damaged_row_is_named(books, damage, named):
    with without_triggers():
        damage()
    assert any(named in str(finding) for finding in documents_are_charges_are_ledger())
    with pytest.raises(CommandError, match=named):
        call_command("book_totals")
