"""The usage explorer: each grouping shows the same whole, sorted and exported; amounts are one's own side's."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from core import clock
from exchange.charts import ENGLISH_UNITS
from metering_ingest.page_queries import delivered_today_micro_st
from metering_ingest.usage_chart import BOTTOM, TOP, usage_chart
from metering_ingest.usage_views import GROUPINGS
from tests.given import NOW, given_organization, given_user
from tests.metering.test_settlement import Delivery, mine

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def exported(client, by):
    text = client.get(f"/usage?by={by}&format=csv&sort=-cost", headers=EN).content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_every_grouping_shows_charts_and_exports_the_same_whole(client, monkeypatch, django_assert_max_num_queries):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    delivery = Delivery()
    delivery.report(mine("a", output_tokens=500), mine("b", output_tokens=700))
    client.force_login(given_user(delivery.buyer))
    wholes, charted = set(), set()
    for by in GROUPINGS:
        page = client.get(f"/usage?by={by}", headers=EN)
        assert page.status_code == 200, by
        # what the chart's table adds up to is the whole, whatever it is stacked by
        charted.add(page.context["chart"] and sum(bar.total_micro_st for bar in page.context["chart"].bars))
        if by != "key":  # these events carry none
            rows = exported(client, by)
            wholes.add(sum(int(float(row["standard_tokens"]) * 1_000_000 + 0.5) for row in rows))
            assert rows and all(row["cost"] and row["price"] for row in rows), by
    assert len(wholes) == 1 and wholes == {delivered_today_micro_st(NOW)} == charted - {None}
    with django_assert_max_num_queries(12):
        page = client.get("/usage?days=31&by=provider", headers=EN).content.decode()
    assert page.count("<title>") == 2 and f"<th scope=\"col\">{delivery.provider}</th>" in page  # the page, one bar
    assert {row["class"] for row in exported(client, "class")} == {"input", "cached input", "output"}
    assert exported(client, "provider")[0]["provider"] == str(delivery.provider)
    assert "缓存输入" in client.get("/usage?by=class", headers={"Accept-Language": "zh-hans"}).content.decode()
    assert client.get("/usage?by=password").status_code == 404
    client.force_login(given_user(given_organization()))
    assert exported(client, "class") == []


def test_a_bar_is_as_high_as_what_was_used_and_the_small_ones_share_a_colour():
    hours = [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(3)]
    groups = {name: 10 * size for size, name in enumerate("fedcba", start=1)}  # a is the largest: 60
    used = [(hours[0], name, work * 1_000_000) for name, work in groups.items()] + [(hours[2], "a", 105_000_000)]
    found = usage_chart(
        used, times=[(at, f"{at:%H:00}") for at in hours], name=str.upper, rest="rest", units=ENGLISH_UNITS
    )
    assert found.series == ["A", "B", "C", "D", "rest"]
    assert [bar.values_micro_st for bar in found.bars] == [
        [60_000_000, 50_000_000, 40_000_000, 30_000_000, 30_000_000], [0] * 5, [105_000_000, 0, 0, 0, 0],
    ]  # fmt: skip
    first, empty, last = found.bars
    assert empty.pieces == [] and sum(piece.height for piece in first.pieces) == pytest.approx(
        2 * sum(piece.height for piece in last.pieces), abs=0.2
    )
    lowest = max(piece.top + piece.height for piece in first.pieces)
    assert lowest == BOTTOM and min(piece.top for piece in first.pieces) >= TOP
    little = [(hours[0], "a", 999_999)]
    assert usage_chart(little, times=[(hours[0], "")], name=str, rest="", units=ENGLISH_UNITS) is None
