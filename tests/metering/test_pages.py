"""Metering's pages: usage and set-aside events, each organization its own."""

import pytest

from tests.given import given_deployment, given_organization, given_user

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


@pytest.mark.parametrize("path", ["/usage", "/usage?days=31", "/usage?days=x", "/usage/rejected", "/capacity"])
def test_a_member_opens_them_and_a_visitor_is_asked_to_sign_in(client, path):
    assert client.get(path).status_code == 302
    client.force_login(given_user(given_deployment().provider))
    page = client.get(path, headers=EN)
    assert page.status_code == 200


def test_nobody_sees_anothers_deployments(client):
    from tests.given import given_capacity

    capacity = given_capacity()
    client.force_login(given_user(given_organization("provider")))
    assert capacity.deployment.name not in client.get("/capacity", headers=EN).content.decode()
    client.force_login(given_user(capacity.deployment.provider))
    assert capacity.deployment.name in client.get("/capacity", headers=EN).content.decode()
