"""
A promise is missed, told through the API: answers of an hour were late and ten minutes failed, as guard and gateway
both report. The buyer gets a tenth of the late hour's price back and what was not delivered with the penalty; the
provider's bond bears it, its score falls, and the audit is clean.
"""

from decimal import Decimal

import pytest
from django.core.management import call_command

from billing.domain.accounts import default_fund
from billing.tasks import issue_due_invoices
from exchange.tasks import advance_market
from metering_ingest.models import ServiceFinding
from metering_ingest.tasks import review_service, settle_market
from providers.queries import delivered_thousandths
from tests import test_non_delivery as story
from tests.given import Api
from tests.test_non_delivery import WORK, Cast, ok, time, when, yuan

__all__ = ["time"]
pytestmark = pytest.mark.django_db(transaction=True)
PRICE = Decimal("0.002")
PROMISE = {
    "first_token_p95_ms": 500, "per_token_p95_ms": 50, "error_share_thousandths": 10,
    "late_reduction_thousandths": 100,
}  # fmt: skip


def test_a_missed_promise_is_paid_for(time, monkeypatch, capsys):
    for name, value in PROMISE.items():
        monkeypatch.setitem(story.GRADE, name, value)
    cast = Cast()
    for minutes in (30, 45, 60):
        time(minutes)
        advance_market(cast.market)
    [contract] = ok(cast.buys.get("/v1/contracts"))["items"]
    gateway = Api(ok(cast.buys.post("/v1/meters", {"name": "gateway", "role": "buyer"}))["secret"])
    guard = Api(cast.door_a.headers["Authorization"].removeprefix("Bearer "))
    time(90)
    cast.serve(cast.door_a, contract["id"], range(10))
    rows = [
        {
            "minute": when(60 + n), "deployment": cast.deployment_a, "contract": contract["id"], "served": 20,
            "failed": 20 if n < 10 else 0, "first_measured": 20, "first_late": 2, "first_token_ms": 900,
        }
        for n in range(30)
    ]  # fmt: skip
    time(121)
    for side in (guard, gateway):
        up = [{"minute": when(60 + n), "deployment": cast.deployment_a} for n in range(30, 60) if side is guard]
        assert ok(side.post("/v1/service/reports", {"run": "r", "minutes": rows + up})) ["new"] == 30 + len(up)

    # Half of the grace is over: looked at. Nine tenths: it stands. All of it: settled.
    time(125.1)
    assert review_service() == 1
    [finding] = ok(cast.sells_a.get("/v1/service/findings"))["items"]
    rate = contract["tokens_per_minute"]
    assert (len(finding["minutes"]), finding["quantity"], len(finding["late_hours"])) == (10, 10 * rate, 1)
    time(129.1)
    assert review_service() == 1
    time(130.1)
    settle_market(cast.market)
    issue_due_invoices()
    used = 10 * WORK
    late, penalty = used * PRICE / 10, 10 * rate * PRICE / 5
    bought, sold = cast.lines(cast.buys, "invoices"), cast.lines(cast.sells_a, "statements")
    assert sorted(bought["penalty"]) == sorted(-x.quantize(Decimal("0.01")) for x in (late, penalty))
    assert sum(sold["penalty"]) == sum(bought["penalty"]) == -sum(sold["from_bond"])
    assert yuan(default_fund()) == 0 and (delivered_thousandths(cast.a.pk) or 0) < 1_000
    assert ServiceFinding.objects.get().late_work_micro_st == int(used * 1_000_000)
    call_command("audit")
    call_command("rerate")
    assert "clean" in capsys.readouterr().out
