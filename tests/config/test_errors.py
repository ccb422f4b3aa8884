import pytest
from django.db import OperationalError

from tests.given import Api

pytestmark = pytest.mark.django_db


def test_an_unknown_address_answers_programs_in_json_and_people_with_a_page(client):
    answer = Api().get("/v1/nonsense")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert answer.headers["Content-Type"] == "application/problem+json"
    page = client.get("/nonsense", headers={"Accept-Language": "en"})
    assert page.status_code == 404 and b"Not found" in page.content


def test_programs_get_english_unless_they_ask(client):
    assert "field" in Api().get("/v1/grades?limit=0").json()
    answer = Api().get("/v1/markets?limit=x")
    assert answer.json()["detail"].startswith("limit is")


def test_a_database_that_is_away_or_too_busy_says_when_to_come_again(monkeypatch):
    def away(**_):
        raise OperationalError("couldn't get a connection after 10.00 sec")

    monkeypatch.setattr("identity.api.base.authenticate_key", lambda *_, **__: away())
    answer = Api("ck_x").get("/v1/orders")
    assert (answer.status_code, answer.json()["code"]) == (503, "temporarily-unavailable")
    assert answer.headers["Retry-After"] == "1" and "Idempotency-Key" in answer.json()["detail"]
