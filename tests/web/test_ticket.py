"""Orders placed on the market page: what is typed, what is said before sending, and that one click is one order."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from core import clock, typed
from exchange.actions.positions import add_capacity
from exchange.models import Command
from exchange.order_queries import order_states
from providers.models import ListPrice
from tests.given import (
    advanced,
    given_deployment,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
    given_user,
)

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


@pytest.fixture
def market():
    return given_market(now=clock.now())


@pytest.fixture
def buyer(client):
    buyer = given_money(given_organization("buyer"), yuan=1_000)
    client.force_login(given_user(buyer))
    return buyer


def fields(**changes):
    return {"side": "buy", "type": "limit", "price": "3,000", "quantity": "１０，０００", "key": str(uuid4())} | changes


def placed():
    return order_states(Command.objects.filter(kind__in=Command.ORDER_KINDS))


def test_an_order_is_placed_once_however_often_it_is_sent(client, market, buyer):
    ticket = fields()
    first = client.post(f"/markets/{market.pk}/orders", ticket, headers=EN)
    assert (first.status_code, first["Location"]) == (302, f"/markets/{market.pk}")
    assert client.post(f"/markets/{market.pk}/orders", ticket, headers=EN).status_code == 302
    [order] = placed()
    assert (order.side, order.quantity_tokens, order.price_nano) == ("buy", 10_000, 3_000_000)
    page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert "Buy order for 10,000 tokens accepted." in page and page.count("accepted.") == 1
    changed = client.post(f"/markets/{market.pk}/orders", ticket | {"quantity": "20000"}, headers=EN)
    assert changed.status_code == 422 and b"sent before with another order" in changed.content
    assert len(placed()) == 1


def test_an_auction_offers_limit_and_market_orders_alone(client, market, buyer):
    page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    types = page[page.index('id="id_type"') :].split("</select>")[0]
    assert 'value="limit" selected' in types and 'value="market"' in types and "stop" not in types


def test_what_it_costs_and_means_is_said_before(client, market, buyer):
    shown = client.get(f"/markets/{market.pk}/estimate", fields(quantity="100k"), headers=EN).content.decode()
    # ¥0.003 × 100,000 tokens; the window is an hour
    assert "¥300.00" in shown and "1,666" in shown and "Held until" in shown
    assert not placed()
    dear = client.get(f"/markets/{market.pk}/estimate", fields(quantity="1M"), headers=EN).content.decode()
    assert "Only ¥1,000.00 is available." in dear


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"price": "3,050.01"}, "Prices move in steps of ¥100.00 per million; the nearest are ¥3,000.00 or ¥3,100.00."),
        ({"price": "5100"}, "No price here may be above the cap, ¥5,000.00 per million (¥0.005 per token)."),
        ({"quantity": "1,500.5"}, "That has more decimals than can be stored."),
        ({"quantity": "1500"}, "Quantities are multiples of 1,000 tokens; the nearest are 1,000 or 2,000."),
        ({"quantity": "1,5"}, "Write a number"),
        ({"quantity": "<script>"}, "Write a number"),
        ({"quantity": "-5000"}, "Write a number"),
        ({"quantity": ""}, "How many tokens?"),
        ({"quantity": "9" * 59}, "beyond the largest number"),
        ({"price": ""}, "This kind of order needs a price."),
        ({"type": "stop", "price": ""}, "needs a trigger price"),
        ({"quantity": "10M"}, "not enough money"),
        ({"side": "sell"}, "You can offer your capacity and position here"),
    ],
)
def test_mistakes_are_said_at_their_field_and_change_nothing(client, market, buyer, changes, sentence):
    if changes.get("quantity") == "10M":
        changes = changes | {"confirm": "on"}
    answer = client.post(f"/markets/{market.pk}/orders", fields(**changes), headers=EN)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page and "<script>" not in page.replace("<script src", "")
    assert not placed()


def test_a_large_order_is_confirmed_first(client, market):
    buyer = given_money(given_organization("buyer"))
    client.force_login(given_user(buyer))
    ticket = fields(quantity="50M")
    asked = client.post(f"/markets/{market.pk}/orders", ticket, headers=EN)
    assert asked.status_code == 422 and b"Confirm that it is meant" in asked.content and not placed()
    assert client.post(f"/markets/{market.pk}/orders", ticket | {"confirm": "on"}, headers=EN).status_code == 302
    assert len(placed()) == 1


def test_a_stale_page_after_the_call_says_so(client, market, buyer):
    advanced(market)
    answer = client.post(f"/markets/{market.pk}/orders", fields(), headers=EN)
    assert answer.status_code == 422 and b"has closed since the page was shown" in answer.content


def test_orders_are_taken_back_in_place(client, market, buyer):
    for _ in range(2):
        client.post(f"/markets/{market.pk}/orders", fields(), headers=EN)
    first, second = (order.id for order in placed())
    assert client.post(f"/orders/{first}/cancel", headers=EN)["Location"] == f"/markets/{market.pk}"
    assert client.post(f"/orders/{second}/cancel", {"from": "orders"}, headers=EN)["Location"] == "/orders"
    advanced(market, clock.now())
    assert {order.status for order in placed()} == {"cancelled"}
    assert (
        b"has ended" in client.get(client.post(f"/orders/{first}/cancel", headers=EN)["Location"], headers=EN).content
    )


def test_a_stranger_and_a_viewer_place_and_cancel_nothing(client, market, buyer):
    client.post(f"/markets/{market.pk}/orders", fields(), headers=EN)
    [order] = placed()
    client.force_login(given_user(given_organization("both")))
    client.post(f"/orders/{order.id}/cancel", headers=EN)
    advanced(market, clock.now())
    assert placed()[0].status == "open"
    client.force_login(given_user(buyer, role="viewer"))
    assert client.post(f"/markets/{market.pk}/orders", fields(), headers=EN).status_code == 403
    client.logout()
    away = client.post(
        f"/markets/{market.pk}/orders", fields(), headers=EN | {"Referer": f"http://testserver/markets/{market.pk}"}
    )
    assert away["Location"].endswith(f"next=/markets/{market.pk}")
    assert len(placed()) == 1


def test_the_page_of_a_refused_ticket_asked_for_again_is_the_market(client, market, buyer):
    again = client.get(f"/markets/{market.pk}/orders", headers=EN)
    assert (again.status_code, again["Location"]) == (302, f"/markets/{market.pk}")


def test_the_live_part_asks_for_a_new_page_when_the_phase_has_changed(client, market, buyer):
    assert "HX-Refresh" not in client.get(f"/markets/{market.pk}/live?phase=call")
    advanced(market)
    assert client.get(f"/markets/{market.pk}/live?phase=call")["HX-Refresh"] == "true"


def test_a_seller_offers_capacity(client, market):
    seller = given_seller(market)
    client.force_login(given_user(seller))
    shown = client.get(
        f"/markets/{market.pk}/estimate", fields(side="sell", quantity="100k"), headers=EN
    ).content.decode()
    assert "Held as delivery bond" in shown and "¥60.00" in shown  # a fifth of ¥300
    assert client.post(f"/markets/{market.pk}/orders", fields(side="sell", quantity="100k")).status_code == 302


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("1,500,000", 1_500_000),
        ("１５０万", 1_500_000),
        ("1.5M", 1_500_000),
        ("1.5亿", 150_000_000),
        ("2 000", 2_000),
        ("3k", 3_000),
    ],
)
def test_quantities_are_read_as_people_write_them(text, tokens):
    assert typed.tokens(text) == tokens


@pytest.mark.parametrize("text", ["", "1,5", "1,23,456", "abc", "1.2.3", "∞", "NaN", "1e5", "--3", "0x10", "١٢٣٤,5"])
def test_what_may_mean_two_things_is_refused(text):
    with pytest.raises(typed.Unreadable):
        typed.tokens(text)


def test_the_call_shows_what_it_would_give_now_and_no_book(client, market, buyer, django_assert_max_num_queries):
    seller = given_seller(market)
    given_orders(seller, {"market": market, "side": "sell", "lots": 40, "price": 20}, now=clock.now())
    client.post(f"/markets/{market.pk}/orders", fields(), headers=EN)
    advanced(market, clock.now())
    with django_assert_max_num_queries(12):
        page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert "Indicative price" in page and "Sealed until the call closes" in page
    assert "¥2,000.00" in page and "−30,000" in page  # ten lots would trade; thirty of the offer would be left over
    live = client.get(f"/markets/{market.pk}/live?phase=call", headers=EN).content.decode()
    assert 'hx-swap-oob="true"' in live and "¥2,000.00" in live


def test_a_price_is_seen_against_the_list_price_the_previous_auction_and_who_offers(client):
    now = clock.now()
    before = given_market(now=now - timedelta(days=1))
    market, seller = given_market(before.grade, now=now), given_seller(before)
    deployment = given_deployment(seller, before.grade)
    for price_nano, days_ago in ((3_000_000, 3), (4_000_000, 2), (1_000_000, -1)):  # the last is not in force yet
        since = now - timedelta(days=days_ago)
        ListPrice.objects.create(deployment=deployment, price_nano=price_nano, valid_from=since)
    buyer = given_money(given_organization("buyer"))
    given_orders(seller, {"market": before, "side": "sell", "lots": 5, "price": 16}, now=before.call_opens_at)
    given_orders(buyer, {"market": before, "side": "buy", "lots": 5, "price": 16}, now=before.call_opens_at)
    advanced(before)
    with transaction.atomic():
        add_capacity(market_id=market.pk, organization_id=seller.pk, tokens=40_000)
    given_orders(seller, {"market": market, "side": "sell", "lots": 40, "price": 20}, now=now)
    given_orders(buyer, {"market": market, "side": "buy", "lots": 40, "price": 20}, now=now)
    advanced(market, now)
    page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert "−50%" in page and "list price ¥4,000.00 per million" in page  # ¥0.002 against ¥0.004
    assert "Previous auction" in page and f'href="/markets/{before.pk}"' in page and "¥1,600.00" in page
    assert "Providers offering" in page
    live = client.get(f"/markets/{market.pk}/live?phase=call", headers=EN).content.decode()
    assert "−50%" in live and "Previous auction" in live
    past = client.get(f"/markets/{before.pk}", headers=EN).content.decode()
    assert "−60%" in past and "Previous auction" not in past
