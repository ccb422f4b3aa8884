"""Capacity over HTTP: published, offered, withdrawn, and never sold twice."""

from datetime import timedelta

import pytest

from core import clock
from exchange.models import Market, MarketPosition, Offer
from exchange.tasks import work_on_offers
from providers.models import Capacity
from tests.given import (
    advanced,
    given_api,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def grade():
    return given_grade()


@pytest.fixture
def provider():
    return given_money(given_organization("provider"))


@pytest.fixture
def deployment(grade, provider):
    return given_deployment(provider, grade)


def body(deployment, **fields):
    return {
        "deployment": deployment.pk,
        "quantity": 60_000,
        "tokens_per_minute": 2_000,
        "reserve_price": "0.002",
        "list_price": "0.005",
        **fields,
    }


def test_offers_at_once_in_an_open_call(grade, provider, deployment):
    market = given_market(grade, now=clock.now())
    api = given_api(provider)
    answer = api.post("/v1/capacity", body(deployment, market=market.pk), key="c")
    assert answer.status_code == 201, answer.json()
    made = answer.json()
    assert (made["state"], made["order"]["side"], made["order"]["price"]) == ("offered", "sell", "0.002")
    assert made["order"]["quantity"] == 60_000
    assert api.post("/v1/capacity", body(deployment, market=market.pk), key="c").json()["id"] == made["id"]
    again = api.post("/v1/capacity", body(deployment, market=market.pk))
    assert (again.status_code, again.json()["code"]) == (409, "capacity-overlaps")
    position = MarketPosition.objects.get(organization=provider)
    assert (position.capacity_tokens, position.open_sell_tokens) == (60_000, 60_000)
    [listed] = api.get("/v1/capacity").json()["items"]
    assert listed["id"] == made["id"]


def test_waits_for_the_call_and_is_then_offered(grade, provider, deployment):
    market = given_market(grade, now=clock.now(), phase="scheduled", cap_price_nano=None)
    made = given_api(provider).post("/v1/capacity", body(deployment, market=market.pk)).json()
    assert (made["state"], made["order"]) == ("waiting", None)
    work_on_offers()
    assert Offer.objects.get().state == "waiting"
    advanced(market, clock.now())
    work_on_offers()
    work_on_offers()
    offer = Offer.objects.get()
    assert offer.state == "offered"
    assert MarketPosition.objects.get(organization=provider).open_sell_tokens == 60_000


def test_a_window_published_before_its_market_is_found_by_it(grade, provider, deployment):
    now = clock.now()
    window = {"start": (now + timedelta(hours=1)).isoformat(), "end": (now + timedelta(hours=2)).isoformat()}
    made = given_api(provider).post("/v1/capacity", body(deployment, window=window)).json()
    assert made["market"] is None
    market = given_market(grade, now=now)
    assert Offer.objects.get().market_id == market.pk
    work_on_offers()
    assert Offer.objects.get().state == "offered"


def test_held_back_until_the_provider_offers(grade, provider, deployment):
    market = given_market(grade, now=clock.now())
    api = given_api(provider)
    made = api.post("/v1/capacity", body(deployment, market=market.pk, wait=True)).json()
    assert made["state"] == "held_back"
    work_on_offers()
    assert Offer.objects.get().state == "held_back"
    answer = api.post(f"/v1/capacity/{made['id']}/offer")
    assert (answer.status_code, answer.json()["state"]) == (202, "offered")
    assert api.post(f"/v1/capacity/{made['id']}/offer").json()["code"] == "offer-not-waiting"


def test_without_bond_nothing_is_published(grade, deployment):
    poor = given_organization("provider")
    market = given_market(grade, now=clock.now())
    theirs = given_deployment(poor, grade)
    answer = given_api(poor).post("/v1/capacity", body(theirs, market=market.pk))
    assert (answer.status_code, answer.json()["code"]) == (409, "offer-refused")
    assert not Capacity.objects.exists() and not MarketPosition.objects.exists()


def test_withdraws_what_is_not_sold(grade, provider, deployment):
    market = given_market(grade, now=clock.now())
    api = given_api(provider)
    made = api.post("/v1/capacity", body(deployment, market=market.pk)).json()
    answer = api.delete(f"/v1/capacity/{made['id']}")
    assert (answer.status_code, answer.json()["state"]) == (202, "withdrawing")
    work_on_offers()
    assert Offer.objects.get().state == "withdrawing"
    advanced(market, clock.now())
    work_on_offers()
    shown = api.get(f"/v1/capacity/{made['id']}").json()
    assert (shown["state"], shown["withdrawn"]) == ("withdrawn", 60_000)
    position = MarketPosition.objects.get(organization=provider)
    assert (position.capacity_tokens, position.open_sell_tokens) == (0, 0)
    assert api.post("/v1/capacity", body(deployment, market=market.pk)).status_code == 201


def test_what_is_sold_cannot_be_withdrawn(grade, provider, deployment):
    market = given_market(grade, now=clock.now())
    api = given_api(provider)
    made = api.post("/v1/capacity", body(deployment, market=market.pk)).json()
    buyer = given_money(given_organization("buyer"))
    given_orders(buyer, {"market": market, "side": "buy", "lots": 60, "price": 30}, now=clock.now())
    advanced(market, market.call_closes_at)
    answer = api.delete(f"/v1/capacity/{made['id']}")
    assert (answer.status_code, answer.json()["code"]) == (409, "capacity-already-sold")


def test_strangers_and_bad_input(grade, provider, deployment):
    market = given_market(grade, now=clock.now())
    mine = given_api(provider).post("/v1/capacity", body(deployment, market=market.pk)).json()["id"]
    stranger = given_api(given_organization("provider"))
    assert stranger.get(f"/v1/capacity/{mine}").status_code == 404
    assert stranger.delete(f"/v1/capacity/{mine}").status_code == 404
    assert stranger.post(f"/v1/capacity/{mine}/offer").status_code == 404
    assert stranger.get("/v1/capacity").json()["items"] == []
    assert stranger.post("/v1/capacity", body(deployment, market=market.pk)).status_code == 404
    buyer = given_api(given_organization("buyer"))
    assert buyer.post("/v1/capacity", body(deployment, market=market.pk)).json()["code"] == "not-a-provider"
    api = given_api(provider)
    assert api.post("/v1/capacity", body(deployment)).json()["field"] == "market"
    assert api.post("/v1/capacity", body(deployment, market=99_999)).status_code == 404
    assert api.post("/v1/capacity", body(deployment, market=market.pk, hurry=True)).json()["code"] == "invalid"
    later = market.window_start + timedelta(minutes=30)
    window = {"start": later.isoformat(), "end": (later + timedelta(hours=1)).isoformat()}
    other = given_deployment(provider, grade)
    assert api.post("/v1/capacity", body(other, window=window)).json()["code"] == "window-not-a-market"
    Market.objects.filter(pk=market.pk).update(phase="closed")
    assert api.post("/v1/capacity", body(other, market=market.pk)).json()["code"] == "market-closed"
