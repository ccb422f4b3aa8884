"""
A provider fails, told through the API: it withdraws in the window, another one's unsold offer replaces what it can, and
the invoice, the refund, the penalty and who bears them come out right.

Provider A sells 200 lots at ¥0.002 and has ¥80 of bond in them; B's 100 lots at ¥0.0025 stay unsold. Half an hour
before the window ends, A withdraws 120 lots. B can still deliver 50 of them: A bears ¥25 more for these. 70 lots are
refunded with a fifth on top: ¥140 and ¥28. A claim of 1,000 tokens that A accepts after the settlement adds ¥2 and
¥0.40.
"""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from billing.domain.accounts import available, bond, default_fund, escrow, payable
from billing.queries import account_balance
from billing.tasks import issue_due_invoices
from core import clock
from exchange.tasks import advance_market
from identity.auth import forget_cached_keys
from metering_ingest.actions import attribution, partitions
from metering_ingest.tasks import finalize_due_markets, settle_late_usage, settle_market
from providers.queries import delivered_thousandths, delivery_scores
from tests.given import NOW, Api, given_accelerator, given_api, given_model, given_organization
from tests.metering.given import Door

pytestmark = pytest.mark.django_db(transaction=True)

GRADE = {
    "slug": "reference-7b-batch-cn", "name": "Reference 7B, batch", "model": "reference-7b", "precisions": ["bf16"],
    "service_class": "batch", "region": "cn", "max_context_tokens": 32_768, "max_output_tokens": 8_192,
    "take_or_pay_thousandths": 600, "grace_seconds": 600, "dispute_days": 2, "tick": "0.0001", "min_order": 1_000,
}  # fmt: skip
WORK = Decimal("195.481948")  # standard tokens of one of the story's requests


@pytest.fixture
def time(monkeypatch):
    """A clock that the story moves: `time(minutes)` after the start."""
    forget_cached_keys()
    attribution.forget_cached_routes()
    partitions.forget_known_days()

    def at(minutes):
        moment = NOW + timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda: moment)
        return moment

    at(0)
    return at


def when(minutes):
    return (NOW + timedelta(minutes=minutes)).isoformat()


def ok(answer):
    assert answer.status_code in (200, 201, 202), answer.content.decode()
    return answer.json()


def yuan(account):
    return Decimal(account_balance(account).posted_micro) / 1_000_000


class Cast:
    """Operator, two providers with a deployment and a meter each, and a buyer, all with ¥1,000 but the operator."""

    def __init__(self) -> None:
        self.operator = given_api(given_organization("operator"))
        self.a, self.b, self.c = given_organization("provider"), given_organization("provider"), given_organization()
        self.sells_a, self.sells_b, self.buys = map(given_api, (self.a, self.b, self.c))
        for organization in (self.a, self.b, self.c):
            ok(self.operator.post("/v1/deposits", {
                "organization": organization.pk, "amount": "1000.00", "reference": f"bank {organization.pk}",
            }))  # fmt: skip
        given_model("reference-7b"), given_accelerator("h100")
        ok(self.operator.post("/v1/grades", GRADE))
        self.market = ok(self.operator.post("/v1/markets", {
            "grade": GRADE["slug"], "window": {"start": when(60), "end": when(120)}, "call_opens_at": when(0),
            "call_closes_at": when(30), "gate_closes_at": when(45), "cap_price": "0.005", "reference_price": "0.002",
        }))["id"]  # fmt: skip
        advance_market(self.market)
        self.deployment_a, self.door_a, self.capacity_a = self.supply(self.sells_a, 200_000, "0.002")
        self.deployment_b, self.door_b, self.capacity_b = self.supply(self.sells_b, 100_000, "0.0025")
        ok(self.buys.post("/v1/orders", {
            "market": self.market, "side": "buy", "type": "limit", "price": "0.003", "quantity": 200_000,
        }))  # fmt: skip

    def supply(self, api: Api, quantity: int, reserve: str, name: str = "hall 1"):
        deployment = self.deploy(api, name)
        meter = ok(api.post("/v1/meters", {"name": f"gw {name}", "role": "provider", "deployment": deployment}))
        capacity = ok(api.post("/v1/capacity", {
            "deployment": deployment, "market": self.market, "quantity": quantity, "tokens_per_minute": 5_000,
            "reserve_price": reserve, "list_price": "0.005",
        }))["id"]  # fmt: skip
        return deployment, Door(meter["secret"]), capacity

    def deploy(self, api: Api, name: str) -> int:
        return ok(api.post("/v1/deployments", {
            "name": name, "grade": GRADE["slug"], "accelerator": "h100", "accelerator_count": 8, "engine": "vllm",
            "precision": "bf16", "region": "cn-north", "endpoint": f"https://{name.replace(' ', '')}.example/v1",
            "rated_tokens_per_minute": 10_000,
        }))["id"]  # fmt: skip

    def serve(self, door: Door, contract: int, requests: range) -> None:
        events = [
            {
                "specversion": "1.0", "type": "ciyuan.usage", "id": f"request-{number}", "source": "gateway",
                "subject": str(contract), "time": when(61 + number),
                "data": {"input_tokens": 4_808, "cached_input_tokens": 4_096, "output_tokens": 10},
            }
            for number in requests
        ]  # fmt: skip
        assert {result["status"] for result in door.post(events).json()["results"]} == {"accepted"}

    def lines(self, api: Api, side: str) -> dict[str, list[Decimal]]:
        """Amounts by kind over all of one's documents, as printed."""
        found: dict[str, list[Decimal]] = {}
        for document in ok(api.get(f"/v1/{side}"))["items"]:
            for line in ok(api.get(f"/v1/{side}/{document['id']}"))["lines"]:
                found.setdefault(line["kind"], []).append(Decimal(line["amount"]))
        return found


def test_a_provider_withdraws_in_the_window_and_another_delivers(time, capsys):
    cast = Cast()
    scope = f"market:{cast.market}"
    for minutes in (30, 45, 60):
        time(minutes)
        advance_market(cast.market)
    [contract] = ok(cast.buys.get("/v1/contracts"))["items"]
    assert (contract["provider"], contract["quantity"]) == (cast.a.pk, 200_000)
    assert yuan(bond(cast.a.pk, scope)) == 80 and yuan(escrow(scope)) == 400

    # A has served ten requests when it withdraws. What is delivered cannot be withdrawn, nor what others sold.
    time(90)
    cast.serve(cast.door_a, contract["id"], range(10))
    too_much = cast.sells_a.post("/v1/shortfalls", {"contract": contract["id"], "quantity": 199_000})
    assert (too_much.status_code, too_much.json()["code"]) == (400, "more-than-undelivered")
    assert cast.sells_b.post("/v1/shortfalls", {"contract": contract["id"], "quantity": 1_000}).status_code == 404
    [report] = ok(cast.sells_a.post("/v1/shortfalls", {"contract": contract["id"], "quantity": 120_000}))["items"]
    assert (report["replaced"], report["penalty_thousandths"]) == (50_000, 200)

    # The buyer has a contract with B now, with an access token; both see the shortfall, and A owes less.
    theirs = report["replacements"][0]["contract"]
    shown = ok(cast.buys.get(f"/v1/contracts/{theirs}"))
    assert (shown["provider"], shown["quantity"], shown["lots"][0]["price"]) == (cast.b.pk, 50_000, "0.002")
    assert ok(cast.sells_b.get(f"/v1/contracts/{theirs}"))["lots"][0]["price"] == "0.0025"
    assert ok(cast.buys.get(f"/v1/contracts/{theirs}/access"))["endpoint"] == "https://hall1.example/v1"
    assert [row["quantity"] for row in ok(cast.sells_b.get("/v1/deliveries"))["items"]] == [50_000]
    assert [row["quantity"] for row in ok(cast.sells_a.get("/v1/deliveries"))["items"]] == [80_000]
    assert [row["id"] for row in ok(cast.buys.get("/v1/shortfalls"))["items"]] == [report["id"]]
    assert yuan(escrow(scope)) == 300 + 125 and yuan(bond(cast.a.pk, scope)) == 80 - 25
    assert yuan(bond(cast.b.pk, scope)) == 25
    capacity = ok(cast.sells_b.delete(f"/v1/capacity/{cast.capacity_b}"))
    assert capacity["withdrawn"] == 50_000  # what replaces another's delivery is sold
    time(115)
    cast.serve(cast.door_b, theirs, range(30, 50))

    # Three requests to A fail; the buyer claims them in time, and the settlement is preliminary.
    time(125)
    claim = ok(cast.buys.post("/v1/claims", {
        "contract": contract["id"], "requests": ["request-97", "request-98", "request-9"], "quantity": 1_000,
    }))  # fmt: skip
    assert (claim["state"], claim["metered"]) == ("open", 1)
    again = cast.buys.post("/v1/claims", {"contract": contract["id"], "requests": ["request-98"], "quantity": 1})
    assert again.json()["code"] == "request-claimed"
    time(131)
    settle_market(cast.market)
    assert yuan(escrow(scope)) == 0
    assert yuan(bond(cast.a.pk, scope)) == Decimal("2.4")  # what the open claim may cost
    assert yuan(bond(cast.b.pk, scope)) == 0
    assert delivered_thousandths(cast.a.pk) == 400 and delivered_thousandths(cast.b.pk) == 1_000

    # The buyer gets the price of what is missing back, with a fifth on top; 40% of the price of what it left unused.
    unused = 150_000 - 70_000 - 10 * WORK
    used_b, unused_b = 20 * WORK, 50_000 - 20 * WORK
    back = 140 + 28 + (unused + unused_b) * Decimal("0.0008")
    assert yuan(available(cast.c.pk)) == 600 + back.quantize(Decimal("0.000001"))

    # A accepts the claim, twice by mistake: the difference alone is pushed. After two days all is final.
    time(140)
    assert cast.sells_b.post(f"/v1/claims/{claim['id']}/acceptance").status_code == 404
    ok(cast.sells_a.post(f"/v1/claims/{claim['id']}/acceptance"))
    assert cast.sells_a.post(f"/v1/claims/{claim['id']}/acceptance").json()["code"] == "claim-decided"
    settle_late_usage()
    settle_late_usage()
    back += Decimal("2.4") - 1_000 * Decimal("0.0008")
    assert yuan(available(cast.c.pk)) == 600 + back.quantize(Decimal("0.000001"))
    finalize_due_markets()
    assert ok(cast.operator.get(f"/v1/markets/{cast.market}"))["finalized_at"] is None
    time(131 + 2 * 24 * 60)
    finalize_due_markets()
    finalize_due_markets()
    assert ok(cast.operator.get(f"/v1/markets/{cast.market}"))["finalized_at"] is not None
    assert yuan(bond(cast.a.pk, scope)) == yuan(escrow(scope)) == yuan(default_fund()) == 0
    assert [score.undelivered_tokens for score in delivery_scores(cast.a.pk)] == [121_000, 120_000]

    # Documents say it line by line, and add up to what moved.
    issue_due_invoices()
    invoice, statement = cast.lines(cast.buys, "invoices"), cast.lines(cast.sells_a, "statements")
    assert invoice.keys() == {"used", "unused", "undelivered", "penalty"}
    assert sum(invoice["penalty"]) == Decimal("-28.40")
    assert statement.keys() == {"used", "unused", "undelivered", "penalty", "replacement", "from_bond", "platform_fee"}
    assert sum(statement["replacement"]) == -25 and sum(statement["penalty"]) == Decimal("-28.40")
    assert sum(statement["from_bond"]) == Decimal("53.40")
    spent = sum(sum(amounts) for amounts in invoice.values())
    assert abs(1_000 - spent - yuan(available(cast.c.pk))) < Decimal("0.02")
    earned_b = (used_b + unused_b) * Decimal("0.0025") - unused_b * Decimal("0.0008")
    assert abs(yuan(payable(cast.b.pk)) - earned_b * Decimal("0.98")) < Decimal("0.02")
    assert yuan(available(cast.a.pk)) == 1_000 - Decimal("53.40")
    issued = ok(cast.sells_a.get("/v1/statements"))["items"]
    assert abs(sum(Decimal(row["total"]) for row in issued) - yuan(payable(cast.a.pk))) < Decimal("0.01")

    call_command("audit")
    assert "audit: clean" in capsys.readouterr().out
