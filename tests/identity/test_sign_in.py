import pytest

from tests.given import given_organization, given_user

pytestmark = pytest.mark.django_db


def test_a_person_signs_in_and_acts_for_an_organization(client):
    mine, other = given_organization(name="Lantern"), given_organization(name="Maple")
    user = given_user(mine, email="li@example.com")
    page = client.get("/accounts/login/", headers={"Accept-Language": "en"})
    assert page.status_code == 200 and b"Sign In" in page.content
    answer = client.post("/accounts/login/", {"login": user.email, "password": "correct horse"})
    assert answer.status_code == 302
    page = client.get("/accounts/password/change/", headers={"Accept-Language": "en"})
    assert b"Lantern" in page.content and b"Maple" not in page.content
    client.post("/switch-organization", {"organization": other.pk})
    assert b"Maple" not in client.get("/accounts/password/change/").content


def test_switching_goes_nowhere_else(client):
    user = given_user(given_organization())
    client.force_login(user)
    assert client.post("/switch-organization", {"organization": "x", "next": "https://evil.example/"}).url == "/"
