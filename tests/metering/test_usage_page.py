"""The usage explorer: each grouping shows the same whole, sorted and exported; amounts are one's own side's."""

import csv
import io

import pytest

from core import clock
from metering_ingest.page_queries import delivered_today_micro_st
from metering_ingest.usage_views import GROUPINGS
from tests.given import NOW, given_organization, given_user
from tests.metering.test_settlement import Delivery, mine

pytestmark = pytest.mark.django_db
EN = {"Accept-Language": "en"}


def exported(client, by):
    text = client.get(f"/usage?by={by}&format=csv&sort=-cost", headers=EN).content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_every_grouping_shows_and_exports_the_same_whole(client, monkeypatch):
    monkeypatch.setattr(clock, "now", lambda: NOW)
    delivery = Delivery()
    delivery.report(mine("a", output_tokens=500), mine("b", output_tokens=700))
    client.force_login(given_user(delivery.buyer))
    wholes = set()
    for by in GROUPINGS:
        page = client.get(f"/usage?by={by}", headers=EN)
        assert page.status_code == 200, by
        if by != "key":  # these events carry none
            rows = exported(client, by)
            wholes.add(sum(int(float(row["standard_tokens"]) * 1_000_000 + 0.5) for row in rows))
            assert rows and all(row["cost"] and row["price"] for row in rows), by
    assert len(wholes) == 1 and wholes == {delivered_today_micro_st(NOW)}
    assert {row["class"] for row in exported(client, "class")} == {"input", "cached input", "output"}
    assert exported(client, "provider")[0]["provider"] == str(delivery.provider)
    assert "缓存输入" in client.get("/usage?by=class", headers={"Accept-Language": "zh-hans"}).content.decode()
    assert client.get("/usage?by=password").status_code == 404
    client.force_login(given_user(given_organization()))
    assert exported(client, "class") == []
