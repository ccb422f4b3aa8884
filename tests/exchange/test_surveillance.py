"""What the operator is shown of markets that are over: each rule finds what it is for, and not what lies beside it."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from core.periods import Period
from exchange import tasks
from exchange.actions.accept import accept
from exchange.domain.requests import CancelRequest
from exchange.models import SurveillanceFinding, SurveillanceScan
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
    given_user,
)

pytestmark = pytest.mark.django_db


def found(rule):
    tasks.look_through_markets()
    return list(SurveillanceFinding.objects.filter(rule=rule))


def trade(market, buyer, seller, lots=10, price=30, now=NOW):
    given_orders(seller, {"market": market, "side": "sell", "lots": lots, "price": price}, now=now)
    given_orders(buyer, {"market": market, "side": "buy", "lots": lots, "price": price}, now=now)


def test_late_withdrawals():
    from django.db import transaction

    market = given_market()  # its call runs ten minutes: the last minute is late
    trade(market, given_money(given_organization("buyer")), given_seller(market), lots=20)
    early, late, small = (given_money(given_organization("buyer")) for _ in range(3))
    for member, lots, seconds in ((early, 10, 500), (late, 10, 570), (small, 1, 0)):
        [order] = given_orders(member, {"market": market, "side": "buy", "lots": lots, "price": 20})
        at = NOW + timedelta(seconds=seconds)
        if member is small:
            continue
        with transaction.atomic():
            accept(organization=member, requests=[CancelRequest(order_id=order)], now=at)
        advanced(market, at)
    market = advanced(market, market.call_closes_at)
    assert found("late_withdrawal") == []  # the gate is open still
    advanced(market)
    [one] = found("late_withdrawal")
    assert one.organization == late
    assert (one.figures["withdrawn_tokens"], one.figures["auction_tokens"]) == (10_000, 20_000)
    tasks.look_through_markets()
    assert SurveillanceFinding.objects.count() == SurveillanceScan.objects.count() == 1


def test_matched_counterparties():
    grade = given_grade()
    buyer, other = given_money(given_organization("buyer")), given_money(given_organization("buyer"))
    seller = given_money(given_organization("provider"))
    from exchange.actions.positions import add_capacity

    for day in range(3):
        now = NOW + timedelta(days=day)
        market = given_market(
            grade, now=now, window=Period(now + timedelta(hours=1), now + timedelta(hours=2))
        )
        add_capacity(market_id=market.pk, organization_id=seller.pk, tokens=100_000)
        trade(market, buyer, seller, lots=10, now=now)
        trade(market, other, given_seller(market), lots=10, now=now)
        advanced(market)
        assert len(found("matched_counterparties")) == (1 if day == 2 else 0)
    [pair] = SurveillanceFinding.objects.filter(rule="matched_counterparties")
    assert (pair.organization, pair.counterparty, pair.figures["markets"]) == (buyer, seller, 3)


def test_trading_around_the_index_window():
    midnight = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)  # in Shanghai
    grade = given_grade()
    before = given_market(grade, now=midnight - timedelta(hours=6))
    trade(before, given_money(given_organization("buyer")), given_seller(before), now=midnight - timedelta(hours=6))
    advanced(before)
    usual = given_market(grade, now=midnight - timedelta(hours=3))
    trade(usual, given_money(given_organization("buyer")), given_seller(usual), now=midnight - timedelta(hours=3))
    advanced(usual)
    assert found("index_window") == []
    late = given_market(grade, now=midnight - timedelta(minutes=15))
    buyer, seller = given_money(given_organization("buyer")), given_seller(late)
    trade(late, buyer, seller, price=40, now=midnight - timedelta(minutes=15))
    late = advanced(late, late.call_closes_at)
    advanced(late)
    rows = found("index_window")
    assert {row.organization for row in rows} == {buyer, seller}
    assert rows[0].figures["price_nano"] == 4_000_000 and rows[0].figures["before_nano"] == 3_000_000


def test_the_operator_reads_the_list(client):
    market = given_market()
    SurveillanceFinding.objects.create(
        rule="index_window", market=market, organization=given_organization("buyer"), figures={"tokens": 1},
        found_at=NOW,
    )
    operator = given_api(given_organization("operator"))
    [row] = operator.get("/v1/surveillance", {"rule": "index_window", "market": market.pk}).json()["items"]
    assert (row["rule"], row["figures"]) == ("index_window", {"tokens": 1})
    assert operator.get("/v1/surveillance", {"rule": "late_withdrawal"}).json()["items"] == []
    assert operator.get("/v1/surveillance", {"rule": "gossip"}).status_code == 400
    assert given_api(given_organization("buyer")).get("/v1/surveillance").status_code == 404
    client.force_login(given_user(given_organization("operator"), is_staff=True, is_superuser=True))
    for name in ("surveillancefinding", "block"):
        assert client.get(reverse(f"admin:exchange_{name}_changelist")).status_code == 200
