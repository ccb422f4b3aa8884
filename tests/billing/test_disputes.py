"""Disputes hold their slice and no more; reminders, holds and write-offs follow from what is owed."""

from datetime import timedelta

import pytest
from django.db import transaction

from billing.actions.deposits import record_deposit
from billing.actions.disputes import decide_dispute, open_dispute
from billing.actions.invoices import issue_invoices
from billing.domain.accounts import available, bank, default_fund
from billing.domain.charges import ChargeKind
from billing.domain.postings import Posting, Stage
from billing.domain.principal import pay_usage, split_given_fee
from billing.models import Dispute, Invoice, InvoiceState
from billing.queries import account_balance, balance
from billing.tasks import dun
from core.periods import shanghai_time
from core.transactions import durable
from exchange.actions.accept import Accepted, Refused, accept
from exchange.domain.requests import CancelAllRequest, OrderRequest
from identity.models import WebhookEvent
from tests.billing.given import charge_input, given_charges, given_deposit, post
from tests.billing.payments import clean_books
from tests.billing.taxes import given_tax_invoice
from tests.given import NOW, given_api, given_market, given_organization
from tests.identity.given import given_webhook

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


class Cast:
    """A buyer that owes ¥2,000 of an invoice of ¥3,000: it had ¥1,000."""

    def __init__(self):
        self.operator = given_organization("operator", name_zh="词元交易所")
        self.buyer, self.provider = given_organization(name_zh="灯笼搜索"), given_organization("provider")
        self.api, self.theirs = given_api(self.operator), given_api(self.buyer)
        charge = charge_input(self.buyer, self.provider, kind=ChargeKind.OVERAGE, scope="list:1")
        split = split_given_fee(charge.seller_amount_micro, charge.fee_micro, vat_thousandths=60)
        given_deposit(self.buyer, 1_000_000_000)
        given_charges(charge, settled=False, postings=pay_usage(
            key="u:1", buyer_id=self.buyer.pk, provider_id=self.provider.pk, scope=charge.scope, split=split))
        self.issue()
        self.invoice = Invoice.objects.get(side="buyer")

    def issue(self, now=NOW + DAY):
        with transaction.atomic():
            issue_invoices(organization_id=self.buyer.pk, now=now)

    def dispute(self, amount="500.00", line=1):
        return self.theirs.post(f"/v1/invoices/{self.invoice.pk}/disputes", {
            "line": line, "amount": amount, "reason": "half of it never came"})

    def decide(self, dispute, credit):
        return self.api.post(f"/v1/disputes/{dispute}/decide", {"credit": credit, "decision": "as measured"})

    def shown(self):
        return self.theirs.get(f"/v1/invoices/{self.invoice.pk}").json()


def test_a_dispute_holds_its_slice_and_a_deposit_pays_the_rest():
    cast = Cast()
    given_webhook(cast.buyer)
    dispute = cast.dispute().json()
    assert (dispute["state"], dispute["held"]) == ("open", "500.00")
    assert (cast.shown()["due"], cast.shown()["disputed"]) == ("2000.00", "500.00")
    assert cast.dispute("1.00").json()["code"] == "dispute-state"
    given_deposit(cast.buyer, 1_800_000_000, reference="b")
    assert (cast.shown()["paid"], cast.shown()["state"]) == ("1500.00", "open")
    assert balance(cast.buyer.pk).available_micro == 300_000_000 and clean_books()
    assert cast.decide(dispute["id"], "500.01").json()["field"] == "credit"
    decided = cast.decide(dispute["id"], "500.00").json()
    assert (decided["state"], decided["credit"]) == ("accepted", "500.00")
    assert cast.decide(dispute["id"], "500.00").json() == decided
    assert cast.decide(dispute["id"], "400.00").json()["code"] == "dispute-state"
    assert cast.shown()["state"] == "paid" and balance(cast.buyer.pk).receivable_micro == 0
    cast.issue(NOW + 9 * DAY)
    note = Invoice.objects.get(kind="credit_note")
    assert (note.refers_to, note.total_micro, note.due_micro) == (cast.invoice, -500_000_000, 0)
    assert note.lines.get().kind == "allowance"
    types = [event.type for event in WebhookEvent.objects.order_by("id")]
    assert types[:1] == ["dispute.opened"] and "dispute.decided" in types
    assert clean_books()


def test_a_rejected_or_withdrawn_dispute_makes_the_slice_due_again():
    cast = Cast()
    first = cast.dispute().json()["id"]
    assert given_api(given_organization()).post(f"/v1/disputes/{first}/withdraw").status_code == 404
    assert cast.theirs.post(f"/v1/disputes/{first}/withdraw").json()["state"] == "withdrawn"
    second = cast.dispute("100.00").json()["id"]
    assert cast.theirs.post(f"/v1/disputes/{second}/decide", {}).status_code == 404
    assert cast.decide(second, "0").json()["state"] == "rejected"
    assert cast.shown()["disputed"] == "0.00" and not Invoice.objects.filter(kind="credit_note").exists()
    given_deposit(cast.buyer, 2_000_000_000, reference="b")
    assert cast.shown()["state"] == "paid" and clean_books()


def test_what_was_prepaid_is_credited_to_be_spent_and_its_tax_invoice_awaits_a_red_one():
    cast = Cast()
    given_deposit(cast.buyer, 2_000_000_000, reference="b")
    given_tax_invoice(cast.buyer)
    dispute = cast.dispute("30.00").json()
    assert dispute["held"] == "0.00"
    cast.decide(dispute["id"], "20.00")
    assert balance(cast.buyer.pk).available_micro == 20_000_000
    assert cast.dispute("2980.01").json()["field"] == "amount"  # 20 of it were credited
    assert cast.dispute("0.001").status_code == 400 and cast.dispute("1.00", line=9).status_code == 404
    assert clean_books()


def test_reminders_come_by_steps_and_the_overdue_trade_no_more(monkeypatch):
    cast = Cast()
    given_webhook(cast.buyer)
    due = shanghai_time(cast.invoice.due_on, (NOW + DAY).time())
    market = given_market()
    post(Posting("cash", "test", Stage.POSTED, bank(), available(cast.buyer.pk), 10**10))

    def at(days):
        monkeypatch.setattr("billing.tasks.clock.now", lambda: due + days * DAY)
        return dun(), dun()

    def order():
        [outcome] = accept(organization=cast.buyer, now=NOW, requests=[
            OrderRequest(market_id=market.pk, side="buy", quantity_tokens=1_000_000, price_nano=1_000_000)])
        return outcome

    assert [at(-5), at(-3), at(-2), at(0), at(3), at(7)] == [(0, 0), (1, 0), (0, 0), (1, 0), (1, 0), (1, 0)]
    with transaction.atomic():
        assert isinstance(order(), Accepted)
    assert at(15) == (1, 0)
    with transaction.atomic():
        refused = order()
        assert isinstance(refused, Refused) and refused.code == "payment-overdue"
        cancel = CancelAllRequest(market_id=market.pk)
        assert isinstance(accept(organization=cast.buyer, requests=[cancel], now=NOW)[0], Accepted)
    given_deposit(cast.buyer, 2_000_000_000, reference="b")
    at(16)
    with transaction.atomic():
        assert isinstance(order(), Accepted)
    types = [event.type for event in WebhookEvent.objects.order_by("id")]
    assert types.count("invoice.due") == 2 and types.count("invoice.overdue") == 3
    assert {"organization.payment_hold", "organization.payment_hold_ended"} <= set(types)
    assert clean_books()


def test_what_is_disputed_is_not_reminded_of(monkeypatch):
    cast = Cast()
    cast.dispute("2000.00")
    monkeypatch.setattr("billing.tasks.clock.now", lambda: NOW + 60 * DAY)
    assert dun() == 0
    standing = cast.theirs.get("/v1/receivables").json()
    assert (standing["owed"], standing["held_since"], standing["invoices"]) == ("0.00", None, [])


def test_what_is_given_up_is_uncollectible_and_the_operators_loss():
    cast = Cast()
    path = f"/v1/invoices/{cast.invoice.pk}/write-off"
    dispute = cast.dispute().json()["id"]
    assert cast.theirs.post(path, {"reason": "x"}).status_code == 404
    assert cast.api.post(path, {"reason": "bankrupt"}).json()["code"] == "nothing-owed"
    cast.decide(dispute, "0")
    first = cast.api.post(path, {"reason": "bankrupt"}).json()
    assert first["amount"] == "2000.00" and cast.api.post(path, {"reason": "x"}).json() == first
    assert cast.shown()["state"] == "uncollectible" and balance(cast.buyer.pk).receivable_micro == 0
    assert account_balance(default_fund()).posted_micro == -2_000_000_000 and clean_books()


@pytest.mark.django_db(transaction=True)
def test_a_deposit_a_dispute_and_decisions_at_once_add_up(race):
    cast = Cast()
    invoice = cast.invoice.pk

    def dispute():
        return durable(lambda: open_dispute(
            invoice_id=invoice, line_number=1, amount_micro=1_500_000_000, reason="x", by="key:1", now=NOW))

    def deposit(name):
        return durable(lambda: record_deposit(
            organization_id=cast.buyer.pk, amount_micro=700_000_000, reference=name, now=NOW))

    race(dispute, dispute, lambda: deposit("p"), lambda: deposit("q"))
    row = Dispute.objects.get()
    assert clean_books()

    def decide(credit):
        return durable(lambda: decide_dispute(
            dispute_id=row.pk, credit_micro=credit, decision="x", by="key:2", now=NOW))

    race(*[lambda credit=credit: decide(credit) for credit in (0, 10_000_000, 10_000_000, 0)], lambda: deposit("r"))
    row.refresh_from_db()
    assert row.state in ("accepted", "rejected")
    assert InvoiceState.objects.filter(invoice=invoice, state="paid").count() <= 1
    assert clean_books()
