"""The operator's console shows the catalogue and supply, and changes how a grade is run."""

import pytest

from providers.actions.grades import CHANGEABLE
from tests.given import given_capacity, given_user

pytestmark = pytest.mark.django_db

PAGES = ("accelerator", "modelcard", "grade", "deployment", "capacity", "listprice", "providerscore")


@pytest.fixture
def operator(client):
    user = given_user(is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


def test_every_list_opens(operator):
    capacity = given_capacity()
    for page in PAGES:
        assert operator.get(f"/admin/providers/{page}/").status_code == 200, page
        assert operator.get(f"/admin/providers/{page}/add/").status_code == 403, page
    assert operator.get(f"/admin/providers/capacity/{capacity.pk}/change/").status_code == 200
    assert operator.post(f"/admin/providers/capacity/{capacity.pk}/change/", {}).status_code == 403


def form(grade, **changes):
    """What the console's page sends: every field that may change, as it is."""
    fields = {name: getattr(grade, name) for name in CHANGEABLE}
    return fields | {"window_schedule": '{"every_minutes": 60, "kind": "hour"}'} | changes


def test_a_grade_is_changed_by_the_rules_of_the_action(operator):
    grade = given_capacity().grade
    address = f"/admin/providers/grade/{grade.pk}/change/"
    assert operator.get(address).status_code == 200
    refused = operator.post(address, form(grade, reference_price_nano=1, tick_nano=5))
    assert "multiple of the tick" in refused.content.decode()
    assert operator.post(address, form(grade, mode="exchange", tick_nano=5)).status_code == 302
    grade.refresh_from_db()
    assert (grade.mode, len(grade.schedule().workday), grade.tick_nano) == ("exchange", 24, 100_000)
