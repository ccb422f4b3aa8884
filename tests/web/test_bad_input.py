"""What people and their browsers do to pages: nothing is lost, nothing doubled, and a sentence helps."""

from uuid import uuid4

import pytest

from core import clock, typed
from exchange.models import Command
from exchange.order_queries import order_states
from identity.models import ApiKey
from providers.models import Deployment
from tests.given import (
    given_accelerator,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_user,
)

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}
ODD_NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "🙂 家族 👨‍👩‍👧‍👦",
    "שלום עולם",
    "{{ settings.SECRET_KEY }}{% now 'Y' %}",
    "\u202eevil\u202c",
]


def member(client, kind="both", **fields):
    organization = given_money(given_organization(kind, **fields))
    client.force_login(given_user(organization))
    return organization


def post(client, path, **fields):
    return client.post(path, {"key": str(uuid4()), **fields}, headers=EN)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_shown_as_written_and_never_run(client, name):
    organization = member(client, name_zh=name)
    post(client, "/organization/keys", name=name, scopes=["read"])
    described = {
        "name": name, "grade": given_grade().pk, "accelerator": given_accelerator().pk, "accelerator_count": 1,
        "precision": "bf16", "engine": "vLLM 0.11", "region": "cn-north", "endpoint": "https://api.example.com/v1",
        "rated_tokens_per_minute": "60k",
    }  # fmt: skip
    post(client, "/deployments/new", **described)
    assert ApiKey.objects.get(organization=organization).name == name
    assert Deployment.objects.get().name == name
    for path in ("/organization", "/deployments", "/overview", "/account", "/capacity/new"):
        page = client.get(path, headers=EN).content.decode()
        assert "<script>alert" not in page and "<img src=x" not in page, path
        assert "&lt;script&gt;" in page or "<" not in name or name not in page, path
    shown = client.get("/organization", headers=EN).content.decode()
    if "<" not in name and '"' not in name and "'" not in name:
        assert name in shown


@pytest.mark.parametrize("asked", ["0", "-1", "999999999999999999999", "abc", "1e9", "١", "", "2' OR 1=1", "9" * 400])
def test_any_page_number_shows_a_page(client, asked):
    member(client)
    for path in ("/markets", "/auctions", "/orders", "/contracts", "/capacity", "/deliveries", "/invoices", "/account",
                 "/top-up", "/payouts", "/calendar", "/usage/rejected", "/discrepancies"):  # fmt: skip
        assert client.get(path, {"page": asked}, headers=EN).status_code == 200, (path, asked)


def test_huge_lists_come_page_by_page(client, django_assert_max_num_queries):
    market = given_market(now=clock.now())
    buyer = member(client, "buyer")
    given_orders(
        buyer, *({"market": market, "side": "buy", "lots": 1, "price": 20} for _ in range(230)), now=clock.now()
    )
    with django_assert_max_num_queries(12):
        first = client.get("/orders", headers=EN).content.decode()
    last = client.get("/orders", {"page": "99999"}, headers=EN).content.decode()
    assert first.count("/cancel") == 50 and "1 / 5" in first
    assert last.count("/cancel") == 30 and "5 / 5" in last


def test_every_form_sent_twice_does_its_thing_once(client):
    organization = member(client)
    for _ in range(2):
        client.post("/organization/keys", {"key": "same", "name": "bot", "scopes": ["read"]}, headers=EN)
    assert ApiKey.objects.filter(organization=organization).count() == 1
    changed = client.post("/organization/keys", {"key": "same", "name": "other", "scopes": ["read"]}, headers=EN)
    assert changed.status_code == 422 and ApiKey.objects.filter(organization=organization).count() == 1


def test_coming_back_to_a_ticket_and_sending_it_again_places_no_second_order(client):
    market = given_market(now=clock.now())
    member(client, "buyer")
    ticket = {"side": "buy", "type": "limit", "price": "3000", "quantity": "10000", "key": str(uuid4())}
    for _ in range(3):  # the page from the browser's memory has the key that it had
        assert client.post(f"/markets/{market.pk}/orders", ticket, headers=EN).status_code == 302
    assert len(order_states(Command.objects.filter(kind__in=Command.ORDER_KINDS))) == 1


def test_a_session_that_ended_leads_back_to_the_market(client):
    market = given_market(now=clock.now())
    member(client, "buyer")
    client.logout()
    away = client.post(
        f"/markets/{market.pk}/orders",
        {"side": "buy", "type": "limit", "price": "3000", "quantity": "10000", "key": str(uuid4())},
        headers=EN | {"Referer": f"http://testserver/markets/{market.pk}"},
    )
    assert away.status_code == 302 and away["Location"].endswith(f"next=/markets/{market.pk}")
    assert not Command.objects.exists()


@pytest.mark.parametrize(
    ("text", "micro"),
    [("1,234.56", 1_234_560_000), ("￥１，２３４．５６", 1_234_560_000), ("¥ 12 345", 12_345_000_000), ("0", 0)],
)
def test_amounts_are_read_as_people_write_them(text, micro):
    assert typed.yuan_micro(text) == micro


@pytest.mark.parametrize("text", ["", "1,5", "12,34,567", "abc", "1.2.3", "∞", "NaN", "--3", "0.0000001", "9" * 61])
def test_amounts_that_may_mean_two_things_are_refused(text):
    with pytest.raises(typed.Unreadable):
        typed.yuan_micro(text)
