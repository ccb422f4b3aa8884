from datetime import timedelta

import pytest

from core import clock
from identity.models import ApiKey, AuditEntry
from tests.given import Api, given_api, given_organization

pytestmark = pytest.mark.django_db


def test_a_key_is_shown_once_and_stored_as_its_digest():
    api = given_api(given_organization())
    made = api.post("/v1/keys", {"name": "ci", "scopes": ["read"]}, key="k1")
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert Api(secret).get("/v1/whoami").json()["scopes"] == ["read"]
    assert secret not in str(list(ApiKey.objects.values()))
    again = api.post("/v1/keys", {"name": "ci", "scopes": ["read"]}, key="k1")
    assert again.status_code == 201 and again.json()["id"] == made.json()["id"]
    assert again.json()["secret"] is None and again.headers["Idempotent-Replayed"] == "true"
    assert AuditEntry.objects.filter(subject=f"key:{made.json()['id']}").count() == 1


def test_a_revoked_or_expired_key_is_refused(django_capture_on_commit_callbacks):
    organization = given_organization()
    api = given_api(organization)
    made = api.post("/v1/keys", {"name": "old", "scopes": ["read"]}).json()
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/v1/keys/{made['id']}").status_code == 200
    refused = Api(made["secret"]).get("/v1/whoami")
    assert refused.status_code == 401
    assert refused.json()["code"] == "key-invalid"
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    past = given_api(organization, expires_at=clock.now() - timedelta(seconds=1), now=clock.now() - timedelta(days=1))
    assert past.get("/v1/whoami").status_code == 401


def test_rotation_lets_the_old_key_go_on_for_a_while():
    api = given_api(given_organization())
    made = api.post("/v1/keys", {"name": "app", "scopes": ["read"]}).json()
    new = api.post(f"/v1/keys/{made['id']}/rotate", {"overlap_seconds": 60}).json()
    assert Api(made["secret"]).get("/v1/whoami").status_code == 200
    assert Api(new["secret"]).get("/v1/whoami").status_code == 200
    assert ApiKey.objects.get(pk=made["id"]).expires_at is not None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes"),
        ({"name": "x", "scopes": ["operate"]}, "scopes"),
        ({"name": "x", "scopes": ["meter"]}, "meter"),
        ({"name": "x", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "scopes": ["read"], "colour": "red"}, "colour"),
        ({"scopes": ["read"]}, "name"),
    ],
)
def test_bad_input_names_the_field_and_makes_nothing(body, field):
    api = given_api(given_organization())
    before = ApiKey.objects.count()
    answer = api.post("/v1/keys", body)
    assert answer.status_code == 400
    assert answer.json()["field"] == field
    assert ApiKey.objects.count() == before


def test_a_stranger_neither_sees_nor_ends_a_key():
    mine = given_api(given_organization()).post("/v1/keys", {"name": "a", "scopes": ["read"]}).json()
    stranger = given_api(given_organization())
    assert stranger.delete(f"/v1/keys/{mine['id']}").status_code == 404
    assert mine["id"] not in [item["id"] for item in stranger.get("/v1/keys").json()["items"]]


def test_a_key_that_only_reads_makes_no_keys():
    api = given_api(given_organization(), scopes=["read"])
    assert api.post("/v1/keys", {"name": "x", "scopes": ["read"]}).json()["code"] == "scope-missing"


def test_a_write_needs_its_key_and_the_same_key_the_same_content():
    api = given_api(given_organization())
    assert api.post("/v1/keys", {"name": "x", "scopes": ["read"]}, key="").json()["code"] == "idempotency-key-missing"
    api.post("/v1/keys", {"name": "x", "scopes": ["read"]}, key="same")
    other = api.post("/v1/keys", {"name": "y", "scopes": ["read"]}, key="same")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency-key-reused")
