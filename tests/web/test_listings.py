"""The main tables sort, narrow and export by their address; what they do not know is not found."""

import csv
import io
from datetime import timedelta

import pytest
from django.db.models import Q
from django.http import Http404
from django.test import RequestFactory

from core import clock
from core.listing import Column, Filter, Listing, Table
from exchange.models import Command, Trade
from identity.models import Organization
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
from tests.metering.given import given_meter

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}
TABLES = (
    "/orders", "/trades", "/contracts", "/invoices", "/statements", "/account", "/deployments", "/meters", "/usage",
)  # fmt: skip


def rows_of(answer):
    assert answer.status_code == 200 and answer["Content-Type"].startswith("text/csv"), answer.content[:200]
    assert answer["Content-Disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


@pytest.fixture
def cast(client):
    """A buyer with five orders at five prices, two of them traded, signed in."""
    now = clock.now()
    market = given_market(now=now)
    seller, buyer = given_seller(market), given_money(given_organization("buyer", name="=Lantern"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 30, "price": 20}, now=now)
    orders = [{"market": market, "side": "buy", "lots": 10 + price, "price": price} for price in (12, 35, 11, 33, 14)]
    given_orders(buyer, *orders, now=now)
    advanced(market)
    client.force_login(given_user(buyer))
    return market, seller, buyer


def test_orders_sort_narrow_and_export_alike(client, cast):
    for sort, quantities in (("-price", [45, 43, 24, 22, 21]), ("quantity", [21, 22, 24, 43, 45])):
        rows = rows_of(client.get("/orders", {"sort": sort, "format": "csv"}))
        assert [int(row["quantity"]) // 1_000 for row in rows] == quantities
        page = client.get("/orders", {"sort": sort}, headers=EN).content.decode()
        places = [page.index(f">{quantity},000<") for quantity in quantities]
        assert places == sorted(places) and 'aria-sort="' in page
    assert rows[0].keys() >= {"order", "market", "grade", "window_start", "side", "filled", "held", "state", "placed"}
    assert rows_of(client.get("/orders", {"side": "1", "format": "csv"})) == []
    narrowed = client.get("/orders", {"side": "1"}, headers=EN).content.decode()
    assert "Nothing matches" in narrowed and "Show everything" in narrowed
    tomorrow = (clock.now() + timedelta(days=2)).date().isoformat()
    assert rows_of(client.get("/orders", {"since": tomorrow, "format": "csv"})) == []
    assert len(rows_of(client.get("/orders", {"until": tomorrow, "format": "csv"}))) == 5


def test_trades_stand_on_a_page_and_in_a_file_each_side_its_own(client, cast):
    _, seller, buyer = cast
    bought = rows_of(client.get("/trades?format=csv"))
    assert {row["side"] for row in bought} == {"buy"} and len(bought) == Trade.objects.count() > 0
    own = Command.objects.filter(organization_id=buyer.pk).values_list("pk", flat=True)
    assert {row["order"] for row in bought} <= {str(pk) for pk in own}
    assert "auction" in client.get("/trades", headers=EN).content.decode()
    client.force_login(given_user(seller))
    assert {row["side"] for row in rows_of(client.get("/trades?format=csv"))} == {"sell"}
    client.force_login(given_user(given_organization()))
    assert rows_of(client.get("/trades?format=csv")) == []


def test_contracts_and_transfers_narrow_by_side_and_account(client, cast):
    for side, count in (("bought", 1), ("sold", 0)):
        assert len(rows_of(client.get("/contracts", {"side": side, "format": "csv"}))) == count
    [contract] = rows_of(client.get("/contracts?format=csv"))
    assert contract["buyer"] == "'=Lantern"  # no formula
    moves = rows_of(client.get("/account?format=csv"))
    assert {row["from"] for row in moves} >= {"available"} and all(row["amount"] for row in moves)
    assert rows_of(client.get("/account?account=payable&format=csv")) == []
    page = client.get("/account", headers=EN).content.decode()
    assert "Hold for an order" in page and "order_hold" not in page
    assert "委托冻结" in client.get("/account", headers={"Accept-Language": "zh-hans"}).content.decode()


def test_a_provider_exports_deployments_and_meters(client):
    deployment = given_deployment()
    meter = given_meter(deployment)
    client.force_login(given_user(deployment.provider))
    assert [row["name"] for row in rows_of(client.get("/deployments?format=csv&sort=-rate"))] == [deployment.name]
    assert [row["name"] for row in rows_of(client.get("/meters?format=csv&open=yes"))] == [meter.name]
    assert rows_of(client.get("/meters?format=csv&open=no")) == []


@pytest.mark.parametrize("path", TABLES)
def test_what_a_table_does_not_know_is_not_found(client, path):
    client.force_login(given_user(given_organization("both")))
    assert client.get(path).status_code == 200
    assert client.get(f"{path}?format=csv").status_code == 200
    assert client.get(f"{path}?sort=password").status_code == 404
    assert client.get(f"{path}?sort=--pk").status_code == 404
    known = ("state", "side", "account", "role", "by")
    assert any(client.get(f"{path}?{name}=%27%3B--").status_code == 404 for name in known)


def test_an_export_that_is_too_long_is_refused_with_a_sentence(client, cast, monkeypatch):
    monkeypatch.setattr("core.listing.MOST_EXPORTED", 4)
    answer = client.get("/orders?format=csv&sort=price", follow=True, headers=EN)
    assert answer.redirect_chain == [("/orders?sort=price", 302)] and b"choose a shorter span" in answer.content


def test_pages_follow_each_other_without_gap(monkeypatch):
    for number in range(7):
        given_organization(name=f"Same {number}", kind="buyer")
    columns = {
        "name": Column("Name", lambda row: row.name, "name"), "kind": Column("Kind", lambda row: row.kind, "kind"),
    }  # fmt: skip
    table = Table(
        "t", columns, {"kind": Filter("Kind", [("buyer", "Buyer")], lambda value: Q(kind=value))}, time="created_at",
    )  # fmt: skip
    monkeypatch.setattr("core.listing.PER_PAGE", 3)
    everybody, seen = Organization.objects.filter(name__startswith="Same"), []
    for number in (1, 2, 3):
        listing = Listing(RequestFactory().get("/", {"sort": "-kind", "kind": "buyer", "page": number}), table)
        seen += [row.pk for row in listing.page(everybody)]
    assert len(seen) == len(set(seen)) == 7
    assert listing.query == "sort=-kind&kind=buyer" and listing.export_href == "?sort=-kind&kind=buyer&format=csv"
    heading = listing.headings[1]
    assert (heading.order, heading.href) == ("descending", "?sort=kind&kind=buyer")
    for wrong in ({"since": "yesterday"}, {"until": "9999-12-31"}, {"kind": "king"}, {"sort": "created_at"}):
        with pytest.raises(Http404):
            Listing(RequestFactory().get("/", wrong), table)
