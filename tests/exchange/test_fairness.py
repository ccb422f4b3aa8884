"""The fairness report: one price in an auction; in continuous trading what differs by time, and what by buyer."""

from datetime import timedelta

import pytest
from django.db import connection, transaction

from exchange.actions.advance import advance
from exchange.fairness_queries import auctions_paid, distribution, hours_paid
from tests.given import (
    NOW,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


def at(market, moment):
    with transaction.atomic():
        advance(market_id=market.pk, now=moment)
    market.refresh_from_db()


def test_an_auction_has_one_price_and_hours_differ_by_time(client, monkeypatch):
    market = given_market(given_grade(mode="exchange"))
    seller, buyers = given_seller(market), [given_money(given_organization()) for _ in range(3)]
    given_orders(seller, {"market": market, "side": "sell", "lots": 90, "price": 20})
    for number, buyer in enumerate(buyers):
        given_orders(buyer, {"market": market, "side": "buy", "lots": 30, "price": 30 + number})
    at(market, market.call_closes_at + timedelta(seconds=1))
    later = market.call_closes_at + timedelta(seconds=5)
    given_orders(seller, {"market": market, "side": "sell", "lots": 30, "price": 40}, now=later)
    for buyer in buyers:
        given_orders(buyer, {"market": market, "side": "buy", "lots": 10, "price": 50}, now=later)
    at(market, later)
    since, until = NOW - timedelta(days=1), NOW + timedelta(days=1)
    (auction,) = auctions_paid(market.grade_id, since=since, until=until)
    assert (auction.buyers, auction.tokens, auction.is_one_price) == (3, 90_000, True)
    (hour,) = hours_paid(market.grade_id, since=since, until=until)
    assert (hour.buyers, hour.lowest_nano, hour.highest_nano) == (3, 40 * market.tick_nano, 40 * market.tick_nano)
    assert hour.buyers_thousandths == (1_000, 1_000, 1_000)
    monkeypatch.setattr("core.clock.now", lambda: later + timedelta(hours=1))
    page = client.get(f"/fairness/{market.grade.slug}", headers={"accept-language": "en"})
    assert page.status_code == 200 and "by buyer" in page.content.decode().lower()
    text = client.get(f"/fairness/{market.grade.slug}.csv").content.decode("utf-8-sig")
    assert text.splitlines()[1].startswith(f"auction,{market.pk},") and len(text.splitlines()) == 3
    assert client.get("/fairness/nowhere").status_code == 404
    # The report tells what was paid, not what should have been: a price that differs is seen.
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("UPDATE exchange_trade SET price_nano = price_nano * 2 WHERE aggressor = 0 AND buyer_id = %s",
                       [buyers[0].pk])  # fmt: skip
    assert not auctions_paid(market.grade_id, since=since, until=until)[0].is_one_price


def test_a_distribution_names_values_that_occur():
    assert distribution([]) == []
    assert distribution([7]) == [7] * 5
    assert distribution(range(1, 101)) == [1, 11, 51, 91, 100]
