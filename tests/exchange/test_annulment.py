"""An auction taken back by two operators: mirrors of its trades, money and capacity where they were, once."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.urls import reverse

from billing.domain import accounts
from billing.queries import account_balance, balance
from core import clock
from exchange import candle_queries, order_queries
from exchange.actions import market_state
from exchange.actions.gate import close_gate
from exchange.models import Annulment, Command, DeliveryContract, Market, MarketPosition, Trade
from identity.models import AuditEntry
from tests.exchange.checking import findings
from tests.given import (
    Api,
    advanced,
    given_api,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
    given_user,
)

pytestmark = pytest.mark.django_db
REASON = {"action": "request", "reason": "a wrong list price"}
CONFIRM = {"action": "confirm"}


@pytest.fixture(autouse=True)
def books_agree():
    """After every test here the audit, which replays all journals, finds nothing."""
    yield
    assert findings() == []


@pytest.fixture
def operators():
    house = given_organization("operator")
    return given_api(house), given_api(house)


class World:
    """A market whose first auction has just traded 10 lots at ¥0.002 between two sellers and two buyers."""

    def __init__(self, mode="auction"):
        self.now = clock.now()
        self.market = given_market(given_grade(mode=mode), now=self.now)
        self.sellers = [given_seller(self.market, lots=10) for _ in range(2)]
        self.buyers = [given_money(given_organization("buyer")) for _ in range(2)]
        self.orders = []
        for seller in self.sellers:
            sell = {"market": self.market, "side": "sell", "lots": 8, "price": 20}
            self.orders += given_orders(seller, sell, now=self.now)
        for buyer in self.buyers:
            self.orders += given_orders(
                buyer, {"market": self.market, "side": "buy", "lots": 5, "price": 30}, now=self.now
            )
        self.market = advanced(self.market, self.market.call_closes_at)
        self.auction = self.market.auctions.get()
        self.path = f"/v1/auctions/{self.auction.pk}/annulment"
        assert (self.auction.price_nano, self.auction.volume_tokens) == (2_000_000, 10_000)

    def annul(self, operators, now=None):
        assert operators[0].post(self.path, REASON).json()["status"] == "requested"
        answer = operators[1].post(self.path, CONFIRM)
        assert answer.json()["status"] == "confirmed", answer.json()
        self.market = advanced(self.market, now or self.market.call_closes_at + timedelta(seconds=9))
        return operators[0].get(self.path).json()

    def state(self, order):
        return order_queries.order_states(Command.objects.filter(pk=order))[0]


def test_money_capacity_and_orders_are_as_if_it_had_not_been(operators):
    world = World()
    assert balance(world.buyers[0].pk).available_micro == 999_990 * 1_000_000
    shown = world.annul(operators)
    assert (shown["status"], shown["reason"]) == ("annulled", "a wrong list price")
    for member in (*world.buyers, *world.sellers):
        now = balance(member.pk)
        assert (now.available_micro, now.held_micro, now.bond_micro) == (1_000_000 * 1_000_000, 0, 0)
    assert account_balance(accounts.escrow(world.market.scope)).posted_micro == 0
    assert not MarketPosition.objects.exclude(position_tokens=0, open_sell_tokens=0).exists()
    made = Trade.objects.filter(aggressor=0)
    mirrors = Trade.objects.filter(aggressor=3)
    assert made.count() == mirrors.count() > 0
    assert {(t.buyer_id, t.seller_id, t.quantity_tokens) for t in made} == {
        (t.seller_id, t.buyer_id, t.quantity_tokens) for t in mirrors
    }
    for order in world.orders:
        state = world.state(order)
        assert (state.filled_tokens, state.paid_nano, state.ended, state.held_micro) == (0, 0, True, 0)
    assert world.state(world.orders[2]).reason == "annulled"
    # at the gate nothing is owed
    market = advanced(world.market)
    assert market.gate_closed_at is not None and not DeliveryContract.objects.exists()
    assert Api().get(f"/v1/auctions/{world.auction.pk}").json()["annulled"] is True
    later = given_market(world.market.grade, window=_next(world.market), now=world.now + timedelta(minutes=1))
    assert later.reference_price_nano == 3_000_000  # the grade's own: the annulled price is no reference


def _next(market):
    from core.periods import Period

    return Period(market.window_end, market.window_end + timedelta(hours=1))


def test_an_order_that_is_still_open_keeps_its_rest(operators):
    world = World(mode="exchange")
    before = [world.state(order) for order in world.orders[:2]]
    rest = {state.id: state.remaining_tokens for state in before}
    assert sum(rest.values()) == 6_000 and world.market.phase == "continuous"
    held = [balance(seller.pk).held_micro for seller in world.sellers]
    world.annul(operators)
    for order in world.orders[:2]:
        state = world.state(order)
        assert (state.filled_tokens, state.remaining_tokens) == (0, rest[order])
    assert [balance(seller.pk).held_micro for seller in world.sellers] == held
    shown = [world.state(order).held_micro for order in world.orders[:2]]
    assert sum(shown) == sum(held)
    # and trades on
    now = world.market.call_closes_at + timedelta(seconds=20)
    given_orders(world.buyers[0], {"market": world.market, "side": "buy", "lots": 6, "price": 20}, now=now)
    world.market = advanced(world.market, now)
    assert Trade.objects.exclude(aggressor=3).count() > Trade.objects.filter(aggressor=3).count()
    advanced(world.market)
    assert sum(contract.quantity_tokens for contract in DeliveryContract.objects.all()) == 6_000


def test_what_was_sold_on_stands_in_the_way(operators):
    world = World(mode="exchange")
    now = world.market.call_closes_at + timedelta(seconds=1)
    third = given_money(given_organization("buyer"))
    given_orders(third, {"market": world.market, "side": "buy", "lots": 3, "price": 19}, now=now)
    given_orders(world.buyers[0], {"market": world.market, "side": "sell", "lots": 3, "price": 19}, now=now)
    world.market = advanced(world.market, now)
    shown = world.annul(operators)
    assert shown["status"] == "refused" and str(world.buyers[0].pk) in shown["refused"]
    assert not Trade.objects.filter(aggressor=3).exists()
    assert Api().get(f"/v1/auctions/{world.auction.pk}").json()["annulled"] is False
    advanced(world.market)


def test_it_takes_two_operators_a_reason_and_an_open_gate(operators):
    world, (first, second) = World(), operators
    stranger = given_api(world.buyers[0])
    assert stranger.get(world.path).status_code == stranger.post(world.path, REASON).status_code == 404
    assert first.get(world.path).status_code == 404
    assert first.post("/v1/auctions/999999/annulment", REASON).status_code == 404
    assert first.post(world.path, CONFIRM).json()["code"] == "annulment-not-requested"
    assert first.post(world.path, {"action": "request"}).json()["code"] == "reason-missing"
    assert first.post(world.path, REASON).json()["status"] == "requested"
    assert second.post(world.path, {**REASON, "reason": "mine"}).json()["reason"] == REASON["reason"]
    assert first.post(world.path, CONFIRM).json()["code"] == "second-operator-needed"
    assert Annulment.objects.get().confirmed_by == ""
    with pytest.raises(Exception, match="annulment_by_two"), transaction.atomic():
        Annulment.objects.update(confirmed_by=Annulment.objects.get().requested_by, confirmed_at=world.now)
    past = clock.now() - timedelta(seconds=1)
    Market.objects.update(call_opens_at=past, call_closes_at=past, gate_closes_at=past)
    assert second.post(world.path, CONFIRM).json()["code"] == "auction-stands"
    assert AuditEntry.objects.filter(verb="auction.annulment_request").count() == 1
    assert not AuditEntry.objects.filter(verb="auction.annul").exists()


def test_confirmed_before_the_gate_it_comes_before_the_contracts(operators):
    world = World()
    operators[0].post(world.path, REASON)
    operators[1].post(world.path, CONFIRM)
    with transaction.atomic():
        assert close_gate(market_id=world.market.pk, now=world.market.gate_closes_at) == []
    assert Market.objects.get().gate_closed_at is None
    advanced(world.market)
    assert Market.objects.get().gate_closed_at is not None and not DeliveryContract.objects.exists()
    assert operators[1].post(world.path, CONFIRM).json()["code"] == "auction-stands"


def test_the_audit_notices_a_trade_without_its_mirror(operators):
    world = World()
    world.annul(operators)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE exchange_trade DISABLE TRIGGER ALL")
            cursor.execute("DELETE FROM exchange_trade WHERE aggressor = 3 AND id % 2 = 0")
            cursor.execute("DELETE FROM exchange_trade WHERE aggressor = 3 AND id % 3 = 0")
        assert "annulled-once" in {finding.check for finding in findings()}
        transaction.set_rollback(True)
    market_state.forget_books()


def test_two_people_annul_in_the_console(client):
    world = World()
    house = given_organization("operator")
    people = [given_user(house, is_staff=True, is_superuser=True) for _ in range(2)]
    listed = reverse("admin:exchange_auctionresult_changelist")
    for person, action in zip((people[0], people[0], people[1]), ("request", "confirm", "confirm"), strict=True):
        client.force_login(person)
        chosen = {"action": f"{action}_annulment", "_selected_action": [world.auction.pk], "reason": "wrong price"}
        client.post(listed, chosen)
    annulment = Annulment.objects.get()
    assert (annulment.requested_by, annulment.confirmed_by) == (f"user:{people[0].pk}", f"user:{people[1].pk}")
    assert client.get(reverse("admin:exchange_annulment_changelist")).status_code == 200
    advanced(world.market, world.market.call_closes_at + timedelta(seconds=1))
    assert Trade.objects.filter(aggressor=3).exists()


def test_what_was_annulled_counts_in_no_statistics_and_no_candle(operators, client):
    world = World(mode="exchange")
    path = f"/v1/markets/{world.market.pk}"
    assert client.get(f"{path}/statistics").json()["volume"] == 10_000
    world.annul(operators)
    after = client.get(f"{path}/statistics").json()
    assert (after["volume"], after["trades"], after["last"]) == (0, 0, None)
    seller, buyer = world.sellers[0], world.buyers[0]
    now = world.market.call_closes_at + timedelta(seconds=20)
    given_orders(seller, {"market": world.market, "side": "sell", "lots": 1, "price": 21}, now=now)
    given_orders(buyer, {"market": world.market, "side": "buy", "lots": 1, "price": 25}, now=now)
    advanced(world.market, now)
    after = client.get(f"{path}/statistics").json()
    assert (after["volume"], after["trades"]) == (1_000, 1)
    world.market.refresh_from_db()
    since = now - timedelta(minutes=5)
    candles = candle_queries.candles(world.market, interval=timedelta(minutes=1), since=since, until=now + timedelta(1))
    assert sum(candle.volume for candle in candles) == 1_000


def test_a_flat_candle_keeps_the_price_of_the_last_trade_that_stands(operators):
    world = World(mode="exchange")
    world.annul(operators)
    since = world.market.call_closes_at + timedelta(minutes=1)
    until = since + timedelta(minutes=2)
    assert candle_queries.candles(world.market, interval=timedelta(minutes=1), since=since, until=until) == []
