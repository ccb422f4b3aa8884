"""Who used what, at what cost, where and how efficiently; fresh at once, and as CSV and Parquet."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from core import clock
from metering_ingest.audit import CHECKS
from metering_ingest.models import UsageTagRollup
from metering_ingest.page_queries import meters_of, with_health
from tests.given import NOW, given_actor, given_api, given_organization
from tests.metering.given import given_meter
from tests.metering.test_reconciliation import Metered
from tests.metering.test_settlement import DUE, Delivery, mine


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    yield


def ask(api: Any, query: str) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/usage?{query}")
    assert answer.status_code == 200, answer.json()
    return answer.json()["items"]


@pytest.mark.django_db
def test_cost_is_an_estimate_until_settlement_and_each_side_sees_its_own() -> None:
    delivery = Delivery(lots=[(1_000, 3_000_000, 2_000_000), (1_000, 5_000_000, 4_000_000)])
    delivery.report(mine(input_tokens=0, cached_input_tokens=0, output_tokens=500))
    buyer, provider = given_api(delivery.buyer), given_api(delivery.provider)
    mine_, theirs = ask(buyer, "group_by=model")[0], ask(provider, "group_by=deployment")[0]
    # The mean of the lots: a cost is rounded to the micro-yuan, so a price worked out of it may be a nano-yuan off.
    assert mine_["estimate"] and Decimal(mine_["price"]) == pytest.approx(Decimal("0.004"), abs=Decimal("2e-9"))
    assert Decimal(theirs["price"]) == pytest.approx(Decimal("0.003"), abs=Decimal("2e-9"))
    delivery.settle(DUE)
    mine_, theirs = ask(buyer, "group_by=model")[0], ask(provider, "group_by=deployment")[0]
    # All of it took the cheapest lot.
    assert not mine_["estimate"] and Decimal(mine_["price"]) == pytest.approx(Decimal("0.003"), abs=Decimal("2e-9"))
    assert Decimal(theirs["price"]) == pytest.approx(Decimal("0.002"), abs=Decimal("2e-9"))
    assert Decimal(mine_["cost"]) == pytest.approx(
        Decimal(mine_["standard_tokens"]) * 3 / 1_000, abs=Decimal("0.000002")
    )
    assert ask(given_api(given_organization()), "group_by=model") == []


@pytest.mark.django_db
def test_hardware_says_how_efficiently_it_was_used() -> None:
    delivery = Delivery()
    delivery.report(
        mine("a", output_tokens=500), mine("b", output_tokens=500, time=(NOW - timedelta(minutes=50)).isoformat())
    )
    row = ask(given_api(delivery.provider), "group_by=accelerator,service_class")[0]
    assert (row["accelerator"], row["service_class"], row["accelerator_hours"]) == ("h100", "realtime", 1)
    assert row["standard_tokens_per_accelerator_hour"] == int(Decimal(row["standard_tokens"]))
    assert ask(given_api(delivery.provider), "group_by=model")[0]["accelerator_hours"] is None


@pytest.mark.django_db
def test_tags_and_keys_have_rows_of_their_own_and_a_void_takes_them_back() -> None:
    delivery = Delivery()
    delivery.report(
        mine("a", output_tokens=100, tags={"team": "search", "key": "alice"}),
        mine("b", output_tokens=200, tags={"team": "search", "key": "bob"}),
        mine("c", output_tokens=400, tags={"team": "ads"}, input_bytes=1_000, output_bytes=7),
        mine("d", output_tokens=800),
    )
    api = given_api(delivery.buyer)

    def output(query: str) -> dict[Any, int]:
        name = query.split("=")[1].split("&")[0]
        return {row[name]: row["quantity"] for row in ask(api, f"{query}&class=output.text")}

    assert output("group_by=tag:team") == {"search": 300, "ads": 400}
    assert output("group_by=key") == {"alice": 100, "bob": 200}
    assert output("group_by=class&tag=team:search") == {"output.text": 300}
    assert output("group_by=class&key=bob") == {"output.text": 200}
    assert output("group_by=class") == {"output.text": 1_500}
    by_class = {row["class"]: row["quantity"] for row in ask(api, "group_by=class")}
    assert (by_class["input_bytes"], by_class["output_bytes"]) == (1_000, 7)
    original = {"id": "b", "source": "gw", "time": mine("b")["time"]}
    void = mine("v") | {"type": "ciyuan.usage.void", "data": {"refers_to": original}}
    assert delivery.report(void) == ["accepted"]
    assert output("group_by=key") == {"alice": 100, "bob": 0}
    amended = mine("c2", output_tokens=1, tags={"team": "ads"}) | {"type": "ciyuan.usage.amend"}
    amended["data"]["refers_to"] = original | {"id": "c"}
    assert delivery.report(amended) == ["accepted"]
    assert output("group_by=tag:team") == {"search": 100, "ads": 1}
    assert {row["class"]: row["quantity"] for row in ask(api, "group_by=class")}["input_bytes"] == 0
    assert [str(finding) for _, check in CHECKS for finding in check()] == []
    UsageTagRollup.objects.filter(value="alice", token_class=1).update(quantity=2)
    assert any("tag-rollups-are-events" in str(finding) for _, check in CHECKS for finding in check())


@pytest.mark.django_db
def test_a_request_counts_once_however_many_classes_it_has() -> None:
    delivery = Delivery()
    delivery.report(*(mine(f"r{n}", cached_input_tokens=64, tags={"team": "search"}) for n in range(5)))
    for api in (given_api(delivery.buyer), given_api(delivery.provider)):
        assert [row["events"] for row in ask(api, "group_by=model")] == [5]
        assert [row["events"] for row in ask(api, "group_by=tag:team")] == [5]
        assert {row["class"]: row["events"] for row in ask(api, "group_by=class")} == {
            "requests": 5, "input.text": 5, "input.text.cache_read": 5, "output.text": 5,
        }  # fmt: skip
    [meter] = with_health(list(meters_of(given_actor(delivery.provider))), now=NOW)
    assert meter.events == 5


@pytest.mark.django_db
def test_a_repeated_batch_adds_no_tags_twice() -> None:
    delivery = Delivery()
    event = mine("a", output_tokens=100, tags={"team": "search"})
    assert delivery.report(event) == ["accepted"]
    assert delivery.report(event, mine("b", output_tokens=1, tags={"team": "search"})) == ["duplicate", "accepted"]
    row = ask(given_api(delivery.buyer), "group_by=tag:team&class=output.text")[0]
    assert row["quantity"] == 101


@pytest.mark.django_db
def test_a_gateways_tags_share_out_the_providers_work() -> None:
    delivery = Metered()
    delivery.report(mine("p", input_tokens=0, cached_input_tokens=0, output_tokens=400))
    about = {"input_tokens": 0, "cached_input_tokens": 0}
    theirs = [
        mine(f"g{i}", output_tokens=n, tags={"key": key}, **about) | {"subject": f"contract:{delivery.contract.pk}"}
        for i, (key, n) in enumerate((("alice", 300), ("bob", 100)))
    ]
    assert delivery.seen(delivery.gateway, *theirs) == ["accepted", "accepted"]
    api = given_api(delivery.buyer)
    whole = Decimal(ask(api, "group_by=model")[0]["standard_tokens"])
    shares = {row["key"]: Decimal(row["standard_tokens"]) for row in ask(api, "group_by=key&reported_by=buyer")}
    assert shares["alice"] == pytest.approx(whole * 3 / 4, abs=Decimal("0.000002"))
    assert sum(shares.values()) == pytest.approx(whole, abs=Decimal("0.000002"))
    assert ask(given_api(delivery.provider), "group_by=key&reported_by=buyer") == []


@pytest.mark.django_db
def test_the_same_rows_as_csv_and_as_parquet(tmp_path: Any) -> None:
    delivery = Delivery()
    delivery.report(mine("a", tags={"team": 'a "b", c\n词元'}), mine("b", tags={"team": "x"}))
    api = given_api(delivery.buyer)
    rows = ask(api, "group_by=hour,tag:team,class")
    text = api.get("/v1/usage?group_by=hour,tag:team,class&format=csv").content.decode()
    assert [r["quantity"] for r in csv.DictReader(io.StringIO(text))] == [str(r["quantity"]) for r in rows]
    answer = api.get("/v1/usage?group_by=hour,tag:team,class&format=parquet")
    assert answer["Content-Type"] == "application/vnd.apache.parquet"
    file = tmp_path / "usage.parquet"
    file.write_bytes(answer.content)
    with duckdb.connect() as database:
        read = database.execute(f"SELECT \"tag:team\", class, quantity, cost, estimate FROM '{file}'").fetchall()
        kinds = dict(
            database.execute(f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{file}')").fetchall()
        )
    assert read == [
        (r["tag:team"], r["class"], r["quantity"], Decimal(r["cost"]), r["estimate"]) for r in rows
    ]  # fmt: skip
    assert (kinds["hour"], kinds["quantity"], kinds["cost"]) == ("TIMESTAMP WITH TIME ZONE", "BIGINT", "DECIMAL(38,6)")
    assert api.get("/v1/usage?group_by=colour&format=parquet").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["group_by=tag:", "group_by=key,tag:team", "group_by=tag:a&tag=b:c", "tag=team", "reported_by=engine",
              "group_by=length_band,key"],
)  # fmt: skip
def test_a_question_about_tags_that_has_no_answer_is_refused(query: str) -> None:
    answer = given_api(given_organization()).get(f"/v1/usage?{query}")
    assert answer.status_code == 400 and answer.json()["field"]


@pytest.mark.django_db
def test_an_engines_meter_is_no_usage() -> None:
    delivery = Metered()
    delivery.seen(given_meter(delivery.deployment, role="engine"), mine("e") | {"subject": ""})
    assert ask(given_api(delivery.provider), "group_by=class") == []
