"""The exchange's pages: everybody sees markets and auctions, members their own orders and contracts."""

import pytest

from core import clock
from exchange.models import AuctionResult, DeliveryContract
from tests.given import (
    NOW,
    advanced,
    given_grade,
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
def cleared():
    market = given_market()
    sellers = [given_seller(market), given_seller(market)]
    buyer = given_money(given_organization("buyer", name="Lantern"))
    given_orders(sellers[0], {"market": market, "side": "sell", "lots": 300, "price": 20})
    given_orders(sellers[1], {"market": market, "side": "sell", "lots": 100, "price": 40})
    given_orders(buyer, {"market": market, "side": "buy", "lots": 200, "price": 30})
    return advanced(market), buyer, sellers[0]


def test_a_visitor_reads_at_what_price_it_cleared_and_why(client, cleared):
    market, _, _ = cleared
    page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert "¥2,000.00" in page and "Why this price." in page
    assert "so the lowest decides" in page
    assert f"ciyuan verify auction {AuctionResult.objects.get().pk}" in page
    assert 'class="demand"' in page and "Lantern" not in page
    for path in ("/", "/markets", "/auctions", "/markets?phase=closed", f"/markets?grade={market.grade.slug}"):
        assert client.get(path, headers=EN).status_code == 200
    assert client.get("/markets?phase=nonsense").status_code == 404
    assert client.get("/markets/999999").status_code == 404


def test_an_open_call_shows_no_book(client, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    market = given_market()
    buyer = given_money(given_organization("buyer"))
    given_orders(buyer, {"market": market, "side": "buy", "lots": 7, "price": 30})
    page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert "Sealed until the call closes" in page and "7,000" not in page


def test_members_see_their_own_orders_and_contracts_and_strangers_none(client, cleared):
    market, buyer, _ = cleared
    contract = DeliveryContract.objects.get()
    client.force_login(given_user(buyer))
    assert "filled" in client.get("/orders", headers=EN).content.decode()
    assert "200,000" in client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert f'/contracts/{contract.pk}"' in client.get("/contracts", headers=EN).content.decode()
    page = client.get(f"/contracts/{contract.pk}", headers=EN).content.decode()
    assert "Buyer's price" in page and "Seller's price" not in page
    client.force_login(given_user(given_organization("both")))
    assert client.get(f"/contracts/{contract.pk}").status_code == 404
    assert "No contract yet" in client.get("/contracts", headers=EN).content.decode()
    assert "No order yet" in client.get("/orders", headers=EN).content.decode()


def test_pages_take_few_queries(client, cleared, django_assert_max_num_queries):
    market, buyer, _ = cleared
    client.force_login(given_user(buyer))
    for path in ("/", "/markets", f"/markets/{market.pk}", "/auctions", "/orders", "/contracts"):
        with django_assert_max_num_queries(12):
            client.get(path)


def test_an_open_book_shows_its_ladder_its_trades_and_candles(client, django_assert_max_num_queries):
    market = given_market(given_grade(mode="exchange"))
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 20, "price": 31})
    given_orders(buyer, {"market": market, "side": "buy", "lots": 30, "price": 29})
    market = advanced(market, NOW)
    assert "The call has not cleared yet" in client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    market = advanced(market, market.call_closes_at)
    given_orders(buyer, {"market": market, "side": "buy", "lots": 5, "price": 31}, now=market.call_closes_at)
    market = advanced(market, market.call_closes_at)
    with django_assert_max_num_queries(12):
        page = client.get(f"/markets/{market.pk}", headers=EN).content.decode()
    assert 'class="ladder"' in page and "15,000" in page and "30,000" in page
    assert "¥3,100.00" in page and "¥2,900.00" in page and "spread ¥200.00" in page
    assert 'class="chart candles"' in page and "a candle each" in page
    live = client.get(f"/markets/{market.pk}/live?phase=continuous", headers=EN).content.decode()
    assert 'id="market-data" class="stack" hx-swap-oob="true"' in live and "Last price" in live
