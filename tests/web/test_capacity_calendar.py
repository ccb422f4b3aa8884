"""The calendar of capacity: free windows of a week, chosen in one go and published each on its own, once."""

import re
from datetime import timedelta

import pytest

from core import clock
from core.periods import Period
from providers.models import Capacity
from tests.given import given_deployment, given_market, given_money, given_organization, given_user

pytestmark = pytest.mark.django_db
EN, ZH = {"Accept-Language": "en"}, {"Accept-Language": "zh-hans"}
TERMS = {"tokens_per_minute": "1万", "reserve_price": "2,000", "list_price": "5000"}


@pytest.fixture
def week(client):
    """A provider's deployment and three markets that it may offer in, the last one next week."""
    deployment = given_deployment(given_money(given_organization("provider")))
    client.force_login(given_user(deployment.provider))
    starts = [clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=n) for n in (2, 3, 24 * 8)]
    return deployment, [
        given_market(
            deployment.grade, now=clock.now(), window=Period(start, start + timedelta(hours=1)),
            gate_closes_at=start - timedelta(minutes=10),
        )
        for start in starts
    ]  # fmt: skip


def send(client, deployment, markets, key="one", **fields):
    chosen = [f"{deployment.pk}:{market.pk}" for market in markets]
    return client.post("/capacity/windows", {"key": key, "windows": chosen, **TERMS, **fields}, headers=EN)


def test_windows_are_shown_by_day_and_published_once(client, week, django_assert_max_num_queries):
    deployment, (first, second, later) = week
    with django_assert_max_num_queries(12):
        page = client.get("/capacity", headers=EN).content.decode()
    offered = re.findall(r'name="windows" value="([0-9:]+)"', page)
    assert offered == [f"{deployment.pk}:{first.pk}", f"{deployment.pk}:{second.pk}"] and "?week=1" in page
    assert f'value="{deployment.pk}:{later.pk}"' in client.get("/capacity?week=1", headers=EN).content.decode()
    for _ in range(2):
        assert send(client, deployment, [first, second])["Location"] == "/capacity"
    rows = list(Capacity.objects.order_by("window_start"))
    assert [(row.window_start, row.quantity_tokens, row.tokens_per_minute) for row in rows] == [
        (first.window_start, 600_000, 10_000), (second.window_start, 600_000, 10_000),
    ]  # fmt: skip
    page = client.get("/capacity", headers=ZH).content.decode()
    assert page.count('class="slot taken"') == 2 and "60 万" in page and 'name="windows"' not in page
    assert 'value="5000.00"' in page  # what was typed last is offered again


def test_what_one_window_refuses_leaves_the_others_published(client, week):
    deployment, (first, second, _later) = week
    assert send(client, deployment, [first]).status_code == 302
    answer = send(client, deployment, [first, second], key="two", list_price="6000")
    page = answer.content.decode()
    assert answer.status_code == 422 and "Not published:" in page
    assert "Windows in which capacity is published: 1." in page
    assert Capacity.objects.count() == 2 and deployment.name in page


def test_bad_input_is_said_and_nothing_is_published(client, week):
    deployment, (first, *_others) = week
    for fields, sentence in (
        ({"windows": []}, "Choose one window at least."),
        ({"windows": ["1:x"]}, "Select a valid choice"),
        ({"windows": [f"{n}:1" for n in range(1, 202)]}, "Choose 200 windows at most."),
        ({"tokens_per_minute": "many"}, "Write a number"),
        ({"reserve_price": ""}, "This field is required"),
    ):
        answer = send(client, deployment, [first], **fields)
        assert answer.status_code == 422 and sentence in answer.content.decode(), fields
    assert send(client, deployment, [first], tokens_per_minute="900k").status_code == 422  # above what is rated
    assert client.get("/capacity?week=x", headers=EN).status_code == 200
    assert client.get("/capacity/windows")["Location"] == "/capacity"
    assert not Capacity.objects.exists()


def test_nobody_publishes_with_anothers_deployment_and_buyers_see_no_calendar(client, week):
    deployment, (first, *_others) = week
    client.force_login(given_user(given_organization("provider")))
    assert send(client, deployment, [first]).status_code == 302 and not Capacity.objects.exists()
    client.force_login(given_user(deployment.provider, role="viewer"))
    assert "disabled" in client.get("/capacity", headers=EN).content.decode()
    assert send(client, deployment, [first]).status_code == 403
    client.force_login(given_user(given_organization("buyer")))
    assert "calendar.js" not in client.get("/capacity", headers=EN).content.decode()
