"""Blocks, leases, limits, halts, annulment and surveillance by the SDK and the command line."""

import json
from decimal import Decimal

import pytest
from ciyuan.errors import CiyuanError
from ciyuan.resources import block_body

from core import clock
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
from tests.sdk.in_process import client_of, commands

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _now(monkeypatch, one_transaction):
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def ciyuan(monkeypatch, capsys):
    return commands(monkeypatch, capsys)


@pytest.fixture
def buyer():
    return client_of(given_api(given_money(given_organization())))


@pytest.fixture
def operator():
    return client_of(given_api(given_organization("operator"), scopes=["operate", "read", "trade"]))


def test_a_block_is_placed_shown_and_withdrawn(buyer, ciyuan):
    market = given_market()
    body = block_body(side="buy", limit="0.0012", legs=[(market.pk, 10_000)], min_ratio="0.5")
    [placed] = buyer.blocks.place([body])
    assert (placed.status, placed.quantity, placed.min_quantity, placed.limit) == (
        "open", 10_000, 5_000, Decimal("0.0012"),
    )  # fmt: skip
    assert buyer.blocks.get(placed.id) == next(buyer.blocks.list())
    assert ciyuan(buyer, "block", "withdraw", placed.id)[0] == 0
    code, out, _ = ciyuan(buyer, "block", "place", "buy", "--limit", "0.0011", "--leg", f"{market.pk}:2000", "--json")
    assert code == 0
    assert json.loads(out)[0]["legs"][0]["quantity"] == 2_000
    code, _, err = ciyuan(buyer, "block", "place", "buy", "--limit", "0.0011", "--leg", "seven")
    assert (code, err) == (1, "ciyuan: --leg 'seven' is not MARKET:TOKENS, such as 7:1000000\n")


def test_a_rate_is_reserved(buyer, ciyuan):
    market = given_market()
    times = ["--from", market.window_start.isoformat(), "--to", market.window_end.isoformat()]
    given = ["--grade", market.grade.slug, "--per-minute", "1000", "--limit", "0.0012"]
    code, out, _ = ciyuan(buyer, "reserve", *times, *given, "--json")
    assert code == 0
    [placed] = json.loads(out)
    assert (placed["tokens_per_minute"], placed["min_quantity"]) == (1_000, placed["quantity"])


def test_a_lease_is_begun_renewed_and_ended(buyer, ciyuan):
    with pytest.raises(CiyuanError, match="There is no lease"):
        buyer.leases.get()
    assert buyer.leases.renew(seconds=60).ended_at is None
    assert ciyuan(buyer, "lease", "renew", "--seconds", "30")[0] == 0
    assert buyer.leases.end().ended_at == NOW
    assert ciyuan(buyer, "lease", "renew", "--seconds", "0")[0] == 1


def test_the_operator_sets_limits_that_hold(operator, buyer, ciyuan):
    assert ciyuan(operator, "limits", "set", "--order-quantity", "5000")[0] == 0
    assert buyer.limits.get().order_quantity == 5_000
    market = given_market()
    with pytest.raises(CiyuanError) as refused:
        buyer.orders.buy(market.pk, quantity=6_000, price="0.0012")
    assert refused.value.code.startswith("limit-")
    with pytest.raises(CiyuanError):
        buyer.limits.set(order_quantity=None)


def test_the_operator_halts_resumes_and_kills(operator, buyer, ciyuan):
    market = given_market()
    assert ciyuan(operator, "control", "halt", str(market.pk), "--reason", "a feed is late")[0] == 0
    advanced(market, NOW)
    with pytest.raises(CiyuanError, match="halted"):
        buyer.orders.buy(market.pk, quantity=1_000, price="0.0012")
    operator.controls.resume(market.pk, reason="it is back")
    advanced(market, NOW)
    order = buyer.orders.buy(market.pk, quantity=1_000, price="0.0012")
    advanced(market, NOW)
    assert operator.controls.kill(market.pk, reason="an error").interventions[0].sequence is None
    advanced(market, NOW)
    assert operator.controls.market(market.pk).market.raw["halted"]
    assert buyer.orders.get(order.id).status == "cancelled"
    with pytest.raises(CiyuanError) as refused:
        buyer.controls.halt(market.pk, reason="I would like to")
    assert refused.value.status == 404


def test_the_operator_stops_a_member(operator, buyer, ciyuan):
    market, member = given_market(), buyer.whoami().organization.id
    assert ciyuan(operator, "control", "stop", str(member), "--reason", "unpaid")[0] == 0
    [stop] = operator.controls.organization(member).stops
    assert (stop.market, stop.reason) == (None, "unpaid")
    with pytest.raises(CiyuanError, match="stopped this organization"):
        buyer.orders.buy(market.pk, quantity=1_000, price="0.0012")
    assert operator.controls.allow(member, reason="paid").stops == []
    assert buyer.orders.buy(market.pk, quantity=1_000, price="0.0012").status


def test_two_operators_annul_an_auction(operator, ciyuan):
    market = given_market(grade=given_grade())
    seller = given_seller(market)
    given_orders(seller, {"market": market, "side": "sell", "lots": 5, "price": 12})
    given_orders(given_money(given_organization()), {"market": market, "side": "buy", "lots": 5, "price": 12})
    auction = advanced(market, market.call_closes_at).auctions.get()
    assert ciyuan(operator, "control", "annul", str(auction.pk), "--reason", "a wrong list price")[0] == 0
    assert operator.controls.annulment(auction.pk).status == "requested"
    code, _, err = ciyuan(operator, "control", "annul", str(auction.pk), "--confirm")
    assert code == 1
    assert "another operator" in err or "other" in err


def test_surveillance_is_the_operators(operator, buyer, ciyuan):
    assert list(operator.controls.findings()) == []
    assert ciyuan(operator, "surveillance")[0] == 0
    with pytest.raises(CiyuanError) as refused:
        list(buyer.controls.findings())
    assert refused.value.status == 404
