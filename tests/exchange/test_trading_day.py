"""From accepted orders through auction and gate to contracts, and the money at each step."""

from datetime import timedelta

import pytest

from billing.domain import accounts
from billing.queries import account_balance, balance
from exchange import contract_queries, order_queries
from exchange.models import (
    AuctionResult,
    Command,
    ContractLot,
    DeliveryContract,
    JournalEntry,
    MarketPosition,
    OrderEvent,
    Trade,
)
from tests.exchange.checking import findings
from tests.given import (
    NOW,
    advanced,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db
MILLION = 1_000_000


def state(order_id):
    [found] = order_queries.order_states(Command.objects.filter(pk=order_id))
    return found


def test_an_auction_settles_and_makes_contracts():
    market = given_market()
    seller, other = given_seller(market), given_seller(market)
    buyer = given_money(given_organization("buyer"))
    [sell] = given_orders(seller, {"market": market, "side": "sell", "lots": 300, "price": 20})
    [dear] = given_orders(other, {"market": market, "side": "sell", "lots": 100, "price": 40})
    [buy] = given_orders(buyer, {"market": market, "side": "buy", "lots": 200, "price": 30})
    assert state(buy).status == "pending"
    assert balance(buyer.pk).held_micro == 600 * MILLION  # 200,000 tokens at ¥0.003
    assert balance(seller.pk).held_micro == 120 * MILLION  # a fifth of 300,000 tokens at ¥0.002

    market = advanced(market)

    assert market.phase == "closed"
    [result] = AuctionResult.objects.all()
    assert (result.price_nano, result.volume_tokens, result.rule) == (2_000_000, 200_000, "ask_surplus")
    [trade] = Trade.objects.all()
    assert (trade.buyer_id, trade.seller_id, trade.quantity_tokens) == (buyer.pk, seller.pk, 200_000)
    assert state(buy).status == "filled"
    assert state(sell).status == "expired" and state(sell).filled_tokens == 200_000
    assert state(dear).status == "expired" and state(dear).reason == "gate-closure"

    assert balance(buyer.pk).held_micro == 0
    assert balance(buyer.pk).available_micro == (1_000_000 - 400) * MILLION
    assert account_balance(accounts.escrow(market.scope)).posted_micro == 400 * MILLION
    assert balance(seller.pk).held_micro == 0
    assert balance(seller.pk).bond_micro == 80 * MILLION
    assert balance(other.pk).bond_micro == 0

    [contract] = DeliveryContract.objects.all()
    assert (contract.buyer_id, contract.provider_id, contract.quantity_tokens) == (buyer.pk, seller.pk, 200_000)
    assert contract.rate_tokens_per_minute == -(-2 * 200_000 // 60)
    [lot] = ContractLot.objects.all()
    assert (lot.buyer_price_nano, lot.seller_price_nano) == (2_000_000, 2_000_000)
    assert not MarketPosition.objects.exclude(open_sell_tokens=0).exists()
    assert sum(MarketPosition.objects.values_list("position_tokens", flat=True)) == 0

    market = advanced(market, market.window_start)
    assert market.phase == "delivering"
    facts = contract_queries.contract_for(
        grade_id=market.grade_id, buyer_id=buyer.pk, provider_id=seller.pk, at=market.window_start
    )
    assert facts.id == contract.pk and facts.lots[0].quantity_tokens == 200_000


def test_advancing_twice_changes_nothing():
    market = given_market()
    seller = given_seller(market)
    buyer = given_money(given_organization("buyer"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 3, "price": 20})
    given_orders(buyer, {"market": market, "side": "buy", "lots": 2, "price": 30})
    market = advanced(market)
    before = (JournalEntry.objects.count(), Trade.objects.count(), balance(buyer.pk), DeliveryContract.objects.count())
    advanced(market)
    assert before == (
        JournalEntry.objects.count(), Trade.objects.count(), balance(buyer.pk), DeliveryContract.objects.count()
    )


def test_a_command_received_after_the_close_meets_the_closed_market_and_gets_its_hold_back():
    market = given_market()
    buyer = given_money(given_organization("buyer"))
    late = market.call_closes_at - timedelta(microseconds=1)
    [order] = given_orders(buyer, {"market": market, "side": "buy", "price": 30}, now=late)
    # The auction ran before this command became visible.
    from exchange.models import CommandQueue

    CommandQueue.objects.update(received_at=market.call_closes_at)
    advanced(market)
    assert state(order).status == "refused"
    assert state(order).reason == "wrong-phase"
    assert balance(buyer.pk).held_micro == 0


def test_cancel_and_replace_move_the_hold():
    grade = given_grade(mode="exchange")
    market = given_market(grade)
    buyer = given_money(given_organization("buyer"))
    [order] = given_orders(buyer, {"market": market, "side": "buy", "lots": 10, "price": 20})
    from django.db import transaction

    from exchange.actions.accept import accept
    from exchange.actions.advance import advance
    from exchange.domain.requests import CancelRequest, ReplaceRequest

    def send(*requests):
        with transaction.atomic():
            outcomes = accept(organization=buyer, requests=requests, now=NOW)
        with transaction.atomic():
            advance(market_id=market.pk, now=NOW + timedelta(minutes=1))
        return outcomes

    send(ReplaceRequest(order_id=order, price_nano=3_000_000, quantity_tokens=20_000))
    assert balance(buyer.pk).held_micro == 60 * MILLION
    assert (state(order).price_nano, state(order).quantity_tokens) == (3_000_000, 20_000)
    send(ReplaceRequest(order_id=order, quantity_tokens=5_000))
    assert balance(buyer.pk).held_micro == 15 * MILLION
    send(CancelRequest(order_id=order))
    assert balance(buyer.pk).held_micro == 0
    assert state(order).status == "cancelled"
    [refused] = send(CancelRequest(order_id=order))
    assert refused.code == "order-ended"
    assert OrderEvent.objects.filter(order_id=order).count() == 3


def test_continuous_trading_with_resale_pays_the_reseller_at_the_gate():
    grade = given_grade(mode="exchange")
    market = given_market(grade)
    seller = given_seller(market)
    first, second = given_money(given_organization("buyer")), given_money(given_organization("buyer"))
    market = advanced(market, market.call_closes_at)
    assert market.phase == "continuous"
    now = market.call_closes_at + timedelta(minutes=1)
    given_orders(seller, {"market": market, "side": "sell", "lots": 10, "price": 20}, now=now)
    given_orders(first, {"market": market, "side": "buy", "lots": 10, "price": 20}, now=now)
    market = advanced(market, now)
    given_orders(first, {"market": market, "side": "sell", "lots": 4, "price": 30}, now=now)
    given_orders(second, {"market": market, "side": "buy", "lots": 4, "price": 35}, now=now)
    market = advanced(market, now)
    assert balance(first.pk).bond_micro == 0  # its purchase covers what it sold
    market = advanced(market)
    assert balance(first.pk).available_micro == (1_000_000 - 20 + 12) * MILLION
    assert account_balance(accounts.escrow(market.scope)).posted_micro == 20 * MILLION
    lots = {
        (c.buyer_id, lot.quantity_tokens, lot.buyer_price_nano, lot.seller_price_nano)
        for c in DeliveryContract.objects.all() for lot in c.lots.all()
    }
    assert lots == {(first.pk, 6_000, 2_000_000, 2_000_000), (second.pk, 4_000, 3_000_000, 2_000_000)}


@pytest.fixture(autouse=True)
def books_agree():
    """After every test here the audit finds nothing."""
    yield
    assert findings() == []
