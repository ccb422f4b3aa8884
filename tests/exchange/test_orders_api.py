"""Orders over HTTP: works, stranger refused, bad input, repeated key."""

import threading
from uuid import uuid4

import pytest

from billing.queries import available_micro, balance
from core import clock
from core.models import IdempotencyRecord
from exchange.api import orders as orders_api
from exchange.models import Command, CommandQueue
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
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def market():
    return given_market(now=clock.now())


@pytest.fixture
def buyer():
    return given_money(given_organization("buyer"), 10_000)


def order(market, /, **fields):
    body = {"market": market.pk, "side": "buy", "type": "limit", "price": "0.003", "quantity": 10_000, **fields}
    return {name: value for name, value in body.items() if value is not None}


def test_places_an_order_and_shows_it(market, buyer):
    api = given_api(buyer)
    answer = api.post("/v1/orders", order(market, client_order_id="mine-1"))
    assert answer.status_code == 202, answer.json()
    body = answer.json()
    assert (body["status"], body["price"], body["price_per_million"]) == ("pending", "0.003", "3000.00")
    assert (body["quantity"], body["filled"], body["remaining"], body["held"]) == (10_000, 0, 10_000, "30.00")
    advanced(market, clock.now())
    shown = api.get(f"/v1/orders/{body['id']}").json()
    assert (shown["status"], shown["client_order_id"]) == ("open", "mine-1")
    assert [row["id"] for row in api.get("/v1/orders", {"market": market.pk}).json()["items"]] == [body["id"]]


def test_a_repeated_key_places_one_order(market, buyer):
    api = given_api(buyer)
    first = api.post("/v1/orders", order(market), key="once")
    again = api.post("/v1/orders", order(market), key="once")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert Command.objects.count() == 1
    other = api.post("/v1/orders", order(market, quantity=20_000), key="once")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")


def test_a_stranger_sees_and_touches_nothing(market, buyer):
    [mine] = given_orders(buyer, {"market": market, "side": "buy", "price": 30}, now=clock.now())
    stranger = given_api(given_organization("buyer"))
    assert stranger.get(f"/v1/orders/{mine}").status_code == 404
    assert stranger.get("/v1/orders").json()["items"] == []
    assert stranger.delete(f"/v1/orders/{mine}").status_code == 404
    assert stranger.patch(f"/v1/orders/{mine}", {"quantity": 2_000}).status_code == 404
    assert Api().get("/v1/orders").status_code == 401
    assert given_api(buyer, ["read"]).post("/v1/orders", order(market)).status_code == 403


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"price": "0.00305"}, "price-off-tick", "price"),
        ({"price": "0.006"}, "price-above-cap", "price"),
        ({"price": 0.003}, "invalid", "price"),
        ({"price": "-1"}, "invalid", "price"),
        ({"price": "1e3"}, "price-above-cap", "price"),
        ({"price": "NaN"}, "invalid", "price"),
        ({"price": None}, "price-missing", "price"),
        ({"quantity": 1_500}, "quantity-off-lot", "quantity"),
        ({"quantity": 0}, "invalid", "quantity"),
        ({"quantity": -1_000}, "invalid", "quantity"),
        ({"quantity": 10**30}, "invalid", "quantity"),
        ({"quantity": "10000"}, "invalid", "quantity"),
        ({"side": "hold"}, "invalid", "side"),
        ({"market": 999_999}, "market-not-found", "market"),
        ({"market": 10**20}, "market-not-found", "market"),
        ({"colour": "red"}, "invalid", "colour"),
        ({"type": "market"}, "price-not-allowed", "price"),
        ({"type": "stop_limit", "stop_price": "0.002"}, "type-not-allowed", "type"),
        ({"time_in_force": "ioc"}, "time-in-force-not-allowed", "time_in_force"),
        ({"time_in_force": "gtd"}, "expiry-missing", "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00Z"}, "contradictory-flags", "expires_at"),
        ({"time_in_force": "gtd", "expires_at": "2001-01-01T00:00:00Z"}, "expiry-out-of-range", "expires_at"),
        ({"display_quantity": 20_000}, "display-above-quantity", "display_quantity"),
        ({"min_quantity": 20_000}, "minimum-above-quantity", "min_quantity"),
        ({"session": "continuous"}, "contradictory-flags", "session"),
        ({"quantity": 10_000_000}, "insufficient-funds", None),
        ({"side": "sell"}, "insufficient-capacity", "quantity"),
        ({"client_order_id": "x" * 65}, "invalid", "client_order_id"),
    ],
)
def test_refuses_by_a_stable_code(market, buyer, change, code, field):
    answer = given_api(buyer).post("/v1/orders", order(market, **change))
    body = answer.json()
    assert (body.get("code"), body.get("field")) == (code, field), body
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert Command.objects.count() == 0
    assert balance(buyer.pk).held_micro == 0


def test_phase_and_halt_are_checked(buyer):
    now = clock.now()
    api = given_api(buyer)
    early = given_market(now=now, phase="scheduled")
    assert api.post("/v1/orders", order(early)).json()["code"] == "market-not-open"
    halted = given_market(now=now)
    type(halted).objects.filter(pk=halted.pk).update(halted=True)
    assert api.post("/v1/orders", order(halted)).json()["code"] == "market-halted"
    closed = given_market(now=now)
    advanced(closed)
    assert api.post("/v1/orders", order(closed)).json()["code"] == "market-closed"


def test_a_batch_is_answered_item_by_item(market, buyer):
    seller = given_seller(market, lots=15)
    api = given_api(seller)
    answer = api.post(
        "/v1/orders/batch",
        {
            "orders": [
                order(market, side="sell", quantity=10_000),
                order(market, side="sell", quantity=10_000),
                order(market, side="sell", quantity=5_500),
                "nonsense",
                {"action": "cancel", "order": str(uuid4())},
                {"action": "dance"},
                order(market, side="sell", quantity=5_000, client_order_id="last"),
            ]
        },
    )
    assert answer.status_code == 202
    body = answer.json()
    assert [row.get("code", row["status"]) for row in body["results"]] == [
        "accepted", "insufficient-capacity", "quantity-off-lot", "invalid", "order-not-found", "invalid", "accepted",
    ]
    assert (body["accepted"], body["refused"]) == (2, 5)
    assert body["results"][6]["order"]["client_order_id"] == "last"
    assert CommandQueue.objects.count() == 1


def test_a_batch_over_the_limit_is_refused_whole(market, buyer):
    answer = given_api(buyer).post("/v1/orders/batch", {"orders": [order(market)] * 1_001})
    assert (answer.status_code, answer.json()["code"]) == (400, "batch-too-large")
    assert given_api(buyer).post("/v1/orders/batch", {"orders": {}}).status_code == 400
    assert given_api(buyer).post("/v1/orders/batch", [order(market)]).status_code == 400


def test_a_batch_spends_money_once(market, buyer):
    answer = given_api(buyer).post("/v1/orders/batch", {"orders": [order(market, quantity=2_000_000)] * 3})
    assert [row.get("code") for row in answer.json()["results"]] == [None, "insufficient-funds", "insufficient-funds"]


def test_cancels_and_replaces_over_http(buyer):
    market = given_market(given_grade(mode="exchange"), now=clock.now())
    api = given_api(buyer)
    mine = api.post("/v1/orders", order(market)).json()["id"]
    advanced(market, clock.now())
    assert api.patch(f"/v1/orders/{mine}", {"price": "0.0031", "quantity": 20_000}).status_code == 202
    assert api.patch(f"/v1/orders/{mine}", {}).json()["code"] == "nothing-to-replace"
    assert api.patch(f"/v1/orders/{mine}", {"side": "sell"}).json()["code"] == "invalid"
    advanced(market, clock.now())
    shown = api.get(f"/v1/orders/{mine}").json()
    assert (shown["price"], shown["quantity"], shown["held"]) == ("0.0031", 20_000, "62.00")
    assert api.delete(f"/v1/orders/{mine}").status_code == 202
    advanced(market, clock.now())
    assert api.get(f"/v1/orders/{mine}").json()["status"] == "cancelled"
    assert balance(buyer.pk).held_micro == 0
    assert api.delete(f"/v1/orders/{mine}").json()["code"] == "order-ended"


def test_own_trades_and_positions(market, buyer):
    seller = given_seller(market, lots=15)
    given_orders(seller, {"market": market, "side": "sell", "lots": 15, "price": 20}, now=clock.now())
    given_orders(buyer, {"market": market, "side": "buy", "lots": 10, "price": 30}, now=clock.now())
    advanced(market)
    mine, theirs = given_api(buyer), given_api(seller)
    [trade] = mine.get("/v1/trades").json()["items"]
    assert (trade["side"], trade["quantity"], trade["price"], trade["cost"]) == ("buy", 10_000, "0.002", "20.00")
    [trade] = theirs.get("/v1/trades", {"market": market.pk}).json()["items"]
    assert trade["side"] == "sell"
    [position] = theirs.get("/v1/positions").json()["items"]
    assert (position["capacity"], position["position"], position["open_sell"]) == (15_000, -10_000, 0)
    stranger = given_api(given_organization("buyer"))
    assert stranger.get("/v1/trades").json()["items"] == stranger.get("/v1/positions").json()["items"] == []
    [public] = Api().get(f"/v1/markets/{market.pk}/trades").json()["items"]
    assert "order" not in public and public["taker_side"] == "auction"


@pytest.mark.django_db(transaction=True)
def test_batches_of_one_organization_that_wait_for_each_other_are_accepted_together(race, monkeypatch):
    market = given_market(now=clock.now())
    buyer = given_money(given_organization("buyer"), 100)
    api = given_api(buyer)
    lots = []
    together, alone = orders_api._batches._together, orders_api._batches._alone
    first = threading.Event()

    def counted(batches):
        lots.append(len(batches))
        return together(batches)

    def slow(batch):
        if not first.is_set():
            first.set()
            threading.Event().wait(1.0)  # long enough for all others to come
        return alone(batch)

    monkeypatch.setattr(orders_api._batches, "_together", counted)
    monkeypatch.setattr(orders_api._batches, "_alone", slow)
    items = [order(market, quantity=1_000, price="0.001"), "nonsense", order(market, quantity=20_000, price="0.001")]
    answers = race(
        *(lambda key=key: api.post("/v1/orders/batch", {"orders": items}, key=f"batch {key % 9}") for key in range(12)),
        lambda: api.post("/v1/orders/batch", {"orders": items[:1]}, key="batch 8"),
    )
    assert sum(lots) >= 9 and len(lots) <= 3
    bodies, refused = {}, []
    for number, answer in enumerate(answers):
        if answer.status_code == 409:
            refused.append(answer.json()["code"])
            continue
        assert answer.status_code == 202, answer.content
        bodies.setdefault(number % 9 if number < 12 else 8, []).append(answer.json())
    # Keys 0 to 2 came twice with the same content, key 8 with two: whichever came first holds.
    assert refused == ["idempotency-key-reused"] and len(bodies) == 9
    assert all(one == two for one, two in (bodies[key] for key in range(3)))
    results = [result for key in bodies for result in bodies[key][0]["results"]]
    accepted = [result["order"] for result in results if result["status"] == "accepted"]
    assert len({each["id"] for each in accepted}) == len(accepted) == Command.objects.count()
    # ¥100 are enough for some of them: what was held is what was accepted, to the micro-yuan.
    held = sum(each["quantity"] * 1_000 for each in accepted)
    assert available_micro(buyer.pk) == 100_000_000 - held
    assert {result["code"] for result in results if result["status"] == "refused"} == {"invalid", "insufficient-funds"}
    assert IdempotencyRecord.objects.filter(organization_id=buyer.pk, status=202).count() == 9
