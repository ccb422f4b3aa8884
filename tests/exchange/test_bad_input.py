"""What is wrong with a command has one stable code each, and the commands around it stand."""

import pytest

from billing.queries import balance
from core import clock
from exchange.models import Command
from tests.exchange.checking import findings
from tests.given import (
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
    """A market in continuous trading, smallest order 2,000 tokens, with ten lots on offer at ¥0.004."""
    market = given_market(given_grade(mode="exchange", min_order_tokens=2_000), now=clock.now())
    seller = given_seller(market)
    given_orders(seller, {"market": market, "side": "sell", "lots": 10, "price": 40}, now=clock.now())
    market = advanced(market, market.call_closes_at)
    assert market.phase == "continuous"
    return market


@pytest.fixture
def api():
    return given_api(given_money(given_organization("buyer"), 10_000))


def order(market, /, **fields):
    return {"market": market.pk, "side": "buy", "price": "0.003", "quantity": 10_000, **fields}


def test_every_bad_command_of_a_request_has_its_code_and_the_others_stand(market, api):
    early, closed = given_market(now=clock.now(), phase="scheduled"), given_market(now=clock.now())
    advanced(closed)
    bad = [
        (order(market, price="0.00301"), "price-off-tick"),
        (order(market, quantity=2_500), "quantity-off-lot"),
        (order(market, quantity=0), "invalid"),
        (order(market, price="0"), "invalid"),
        (order(market, quantity=1_000), "quantity-below-minimum"),
        (order(market, price="0.0051"), "price-above-cap"),
        (order(market, quantity=10**15 + 1_000), "quantity-too-large"),
        (order(market, quantity=10**14), "insufficient-funds"),
        (order(market, side="sell"), "insufficient-capacity"),
        (order(early), "market-not-open"),
        (order(closed), "market-closed"),
        (order(market) | {"market": 999_999}, "market-not-found"),
        (order(market, display_quantity=11_000), "display-above-quantity"),
        (order(market, min_quantity=11_000), "minimum-above-quantity"),
        (order(market, post_only=True, time_in_force="ioc"), "contradictory-flags"),
        (order(market, all_or_none=True, display_quantity=1_000), "contradictory-flags"),
        (order(market, all_or_none=True, min_quantity=2_000), "contradictory-flags"),
        (order(market, session="auction", time_in_force="fok"), "contradictory-flags"),
        (order(market, session="auction", post_only=True), "contradictory-flags"),
        (order(market, type="stop", stop_price="0.003"), "price-not-allowed"),
        (order(market, stop_price="0.003"), "stop-price-not-allowed"),
        ({"market": market.pk, "side": "buy", "type": "stop", "quantity": 2_000}, "stop-price-missing"),
        (order(market, cancel_on_disconnect=True), "no-lease"),
        (order(market, price=0.003), "invalid"),
        (order(market, quantity=True), "invalid"),
        ([], "invalid"),
        ({"action": "replace", "order": "not-an-id", "quantity": 2_000}, "invalid"),
    ]
    items = [order(market)] + [row for each, _ in bad for row in (each, order(market))]
    answer = api.post("/v1/orders/batch", {"orders": items})
    results = answer.json()["results"]
    assert [row.get("code", row["status"]) for row in results[1::2]] == [code for _, code in bad]
    assert {row["status"] for row in results[::2]} == {"accepted"}
    assert all(row["detail"] for row in results[1::2])
    advanced(market, clock.now())
    assert {row["status"] for row in api.get("/v1/orders", {"limit": 100}).json()["items"]} == {"open"}
    assert findings() == []


def test_what_only_the_book_can_tell_is_refused_there_with_its_code(market, api):
    sent = {
        "would-take": order(market, price="0.004", post_only=True),
        "unfilled": order(market, price="0.004", quantity=11_000, time_in_force="fok"),
    }
    ids = {reason: api.post("/v1/orders", body).json()["id"] for reason, body in sent.items()}
    advanced(market, clock.now())
    found = {reason: api.get(f"/v1/orders/{id_}").json() for reason, id_ in ids.items()}
    assert {reason: row["reason"] for reason, row in found.items()} == {name: name for name in sent}
    assert (found["would-take"]["status"], found["would-take"]["filled"]) == ("refused", 0)
    assert findings() == []


def test_replace_of_a_filled_order(market, api):
    filled = api.post("/v1/orders", order(market, price="0.004")).json()["id"]
    advanced(market, clock.now())
    assert api.get(f"/v1/orders/{filled}").json()["status"] == "filled"
    answer = api.patch(f"/v1/orders/{filled}", {"quantity": 20_000})
    assert (answer.status_code, answer.json()["code"]) == (409, "order-ended")


def test_replace_below_what_is_filled(market, api):
    mine = api.post("/v1/orders", order(market, price="0.004", quantity=20_000)).json()["id"]
    advanced(market, clock.now())
    answer = api.patch(f"/v1/orders/{mine}", {"quantity": 10_000})
    assert answer.json()["code"] == "quantity-below-filled"


def test_a_thousand_commands_are_answered_one_by_one(market):
    buyer = given_money(given_organization("buyer"))
    items = [order(market, quantity=2_000 + 1_000 * (number % 3)) for number in range(1_000)]
    items[500] = order(market, price="0.00301")
    body = given_api(buyer).post("/v1/orders/batch", {"orders": items}).json()
    assert (body["accepted"], body["refused"], len(body["results"])) == (999, 1, 1_000)
    assert body["results"][500]["code"] == "price-off-tick"
    assert Command.objects.filter(organization=buyer).count() == 999
    held = sum(item["quantity"] for number, item in enumerate(items) if number != 500) * 3_000
    assert balance(buyer.pk).held_micro == held
