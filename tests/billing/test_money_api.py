"""Balance, transfers and deposits through HTTP."""

import pytest

from billing.models import Deposit
from tests.given import given_api, given_organization

pytestmark = pytest.mark.django_db


@pytest.fixture
def buyer():
    return given_organization("buyer")


@pytest.fixture
def operator():
    return given_api(given_organization("operator"))


def deposit(buyer, **fields):
    return {"organization": buyer.pk, "amount": "100.00", "reference": "20261120-1"} | fields


def test_a_deposit_is_free_to_spend_and_shows_in_the_transfers(buyer, operator):
    assert operator.post("/v1/deposits", deposit(buyer)).status_code == 201
    api = given_api(buyer)
    balance = api.get("/v1/balance").json()
    assert (balance["available"], balance["held"], balance["receivable"]) == ("100.00", "0.00", "0.00")
    transfer, = api.get("/v1/transfers").json()["items"]
    assert (transfer["kind"], transfer["amount"], transfer["label"]) == ("deposit", "100.00", "20261120-1")
    assert transfer["credit"] == f"available/{buyer.pk}"
    assert [row["amount"] for row in api.get("/v1/deposits").json()["items"]] == ["100.00"]


def test_the_same_payment_counts_once(buyer, operator):
    first = operator.post("/v1/deposits", deposit(buyer), key="a")
    assert operator.post("/v1/deposits", deposit(buyer), key="a").json() == first.json()
    assert operator.post("/v1/deposits", deposit(buyer), key="b").json()["id"] == first.json()["id"]
    changed = operator.post("/v1/deposits", deposit(buyer, amount="100.01"), key="c")
    assert (changed.status_code, changed.json()["code"]) == (409, "deposit-changed")
    assert operator.post("/v1/deposits", deposit(buyer, amount="1"), key="a").json()["code"] == "idempotency-key-reused"
    assert Deposit.objects.count() == 1


@pytest.mark.parametrize("wrong", [
    {"amount": "0"}, {"amount": "-1"}, {"amount": "1.0000001"}, {"amount": 100}, {"amount": "1e30"},
    {"amount": "9999999999999999"}, {"amount": "1000000000001"}, {"amount": "NaN"}, {"reference": ""},
    {"reference": "x" * 65}, {"organization": 10**15}, {"organization": "me"}, {"colour": "red"},
])
def test_bad_deposits_are_refused_by_field(buyer, operator, wrong):
    answer = operator.post("/v1/deposits", deposit(buyer, **wrong))
    assert answer.status_code in (400, 404)
    assert answer.json()["field"] == next(iter(wrong))
    assert not Deposit.objects.exists()


def test_only_the_operator_enters_deposits_and_strangers_see_nothing(buyer, operator):
    operator.post("/v1/deposits", deposit(buyer))
    assert given_api(buyer).post("/v1/deposits", deposit(buyer)).json()["code"] == "scope-missing"
    stranger = given_api(given_organization())
    for path in ("balance", "transfers", "deposits"):
        assert stranger.get(f"/v1/{path}?organization={buyer.pk}").status_code == 404
        assert operator.get(f"/v1/{path}?organization={buyer.pk}").status_code == 200
    assert stranger.get("/v1/balance").json()["available"] == "0.00"
    assert stranger.get("/v1/transfers").json()["items"] == []
    assert stranger.get("/v1/balance?organization=x").status_code == 400


def test_transfers_come_in_pages(buyer, operator):
    for number in range(5):
        operator.post("/v1/deposits", deposit(buyer, reference=f"r{number}"))
    api = given_api(buyer)
    first = api.get("/v1/transfers?limit=3").json()
    rest = api.get(f"/v1/transfers?limit=3&cursor={first['next_cursor']}").json()
    labels = [row["label"] for row in first["items"] + rest["items"]]
    assert labels == ["r4", "r3", "r2", "r1", "r0"] and rest["next_cursor"] is None
