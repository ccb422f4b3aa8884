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
