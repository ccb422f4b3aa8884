"""Contracts over HTTP: both sides read, the buyer gets the way in, the provider checks it offline."""

from datetime import timedelta

import jwt
import pytest

from core import clock
from exchange.actions.access import rotate_signing_key
from exchange.models import DeliveryContract
from tests.given import (
    Api,
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
def sold():
    """A contract of 60,000 tokens, both sides' clients, and the provider's deployment."""
    grade = given_grade()
    provider, buyer = given_money(given_organization("provider")), given_money(given_organization("buyer"))
    deployment = given_deployment(provider, grade)
    market = given_market(grade, now=clock.now())
    theirs = given_api(provider)
    made = theirs.post(
        "/v1/capacity",
        {
            "deployment": deployment.pk, "market": market.pk, "quantity": 90_000, "tokens_per_minute": 2_000,
            "reserve_price": "0.002", "list_price": "0.005",
        },
    )
    assert made.status_code == 201, made.json()
    given_orders(buyer, {"market": market, "side": "buy", "lots": 60, "price": 30}, now=clock.now())
    advanced(market)
    return DeliveryContract.objects.get(), given_api(buyer), theirs, deployment


def test_both_sides_read_it_and_strangers_do_not(sold):
    contract, buyer, provider, _ = sold
    for api in (buyer, provider):
        shown = api.get(f"/v1/contracts/{contract.pk}").json()
        assert (shown["quantity"], shown["status"], shown["tokens_per_minute"]) == (60_000, "upcoming", 2_000)
        assert [row["id"] for row in api.get("/v1/contracts").json()["items"]] == [contract.pk]
    stranger = given_api(given_organization("buyer"))
    assert stranger.get(f"/v1/contracts/{contract.pk}").status_code == 404
    assert stranger.get(f"/v1/contracts/{contract.pk}/access").status_code == 404
    assert stranger.get("/v1/contracts").json()["items"] == []
    assert Api().get("/v1/contracts").status_code == 401
    assert given_api(given_organization("operator")).get(f"/v1/contracts/{contract.pk}").status_code == 200


def test_the_buyer_gets_a_token_that_the_provider_checks_offline(sold):
    contract, buyer, provider, deployment = sold
    access = buyer.get(f"/v1/contracts/{contract.pk}/access").json()
    assert access["endpoint"] == deployment.endpoint
    assert provider.get(f"/v1/contracts/{contract.pk}/access").status_code == 404
    keys = jwt.PyJWKSet.from_dict(Api().get("/.well-known/ciyuan-keys.json").json())
    header = jwt.get_unverified_header(access["token"])
    claims = jwt.decode(
        access["token"],
        keys[header["kid"]].key,
        algorithms=["EdDSA"],
        audience=f"deployment:{deployment.pk}",
        issuer="ciyuan",
        options={"verify_nbf": False},
    )
    assert (claims["sub"], claims["st_per_minute"], claims["quantity"]) == (str(contract.pk), 2_000, 60_000)
    assert claims["nbf"] == int(contract.window_start.timestamp())
    assert claims["exp"] == int(contract.window_end.timestamp())


def test_after_rotation_old_tokens_still_verify(sold):
    contract, buyer, _, _ = sold
    old = buyer.get(f"/v1/contracts/{contract.pk}/access").json()["token"]
    rotate_signing_key(now=clock.now())
    new = buyer.get(f"/v1/contracts/{contract.pk}/access").json()["token"]
    kids = {key["kid"] for key in Api().get("/.well-known/ciyuan-keys.json").json()["keys"]}
    assert {jwt.get_unverified_header(token)["kid"] for token in (old, new)} == kids
    assert len(kids) == 2


def test_the_provider_sees_whom_to_serve(sold):
    contract, buyer, provider, deployment = sold
    [delivery] = provider.get("/v1/deliveries").json()["items"]
    assert (delivery["contract"], delivery["deployment"], delivery["quantity"]) == (
        contract.pk, deployment.pk, 60_000,
    )
    assert delivery["subject"] == str(contract.pk)
    assert buyer.get("/v1/deliveries").json()["items"] == []


def test_no_token_once_the_window_is_over(sold):
    contract, buyer, _, _ = sold
    start = clock.now() - timedelta(hours=2)
    DeliveryContract.objects.update(window_start=start, window_end=start + timedelta(hours=1))
    answer = buyer.get(f"/v1/contracts/{contract.pk}/access")
    assert (answer.status_code, answer.json()["code"]) == (409, "contract-over")
