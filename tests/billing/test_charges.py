"""Charges come in once, with the transfers that pay them, and the audit agrees."""

import pytest
from django.db import IntegrityError, transaction

from billing import audit
from billing.actions.charges import ChargeChanged, push_charges
from billing.actions.ledger import InsufficientFunds
from billing.domain.accounts import available, escrow, fee, payable, receivable, revenue, vat
from billing.domain.charges import ChargeKind, InvalidCharge
from billing.domain.principal import pay_usage, split_fee, split_given_fee
from billing.models import Charge, Transfer, WaitingCharge
from billing.queries import account_balance, balance
from tests.billing.given import charge_input, given_charges, given_deposit, pay
from tests.given import NOW, given_api, given_organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def buyer():
    return given_organization("buyer")


@pytest.fixture
def provider():
    return given_organization("provider")


def findings():
    return [str(finding) for _, check in audit.CHECKS for finding in check()]


def test_a_fee_is_a_share_and_contains_its_vat():
    split = split_fee(3_000_000_000, fee_thousandths=20, vat_thousandths=60)
    assert split == (2_940_000_000, 56_603_774, 3_396_226)
    assert split.fee_micro == 60_000_000
    assert split_given_fee(1, 1, vat_thousandths=60) == (0, 1, 0)


def test_charges_pay_the_provider_and_the_sweep_empties_the_market(buyer, provider):
    given_charges(charge_input(buyer, provider))
    assert account_balance(payable(provider.pk)).posted_micro == 2_940_000_000
    assert account_balance(revenue()).posted_micro == 56_603_774
    assert account_balance(vat()).posted_micro == 3_396_226
    for account in (escrow("market:1"), fee("market:1"), vat("market:1")):
        assert account_balance(account).posted_micro == 0
    assert findings() == []


def test_pushing_again_changes_nothing_and_other_figures_are_refused(buyer, provider):
    charge = charge_input(buyer, provider)
    ids = given_charges(charge)
    before = Transfer.objects.count()
    with transaction.atomic():
        assert push_charges([charge], pay(charge), now=NOW) == ids
    assert (Charge.objects.count(), Transfer.objects.count(), WaitingCharge.objects.count()) == (1, before, 2)
    changed = charge_input(buyer, provider, quantity_micro_st=10**12 + 10**6)
    with pytest.raises(ChargeChanged), transaction.atomic():
        push_charges([changed], pay(changed), now=NOW)


def test_charges_without_their_money_are_refused_whole(buyer, provider):
    charge = charge_input(buyer, provider)
    with pytest.raises(InvalidCharge, match="postings pay 0"), transaction.atomic():
        push_charges([charge], [], now=NOW)
    with pytest.raises(InsufficientFunds), transaction.atomic():
        push_charges([charge], pay(charge), now=NOW)  # the escrow is empty
    assert not Charge.objects.exists()


def test_an_amount_that_is_not_quantity_times_price_is_refused(buyer, provider):
    charge = charge_input(buyer, provider, buyer_amount_micro=1)
    with pytest.raises(InvalidCharge, match="quantity × price"), transaction.atomic():
        push_charges([charge], pay(charge), now=NOW)


def test_usage_beyond_contracts_is_paid_from_free_money_then_owed(buyer, provider):
    given_deposit(buyer, 1_000_000_000)
    charge = charge_input(buyer, provider, kind=ChargeKind.OVERAGE)
    split = split_given_fee(charge.seller_amount_micro, charge.fee_micro, vat_thousandths=60)
    postings = pay_usage(key="usage:1", buyer_id=buyer.pk, provider_id=provider.pk, scope=charge.scope, split=split)
    for _ in range(2):  # the second time changes nothing
        given_charges(charge, postings=postings)
    assert (balance(buyer.pk).available_micro, balance(buyer.pk).receivable_micro) == (0, 2_000_000_000)
    given_deposit(buyer, 2_500_000_000)
    assert (balance(buyer.pk).available_micro, balance(buyer.pk).receivable_micro) == (500_000_000, 0)
    assert findings() == []


def test_a_revision_takes_back_and_what_was_spent_is_owed(buyer, provider):
    charge = charge_input(buyer, provider)
    given_charges(charge)
    back = charge_input(
        buyer, provider, revision=1, quantity_micro_st=-charge.quantity_micro_st,
        buyer_amount_micro=-charge.buyer_amount_micro, seller_amount_micro=-charge.seller_amount_micro,
        fee_micro=-charge.fee_micro)
    given_charges(back)
    assert account_balance(available(buyer.pk)).posted_micro == 3_000_000_000
    assert account_balance(payable(provider.pk)).posted_micro == 0
    assert account_balance(receivable(provider.pk)).posted_micro == 0
    assert findings() == []


def test_charges_are_facts(buyer, provider):
    given_charges(charge_input(buyer, provider))
    for change in (lambda: Charge.objects.update(fee_micro=1), lambda: Charge.objects.all()._raw_delete("default")):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def test_each_side_sees_its_own_figures_and_a_stranger_nothing(buyer, provider):
    given_charges(charge_input(buyer, provider))
    seen = given_api(buyer).get("/v1/charges").json()["items"]
    assert [(item["price"], item["price_per_million"], item["amount"], item["seller_amount"]) for item in seen] == [
        ("0.003", "3000.00", "3000.00", None)]
    seen = given_api(provider).get("/v1/charges").json()["items"]
    assert [(item["amount"], item["seller_amount"], item["fee"]) for item in seen] == [(None, "3000.00", "60.00")]
    stranger = given_api(given_organization())
    assert stranger.get("/v1/charges").json()["items"] == []
    assert stranger.get(f"/v1/charges?organization={buyer.pk}").status_code == 404
    operator = given_api(given_organization("operator"))
    assert operator.get(f"/v1/charges?organization={buyer.pk}").json()["items"][0]["seller_amount"] == "3000.00"
