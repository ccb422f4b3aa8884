"""Notices: everybody is told of halts, stops and changes of rules with their reasons, and of no member by name."""

import pytest
from django.db import transaction

from core import clock
from exchange.actions.controls import allow_trading, halt_market, kill_market, resume_market, stop_trading
from exchange.actions.limits import set_limits
from identity.models import AuditEntry, Organization
from providers.actions.grades import change_grade
from tests.given import Api, given_market, given_organization

pytestmark = pytest.mark.django_db
EN, ZH = {"Accept-Language": "en"}, {"Accept-Language": "zh-hans"}


@pytest.fixture
def market():
    market, now = given_market(now=clock.now()), clock.now()
    member = given_organization("buyer", name="Lantern Search")
    with transaction.atomic():
        halt_market(market_id=market.pk, reason="meters of two providers are silent", now=now)
        stop_trading(organization_id=member.pk, market_id=None, reason="Lantern Search floods the book", now=now)
        set_limits(organization_id=member.pk, limits={"orders_per_minute": 7}, now=now, actor=None)
    return market


def text(client, path, headers=EN):
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, path
    return answer.content.decode()


def test_a_halt_is_told_with_its_reason_everywhere_and_no_member_anywhere(client, market):
    for path in ("/notices", "/", "/markets", f"/markets/{market.pk}"):
        page = text(client, path)
        assert "meters of two providers are silent" in page, path
        assert "Lantern" not in page, path
        assert ("floods the book" in page) is (path == "/notices"), path
    assert "Halted now:" in text(client, "/notices")
    assert "本市场已停牌" in text(client, f"/markets/{market.pk}", ZH)
    with transaction.atomic():
        resume_market(market_id=market.pk, reason="both send again", now=clock.now())
    assert "both send again" in text(client, "/") and "silent" not in text(client, "/")
    assert "silent" in text(client, "/notices") and "Halted now:" not in text(client, "/notices")
    assert "This market is halted" not in text(client, f"/markets/{market.pk}")


def test_a_members_stop_is_told_with_its_reason_and_without_its_name(client, market):
    with transaction.atomic():
        member = Organization.objects.get(name="Lantern Search")
        stop_trading(organization_id=member.pk, market_id=market.pk, reason="lantern SEARCH again", now=clock.now())
        allow_trading(organization_id=member.pk, market_id=None, reason="its limits are set", now=clock.now())
    page, chinese = text(client, "/notices"), text(client, "/notices", ZH)
    assert "the member floods the book" in page and "the member again" in page and "its limits are set" in page
    assert "trading stopped" in page and "may trade again" in page
    assert "恢复一名会员的交易" in chinese and "该会员 floods the book" in chinese
    told = Api("").get("/v1/notices").json()["items"]
    stops = [(one["kind"], one["market"], one["reason"]) for one in told if one["kind"].startswith("trading.")]
    assert stops == [
        ("trading.allow", None, "its limits are set"), ("trading.stop", market.pk, "the member again"),
        ("trading.stop", None, "the member floods the book"),
    ]  # fmt: skip


def test_changes_of_rules_name_the_figures_before_and_after(client, market):
    grade = market.grade
    with transaction.atomic():
        change_grade(grade_id=grade.pk, changes={"random_end_seconds": 45, "name": grade.name}, now=clock.now())
        set_limits(organization_id=None, limits={"orders_per_minute": 6_000}, now=clock.now(), actor=None)
    page = text(client, "/notices")
    assert "Random end of the call (s): 0 → 45" in page and "Orders a minute: — → 6,000" in page
    assert "Name:" not in page  # it stayed as it was
    assert "集合竞价随机延长（秒）: 0 → 45" in text(client, "/notices", ZH)
    assert "2026-1" in page and "in force" in page


def test_the_list_says_the_same_as_data_in_pages(market):
    with transaction.atomic():
        kill_market(market_id=market.pk, reason="an error in the cap", now=clock.now())
    api = Api("")
    first = api.get("/v1/notices?limit=1").json()
    assert first["items"][0] | {"id": 0, "at": ""} == {
        "id": 0, "at": "", "kind": "market.kill", "market": market.pk, "auction": None, "grade_slug": None,
        "reason": "an error in the cap", "changes": [],
    }  # fmt: skip
    kinds, cursor = ["market.kill"], first["next_cursor"]
    while cursor:
        page = api.get(f"/v1/notices?limit=1&cursor={cursor}").json()
        kinds, cursor = kinds + [one["kind"] for one in page["items"]], page["next_cursor"]
    assert kinds[:3] == ["market.kill", "trading.stop", "market.halt"] and "limits.set" not in kinds
    assert AuditEntry.objects.filter(verb="limits.set").exists()
