import pytest

from tests.given import given_api, given_organization

pytestmark = pytest.mark.django_db


def test_the_operator_makes_organizations_and_others_see_only_themselves():
    operator = given_api(given_organization("operator"))
    made = operator.post("/v1/organizations", {"kind": "buyer", "name": "Lantern Search", "name_zh": "灯笼搜索"})
    assert made.status_code == 201
    stranger_organization = given_organization()
    stranger = given_api(stranger_organization)
    assert stranger.get(f"/v1/organizations/{made.json()['id']}").status_code == 404
    seen = stranger.get("/v1/organizations").json()["items"]
    assert [item["id"] for item in seen] == [stranger_organization.pk]
    refused = stranger.post("/v1/organizations", {"kind": "buyer", "name": "X"})
    assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "bank", "name": "X"}, "kind"),
        ({"kind": "buyer", "name": "灯笼"}, "name"),
        ({"kind": "buyer", "name": "X", "allows_overage": "-1"}, "allows_overage"),
        ({"kind": "buyer", "name": "X", "allows_overage": 1}, "allows_overage"),
    ],
)
def test_bad_particulars_are_refused_by_field(body, field):
    answer = given_api(given_organization("operator")).post("/v1/organizations", body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_lists_come_in_pages_and_refuse_a_foreign_cursor():
    api = given_api(given_organization("operator"))
    for _ in range(5):
        given_organization()
    first = api.get("/v1/organizations?limit=2").json()
    second = api.get(f"/v1/organizations?limit=2&cursor={first['next_cursor']}").json()
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 4
    assert api.get("/v1/organizations?cursor=nonsense").json()["code"] == "bad-cursor"
    assert api.get("/v1/organizations?limit=0").status_code == 400


def test_an_owner_invites_a_person_who_can_then_sign_in(client):
    organization = given_organization(name="Harbour")
    api = given_api(organization)
    body = {"email": "Wang@Example.com", "role": "trader", "password": "plum blossom 42"}
    made = api.post(f"/v1/organizations/{organization.pk}/members", body)
    assert made.status_code == 201 and made.json()["email"] == "wang@example.com"
    assert client.login(username="wang@example.com", password="plum blossom 42")
    assert api.post(f"/v1/organizations/{organization.pk}/members", body).json()["code"] == "membership-exists"
    weak = api.post(
        f"/v1/organizations/{organization.pk}/members", body | {"email": "b@example.com", "password": "123"}
    )
    assert (weak.status_code, weak.json()["field"]) == (400, "password")
    stranger = given_api(given_organization())
    assert stranger.post(f"/v1/organizations/{organization.pk}/members", body).status_code == 404
    assert stranger.get(f"/v1/organizations/{organization.pk}/members").status_code == 404
    reader = given_api(organization, scopes=["read"])
    assert reader.post(f"/v1/organizations/{organization.pk}/members", body).status_code == 403


def test_bootstrap_makes_the_operator_once(tmp_path, monkeypatch):
    from django.core.management import call_command

    from identity.models import Organization, User
    from tests.given import Api

    monkeypatch.setenv("ADMIN_PASSWORD", "plum blossom 42")
    arguments = ["--key-file", tmp_path / "key", "--admin-email", "root@example.com"]
    for _ in range(2):
        call_command("bootstrap", *map(str, arguments), "--admin-password-env", "ADMIN_PASSWORD", verbosity=0)
    assert Organization.objects.filter(kind="operator").count() == 1
    assert User.objects.get(email="root@example.com").is_superuser
    assert "operate" in Api((tmp_path / "key").read_text().strip()).get("/v1/whoami").json()["scopes"]
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
