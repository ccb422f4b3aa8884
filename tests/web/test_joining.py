"""From signing up to a member with money: the rulebook is accepted by version, an organization opened once."""

import hashlib

import pytest

from billing.domain.bank_files import payment_reference
from core import clock
from identity import rulebook
from identity.models import AuditEntry, Membership, Organization, RulebookAcceptance, User
from tests.given import given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}
FIELDS = {
    "name": "Lantern Search Ltd.", "name_zh": "灯笼搜索", "kind": "buyer", "rules_version": "2026-1", "accepted": "on",
}  # fmt: skip


@pytest.fixture
def person(client):
    """Somebody who has just signed up on the page for it."""
    address = {"email": "li@lantern.example", "password1": "correct horse 9", "password2": "correct horse 9"}
    answer = client.post("/accounts/signup/", address, headers=EN)
    assert answer.status_code == 302 and answer["Location"] == "/organization/new"
    return User.objects.get(email="li@lantern.example")


def test_a_person_signs_up_opens_an_organization_and_learns_where_to_pay(client, person):
    assert client.get("/overview")["Location"] == "/organization/new"
    shown = client.get("/organization/new", headers=EN).content.decode()
    assert "Halts and corrections" in shown and 'value="2026-1"' in shown
    for _ in range(2):  # a double click opens one organization
        assert client.post("/organization/new", FIELDS, headers=EN)["Location"] == "/top-up"
    made = Organization.objects.get(name="Lantern Search Ltd.")
    assert made.status == "active" and made.name_zh == "灯笼搜索"
    assert Membership.objects.get(user=person).role == "owner"
    accepted = RulebookAcceptance.objects.get(organization=made)
    assert (accepted.version, bytes(accepted.digest)) == ("2026-1", rulebook.version("2026-1").digest)
    assert AuditEntry.objects.filter(verb="rulebook.accept", user=person).count() == 1
    page = client.get("/top-up", headers=EN).content.decode()
    assert payment_reference(made.pk) in page and "Nothing has arrived yet" in page
    assert client.get("/organization/new")["Location"] == "/organization"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"accepted": ""}, "Without the rulebook there is no trading here."),
        ({"name": "灯笼"}, "printable ASCII"),
        ({"kind": "operator"}, "Select a valid choice."),
        ({"rules_version": "2025-9"}, "Version 2026-1 of the rulebook is in force now."),
    ],
)
def test_what_is_wrong_opens_nothing(client, person, changes, sentence):
    answer = client.post("/organization/new", FIELDS | changes, headers=EN)
    assert answer.status_code == 422 and sentence in answer.content.decode()
    assert not Organization.objects.exists()


def test_where_the_operator_reviews_it_waits(client, person, settings):
    settings.JOIN_NEEDS_REVIEW = True
    assert client.post("/organization/new", FIELDS | {"kind": "provider"}, headers=EN)["Location"] == "/deployments"
    assert Organization.objects.get().status == "suspended"
    assert "reviews it" in client.get("/deployments", headers=EN).content.decode()
    assert client.get("/capacity/new", headers=EN).status_code == 403


def test_a_member_opens_no_second_one(client):
    client.force_login(given_user(given_organization("buyer")))
    answer = client.post("/organization/new", FIELDS, headers=EN)
    assert answer.status_code == 422 and "You act for" in answer.content.decode()
    assert Organization.objects.count() == 1


def test_an_organization_accepts_a_version_once_by_its_owner(client):
    organization = given_organization("buyer")
    owner = given_user(organization)
    client.force_login(owner)
    assert "Accept for our organization" in client.get("/rules", headers=EN).content.decode()
    for _ in range(2):
        client.post("/rules/accept", {"version": "2026-1"}, headers=EN)
    assert RulebookAcceptance.objects.get().user == owner
    assert "Accept for our organization" not in client.get("/rules", headers=EN).content.decode()
    client.force_login(given_user(organization, role="viewer"))
    assert client.post("/rules/accept", {"version": "2026-1"}, headers=EN).status_code == 403
    assert client.get("/rules/none").status_code == 404


def test_a_published_version_is_never_changed():
    assert {one.version: one.digest.hex() for one in rulebook.versions()} == {"2026-1": PUBLISHED}
    assert hashlib.sha256((rulebook.FOLDER / "rulebook-2026-1.toml").read_bytes()).hexdigest() == PUBLISHED
    for one in rulebook.versions():
        assert all(len(part.paragraphs) == len(part.paragraphs_zh) for part in one.sections)
    assert rulebook.in_force(clock.now()).version == "2026-1"


PUBLISHED = "e3c2a59b05e3c86837d2eccfced8e819d28f4d98132b8c76a208ce5fdad7a1e8"
