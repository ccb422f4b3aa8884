"""
The whole story on one page: capacity published → auction → delivery → metering → invoice, each through its door.

The figures are small enough to follow by hand. One provider offers 300 lots at ¥0.002 a token; two buyers bid 200 lots
at ¥0.003 and 100 at ¥0.001. At ¥0.002 and ¥0.003 alike 200 lots trade; sellers are left over, so the
lowest decides: ¥0.002. The buyer uses a part, pays all of it at that price (60% for what it leaves unused), and the
provider gets that less the platform's 2%.
"""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from billing.tasks import issue_due_invoices
from core import clock
from exchange.tasks import advance_market
from identity.auth import forget_cached_keys
from metering_ingest.actions import attribution, partitions
from metering_ingest.tasks import settle_market
from tests.given import NOW, given_accelerator, given_api, given_model, given_organization
from tests.metering.given import Door

pytestmark = pytest.mark.django_db(transaction=True)

GRADE = {
    "slug": "reference-7b-batch-cn", "name": "Reference 7B, batch", "model": "reference-7b", "precisions": ["bf16"],
    "service_class": "batch", "region": "cn", "max_context_tokens": 32_768, "max_output_tokens": 8_192,
    "take_or_pay_thousandths": 600, "grace_seconds": 10, "tick": "0.0001", "min_order": 1_000,
}  # fmt: skip


@pytest.fixture
def time(monkeypatch):
    """A clock that the story moves: `time(minutes)` after the start."""
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()

    def at(minutes, seconds=0):
        moment = NOW + timedelta(minutes=minutes, seconds=seconds)
        monkeypatch.setattr(clock, "now", lambda: moment)
        return moment

    at(0)
    return at


def when(minutes):
    return (NOW + timedelta(minutes=minutes)).isoformat()


def ok(answer):
    assert answer.status_code in (200, 201, 202), answer.content.decode()
    return answer.json()


def test_from_published_capacity_to_a_paid_invoice(time, capsys):
    # The operator lets parties in, enters what they have paid, and publishes a grade and a market.
    operator = given_api(given_organization("operator"))
    provider, buyer, other = given_organization("provider"), given_organization(), given_organization()
    sells, buys, outbid, stranger = map(given_api, (provider, buyer, other, given_organization("both")))
    for organization, amount in ((provider, "1000.00"), (buyer, "1000.00"), (other, "1000.00")):
        ok(
            operator.post(
                "/v1/deposits",
                {"organization": organization.pk, "amount": amount, "reference": f"bank {organization.pk}"},
            )
        )
    given_model("reference-7b"), given_accelerator("h100")
    ok(operator.post("/v1/grades", GRADE))
    market = ok(operator.post("/v1/markets", {
        "grade": GRADE["slug"], "window": {"start": when(60), "end": when(120)},
        "call_opens_at": when(0), "call_closes_at": when(30),
        "gate_closes_at": when(45), "cap_price": "0.005", "reference_price": "0.002",
    }))["id"]  # fmt: skip

    # The provider registers a deployment with its meter, and publishes capacity, which is offered at once.
    time(1)
    advance_market(market)
    deployment = ok(sells.post("/v1/deployments", {
        "name": "hall 3", "grade": GRADE["slug"], "accelerator": "h100", "accelerator_count": 8, "engine": "vllm",
        "precision": "bf16", "region": "cn-north", "endpoint": "https://kunlun.example/v1",
        "rated_tokens_per_minute": 10_000,
    }))["id"]  # fmt: skip
    meter = ok(sells.post("/v1/meters", {"name": "gateway", "role": "provider", "deployment": deployment}))
    ok(sells.post("/v1/aliases", {"subject": "customer-7", "buyer": buyer.pk}))
    ok(sells.post("/v1/capacity", {
        "deployment": deployment, "market": market, "quantity": 300_000, "tokens_per_minute": 5_000,
        "reserve_price": "0.002", "list_price": "0.005",
    }))  # fmt: skip

    # Two buyers bid; each bid holds what it may cost.
    bid = {"market": market, "side": "buy", "type": "limit"}
    ok(buys.post("/v1/orders", bid | {"price": "0.003", "quantity": 200_000}))
    ok(outbid.post("/v1/orders", bid | {"price": "0.001", "quantity": 100_000}))
    assert ok(buys.get("/v1/balance"))["held"] == "600.00"

    # The call closes: one price for all, and the rule that decided it. The loser's money is free again.
    time(30)
    advance_market(market)
    [auction] = ok(stranger.get(f"/v1/auctions?market={market}"))["items"]
    assert (auction["price"], auction["volume"], auction["rule"]) == ("0.002", 200_000, "ask_surplus")
    time(45)
    advance_market(market)
    assert ok(outbid.get("/v1/balance"))["available"] == "1000.00"
    assert ok(buys.get("/v1/balance"))["available"] == "600.00"

    # The gate has closed: a delivery contract, with an access token that only its buyer gets.
    [contract] = ok(buys.get("/v1/contracts"))["items"]
    assert contract["quantity"] == 200_000
    assert ok(buys.get(f"/v1/contracts/{contract['id']}/access"))["endpoint"] == "https://kunlun.example/v1"
    assert stranger.get(f"/v1/contracts/{contract['id']}").status_code == 404
    [delivery] = ok(sells.get("/v1/deliveries"))["items"]
    assert delivery["contract"] == contract["id"]

    # In the window the provider's meter streams what was used: twice, because the first answer was lost.
    time(60)
    advance_market(market)
    used = [
        {
            "specversion": "1.0", "type": "ciyuan.usage", "id": f"request-{number}", "source": "gateway",
            "subject": "customer-7", "time": when(61 + number),
            "data": {"input_tokens": 4_808, "cached_input_tokens": 4_096, "output_tokens": 10},
        }
        for number in range(50)
    ]  # fmt: skip
    time(115)
    door = Door(meter["secret"])
    first, again = door.post(used).json(), door.post(used).json()
    assert {result["status"] for result in first["results"]} == {"accepted"}
    assert {result["status"] for result in again["results"]} == {"duplicate"}

    # The window and its grace are over: settlement, then documents. 50 × (118.223031 + 62.763577 + 14.49534) tokens.
    time(120, seconds=11)
    settle_market(market)
    settle_market(market)
    issue_due_invoices()
    work = 50 * Decimal("195.481948")
    used_amount = (work * Decimal("0.002")).quantize(Decimal("0.000001"))
    unused_amount = ((200_000 - work) * Decimal("0.002") * Decimal("0.6")).quantize(Decimal("0.000001"))
    [invoice] = ok(buys.get("/v1/invoices"))["items"]
    assert Decimal(invoice["total"]) == (used_amount + unused_amount).quantize(Decimal("0.01"))
    lines = ok(buys.get(f"/v1/invoices/{invoice['id']}"))["lines"]
    assert [(line["kind"], line["price"]) for line in lines] == [("used", "0.002"), ("unused", "0.002")]
    assert [Decimal(line["standard_tokens"]) for line in lines] == [work, 200_000 - work]
    [statement] = ok(sells.get("/v1/statements"))["items"]
    earned = (used_amount + unused_amount) * Decimal("0.98")
    assert abs(Decimal(statement["total"]) - earned) < Decimal("0.01")
    assert ok(operator.get(f"/v1/markets/{market}"))["phase"] == "settled"
    assert stranger.get(f"/v1/invoices/{invoice['id']}").status_code == 404

    # And the books agree with themselves.
    call_command("audit")
    assert "audit: clean" in capsys.readouterr().out
