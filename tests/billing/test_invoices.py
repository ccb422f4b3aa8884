"""Charges become invoices and statements: gap-free, to the fen, once, and never changed."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from billing import audit
from billing.actions.invoices import issue_invoices
from billing.domain.accounts import payable, rounding
from billing.domain.charges import ChargeKind
from billing.domain.documents import Item, draw_up
from billing.domain.principal import pay_usage, split_given_fee
from billing.models import BillingProfile, Invoice, InvoiceLine, WaitingCharge
from billing.queries import account_balance, balance, invoices_readable
from billing.tasks import issue_due_invoices
from core.ids import new_id
from core.money import fen_round
from identity.models import Organization
from tests.billing.given import WINDOW, charge_input, given_charges, given_deposit
from tests.given import NOW, given_organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator():
    return given_organization("operator")


@pytest.fixture
def buyer(operator):
    return given_organization("buyer", name_zh="灯笼搜索")


@pytest.fixture
def provider(operator):
    return given_organization("provider", name_zh="昆仑算力")


def issue(organization, now=NOW):
    with transaction.atomic():
        return issue_invoices(organization_id=organization.pk, now=now)


def state_of(invoice):
    return invoices_readable(Organization.objects.all()).get(pk=invoice.pk).state


def findings():
    return [str(finding) for _, check in audit.CHECKS for finding in check()]


def odd(buyer, provider, lot, **fields):
    """A lot whose cost is no whole fen."""
    return charge_input(
        buyer, provider, source_key=f"contract:1:lot:{lot}:deployment:1", quantity_micro_st=333_333_333_333 + lot,
        buyer_price_nano=1_234_567, seller_price_nano=1_234_567,
        labels={"market": 1, "contract": 1, "lot": lot, "deployment": 1, "model": "Qwen3-32B"}, **fields)


def test_a_settled_market_becomes_an_invoice_and_a_statement(buyer, provider):
    given_charges(*(odd(buyer, provider, lot) for lot in (1, 2, 3)))
    invoice, = issue(buyer)
    assert (invoice.number, invoice.kind, invoice.side) == (f"INV{NOW.year}-000001", "invoice", "buyer")
    assert (invoice.exact_micro, invoice.total_micro, invoice.rounding_micro) == (1_234_566_999, 1_234_570_000, 3_001)
    lines = list(invoice.lines.order_by("number"))
    assert [line.labels["lot"] for line in lines] == [1, 2, 3]
    assert sum(line.printed_micro for line in lines) == invoice.total_micro
    assert invoice.tax_micro == 69_880_000 and invoice.net_micro + invoice.tax_micro == invoice.total_micro
    assert invoice.customer["name_zh"] == "灯笼搜索"
    assert (invoice.due_micro, state_of(invoice)) == (0, "paid")  # spot is prepaid

    statement, = issue(provider)
    assert (statement.number, statement.kind) == (f"STM{NOW.year}-000001", "statement")
    fee = statement.lines.get(section="fee")
    assert (fee.kind, fee.printed_micro) == ("platform_fee", -24_690_000)
    assert statement.total_micro == 1_209_880_000
    assert account_balance(payable(provider.pk)).posted_micro == statement.total_micro  # whole fen
    assert (issue(buyer), issue(provider), WaitingCharge.objects.count()) == ([], [], 0)


def test_the_rounding_line_is_a_transfer(buyer, provider):
    given_deposit(buyer, 5_000)
    given_charges(odd(buyer, provider, 1))
    before = account_balance(rounding()).posted_micro
    invoice, = issue(buyer)
    assert invoice.rounding_micro == fen_round(invoice.exact_micro) - invoice.exact_micro != 0
    assert account_balance(rounding()).posted_micro - before == invoice.rounding_micro
    assert findings() == []


def test_deployments_share_a_line_and_unused_tokens_have_their_own(buyer, provider):
    labels = {"market": 1, "contract": 1, "lot": 1, "model": "Qwen3-32B"}
    used = [charge_input(buyer, provider, source_key=f"c:1:d:{number}", labels=labels | {"deployment": number})
            for number in (1, 2)]
    unused = charge_input(
        buyer, provider, source_key="c:1:unused", kind=ChargeKind.UNUSED, labels=labels, tokens={},
        buyer_amount_micro=900_000_000, seller_amount_micro=900_000_000, fee_micro=18_000_000)
    given_charges(*used, unused)
    invoice, = issue(buyer)
    first, second = invoice.lines.order_by("number")
    assert (first.kind, first.tokens["input"], first.quantity_micro_st) == ("used", 4_000_000, 2 * 10**12)
    assert first.charges.count() == 2
    assert (second.kind, second.printed_micro) == ("unused", 900_000_000)
    issue(provider)
    assert findings() == []


def test_a_market_waits_for_its_settlement(buyer, provider):
    given_charges(charge_input(buyer, provider), settled=False)
    assert issue(buyer, NOW + timedelta(days=400)) == []


@pytest.mark.parametrize(("cycle", "not_yet", "due"), [
    ("daily", timedelta(hours=11), timedelta(hours=12)),     # NOW is Friday noon in Shanghai
    ("weekly", timedelta(days=2, hours=11), timedelta(days=2, hours=12)),
    ("monthly", timedelta(days=10, hours=11), timedelta(days=10, hours=12)),
])
def test_calendar_cycles_end_at_midnight_in_shanghai(buyer, provider, cycle, not_yet, due):
    BillingProfile.objects.create(organization=buyer, cycle=cycle)
    given_charges(charge_input(buyer, provider), settled=False)
    given_charges(charge_input(buyer, provider, source_key="other", scope="market:2"))
    assert issue(buyer, NOW + not_yet) == []
    invoice, = issue(buyer, NOW + due)
    assert invoice.cycle == cycle and invoice.period_end <= NOW + due
    assert invoice.lines.count() == 2


def test_later_revisions_go_on_notes_that_point_at_the_document(buyer, provider):
    first = charge_input(buyer, provider)
    given_charges(first)
    invoice, = issue(buyer)
    statement, = issue(provider)

    def revise(number, tenths):
        return charge_input(
            buyer, provider, revision=number, quantity_micro_st=first.quantity_micro_st * tenths // 10, tokens={},
            buyer_amount_micro=first.buyer_amount_micro * tenths // 10,
            seller_amount_micro=first.seller_amount_micro * tenths // 10, fee_micro=first.fee_micro * tenths // 10)

    given_charges(revise(1, -3))
    credit, = issue(buyer)
    assert (credit.kind, credit.number, credit.refers_to) == ("credit_note", f"CRN{NOW.year}-000001", invoice)
    assert (credit.total_micro, credit.tax_micro) == (-900_000_000, -50_940_000)
    given_charges(revise(2, 1))
    debit, = issue(buyer)
    assert (debit.kind, debit.total_micro, debit.refers_to) == ("debit_note", 300_000_000, invoice)
    note, = issue(provider)
    assert (note.number, note.refers_to, note.total_micro) == (f"SCN{NOW.year}-000001", statement, -588_000_000)
    assert findings() == []


def test_what_is_owed_on_account_is_due_and_a_deposit_pays_it(buyer, provider):
    charge = charge_input(buyer, provider, kind=ChargeKind.OVERAGE, scope="list:1")
    split = split_given_fee(charge.seller_amount_micro, charge.fee_micro, vat_thousandths=60)
    given_deposit(buyer, 1_000_000_000)
    given_charges(charge, settled=False, postings=pay_usage(
        key="u:1", buyer_id=buyer.pk, provider_id=provider.pk, scope=charge.scope, split=split))
    invoice, = issue(buyer, NOW + timedelta(days=1))
    assert (invoice.due_micro, state_of(invoice)) == (2_000_000_000, "open")
    given_deposit(buyer, 500_000_000, reference="a")
    assert state_of(invoice) == "open"
    given_deposit(buyer, 1_700_000_000, reference="b")
    assert state_of(invoice) == "paid"
    assert [payment.amount_micro for payment in invoice.payments.order_by("id")] == [500_000_000, 1_500_000_000]
    assert balance(buyer.pk).available_micro == 200_000_000


def test_issued_documents_are_never_changed(buyer, provider):
    given_charges(charge_input(buyer, provider))
    issue(buyer)
    for change in (lambda: Invoice.objects.update(due_micro=1), lambda: InvoiceLine.objects.update(number=9)):
        with pytest.raises(IntegrityError, match="never changed"), transaction.atomic():
            change()


def test_the_task_issues_for_everybody_who_is_due(buyer, provider):
    given_charges(charge_input(buyer, provider))
    assert issue_due_invoices() == 2
    assert issue_due_invoices() == 0
    assert findings() == []


@pytest.mark.django_db(transaction=True)
def test_many_at_once_issue_once_and_without_gaps(race):
    given_organization("operator")
    buyers = [given_organization("buyer") for _ in range(4)]
    provider = given_organization("provider")
    for number, buyer in enumerate(buyers):
        given_charges(odd(buyer, provider, number, scope=f"market:{number}")._replace(source_key=f"c:{number}"))
    calls = [lambda buyer=buyer: issue(buyer) for buyer in buyers * 3] + [lambda: issue(provider)] * 4
    results = race(*calls)
    assert not [result for result in results if isinstance(result, Exception)]
    numbers = sorted(Invoice.objects.filter(kind="invoice").values_list("number", flat=True))
    assert numbers == [f"INV{NOW.year}-{number:06d}" for number in range(1, 5)]
    assert findings() == []


@given(st.lists(st.tuples(st.integers(-10**9, 10**9), st.sampled_from([0, 30, 60, 130])), min_size=1, max_size=40))
def test_any_lines_add_up_to_the_fen_and_to_their_charges(amounts):
    items = [
        Item(new_id(), "used", "market:1", {"lot": number}, {}, 0, 0, amount, rate, 0, WINDOW.start, WINDOW.end)
        for number, (amount, rate) in enumerate(amounts)]
    document = draw_up(items)
    assert document.exact_micro == sum(amount for amount, _ in amounts)
    assert sum(line.printed_micro for line in document.lines) == document.total_micro
    assert document.net_micro + document.tax_micro == document.total_micro
    for line in document.lines:
        assert line.printed_micro % 10_000 == 0 and abs(line.printed_micro - line.amount_micro) < 10_000
    for tax in document.taxes:
        exact = sum(line.amount_micro for line in document.lines if line.vat_thousandths == tax.vat_thousandths)
        assert tax.gross_micro == fen_round(exact)
        assert abs(tax.tax_micro * (1000 + tax.vat_thousandths) - tax.gross_micro * tax.vat_thousandths) <= 5_000 * (
            1000 + tax.vat_thousandths)
    assert draw_up(list(reversed(items))) == document
