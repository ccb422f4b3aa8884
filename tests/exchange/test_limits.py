"""Pre-trade limits: by the rules, and through the API with a stable code for each."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import clock
from exchange.domain.limits import MILLIONTHS, refilled
from exchange.models import Command, OrderRate
from identity.models import AuditEntry
from tests.exchange.checking import findings
from tests.given import (
    NOW,
    advanced,
    given_api,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)


@given(st.integers(1, 100_000), st.lists(st.integers(0, 90_000_000), max_size=20))
def test_a_bucket_never_gives_more_than_its_rate(per_minute, pauses_us):
    """Taking whatever is there after each pause: never more than a minute's worth ahead of the rate."""
    now, level, taken, at = NOW, None, 0, None
    for pause in [0, *pauses_us]:
        now += timedelta(microseconds=pause)
        level = refilled(level, since=at, now=now, per_minute=per_minute)
        orders, level = level // MILLIONTHS, level % MILLIONTHS
        taken, at = taken + orders, now
        elapsed_us = (now - NOW) // timedelta(microseconds=1)
        assert taken <= per_minute + elapsed_us * per_minute // 60_000_000 + 1


@pytest.fixture
def world(db):
    market = given_market(given_grade(mode="exchange"), now=clock.now())
    buyer = given_money(given_organization("buyer"))
    return market, given_api(given_organization("operator")), buyer, given_api(buyer)


def order(market, /, **fields):
    return {"market": market.pk, "side": "buy", "price": "0.003", "quantity": 10_000, **fields}


def code(answer):
    return answer.json().get("code", answer.json().get("status"))


def set_limits(operator, organization, **fields):
    answer = operator.post("/v1/limits", {"organization": getattr(organization, "pk", None), **fields})
    assert answer.status_code == 201, answer.json()
    return answer.json()


def test_quantity_and_value(world):
    market, operator, buyer, api = world
    set_limits(operator, buyer, order_quantity=20_000, order_value="45")
    assert code(api.post("/v1/orders", order(market, quantity=21_000))) == "limit-quantity"
    assert code(api.post("/v1/orders", order(market, quantity=16_000))) == "limit-value"
    # a market order is worth its quantity at the cap
    bare = {"market": market.pk, "side": "buy", "type": "market", "quantity": 10_000}
    assert code(api.post("/v1/orders", bare)) == "limit-value"
    mine = api.post("/v1/orders", order(market, quantity=15_000)).json()["id"]
    advanced(market, clock.now())
    assert code(api.patch(f"/v1/orders/{mine}", {"quantity": 25_000})) == "limit-quantity"
    assert code(api.patch(f"/v1/orders/{mine}", {"price": "0.004"})) == "limit-value"
    assert api.delete(f"/v1/orders/{mine}").status_code == 202
    assert findings() == []


def test_distance_from_the_reference_and_then_from_the_last_trade(world):
    market, operator, buyer, api = world  # reference ¥0.003
    seller = given_seller(market)
    set_limits(operator, None, price_distance_thousandths=100)
    assert code(api.post("/v1/orders", order(market, price="0.0034"))) == "limit-price-distance"
    assert code(given_api(seller).post("/v1/orders", order(market, side="sell", price="0.0026"))) == (
        "limit-price-distance"
    )
    assert api.post("/v1/orders", order(market, price="0.0001")).status_code == 202  # a bid far below harms nobody
    given_orders(seller, {"market": market, "side": "sell", "lots": 5, "price": 33}, now=clock.now())
    given_orders(buyer, {"market": market, "side": "buy", "lots": 5, "price": 33}, now=clock.now())
    advanced(market, market.call_closes_at)
    market.refresh_from_db()
    assert market.phase == "continuous" and market.last_trade == 1
    assert api.post("/v1/orders", order(market, price="0.0036")).status_code == 202  # 10% above ¥0.0033
    assert code(api.post("/v1/orders", order(market, price="0.0037"))) == "limit-price-distance"


def test_orders_a_minute_and_cancels_never(world):
    market, operator, buyer, api = world
    set_limits(operator, buyer, orders_per_minute=3)
    results = api.post("/v1/orders/batch", {"orders": [order(market)] * 5}).json()["results"]
    assert [row.get("code", row["status"]) for row in results] == ["accepted"] * 3 + ["limit-order-rate"] * 2
    refused = api.post("/v1/orders", order(market))
    assert (refused.status_code, code(refused)) == (429, "limit-order-rate")
    for row in results[:3]:
        assert api.delete(f"/v1/orders/{row['order']['id']}").status_code == 202
    OrderRate.objects.update(at=clock.now() - timedelta(seconds=25))
    assert [api.post("/v1/orders", order(market)).status_code for _ in range(2)] == [202, 429]


def test_position_with_open_orders_counted(world):
    market, operator, buyer, api = world
    seller = given_seller(market)
    set_limits(operator, buyer, position_quantity=30_000)
    set_limits(operator, seller, position_quantity=25_000)
    batch = {"orders": [order(market, quantity=20_000), order(market, quantity=11_000), order(market)]}
    results = api.post("/v1/orders/batch", batch).json()["results"]
    assert [row.get("code", row["status"]) for row in results] == ["accepted", "limit-position", "accepted"]
    sells = given_api(seller)
    assert code(sells.post("/v1/orders", order(market, side="sell", quantity=26_000))) == "limit-position"
    given_orders(seller, {"market": market, "side": "sell", "lots": 25, "price": 20}, now=clock.now())
    assert code(sells.post("/v1/orders", order(market, side="sell", quantity=1_000))) == "limit-position"
    advanced(market, market.call_closes_at)
    assert code(api.post("/v1/orders", order(market, quantity=1_000))) == "limit-position"  # 25 bought, 5 open
    [rest] = [row for row in api.get("/v1/orders").json()["items"] if row["remaining"]]
    assert api.delete(f"/v1/orders/{rest['id']}").status_code == 202
    advanced(market, market.call_closes_at)
    assert api.post("/v1/orders", order(market, quantity=5_000)).status_code == 202
    assert findings() == []


def test_limits_are_set_by_the_operator_and_shown_to_their_owner(world):
    _, operator, buyer, api = world
    assert api.get("/v1/limits").json()["order_quantity"] is None
    set_limits(operator, None, order_quantity=50_000)
    assert api.get("/v1/limits").json() == operator.get("/v1/limits").json()
    set_limits(operator, buyer, orders_per_minute=10)
    set_limits(operator, buyer, orders_per_minute=20, order_value="7.5")
    shown = api.get("/v1/limits").json()
    assert (shown["organization"], shown["order_quantity"], shown["orders_per_minute"]) == (buyer.pk, None, 20)
    assert operator.get("/v1/limits", {"organization": buyer.pk}).json() == shown
    assert api.get("/v1/limits", {"organization": buyer.pk + 1}).status_code == 404
    assert api.post("/v1/limits", {"orders_per_minute": 1}).status_code == 403
    last = AuditEntry.objects.filter(verb="limits.set").order_by("-pk")[0]
    assert (last.before["orders_per_minute"], last.after["orders_per_minute"]) == (10, 20)
    for bad in ({"order_quantity": 0}, {"orders_per_minute": -1}, {"order_value": 5}, {"speed": 1}):
        assert operator.post("/v1/limits", bad).status_code == 400
    assert operator.post("/v1/limits", {"organization": 999_999}).status_code == 404
    assert Command.objects.count() == 0
