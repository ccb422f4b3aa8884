"""What members do on pages: providers publish and open meters, owners make keys, buyers find the way in."""

from uuid import uuid4

import pytest

from core import clock
from exchange.models import DeliveryContract, Offer
from identity.models import ApiKey, Membership
from metering_ingest.models import Meter
from providers.models import Capacity, Deployment
from tests.given import (
    Api,
    advanced,
    given_accelerator,
    given_capacity,
    given_deployment,
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
def provider(client):
    provider = given_money(given_organization("provider", name="Yanshan"))
    client.force_login(given_user(provider))
    return provider


def post(client, path, **fields):
    return client.post(path, {"key": str(uuid4()), **fields}, headers=EN)


def test_a_provider_registers_publishes_and_opens_a_meter(client, provider):
    grade, accelerator = given_grade(), given_accelerator()
    market = given_market(grade, now=clock.now())
    described = {
        "name": "bj-1", "grade": grade.pk, "accelerator": accelerator.pk, "accelerator_count": 1, "precision": "bf16",
        "engine": "vLLM 0.11", "region": "cn-north", "endpoint": "https://api.yanshan.example/v1",
        "rated_tokens_per_minute": "６０k",
    }  # fmt: skip
    assert post(client, "/deployments/new", **described)["Location"] == "/deployments"
    deployment = Deployment.objects.get()
    assert deployment.rated_tokens_per_minute == 60_000
    assert b"bj-1" in client.get("/deployments", headers=EN).content

    assert f'value="{market.pk}"' in client.get("/capacity/new", headers=EN).content.decode()
    published = {
        "deployment": deployment.pk, "market": market.pk, "quantity": "600,000", "tokens_per_minute": "10000",
        "reserve_price": "2000", "list_price": "5,000", "key": str(uuid4()),
    }  # fmt: skip
    for _ in range(2):
        assert client.post("/capacity/new", published, headers=EN)["Location"] == "/capacity"
    capacity = Capacity.objects.get()
    assert (capacity.quantity_tokens, capacity.reserve_price_nano) == (600_000, 2_000_000)
    assert client.post(f"/capacity/{capacity.pk}/withdraw")["Location"] == "/capacity"
    assert Offer.objects.get().state in ("withdrawing", "withdrawn")

    opened = post(client, "/meters", name="gw-1", role="provider", deployment=deployment.pk)
    secret = ApiKey.objects.get(meter_id=Meter.objects.get().pk)
    page = opened.content.decode()
    assert opened.status_code == 200 and secret.prefix in page and "/v1/events" in page
    assert opened["Cache-Control"] == "no-store"
    assert secret.prefix not in client.get("/meters", headers=EN).content.decode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "This field is required."),
        ({"endpoint": "ftp://x"}, "http"),
        ({"rated_tokens_per_minute": "9T"}, "can do"),
        ({"accelerator_count": "-1"}, "greater than or equal to 1"),
        ({"grade": "999999"}, "not one of the available choices"),
    ],
)
def test_a_wrong_deployment_is_told_at_its_field(client, provider, changes, sentence):
    described = {
        "name": "bj-1", "grade": given_grade().pk, "accelerator": given_accelerator().pk, "accelerator_count": 1,
        "precision": "bf16", "engine": "vLLM", "region": "cn", "endpoint": "https://api.yanshan.example/v1",
        "rated_tokens_per_minute": "60000",
    }  # fmt: skip
    answer = post(client, "/deployments/new", **{**described, **changes})
    assert answer.status_code == 422 and sentence in answer.content.decode()
    assert not Deployment.objects.exists()


def test_a_stranger_publishes_and_withdraws_nothing_of_anothers(client, provider):
    capacity = given_capacity(given_deployment(given_organization("provider")))
    market = given_market(capacity.grade, now=clock.now())
    answer = post(
        client, "/capacity/new", deployment=capacity.deployment_id, market=market.pk, quantity="1000",
        tokens_per_minute="1000", reserve_price="2000", list_price="5000",
    )  # fmt: skip
    assert answer.status_code == 422
    client.post(f"/capacity/{capacity.pk}/withdraw")
    capacity.refresh_from_db()
    assert capacity.withdrawn_tokens == 0 and Capacity.objects.count() == 1


def test_an_owner_makes_and_revokes_a_key_and_adds_a_member(client, provider):
    key = str(uuid4())
    made = client.post("/organization/keys", {"key": key, "name": "bot", "scopes": ["read"]}, headers=EN)
    secret = made.content.decode().split('<pre id="secret" tabindex="0">')[1].split("<")[0]
    assert Api(secret).get("/v1/whoami").status_code == 200
    again = client.post("/organization/keys", {"key": key, "name": "bot", "scopes": ["read"]}, headers=EN)
    assert again.status_code == 302 and ApiKey.objects.count() == 1
    client.post(f"/organization/keys/{ApiKey.objects.get().pk}/revoke")
    assert ApiKey.objects.get().revoked_at is not None
    assert post(client, "/organization/keys", name="bot").status_code == 422
    assert post(client, "/organization/members", email="li@example.com", role="viewer").status_code == 302
    assert post(client, "/organization/members", email="no address", role="viewer").status_code == 422
    client.force_login(given_user(provider, role="trader"))
    assert post(client, "/organization/keys", name="bot", scopes="read").status_code == 403
    client.force_login(Membership.objects.get(role="viewer").user)
    assert post(client, "/meters", name="gw", role="provider").status_code == 403
    assert post(client, "/organization/keys", name="bot", scopes="read").status_code == 403
    assert b"New key" not in client.get("/organization", headers=EN).content


def test_a_buyer_finds_endpoint_token_and_progress(client, provider):
    market = given_market(now=clock.now())
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 100, "price": 20}, now=clock.now())
    given_orders(buyer, {"market": market, "side": "buy", "lots": 100, "price": 30}, now=clock.now())
    advanced(market)
    contract = DeliveryContract.objects.get()
    path = f"/contracts/{contract.pk}/access"
    assert client.get(path).status_code == 404
    client.force_login(given_user(buyer))
    assert "Show endpoint and token" in client.get(f"/contracts/{contract.pk}", headers=EN).content.decode()
    shown = client.get(path, headers=EN)
    assert shown["Cache-Control"] == "no-store"
    assert f"/contracts/{contract.pk}" in client.get("/overview", headers=EN).content.decode()
    client.force_login(given_user(seller))
    assert client.get(path).status_code == 404


def test_pages_take_few_queries(client, provider, django_assert_max_num_queries):
    for path in ("/overview", "/deployments", "/capacity", "/capacity/new", "/deliveries", "/meters", "/organization"):
        with django_assert_max_num_queries(12):
            assert client.get(path, headers=EN).status_code == 200, path
