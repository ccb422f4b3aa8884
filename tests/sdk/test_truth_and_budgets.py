"""Discrepancies, evidence of service, budgets and usage by the SDK and the command line, against the application."""

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from ciyuan.errors import CiyuanError
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from core import clock
from metering_ingest import tasks
from metering_ingest.models import Probe
from tests.given import NOW, Api, given_api, given_organization
from tests.metering.given import given_meter, given_meter_key
from tests.metering.test_reconciliation import Metered, scrape
from tests.metering.test_service import Story
from tests.metering.test_settlement import mine
from tests.sdk.in_process import client_of, commands


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch, one_transaction: None) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


@pytest.fixture
def ciyuan(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
    return commands(monkeypatch, capsys)


@pytest.mark.django_db
def test_a_gateway_asks_and_settles(ciyuan: Any) -> None:
    exchange = client_of(given_api(given_organization()))
    row = exchange.budgets.set(period="day", standard_tokens=1_000, key="alice", hard=True, alert_thousandths=[500])
    assert (row.subject, row.key, row.limit, row.unit) == ("key", "alice", Decimal(1_000), "tokens")
    allowed = exchange.authorizations.ask(standard_tokens=900, key="alice", tags={"team": "search"})
    with pytest.raises(CiyuanError) as refused:
        exchange.authorizations.ask(standard_tokens=101, key="alice")
    assert refused.value.code == "budget-exceeded"
    settled = exchange.authorizations.settle(allowed.id, standard_tokens=Decimal("12.5"))
    assert (settled.state, settled.used_standard_tokens) == ("settled", Decimal("12.5"))
    assert exchange.authorizations.get(allowed.id).state == "settled"
    assert [a.id for a in exchange.authorizations.list(state="settled")] == [allowed.id]
    window = exchange.budgets.get(row.id).windows[0]
    assert (window.settled, window.left, window.alerts) == (Decimal("12.5"), Decimal("987.5"), [500])
    assert exchange.budgets.change(row.id, standard_tokens=20).limit == 20

    code, out, _ = ciyuan(
        exchange, "budget", "set", "--period", "month", "--yuan", "5.00", "--tag", "team:ads", "--json"
    )
    assert (code, json.loads(out)["value"]) == (0, "ads")
    code, out, err = ciyuan(exchange, "authorization", "ask", "--tokens", "500", "--key", "alice")
    assert (code == 1 and "max_price" in err) or "left" in err
    assert "alice" in ciyuan(exchange, "budget", "list")[1]
    assert exchange.budgets.close(row.id).closed_at


@pytest.mark.django_db
def test_a_discrepancy_from_both_sides(ciyuan: Any, tmp_path: Any) -> None:
    delivery = Metered()
    delivery.both(provider=1_000, buyer=800)
    delivery.settle()
    buyer, provider = client_of(given_api(delivery.buyer)), client_of(given_api(delivery.provider))
    operator = client_of(given_api(delivery.operator))
    row = next(buyer.discrepancies.list(state="open"))
    assert (row.held_quantity, row.buyer_quantity) == (200, 800)
    file = tmp_path / "log.csv"
    file.write_text("id,tokens\n")
    assert ciyuan(buyer, "discrepancy", "comment", str(row.id), "see our log", "--attach", str(file))[0] == 0
    assert provider.discrepancies.comment(row.id, "ours differs").side == "provider"
    code, out, _ = ciyuan(operator, "discrepancy", "show", str(row.id))
    assert code == 0 and "see our log [log.csv]" in out and "provider, comment: ours differs" in out
    assert [c.agrees for c in buyer.discrepancies.compare(delivery.contract.pk)] == [True, False]
    code, out, _ = ciyuan(
        operator, "discrepancy", "decide", str(row.id), "--accepted", "800", "--reason", "the log shows it", "--json"
    )
    assert code == 0 and json.loads(out)["state"] == "decided"
    assert "decided" in ciyuan(buyer, "discrepancy", "list")[1]


@pytest.mark.django_db
def test_an_engines_counters_and_usage_as_files(ciyuan: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = Metered()
    engine = client_of(Api(given_meter_key(given_meter(delivery.deployment, role="engine"))))
    assert engine.meters.read_counters(scrape(10, 5))["counters"] == 3
    delivery.report(mine("a", output_tokens=300, tags={"team": "search"}))
    exchange = client_of(given_api(delivery.buyer))
    row = exchange.usage.query(group_by=["tag:team"], **{"class": "output.text"})[0]
    assert (row["tag:team"], row.quantity, row.estimate) == ("search", 300, True)
    assert exchange.exports.usage_parquet(group_by="class")[:4] == b"PAR1"
    assert exchange.exports.usage_csv(group_by="class").startswith(b"class,quantity")
    file = tmp_path / "usage.parquet"
    assert ciyuan(exchange, "usage", "--group-by", "model", "--parquet", str(file))[0] == 0
    assert file.read_bytes()[:4] == b"PAR1"
    code, out, err = ciyuan(exchange, "usage", "--group-by", "model")
    assert code == 0 and "~" in out and "estimate" in err


@pytest.mark.django_db
def test_what_the_evidence_shows_and_an_objection(ciyuan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    story.reported()
    for signal in (request_started, request_finished):  # the test client has connected it again
        signal.disconnect(close_old_connections)
    Probe.objects.create(deployment=story.deployment, at=story.start, ok=False, reason="timeout", prompt=0)
    monkeypatch.setattr(clock, "now", lambda: story.market.window_end + timedelta(seconds=501))
    assert tasks.review_service() == 1
    buyer, provider, operator = (client_of(api) for api in (story.buys, story.sells, story.operator))
    [row] = provider.service.findings(contract=story.contract.pk)
    number = str(row.id)
    code, out, _ = ciyuan(buyer, "service", "findings")
    assert code == 0 and "15,000" in out and "open" in out
    code, out, _ = ciyuan(provider, "service", "show", number)
    assert code == 0 and out.count("failed: gateway yes, guard ") == 15
    assert ciyuan(buyer, "service", "minutes", "--contract", str(story.contract.pk))[1].count("gateway") == 50
    assert "timeout" in ciyuan(provider, "service", "probes", "--deployment", str(story.deployment.pk))[1]
    code, out, _ = ciyuan(provider, "service", "object", number, "--note", "the buyer's network")
    assert code == 0 and "disputed" in out
    code, _, err = ciyuan(provider, "service", "object", number, "--note", "as I said")
    assert code == 1 and "already" in err
    assert "objects: the buyer's network" in ciyuan(buyer, "service", "show", number)[1]
    assert ciyuan(buyer, "service", "rule", number, "upheld", "--note", "mine")[0] == 1
    code, out, _ = ciyuan(operator, "service", "rule", number, "rejected", "--note", "their network", "--json")
    assert code == 0 and json.loads(out)["state"] == "rejected"
