"""Money goes out by the rules, each time once, and is back where it was when the bank says no."""

import csv
import io

import pytest
from django.db import IntegrityError, transaction

from billing.actions.invoices import issue_invoices
from billing.actions.payouts import request_payout
from billing.domain.accounts import available, bank, dispute, payable, receivable, revenue
from billing.domain.payouts import PayoutRules, Standing, decide, on_its_way
from billing.domain.postings import Posting, Stage
from billing.models import BankAccount, BillingProfile, Invoice, InvoicePayment, Payout
from billing.payment_audit import deposits_are_transfers
from billing.queries import account_balance, available_micro, invoices_readable
from billing.reports import reports
from billing.tasks import pay_providers
from core import clock
from core.money import format_yuan
from core.periods import shanghai_date
from identity.models import Organization, WebhookEvent
from tests.billing.damage import without_triggers
from tests.billing.given import charge_input, given_charges, given_deposit, post
from tests.billing.payments import clean_books, given_open_invoice, given_statement
from tests.given import NOW, given_api, given_organization
from tests.identity.given import given_webhook

pytestmark = pytest.mark.django_db
TAX_ID = "91110000MA000000X1"


class Cast:
    """An operator, a buyer, and a provider who has delivered for ¥3,000 and has its statement."""

    def __init__(self, settled=True):
        self.operator = given_organization("operator", name_zh="词元交易所")
        self.buyer, self.provider = given_organization(), given_organization("provider", name_zh="北京算力")
        BillingProfile.objects.create(organization=self.operator, legal_name="词元交易所", tax_number="91X")
        BillingProfile.objects.create(organization=self.provider, legal_name="北京算力", tax_number=TAX_ID)
        self.api, self.theirs = given_api(self.operator), given_api(self.provider)
        self.delivered("1", settled)

    def delivered(self, number, settled=True):
        given_charges(
            charge_input(
                self.buyer, self.provider, source_key=f"contract:{number}:lot:1:deployment:1", scope=f"market:{number}"
            ),
            settled=settled,
        )
        with transaction.atomic():
            issue_invoices(organization_id=self.provider.pk, now=NOW)

    @property
    def statement(self):
        return Invoice.objects.filter(side="provider").latest("id")

    def account(self, number="6222000011112222"):
        made = self.theirs.post(
            "/v1/bank-accounts", {"holder": "北京算力", "number": number, "bank": "工商银行"}
        ).json()
        assert self.api.post(f"/v1/bank-accounts/{made['id']}/verify").status_code == 200
        return made["id"]

    def invoice(self, **changes):
        statement = self.statement
        body = {
            "number": "2611" + f"{statement.pk:016d}", "issued_on": "2026-11-21", "seller_name": "北京算力",
            "seller_tax_number": TAX_ID, "buyer_name": "词元交易所", "buyer_tax_number": "91X",
            "total": f"{statement.total_micro / 10**6:.2f}", "tax": f"{statement.tax_micro / 10**6:.2f}",
        }  # fmt: skip
        return self.theirs.post(f"/v1/statements/{statement.pk}/tax-invoices", body | changes)

    def ready(self):
        self.account()
        assert self.invoice().json()["matches"]
        return self

    def results(self, *rows):
        text = "付款编号,金额,处理结果,失败原因,交易流水号\n" + "".join(",".join(row) + "\n" for row in rows)
        return self.api.post("/v1/payout-results", {"content": text}).json()


def owed(cast):
    return account_balance(payable(cast.provider.pk)).posted_micro


def test_a_payout_goes_from_statement_to_bank_file_to_paid():
    cast = Cast()
    amount = owed(cast)
    assert cast.theirs.post("/v1/payouts").json()["why"] == "no-bank-account"
    cast.account()
    assert cast.theirs.post("/v1/payouts").json()["why"] == "tax-invoice-missing"
    assert cast.invoice().json()["matches"] is True
    payout = cast.theirs.post("/v1/payouts").json()
    assert payout["state"] == "approved" and payout["statements"] == [cast.statement.number]
    assert owed(cast) == 0 and account_balance(on_its_way(cast.provider.pk)).posted_micro == amount
    batch = cast.api.post("/v1/payout-batches").json()
    content = cast.api.get(f"/v1/payout-batches/{batch['id']}.csv").content
    [row] = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
    assert (row["收款人名称"], row["收款账号"]) == ("北京算力", "6222000011112222") and row["金额"] == payout["amount"]
    assert cast.api.post("/v1/payout-batches").json()["code"] == "payout-refused"
    result = (payout["reference"], payout["amount"], "成功", "", "BANK-77")
    assert cast.results(result) == {"paid": 1, "failed": 0, "repeated": 0, "rejected": []}
    assert cast.results(result)["repeated"] == 1
    given_statement(("BANK-77", f"-{payout['amount']}", "北京算力", "6222000011112222", payout["reference"]))
    assert cast.theirs.get(f"/v1/payouts/{payout['id']}").json()["state"] == "paid"
    assert account_balance(on_its_way(cast.provider.pk)).posted_micro == 0
    assert cast.theirs.post("/v1/payouts").json()["why"] == "nothing-to-pay"
    assert clean_books()


def test_a_payout_to_a_closed_account_comes_back_and_the_account_is_used_no_more():
    cast = Cast().ready()
    given_webhook(cast.provider)
    amount = owed(cast)
    payout = cast.theirs.post("/v1/payouts").json()
    cast.api.post("/v1/payout-batches")
    assert cast.results((payout["reference"], payout["amount"], "失败", "收款账户已销户", ""))["failed"] == 1
    assert owed(cast) == amount and BankAccount.objects.get().closed_at is not None
    assert cast.theirs.post("/v1/payouts").json()["why"] == "no-bank-account"
    contradiction = cast.results((payout["reference"], payout["amount"], "成功", "", ""))
    assert "it was not sent" in contradiction["rejected"][0]["detail"] and owed(cast) == amount
    cast.account("6222999988887777")
    again = cast.theirs.post("/v1/payouts").json()
    assert again["payee_account"] == "6222999988887777" and again["amount"] == payout["amount"]
    assert [event.type for event in WebhookEvent.objects.all()] == ["payout.failed"]
    assert clean_books()


def test_a_payout_that_the_bank_returns_after_all_is_payable_again():
    cast = Cast().ready()
    amount = owed(cast)
    payout = cast.theirs.post("/v1/payouts").json()
    cast.api.post("/v1/payout-batches")
    given_statement(("OUT", f"-{payout['amount']}", "", "", f"用途 {payout['reference']}"))
    assert Payout.objects.get().state == "paid"
    given_statement(("BACK", payout["amount"], "", "", f"退票 {payout['reference']}"))
    assert Payout.objects.get().state == "failed" and owed(cast) == amount
    assert clean_books()


def test_bank_results_that_do_not_fit_are_answered_one_by_one():
    cast = Cast().ready()
    payout = cast.theirs.post("/v1/payouts").json()
    early = cast.results((payout["reference"], payout["amount"], "成功", "", ""))
    assert "not sent" in early["rejected"][0]["detail"]
    cast.api.post("/v1/payout-batches")
    reference, amount = payout["reference"], payout["amount"]
    wrong = [(reference, "1.00"), ("PO99999999", "1.00"), ("x", "1"), (reference, "0.001")]
    answer = cast.results(*[(*pair, "成功", "", "") for pair in wrong], (reference, amount, "maybe", "", ""))
    assert [entry["number"] for entry in answer["rejected"]] == [2, 3, 4, 5, 6] and answer["paid"] == 0
    assert cast.api.post("/v1/payout-results", {"content": "nonsense"}).json()["code"] == "bad-payout-results"
    assert Payout.objects.get().state == "sent"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seller_name": "上海算力"}, "seller_name"), ({"seller_tax_number": "9"}, "seller_tax_number"),
        ({"buyer_name": "x"}, "buyer_name"), ({"buyer_tax_number": "9"}, "buyer_tax_number"),
        ({"total": "1.00"}, "total"), ({"tax": "0.00"}, "tax"),
    ],
)  # fmt: skip
def test_a_tax_invoice_that_differs_is_told_where_and_pays_nothing(changes, field):
    cast = Cast()
    cast.account()
    answer = cast.invoice(**changes).json()
    assert answer["matches"] is False and [entry["field"] for entry in answer["differences"]] == [field]
    assert cast.theirs.post("/v1/payouts").json()["why"] == "tax-invoice-missing"
    assert cast.invoice().json()["matches"] is True
    assert cast.theirs.post("/v1/payouts").status_code == 201


def test_a_tax_invoice_serves_one_statement_once():
    cast = Cast()
    first = cast.invoice().json()
    assert cast.invoice().json()["id"] == first["id"]
    assert cast.invoice(number="9" * 20).json()["code"] == "tax-invoice-used"
    assert cast.invoice(number="123").json()["field"] == "number"
    assert cast.invoice(total="0").status_code == 400
    cast.delivered("2")
    assert cast.invoice(number=first["number"]).json()["code"] == "tax-invoice-used"
    assert cast.invoice().json()["matches"] is True


def test_what_is_not_settled_waits():
    cast = Cast(settled=False)
    cast.account()
    assert not Invoice.objects.filter(side="provider").exists() and owed(cast) > 0
    assert cast.theirs.post("/v1/payouts").json()["why"] == "nothing-to-pay"


def test_while_a_discrepancy_is_open_payouts_wait():
    cast = Cast().ready()
    post(Posting("d", "test", Stage.POSTED, bank(), dispute(cast.provider.pk, "market:1"), 5))
    assert cast.theirs.post("/v1/payouts").json()["why"] == "payout-held"
    post(Posting("e", "test", Stage.POSTED, dispute(cast.provider.pk, "market:1"), bank(), 5))
    assert cast.theirs.post("/v1/payouts").status_code == 201


def test_what_the_provider_owes_is_set_off():
    cast = Cast().ready()
    amount = owed(cast)
    post(Posting("owes", "test", Stage.POSTED, receivable(cast.provider.pk), revenue(), 40_000_000))
    payout = cast.theirs.post("/v1/payouts").json()
    assert int(float(payout["amount"]) * 10**6) == amount - 40_000_000
    assert account_balance(receivable(cast.provider.pk)).posted_micro == 0 and owed(cast) == 0
    assert clean_books()


def test_a_set_off_pays_documents_and_leaves_nothing_unbilled():
    """A member that buys and sells owes on documents: what its payout sets off is noted on them."""
    cast = Cast().ready()
    amount = owed(cast)
    given_open_invoice(cast.provider, 25_000_000)
    assert cast.theirs.post("/v1/payouts").json()["amount"] == format_yuan(amount - 25_000_000)
    invoice = invoices_readable(Organization.objects.filter(pk=cast.provider.pk)).get(side="buyer")
    payment = InvoicePayment.objects.get()
    assert (invoice.state, invoice.paid_micro) == ("paid", 25_000_000)
    assert (payment.deposit, payment.payout) == (None, Payout.objects.get())
    assert reports(shanghai_date(clock.now()))["receivables"]["rows"] == []
    with pytest.raises(IntegrityError, match="invoice_payment_by_one"), without_triggers():
        InvoicePayment.objects.update(payout=None)
    with without_triggers():
        InvoicePayment.objects.update(amount_micro=25_000_001)
    assert "set-off" in next(str(finding) for finding in deposits_are_transfers())


def test_above_the_threshold_two_others_approve(settings):
    settings.PAYOUT_APPROVAL_ABOVE_MICRO = 1_000_000_000
    cast = Cast().ready()
    one, two, three = (given_api(cast.operator) for _ in range(3))
    payout = one.post("/v1/payouts", {"organization": cast.provider.pk}).json()
    assert (payout["state"], payout["approvals_needed"]) == ("waiting", 2)
    path = f"/v1/payouts/{payout['id']}/approve"
    assert one.post(path).json()["code"] == "payout-needs-another-person"
    assert two.post(path).json()["state"] == "waiting"
    assert two.post(path).json()["approvals"] == 1  # the same person twice is one
    assert one.post("/v1/payout-batches").json()["code"] == "payout-refused"
    assert cast.theirs.post(path).status_code == 404
    assert three.post(path).json()["state"] == "approved"
    assert clean_books()


def test_a_cancelled_payout_gives_the_money_back_once():
    cast = Cast().ready()
    amount = owed(cast)
    payout = cast.theirs.post("/v1/payouts").json()
    for _ in range(2):
        assert cast.api.post(f"/v1/payouts/{payout['id']}/cancel").json()["state"] == "cancelled"
    assert owed(cast) == amount and clean_books()
    assert cast.api.post(f"/v1/payouts/{payout['id']}/approve").json()["code"] == "payout-state"
    assert cast.theirs.post("/v1/payouts").status_code == 201


def test_providers_are_paid_by_themselves_once():
    Cast().ready()
    assert (pay_providers(), pay_providers()) == (1, 0)
    assert Payout.objects.get().requested_by == "schedule"


@pytest.mark.django_db(transaction=True)
def test_ten_requests_at_once_make_one_payout(race):
    cast = Cast().ready()

    def ask():
        with transaction.atomic():
            return request_payout(organization_id=cast.provider.pk, by="key:1", now=NOW).pk

    results = race(*[ask] * 10)
    assert sum(isinstance(result, int) for result in results) == 1
    assert Payout.objects.count() == 1 and clean_books()


def test_a_refund_goes_back_to_the_account_that_the_money_came_from():
    cast = Cast()
    buyer = cast.buyer
    from billing.domain.bank_files import payment_reference

    given_statement(("B1", "100", buyer.name, "6222123412341234", payment_reference(buyer.pk)))
    deposit = given_api(buyer).get("/v1/deposits").json()["items"][0]["id"]
    path = f"/v1/deposits/{deposit}/refund"
    assert given_api(buyer).post(path, {"amount": "1.00"}).status_code == 404
    for amount in ("0", "-1", "0.001", "100.01", "1000000000000"):
        assert cast.api.post(path, {"amount": amount}).status_code == 400, amount
    refund = cast.api.post(path, {"amount": "60"}).json()
    assert (refund["payee_account"], refund["kind"]) == ("6222123412341234", "refund")
    assert available_micro(buyer.pk) == 40_000_000
    assert cast.api.post(path, {"amount": "41"}).json()["field"] == "amount"
    post(Posting("spent", "test", Stage.POSTED, available(buyer.pk), revenue(), 30_000_000))
    assert cast.api.post(path, {"amount": "40"}).json()["code"] == "insufficient-funds"
    cast.api.post("/v1/payout-batches")
    assert cast.results((refund["reference"], refund["amount"], "失败", "户名不符", ""))["failed"] == 1
    assert available_micro(buyer.pk) == 70_000_000
    assert clean_books()
    by_hand = given_deposit(buyer)
    assert cast.api.post(f"/v1/deposits/{by_hand.pk}/refund", {"amount": "1"}).json()["code"] == "no-bank-account"


def test_an_account_is_the_organizations_own_and_verified_by_the_operator():
    cast = Cast()
    body = {"holder": "北京算力", "number": "6222 0000 1111", "bank": "工商银行"}
    assert cast.theirs.post("/v1/bank-accounts", body | {"holder": "张三"}).json()["field"] == "holder"
    assert cast.theirs.post("/v1/bank-accounts", body | {"number": "abc"}).json()["field"] == "number"
    made = cast.theirs.post("/v1/bank-accounts", body).json()
    assert made["number"] == "622200001111" and made["verified_at"] is None
    assert cast.theirs.post("/v1/bank-accounts", body).json()["code"] == "bank-account-known"
    cast.invoice()
    assert cast.theirs.post("/v1/payouts").json()["why"] == "no-bank-account"
    assert cast.theirs.post(f"/v1/bank-accounts/{made['id']}/verify").status_code == 404
    assert given_api(cast.buyer).delete(f"/v1/bank-accounts/{made['id']}").status_code == 404
    assert cast.theirs.delete(f"/v1/bank-accounts/{made['id']}").json()["closed_at"] is not None


RULES = PayoutRules(minimum_micro=100_000_000, approval_above_micro=0, needs_tax_invoice=True)


@pytest.mark.parametrize(
    ("changes", "amount", "code"),
    [
        ({}, 500_000_000, ""),
        ({"payable_micro": 300_009_999}, 300_000_000, ""),
        ({"owed_micro": 100_000_000}, 400_000_000, ""),
        ({"owed_micro": 600_000_000}, 0, "nothing-to-pay"),
        ({"statements_micro": -5}, 0, "nothing-to-pay"),
        ({"statements_micro": 99_990_000}, 0, "below-minimum"),
        ({"statements_micro": 0, "waiting_invoice_micro": 5}, 0, "tax-invoice-missing"),
        ({"disputed_micro": 1}, 0, "payout-held"),
        ({"has_account": False}, 0, "no-bank-account"),
        ({"statements_micro": 10**18, "payable_micro": 10**18}, 10**18, ""),
    ],
)
def test_the_rule(changes, amount, code):
    standing = Standing(500_000_000, 0, 700_000_000, 0, 0, True)._replace(**changes)
    decision = decide(standing, RULES)
    assert (decision.amount_micro, decision.code) == (amount, code)
