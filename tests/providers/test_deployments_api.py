"""Deployments and list prices over HTTP."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from core import clock
from providers.actions.deployments import certify_deployment
from providers.models import Deployment, ListPrice
from tests.given import (
    given_accelerator,
    given_api,
    given_capacity,
    given_deployment,
    given_grade,
    given_organization,
    given_window,
)

pytestmark = pytest.mark.django_db

BODY = {
    "name": "shanghai-1",
    "grade": "a-grade",
    "accelerator": "h100",
    "accelerator_count": 8,
    "engine": "vLLM 0.11",
    "precision": "bf16",
    "region": "cn-east",
    "endpoint": "https://api.provider.example/v1/",
    "rated_tokens_per_minute": 400_000,
}


@pytest.fixture
def provider():
    given_grade("a-grade")
    given_accelerator()
    return given_organization("provider")


@pytest.fixture
def api(provider):
    return given_api(provider)


def test_a_provider_registers_a_deployment(api, provider):
    answer = api.post("/v1/deployments", BODY)
    assert answer.status_code == 201, answer.content
    shown = answer.json()
    assert (shown["provider"], shown["grade_slug"], shown["endpoint"]) == (
        provider.pk,
        "a-grade",
        "https://api.provider.example/v1",
    )
    assert shown["limit_tokens_per_minute"] == 400_000 < shown["roofline_tokens_per_minute"]
    assert api.get("/v1/deployments").json()["items"] == [shown]
    assert api.get(f"/v1/deployments/{shown['id']}").json() == shown


def test_a_repeated_key_registers_once(api):
    assert api.post("/v1/deployments", BODY, key="k").json() == api.post("/v1/deployments", BODY, key="k").json()
    assert Deployment.objects.count() == 1
    again = api.post("/v1/deployments", BODY)
    assert (again.status_code, again.json()["code"]) == (409, "deployment-exists")


def test_strangers_see_and_change_nothing(api, client):
    made = api.post("/v1/deployments", BODY).json()
    other = given_api(given_organization("provider"))
    assert other.get("/v1/deployments").json()["items"] == []
    for path in (f"/v1/deployments/{made['id']}", f"/v1/deployments/{made['id']}/list-prices"):
        assert other.get(path).status_code == 404
        assert client.get(path).status_code == 401
    assert other.delete(f"/v1/deployments/{made['id']}").status_code == 404
    assert other.post(f"/v1/deployments/{made['id']}/list-prices", {"price": "0.004"}).status_code == 404
    buyer = given_api(given_organization("buyer"))
    assert buyer.post("/v1/deployments", BODY).json()["code"] == "not-a-provider"
    reader = given_api(given_organization("provider"), scopes=["read"])
    assert reader.post("/v1/deployments", BODY).json()["code"] == "scope-missing"
    operator = given_api(given_organization("operator"))
    assert [row["id"] for row in operator.get("/v1/deployments").json()["items"]] == [made["id"]]


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"colour": "red"}, "invalid", "colour"),
        ({"grade": "a-grad"}, "grade-unknown", "grade"),
        ({"grade": -1}, "invalid", "grade"),
        ({"grade": True}, "invalid", "grade"),
        ({"accelerator": "h1000"}, "accelerator-unknown", "accelerator"),
        ({"accelerator_count": 0}, "bad-deployment", "accelerator_count"),
        ({"precision": "fp4"}, "bad-deployment", "precision"),
        ({"region": "us-east"}, "bad-deployment", "region"),
        ({"region": "cn-"}, "bad-deployment", "region"),
        ({"rated_tokens_per_minute": 0}, "invalid", "rated_tokens_per_minute"),
        ({"rated_tokens_per_minute": 10**12}, "deployment-implausible", "rated_tokens_per_minute"),
        ({"endpoint": "ftp://host/"}, "bad-endpoint", "endpoint"),
        ({"endpoint": "http://api.provider.example/v1"}, "bad-endpoint", "endpoint"),
        ({"endpoint": "https://user:secret@host.example/"}, "bad-endpoint", "endpoint"),
        ({"endpoint": "https://host.example/?key=1"}, "bad-endpoint", "endpoint"),
        ({"endpoint": "https://host.example:99999/"}, "bad-endpoint", "endpoint"),
        ({"endpoint": "https://"}, "bad-endpoint", "endpoint"),
    ],
)
def test_wrong_particulars_are_named(api, change, code, field):
    answer = api.post("/v1/deployments", {**BODY, **change})
    assert answer.status_code == 400, answer.content
    assert (answer.json()["code"], answer.json()["field"]) == (code, field)
    assert not Deployment.objects.exists()


def test_similar_names_are_suggested(api):
    assert "did you mean a-grade?" in api.post("/v1/deployments", {**BODY, "grade": "a-grad"}).json()["detail"]


def test_what_the_hardware_cannot_do_is_refused(api):
    given_accelerator("npu", memory_bytes=192 * 2**20, bandwidth_bytes_per_second=None, gflops={"int8": 825_000})
    wide = api.post("/v1/deployments", {**BODY, "accelerator": "npu"}).json()
    assert (wide["code"], wide["field"]) == ("deployment-implausible", "precision")
    few = api.post("/v1/deployments", {**BODY, "accelerator": "npu", "precision": "int8"}).json()
    assert (few["field"], few["accelerators_needed"]) == ("accelerator_count", 35)
    enough = {**BODY, "accelerator": "npu", "precision": "int8", "accelerator_count": 40}
    assert api.post("/v1/deployments", enough).status_code == 201


def test_private_networks_may_speak_plain_http(api):
    for number, endpoint in enumerate(("http://127.0.0.1:9001", "http://engine.internal/v1", "http://10.1.2.3:8000")):
        answer = api.post("/v1/deployments", {**BODY, "name": f"d{number}", "endpoint": endpoint})
        assert answer.status_code == 201, answer.content


def test_a_certificate_replaces_the_rating_until_it_ends(api, provider):
    deployment = given_deployment(provider)
    now = clock.now()
    with transaction.atomic():
        certify_deployment(
            deployment_id=deployment.pk, tokens_per_minute=100_000, until=now + timedelta(days=30), now=now
        )
    assert api.get(f"/v1/deployments/{deployment.pk}").json()["limit_tokens_per_minute"] == 90_000


def test_list_prices_are_kept_and_end(api, provider):
    path = f"/v1/deployments/{given_deployment(provider).pk}/list-prices"
    assert api.post(path, {"price": "0.005"}).json()["price_per_million"] == "5000.00"
    assert api.post(path, {"price": "0.004"}).status_code == 201
    same = api.post(path, {"price": "0.004"}).json()
    assert api.post(path, {"price": None}).json()["price"] is None
    assert [row["price"] for row in api.get(path).json()["items"]] == [None, "0.004", "0.005"]
    assert same["id"] == ListPrice.objects.order_by("id")[1].pk
    for price, code in (("0.00401", None), ("0.00405", "price-off-tick"), ("0", "invalid"), ("-1", "invalid")):
        answer = api.post(path, {"price": price})
        assert answer.status_code == 400 and (code is None or answer.json()["code"] == code)
    with pytest.raises(IntegrityError), transaction.atomic():
        ListPrice.objects.update(price_nano=1)


def test_a_deployment_retires_when_nothing_is_ahead(api, provider):
    deployment = given_deployment(provider)
    now = clock.now()
    given_capacity(deployment, given_window(now + timedelta(hours=1)))
    path = f"/v1/deployments/{deployment.pk}"
    assert api.delete(path).json()["code"] == "deployment-in-use"
    idle = given_deployment(provider)
    retired = api.delete(f"/v1/deployments/{idle.pk}", key="once")
    assert retired.json()["status"] == "retired"
    assert api.delete(f"/v1/deployments/{idle.pk}", key="once").json() == retired.json()
    price = api.post(f"/v1/deployments/{idle.pk}/list-prices", {"price": "0.004"})
    assert (price.status_code, price.json()["code"]) == (409, "deployment-retired")
