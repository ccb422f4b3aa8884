"""Upfront quotes: the public book walked, list by the price book, the next auction; and prices far off asked about."""

from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from billing.actions.price_books import publish_price_book
from core.money import format_yuan
from core.periods import SHANGHAI
from exchange.actions.advance import advance
from exchange.domain.quotes import Taken, Workload, price_of, tokens_to_buy, walk
from providers.actions.prices import set_list_price
from tests.given import (
    NOW,
    given_api,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

LOT = 1_000


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 500)), max_size=8), st.integers(1, 2_000))
def test_walking_the_book_agrees_with_buying_lot_by_lot(levels, lots):
    asks = [Taken(price, count * LOT) for price, count in sorted(levels)]
    one_by_one = [ask.price_nano for ask in asks for _ in range(ask.quantity_tokens // LOT)][:lots]
    walked = walk(asks, lots * LOT)
    assert walked.amount_micro == sum(one_by_one)  # a lot of 1,000 at n nano-yuan is n micro-yuan
    assert walked.missing_tokens == (lots - len(one_by_one)) * LOT
    assert sum(part.quantity_tokens for part in walked.taken) == len(one_by_one) * LOT


def test_whole_lots_and_the_smallest_order():
    assert tokens_to_buy(1, 5_000) == 5_000
    assert tokens_to_buy(7_000_000_001, 1_000) == 8_000
    assert price_of(3_000, 10**6 * 1_000) == 3_000
    assert Workload(10, 10, 0).classes == (("input.text.cache_read", 10),)


@pytest.fixture
def visitor(db, monkeypatch):
    monkeypatch.setattr("core.clock.now", lambda: NOW)
    from tests.given import Api

    return Api()


def ask(api, served, **changes):
    body = {"grade": served.slug, "input_tokens": 2_000, "output_tokens": 500, "requests": 1_000} | changes
    return api.post("/v1/quotes", {name: value for name, value in body.items() if value is not None})


def test_what_a_workload_costs_in_each_way(visitor):
    market = given_market(given_grade(mode="exchange", reference_price_nano=1_000_000))
    seller = given_seller(market)
    grade = market.grade
    given_orders(seller, {"market": market, "side": "sell", "lots": 100, "price": 20},
                 {"market": market, "side": "sell", "lots": 700, "price": 30})  # fmt: skip
    with transaction.atomic():
        advance(market_id=market.pk, now=NOW)
    answer = ask(visitor, grade).json()
    assert (answer["off_peak"]["basis"], answer["off_peak"]["price"]) == ("reference price", "0.001")
    assert answer["off_peak"]["amount"] == format_yuan(answer["off_peak"]["quantity"] * 1_000)
    assert answer["book"] is None  # the call is on: nobody can buy now
    with transaction.atomic():
        advance(market_id=market.pk, now=market.call_closes_at + timedelta(seconds=1))
    market.refresh_from_db()
    assert market.phase == "continuous"
    book = ask(visitor, grade, requests=300).json()["book"]
    tick, quantity = market.tick_nano, book["quantity"]
    assert [part["quantity"] for part in book["fills"]] == [100_000, quantity - 100_000]
    assert book["amount"] == format_yuan((100 * 20 + (quantity // LOT - 100) * 30) * tick)
    assert (book["market"], book["missing"]) == (market.pk, 0)
    assert ask(visitor, grade, requests=10**6).json()["book"]["missing"] > 0


def test_at_list_by_the_price_book_else_by_the_lowest_list_price(visitor):
    deployment = given_deployment()
    grade = deployment.grade
    assert ask(visitor, grade).json()["list"] is None
    with transaction.atomic():
        set_list_price(deployment_id=deployment.pk, price_nano=grade.tick_nano * 4, now=NOW - timedelta(days=1))
    plain = ask(visitor, grade).json()
    assert plain["list"]["basis"] == "lowest list price"
    classes = ("input.text", "input.text.cache_read", "output.text", "output.reasoning")
    night, day = {"start_hour": 0, "end_hour": 9}, {"start_hour": 9, "end_hour": 24, "thousandths": 1000}
    half = [night | {"thousandths": 500}, day]
    every = {"steps": [{"price": "0.00001"}], "tier": grade.service_class, "workday": half, "other_day": half}
    rules = [{"class": name} | every for name in classes]
    with transaction.atomic():
        publish_price_book(name="list", effective_from=NOW, terms={"rules": rules}, now=NOW)
    listed = ask(visitor, grade, cached_tokens=500).json()["list"]
    assert (listed["basis"], listed["amount"]) == ("price book list v1", "25.00")
    assert [line["class"] for line in listed["lines"]] == list(classes[:3])
    night = NOW.astimezone(SHANGHAI).replace(hour=0) + timedelta(days=1)
    window = {"start": night.isoformat(), "end": (night + timedelta(hours=4)).isoformat()}
    assert ask(visitor, grade, window=window).json()["list"]["amount"] == "12.50"
    by_model = ask(visitor, grade, grade=None, model=grade.model_card.slug, service_class=grade.service_class)
    assert by_model.json()["grade"] == grade.slug
    grade.reference_price_nano = 1
    grade.save(update_fields=["reference_price_nano"])
    assert "list is over 100 times" in ask(visitor, grade).json()["needs_confirmation"][0]


@pytest.mark.parametrize(("changes", "status", "field"), [
    ({"grade": "nowhere"}, 400, "grade"),
    ({"grade": None}, 400, "grade"),
    ({"grade": None, "model": "nothing"}, 404, "model"),
    ({"output_tokens": -1}, 400, "output_tokens"),
    ({"requests": 0}, 400, "requests"),
    ({"requests": 10**12}, 400, "requests"),
    ({"cached_tokens": 3_000}, 400, "cached_tokens"),
    ({"output_tokens": 9_999_999}, 400, "output_tokens"),
    ({"window": {"start": "2026-11-21T00:00:00Z", "end": "2026-11-20T00:00:00Z"}}, 400, "window.end"),
    ({"tokens": 1}, 400, "tokens"),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_its_field(visitor, changes, status, field):
    refused = ask(visitor, given_deployment().grade, **changes)
    assert (refused.status_code, refused.json().get("field")) == (status, field), refused.content
    assert visitor.get("/v1/quotes").status_code == 405


def test_the_page_quotes_with_the_calculation_and_says_what_is_wrong(visitor, client):
    market = given_market()
    address = f"/quote?grade={market.grade.slug}&input_tokens=2000&output_tokens=500&requests=1,000"
    assert client.get("/quote").status_code == 200
    page = client.get(address, headers={"accept-language": "en"})
    assert page.status_code == 200 and "Next off-peak auction" in page.content.decode()
    assert client.get(address, headers={"accept-language": "zh-hans"}).status_code == 200
    assert client.get(address + "&cached_tokens=9999").status_code == 422
    assert client.get(f"/quote?grade={market.grade.slug}&requests=0").status_code == 422


def test_an_order_far_above_the_reference_is_refused_until_it_is_confirmed(visitor):
    market = given_market()
    market.reference_price_nano = market.tick_nano
    market.cap_price_nano = market.tick_nano * 1_000
    market.save(update_fields=["reference_price_nano", "cap_price_nano"])
    buyer = given_api(given_money(given_organization("buyer")))
    price = f"{market.tick_nano * 101 / 10**9:.9f}"
    order = {"market": market.pk, "side": "buy", "quantity": market.min_order_tokens, "price": price}
    refused = buyer.post("/v1/orders", order)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
        422, "price-needs-confirmation", "price")  # fmt: skip
    assert buyer.post("/v1/orders", order | {"confirm": True}).status_code == 202
    usual = order | {"price": f"{market.tick_nano * 100 / 10**9:.9f}"}
    assert buyer.post("/v1/orders", usual).status_code == 202


