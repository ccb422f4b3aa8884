"""Every page, for each role, with one of everything there: it opens, and takes at most twelve queries."""

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from exchange.models import Market
from identity.models import Organization
from tests.given import given_user
from tests.test_strangers import addresses, filled, owned  # noqa: F401  (a fixture)
from tests.web.test_every_page import addresses as plain_addresses

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}
MOST = 12


def queries_of(client, path):
    """Return the answer and how many queries it took, those of the transaction around a test apart."""
    with CaptureQueriesContext(
        connection,
    ) as seen:
        answer = client.get(path, headers=EN)
    return answer, [one["sql"] for one in seen if "SAVEPOINT" not in one["sql"]]


@pytest.mark.parametrize("role", ["visitor", "buyer", "provider", "operator"])
def test_a_page_takes_at_most_twelve_queries(client, owned, role):  # noqa: F811
    if role != "visitor":
        organization = {
            "buyer": Organization.objects.get(pk=owned["organization_id"]),
            "provider": Organization.objects.get(pk=owned["provider_id"]),
            "operator": Organization.objects.filter(kind="operator").first(),
        }[role]
        client.force_login(given_user(organization, is_staff=role == "operator", is_superuser=role == "operator"))
    paths = {path for path in plain_addresses() if not path.startswith("/accounts")}
    paths |= {
        filled(address, owned) for address in addresses() if not address.startswith(("v1/", "static", "docs", "media"))
    }
    paths |= {f"/markets/{market}" for market in Market.objects.values_list("pk", flat=True)}
    opened, costly = 0, {}
    for path in sorted(paths):
        cache.clear()
        answer, sql = queries_of(client, path)
        assert answer.status_code in (200, 302, 403, 404, 405), f"{path}: {answer.status_code}"
        if answer.status_code != 200 or "text/html" not in answer.headers["Content-Type"]:
            continue
        opened += 1
        if len(sql) > MOST:
            costly[path] = [len(sql), *(one[:100] for one in sql)]
    assert costly == {}
    assert opened >= (12 if role == "visitor" else 20)


def test_the_operators_console_opens_with_few_queries(client, owned):  # noqa: F811
    operator = Organization.objects.filter(kind="operator").first()
    client.force_login(given_user(operator, is_staff=True, is_superuser=True))
    _, sql = queries_of(client, "/admin/")
    assert len(sql) <= 2 * MOST, sql
