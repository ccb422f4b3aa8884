"""Bundles and gifts pay for spot purchases before free money, get back what markets give back, never become money."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.actions.funding import draws, note_draws, return_unused
from billing.actions.ledger import InsufficientFunds, lock_accounts, post_all
from billing.credit_audit import fundings_are_their_transfers
from billing.credit_queries import usable_credits
from billing.domain.accounts import available, escrow
from billing.domain.postings import Posting, Stage
from billing.funding_queries import in_market_micro, unused_micro
from billing.models import Deposit, MarketFunding, SettledScope
from billing.queries import account_balance
from billing.tasks import return_unused_credits
from exchange.actions.accept import accept
from exchange.actions.positions import add_capacity
from exchange.domain.requests import OrderRequest
from tests.billing.damage import without_triggers
from tests.billing.given import given_deposit
from tests.billing.test_credits import audit, bought, gift, offer
from tests.given import (
    NOW,
    advanced,
    given_api,
    given_market,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


def free(account):
    return account_balance(account).free_micro


@pytest.fixture
def buyer():
    """A buyer with ¥5 of free money, a bundle worth ¥4 (it cost ¥3), and a gift of ¥1."""
    buyer = given_organization()
    given_deposit(buyer, 8_000_000)
    buyer.bundle = bought(buyer, offer(price_micro=3_000_000, worth_micro=4_000_000))
    buyer.gift = gift(buyer, 1_000_000)
    return buyer


def stands(buyer):
    return free(available(buyer.pk)), free(buyer.bundle.account), free(buyer.gift.account)


def test_a_hold_takes_gifts_then_bundles_then_money_and_a_cancelled_order_gives_it_back(buyer):
    market = given_market()
    [order] = given_orders(buyer, {"market": market, "side": "buy", "lots": 2, "price": 35})  # ¥7
    assert stands(buyer) == (3_000_000, 0, 0)
    api = given_api(buyer)
    assert api.delete(f"/v1/orders/{order}").status_code in (200, 202)
    advanced(market, NOW + timedelta(minutes=1))
    assert (stands(buyer)[0], unused_micro(buyer.pk)) == (10_000_000, 5_000_000)
    operator = given_api(given_organization("operator"))  # until it is given back it is nobody's to withdraw
    refused = operator.post(f"/v1/deposits/{Deposit.objects.get().pk}/refund", {"amount": "5.01"}).json()
    assert refused["code"] in ("insufficient-funds", "no-bank-account"), refused
    with pytest.raises(InsufficientFunds):
        bought(buyer, offer(name="dear", price_micro=5_000_001, worth_micro=5_000_001))
    assert [return_unused_credits(), return_unused_credits()] == [1, 0]
    assert stands(buyer) == (5_000_000, 4_000_000, 1_000_000)
    audit()


def test_a_trade_below_the_limit_gives_back_what_was_held_too_much(buyer):
    market = given_market()
    given_orders(given_seller(market), {"market": market, "side": "sell", "lots": 10, "price": 20})
    given_orders(buyer, {"market": market, "side": "buy", "lots": 2, "price": 35})
    advanced(market)
    spent = in_market_micro(buyer.pk, market.scope)
    assert spent == 4_000_000 and stands(buyer) == (6_000_000, 0, 0)
    return_unused_credits()
    assert stands(buyer) == (5_000_000, 1_000_000, 0)
    audit()


def test_a_bond_is_never_paid_from_a_bundle_and_an_order_beyond_both_is_refused(buyer):
    market = given_market()
    with transaction.atomic():
        add_capacity(market_id=market.pk, organization_id=buyer.pk, tokens=100_000_000)
        dear, offered = accept(
            organization=buyer, now=NOW,
            requests=[
                OrderRequest(market_id=market.pk, side="buy", quantity_tokens=3_000, price_nano=3_500_000),
                OrderRequest(market_id=market.pk, side="sell", quantity_tokens=100_000_000, price_nano=4_000_000),
            ],
        )  # fmt: skip
    assert (dear.code, offered.code) == ("insufficient-funds", "insufficient-funds")
    assert "¥10.00" in dear.detail and "¥5.00" in offered.detail
    assert not MarketFunding.objects.exists()


def test_a_refund_of_the_settlement_goes_back_to_the_bundle(buyer):
    scope = "market:77"
    fund(buyer, scope, 6_000_000, "o1")
    book(Posting("t", "trade", Stage.POST, available(buyer.pk), escrow(scope), 6_000_000, pending_id=HOLDS["o1"]))
    return_unused_credits()
    assert stands(buyer) == (4_000_000, 0, 0)
    book(Posting("r", "refund", Stage.POSTED, escrow(scope), available(buyer.pk), 2_500_000))
    return_unused_credits()
    assert stands(buyer) == (5_000_000, 1_500_000, 0)  # the money's ¥1 first, then the last drawn
    book(Posting("resale", "resale", Stage.POSTED, escrow(scope), available(buyer.pk), 3_500_000))
    return_unused_credits()
    assert stands(buyer) == (5_000_000, 4_000_000, 1_000_000)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE billing_marketfunding SET drawn_micro = drawn_micro + 1",
        "UPDATE billing_transfer SET amount_micro = amount_micro - 1 WHERE kind = 'credit_draw'",
        "DELETE FROM billing_marketfunding",
    ],
)
def test_a_damaged_funding_is_named(buyer, sql):
    fund(buyer, "market:77", 500_000, "o1")
    assert not list(fundings_are_their_transfers())
    with without_triggers(), connection.cursor() as cursor:
        cursor.execute(sql)
    assert f"credit:{buyer.gift.pk} in market:77" in str(next(fundings_are_their_transfers()))


def test_what_a_settled_market_does_not_give_back_is_named(buyer):
    fund(buyer, "market:77", 500_000, "o1")
    release("o1", buyer, "market:77", 500_000)
    SettledScope.objects.create(scope="market:77", settled_at=NOW - timedelta(days=1))
    assert f"organization {buyer.pk} in market:77" in str(next(fundings_are_their_transfers()))


HOLDS = {}


def book(*postings):
    with transaction.atomic():
        return post_all(postings, now=NOW)


def fund(buyer, scope, amount_micro, name):
    """Hold an amount as accepting an order does."""
    accounts = usable_credits([buyer.pk], at=NOW).get(buyer.pk, [])
    with transaction.atomic():
        balances = lock_accounts([available(buyer.pk), *accounts])
        left = {account: balances[account].free_micro for account in accounts}
        parts = draws(key=f"draw:{name}", organization_id=buyer.pk, scope=scope, left_micro=left,
                      amount_micro=min(amount_micro, sum(left.values())), drawn_first=accounts)  # fmt: skip
        note_draws(parts)
        hold = Posting(f"hold:{name}", "order_hold", Stage.PENDING, available(buyer.pk), escrow(scope), amount_micro)
        HOLDS[name] = post_all([*parts, hold], now=NOW)[-1]


def release(name, buyer, scope, amount_micro):
    book(Posting(f"release:{name}", "release", Stage.RELEASE, available(buyer.pk), escrow(scope), amount_micro,
                 pending_id=HOLDS[name]))  # fmt: skip


STEPS = st.lists(
    st.tuples(st.sampled_from(["hold", "release", "trade", "refund", "return"]), st.integers(1, 2),
              st.integers(1, 3_000_000)),
    max_size=10,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_bundles_never_become_money(steps):
    """Whatever markets do: what may be withdrawn is the deposit less what markets have beyond bundles and gifts."""
    with transaction.atomic():
        buyer = given_organization()
        given_deposit(buyer, 8_000_000, reference=f"d{buyer.pk}")
        buyer.bundle = bought(buyer, offer(price_micro=3_000_000, worth_micro=4_000_000))
        buyer.gift = gift(buyer, 1_000_000)
        scopes = {number: f"market:{buyer.pk}{number}" for number in (1, 2)}
        holds, spent = {1: [], 2: []}, {1: 0, 2: 0}
        for place, (step, number, amount) in enumerate(steps):
            scope, name = scopes[number], f"{buyer.pk}-{place}"
            if step == "hold" and amount <= sum(stands(buyer)):
                fund(buyer, scope, amount, name)
                holds[number].append((name, amount))
            elif step == "release" and holds[number]:
                release(holds[number][-1][0], buyer, scope, holds[number].pop()[1])
            elif step == "trade" and holds[number]:
                name, held = holds[number].pop()
                cost = min(amount, held)
                book(Posting(f"trade:{name}", "trade", Stage.POST, available(buyer.pk), escrow(scope), cost,
                             held - cost, HOLDS[name]))  # fmt: skip
                spent[number] += cost
            elif step == "refund" and spent[number]:
                back = min(amount, spent[number])
                book(Posting(f"refund:{name}", "refund", Stage.POSTED, escrow(scope), available(buyer.pk), back))
                spent[number] -= back
            else:
                with transaction.atomic():
                    return_unused(organization_id=buyer.pk, scope=scope, now=NOW)
            inside = {n: sum(held for _, held in holds[n]) + spent[n] for n in scopes}
            rows = MarketFunding.objects.filter(credit__organization=buyer)
            drawn = {n: sum(row.outstanding_micro for row in rows if row.scope == scopes[n]) for n in scopes}
            assert inside == {n: in_market_micro(buyer.pk, scopes[n]) for n in scopes}
            beyond = sum(max(0, inside[n] - drawn[n]) for n in scopes)
            assert free(available(buyer.pk)) - unused_micro(buyer.pk) == 5_000_000 - beyond
            assert sum(stands(buyer)) + sum(inside.values()) == 10_000_000
        assert not list(fundings_are_their_transfers())
        transaction.set_rollback(True)
