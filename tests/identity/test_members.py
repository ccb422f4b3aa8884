"""Members: owners change roles and remove people; one owner always stays; all of it is in the log."""

from functools import partial
from uuid import uuid4

import pytest

from core.transactions import durable
from identity.actions.members import LastOwner, change_role, remove_member
from identity.models import AuditEntry, Membership
from tests.given import NOW, given_api, given_organization, given_user

EN = {"Accept-Language": "en"}


def membership(user):
    return Membership.objects.get(user=user)


@pytest.fixture
def cast():
    organization = given_organization(name="Harbour")
    return organization, given_user(organization), given_user(organization, role="trader")


def sent(client, member, what, **fields):
    answer = client.post(f"/organization/members/{member}/{what}", {"key": str(uuid4()), **fields}, headers=EN)
    return client.get(answer["Location"], headers=EN).content.decode() if answer.status_code == 302 else answer


@pytest.mark.django_db
def test_an_owner_changes_a_role_and_removes_a_member_from_the_next_request_on(client, cast):
    _, owner, trader = cast
    member = membership(trader).pk
    client.force_login(owner)
    assert "The role is changed." in sent(client, member, "role", role="viewer")
    assert membership(trader).role == "viewer"
    client.force_login(trader)
    assert sent(client, membership(owner).pk, "role", role="viewer").status_code == 403
    assert sent(client, membership(owner).pk, "remove").status_code == 403
    assert "Remove" not in client.get("/organization", headers=EN).content.decode()
    client.force_login(owner)
    for _ in range(2):
        assert "no more." in sent(client, member, "remove")
    client.force_login(trader)
    assert client.get("/orders")["Location"] == "/organization/new"  # acts for nobody
    entries = AuditEntry.objects.filter(verb__startswith="membership.", user=owner).order_by("pk")
    assert [(one.verb, one.before["role"]) for one in entries] == [
        ("membership.change", "trader"), ("membership.remove", "viewer"),
    ]  # fmt: skip


@pytest.mark.django_db
def test_the_last_owner_stays_and_one_page_changes_two_members(client, cast):
    organization, owner, trader = cast
    client.force_login(owner)
    assert "last owner" in sent(client, membership(owner).pk, "role", role="viewer")
    assert "last owner" in sent(client, membership(owner).pk, "remove")
    assert membership(owner).role == "owner"
    second, key = given_user(organization, role="viewer"), str(uuid4())
    for person in (trader, second):
        sent(client, membership(person).pk, "role", role="billing", key=key)
    assert {membership(trader).role, membership(second).role} == {"billing"}
    sent(client, membership(trader).pk, "role", role="owner")
    sent(client, membership(owner).pk, "remove")  # another owner is there
    assert not Membership.objects.filter(user=owner).exists()


@pytest.mark.django_db
def test_nobody_touches_anothers_members(client, cast):
    _, owner, trader = cast
    client.force_login(given_user(given_organization()))
    assert "Nobody of that id" in sent(client, membership(trader).pk, "role", role="viewer")
    assert "Nobody of that id" in sent(client, membership(owner).pk, "remove")
    assert (membership(trader).role, membership(owner).role) == ("trader", "owner")


@pytest.mark.django_db
def test_the_api_changes_and_removes_members(cast):
    organization, owner, trader = cast
    base = f"/v1/organizations/{organization.pk}/members"
    api, member = given_api(organization), membership(trader).pk
    assert api.patch(f"{base}/{member}", {"role": "viewer"}).json()["role"] == "viewer"
    assert api.patch(f"{base}/{member}", {"role": "emperor"}).status_code == 400
    assert api.delete(f"{base}/{membership(owner).pk}").json()["code"] == "last-owner"
    assert given_api(organization, scopes=["read"]).delete(f"{base}/{member}").status_code == 403
    assert given_api(given_organization()).delete(f"{base}/{member}").status_code == 404
    first = api.delete(f"{base}/{member}", key="leaves")
    assert first.json() == api.delete(f"{base}/{member}", key="leaves").json()
    assert api.delete(f"{base}/{member}").json()["code"] == "member-not-found"
    operator = given_api(given_organization("operator"), scopes=["read", "operate"])
    assert operator.delete(f"{base}/{membership(owner).pk}").json()["code"] == "last-owner"


@pytest.mark.django_db(transaction=True)
def test_of_two_owners_who_end_each_others_role_one_stays(race):
    organization = given_organization()
    ids = [membership(given_user(organization)).pk for _ in range(2)]
    answers = race(
        partial(durable, partial(remove_member, organization=organization, membership_id=ids[1], now=NOW)),
        partial(durable, partial(change_role, organization=organization, membership_id=ids[0], role="viewer", now=NOW)),
    )
    assert sum(isinstance(one, LastOwner) for one in answers) == 1, answers
    assert Membership.objects.filter(organization=organization, role="owner").count() == 1
