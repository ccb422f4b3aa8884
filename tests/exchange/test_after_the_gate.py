"""After the gate: withdrawal, substitution, exclusions and what they leave unplaced, roll-over, claims; and races."""

import os
import signal
from datetime import timedelta
from functools import partial

import pytest
from django.core.management import call_command
from django.db import connections, transaction

from billing.domain.accounts import available, bond, default_fund, escrow
from billing.queries import account_balance
from core import clock
from core.transactions import durable
from exchange.actions.advance import advance
from exchange.actions.gate import begin_delivery, close_gate
from exchange.actions.rolling import roll_over
from exchange.actions.shortfalls import GateStillOpen, withdraw
from exchange.models import ContractDeployment, DeliveryContract, Market, Offer, Replacement, Shortfall
from exchange.queries import offers_to_roll
from identity.actions.organizations import create_organization
from metering_ingest.actions import claims, finality
from metering_ingest.actions.settlement import settle_market
from metering_ingest.models import Claim, ClaimRuling, LateUsage
from providers.actions.capacity import CapacityAlreadySold
from providers.models import Capacity
from tests.given import (
    advanced,
    given_api,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
)

pytestmark = pytest.mark.django_db
MICRO = 1_000_000


def micro(account):
    return account_balance(account).posted_micro


class Sold:
    """
    A market after its gate: A has sold `lots` of its 90 at ¥0.002, B offers 40 at ¥0.0025 that stay unsold. The window
    is an hour, from two hours after now unless `ahead` says otherwise.
    """

    def __init__(self, lots=60, ahead=timedelta(hours=2), offers_b=40, excluded=(), **grade):
        self.now = clock.now()
        self.grade = given_grade(**{"grace_seconds": 600, "dispute_days": 1, "take_or_pay_thousandths": 500, **grade})
        self.a, self.b = given_money(given_organization("provider")), given_money(given_organization("provider"))
        self.buyer = given_money(given_organization("buyer"))
        self.deployment_a = given_deployment(self.a, self.grade)
        self.deployment_b = given_deployment(self.b, self.grade)
        window = {"start": self.now + ahead, "hours": 1}
        self.market = given_market(
            self.grade, now=self.now, gate_closes_at=self.now + min(ahead, timedelta(minutes=20)),
            call_closes_at=self.now + min(ahead, timedelta(minutes=10)),
            window=_window(**window),
        )  # fmt: skip
        self.api_a, self.api_b, self.buys = given_api(self.a), given_api(self.b), given_api(self.buyer)
        for provider in excluded:
            assert self.buys.post("/v1/exclusions", {"provider": getattr(self, provider).pk}).status_code == 201
        self.capacity_a = self.offer(self.api_a, self.deployment_a, 90, "0.002")
        self.capacity_b = self.offer(self.api_b, self.deployment_b, offers_b, "0.0025") if offers_b else None
        given_orders(self.buyer, {"market": self.market, "side": "buy", "lots": lots, "price": 30}, now=self.now)
        advanced(self.market)

    def offer(self, api, deployment, lots, price, **fields):
        answer = api.post("/v1/capacity", {
            "deployment": deployment.pk, "market": self.market.pk, "quantity": lots * 1_000,
            "tokens_per_minute": 2_000, "reserve_price": price, "list_price": "0.005", **fields,
        })  # fmt: skip
        assert answer.status_code == 201, answer.json()
        return answer.json()["id"]

    @property
    def contract(self):
        return DeliveryContract.objects.get(market=self.market, provider=self.a)

    def report(self, lots, api=None, **fields):
        body = {"contract": self.contract.pk, "quantity": int(lots * 1_000), **fields}
        return (api or self.api_a).post("/v1/shortfalls", body)

    def after(self, monkeypatch, **delta):
        """Let the clock stand so long after the window's start."""
        moment = self.market.window_start + timedelta(**delta)
        monkeypatch.setattr(clock, "now", lambda: moment)
        return moment

    def settle(self, now=None):
        now = now or self.market.window_end + timedelta(seconds=600)
        with transaction.atomic():
            begin_delivery(market_id=self.market.pk, now=now)
        with transaction.atomic():
            return settle_market(market_id=self.market.pk, now=now)


def _window(start, hours):
    from core.periods import Period

    return Period(start, start + timedelta(hours=hours))


def audit_is_clean():
    call_command("audit")


def test_two_hours_ahead_everything_is_replaced_that_is_on_offer_and_the_rest_costs_a_tenth():
    sold = Sold()
    bond_before = micro(bond(sold.a.pk, sold.market.scope))
    assert bond_before == 60 * 2 * MICRO // 5
    [report] = sold.report(50).json()["items"]
    assert (report["replaced"], report["penalty_thousandths"]) == (40_000, 100)
    assert micro(bond(sold.a.pk, sold.market.scope)) == bond_before - 40 * MICRO // 2  # ¥0.0005 more for each token
    assert micro(escrow(sold.market.scope)) == 20 * 2 * MICRO + 40 * 25 * MICRO // 10
    assert [row.quantity_tokens for row in ContractDeployment.objects.filter(contract=sold.contract, until=None)] == [
        10_000
    ]
    sold.settle()
    # 10 lots are refunded with a tenth on top; of the 50 others half the price comes back, for nothing was used.
    assert micro(available(sold.buyer.pk)) == 1_000_000 * MICRO - 120 * MICRO + 22 * MICRO + 50 * MICRO
    assert micro(escrow(sold.market.scope)) == micro(default_fund()) == 0
    assert micro(bond(sold.a.pk, sold.market.scope)) == micro(bond(sold.b.pk, sold.market.scope)) == 0
    audit_is_clean()


def test_a_cheaper_replacement_leaves_the_difference_to_the_default_account_and_a_dear_one_is_not_taken():
    sold = Sold(lots=130, offers_b=60)  # both sell at ¥0.0025 now; A's 90 and B's 40
    other = given_money(given_organization("provider"))
    assert DeliveryContract.objects.count() == 2
    assert sold.contract.lots.get().buyer_price_nano == 2_500_000
    theirs = given_deployment(other, sold.grade)
    del theirs
    [report] = sold.report(30).json()["items"]
    assert report["replaced"] == 20_000  # what B has left, at the price that A had sold at
    assert Replacement.objects.get().cost_micro == 0
    assert report["replacements"][0]["contract"] == DeliveryContract.objects.get(provider=sold.b).pk
    merged = DeliveryContract.objects.get(provider=sold.b)
    assert merged.quantity_tokens == 60_000 and merged.lots.count() == 2
    audit_is_clean()


def test_whom_the_buyer_excludes_does_not_replace_either():
    sold = Sold(excluded=["b"])
    [report] = sold.report(10).json()["items"]
    assert report["replaced"] == 0
    assert sold.buys.post("/v1/exclusions", {"provider": sold.buyer.pk}).json()["code"] == "cannot-exclude"
    assert [row["provider"] for row in sold.buys.get("/v1/exclusions").json()["items"]] == [sold.b.pk]
    for _ in range(2):
        given_money(more := given_organization("provider"))
        assert sold.buys.post("/v1/exclusions", {"provider": more.pk}).status_code == 201
    refused = sold.buys.post("/v1/exclusions", {"provider": sold.a.pk})
    assert (refused.status_code, refused.json()["code"]) == (409, "too-many-exclusions")
    assert sold.buys.delete(f"/v1/exclusions/{sold.b.pk}").status_code == 200
    assert sold.buys.delete(f"/v1/exclusions/{sold.b.pk}").status_code == 404
    assert sold.api_a.post("/v1/exclusions", {"provider": sold.b.pk}).json()["code"] == "not-a-buyer"


def test_the_outage_of_a_capacity_is_spread_over_its_contracts():
    sold = Sold(lots=60, offers_b=0)
    answer = sold.api_a.post("/v1/shortfalls", {"capacity": sold.capacity_a, "quantity": 15_000, "note": "fire"})
    [report] = answer.json()["items"]
    assert (report["quantity"], report["note"], report["replaced"]) == (15_000, "fire", 0)
    again = sold.api_a.post("/v1/shortfalls", {"capacity": sold.capacity_a, "quantity": 46_000})
    assert (again.status_code, again.json()["left"]) == (400, 45_000)
    assert sold.api_b.post("/v1/shortfalls", {"capacity": sold.capacity_a, "quantity": 1_000}).status_code == 404
    neither = sold.api_a.post("/v1/shortfalls", {"quantity": 1_000})
    assert neither.json()["code"] == "name-contract-or-capacity"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"lots": 0.5}, "quantity-not-in-lots"),
        ({"lots": 61}, "more-than-undelivered"),
        ({"lots": 1, "begins_at": "2020-01-01T00:00:00Z"}, "bad-beginning"),
        ({"lots": 1, "begins_at": "2120-01-01T00:00:00Z"}, "bad-beginning"),
        ({"lots": 1, "unknown": 1}, "invalid"),
    ],
)
def test_what_cannot_be_withdrawn_is_refused_and_changes_nothing(fields, code):
    sold = Sold()
    answer = sold.report(**fields)
    assert answer.status_code in (400, 409) and answer.json()["code"] == code, answer.json()
    assert not Shortfall.objects.exists() and not Replacement.objects.exists()


def test_a_repeated_report_is_one_report():
    sold = Sold()
    body = {"contract": sold.contract.pk, "quantity": 10_000}
    first, second = (sold.api_a.post("/v1/shortfalls", body, key="once") for _ in range(2))
    assert first.json() == second.json() and Shortfall.objects.count() == 1


def test_only_after_the_gate_and_before_the_windows_end(monkeypatch):
    sold = Sold()
    Market.objects.filter(pk=sold.market.pk).update(gate_closed_at=None)
    assert sold.report(1).json()["code"] == "gate-open"
    Market.objects.filter(pk=sold.market.pk).update(gate_closed_at=sold.now)
    sold.after(monkeypatch, hours=1)
    assert sold.report(1).json()["code"] == "window-over"


def test_another_deployment_serves_at_the_same_price():
    sold = Sold()
    spare = given_deployment(sold.a, sold.grade, endpoint="https://spare.example/v1")
    path, contract = f"/v1/contracts/{sold.contract.pk}/substitutions", sold.contract
    body = {"from_deployment": sold.deployment_a.pk, "to_deployment": spare.pk}
    before = sold.buys.get(f"/v1/contracts/{contract.pk}").json()
    assert sold.api_b.post(path, body).status_code == 404
    assert sold.api_a.post(path, body | {"to_deployment": sold.deployment_b.pk}).status_code == 404
    other = given_deployment(sold.a, given_grade())
    assert sold.api_a.post(path, body | {"to_deployment": other.pk}).json()["code"] == "cannot-substitute"
    slow = given_deployment(sold.a, sold.grade, rated_tokens_per_minute=900)
    assert sold.api_a.post(path, body | {"to_deployment": slow.pk}).json()["code"] == "cannot-substitute"
    assert [row["deployment"] for row in sold.api_a.post(path, body).json()["items"]] == [spare.pk]
    assert sold.api_a.post(path, body).status_code == 201  # done already
    assert sold.buys.get(f"/v1/contracts/{contract.pk}").json() == before
    assert sold.buys.get(f"/v1/contracts/{contract.pk}/access").json()["endpoint"] == "https://spare.example/v1"
    [delivery] = sold.api_a.get("/v1/deliveries").json()["items"]
    assert (delivery["deployment"], delivery["quantity"]) == (spare.pk, 60_000)
    nothing = body | {"from_deployment": slow.pk}
    assert sold.api_a.post(path, nothing).json()["code"] == "not-served-by"


def test_what_exclusions_keep_apart_is_refunded_and_published():
    sold = Sold(excluded=["a"], lots=100)  # A's 90 trade, and 10 of B's: only those can be placed
    assert [row.provider_id for row in DeliveryContract.objects.all()] == [sold.b.pk]
    scope = sold.market.scope
    shown = sold.buys.get(f"/v1/markets/{sold.market.pk}").json()
    assert shown["unplaced"] == 90_000
    assert micro(available(sold.buyer.pk)) == 1_000_000 * MICRO - 10 * 25 * MICRO // 10
    assert micro(escrow(scope)) == 10 * 25 * MICRO // 10
    assert micro(bond(sold.a.pk, scope)) == 0  # A owes nobody anything
    mine, theirs = (api.get("/v1/unplaced").json()["items"] for api in (sold.buys, sold.api_a))
    assert {row["side"] for row in mine} == {"buy"} and {row["side"] for row in theirs} == {"sell"}
    assert sum(row["quantity"] for row in mine) == sum(row["quantity"] for row in theirs) == 90_000
    assert sum(float(row["refund"]) for row in mine) == 225 and {row["refund"] for row in theirs} == {"0.00"}
    sold.settle()
    audit_is_clean()


def test_what_stays_unsold_rolls_over_to_the_next_call_once():
    sold = Sold(offers_b=0)
    Offer.objects.filter(pk=sold.capacity_a).update(rolls_over=True)
    now = sold.market.gate_closes_at
    with transaction.atomic():
        assert roll_over(capacity_id=sold.capacity_a, now=now) is None  # there is no next call yet: it waits
    assert offers_to_roll(now) == [sold.capacity_a]
    following = given_market(
        sold.grade, now=now, window=_window(sold.market.window_end, 1), call_closes_at=now + timedelta(minutes=30),
        gate_closes_at=now + timedelta(minutes=40),
    )  # fmt: skip
    with transaction.atomic():
        rolled = roll_over(capacity_id=sold.capacity_a, now=now)
    assert rolled is not None and (rolled.quantity_tokens, rolled.reserve_price_nano) == (30_000, 2_000_000)
    offer = Offer.objects.get(pk=rolled.pk)
    assert (offer.market_id, offer.state, offer.rolls_over) == (following.pk, "offered", True)
    with transaction.atomic():
        assert roll_over(capacity_id=sold.capacity_a, now=now) is None
    assert offers_to_roll(now) == [] and Capacity.objects.filter(deployment=sold.deployment_a).count() == 2


def test_claims_in_time_by_request_and_decided_once(monkeypatch):
    sold = Sold(offers_b=0)
    operator = given_api(given_organization("operator"))
    body = {"contract": sold.contract.pk, "requests": ["r-1", "r-2"], "quantity": 5_000}
    assert sold.buys.post("/v1/claims", body).json()["code"] == "claim-out-of-time"
    sold.after(monkeypatch, minutes=30)
    with transaction.atomic():
        begin_delivery(market_id=sold.market.pk, now=clock.now())
    assert sold.api_a.post("/v1/claims", body).status_code == 404
    assert sold.buys.post("/v1/claims", body | {"quantity": 61_000}).json()["code"] == "more-than-undelivered"
    assert sold.buys.post("/v1/claims", body | {"requests": ["r-1", "r-1"]}).json()["code"] == "bad-claim"
    first = sold.buys.post("/v1/claims", body).json()["id"]
    second = sold.buys.post("/v1/claims", body | {"requests": ["r-3"]}).json()["id"]
    third = sold.buys.post("/v1/claims", body | {"requests": ["r-4"]}).json()["id"]
    rule = {"verdict": "upheld", "quantity": 2_000, "note": "two of three failed"}
    assert sold.api_a.post(f"/v1/claims/{first}/ruling", rule).status_code == 403
    assert sold.api_b.post(f"/v1/claims/{first}/ruling", rule).status_code == 404
    assert operator.post(f"/v1/claims/{first}/ruling", rule | {"quantity": 5_001}).json()["code"] == "bad-claim"
    assert operator.post(f"/v1/claims/{first}/ruling", rule).json()["state"] == "upheld"
    rejected = {"verdict": "rejected", "note": "they were served"}
    assert operator.post(f"/v1/claims/{second}/ruling", rejected).json()["found_quantity"] == 0
    assert operator.post(f"/v1/claims/{second}/ruling", rule).json()["code"] == "claim-decided"
    sold.settle()
    assert micro(bond(sold.a.pk, sold.market.scope)) == 5 * 2 * MICRO * 12 // 10  # the third is open
    with pytest.raises(finality.NotFinalYet), transaction.atomic():
        finality.finalize_market(market_id=sold.market.pk, now=sold.market.window_end + timedelta(days=9))
    assert sold.api_a.post(f"/v1/claims/{third}/acceptance").json()["state"] == "accepted"
    assert LateUsage.objects.filter(contract_id=sold.contract.pk).exists()
    with transaction.atomic():
        assert finality.finalize_market(market_id=sold.market.pk, now=sold.market.window_end + timedelta(days=9))
    assert micro(bond(sold.a.pk, sold.market.scope)) == 0
    # 53 lots unused at half the price, 7 refunded with a fifth on top.
    assert micro(available(sold.buyer.pk)) == (1_000_000 - 120 + 53) * MICRO + 7 * 2 * MICRO * 12 // 10
    late = Claim.objects.create(contract=sold.contract, quantity_tokens=1, made_at=clock.now())
    assert sold.api_a.post(f"/v1/claims/{late.pk}/acceptance").json()["code"] == "settlement-final"
    audit_is_clean()




# --- races, and a process that dies ---------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_claim_accepted_and_ruled_on_at_once_is_decided_once(race):
    operator = create_operator()
    sold = Sold(offers_b=0, ahead=timedelta(minutes=20))
    now = sold.market.window_start + timedelta(minutes=30)
    made = durable(lambda: claims.make_claim(
        contract_id=sold.contract.pk, buyer_id=sold.buyer.pk, request_ids=["r"], quantity_tokens=5_000, note="",
        now=now,
    ))  # fmt: skip
    accept = partial(claims.accept_claim, claim_id=made.pk, provider=sold.a, quantity_tokens=None, note="", now=now)
    rule = partial(
        claims.rule_on_claim, claim_id=made.pk, operator=operator, upheld=True, quantity_tokens=3_000, note="", now=now
    )
    results = race(*(partial(durable, call) for call in (accept, accept, rule, rule)))
    assert sum(isinstance(result, ClaimRuling) for result in results) == 1, results
    assert sum(isinstance(result, claims.ClaimDecided) for result in results) == 3, results
    assert Shortfall.objects.count() == 1


def create_operator():
    with transaction.atomic():
        return create_organization(kind="operator", name="Operator", now=clock.now())


@pytest.mark.django_db(transaction=True)
def test_withdrawals_racing_with_each_other_and_with_the_capacity_never_lose_a_token_twice(race):
    create_operator()
    sold = Sold(lots=60, offers_b=40)
    now = clock.now()
    less = partial(
        withdraw, contract_id=sold.contract.pk, provider_id=sold.a.pk, quantity_tokens=25_000, delivered_tokens=0,
        now=now,
    )
    take_back = partial(_take_back, sold.capacity_b, sold.b.pk, now)
    results = race(*(partial(durable, call) for call in (less, less, less, take_back)))
    done = [result for result in results if isinstance(result, Shortfall)]
    assert len(done) == 2, results  # 60 lots are not 75
    capacity = Capacity.objects.get(pk=sold.capacity_b)
    replaced = sum(row.quantity_tokens for row in Replacement.objects.all())
    assert replaced + capacity.withdrawn_tokens <= 40_000
    assert sum(row.replaced_tokens for row in Shortfall.objects.all()) == replaced
    call_command("audit")


def _take_back(capacity_id, provider_id, now):
    from exchange.actions.offers import withdraw_offer

    return withdraw_offer(capacity_id=capacity_id, provider_id=provider_id, now=now)


@pytest.mark.django_db(transaction=True)
def test_a_withdrawal_racing_with_gate_closure_meets_the_gate_open_or_closed(race):
    create_operator()
    now = clock.now()
    grade = given_grade(dispute_days=1)
    seller, buyer = given_money(given_organization("provider")), given_money(given_organization("buyer"))
    market = given_market(grade, now=now)
    answer = given_api(seller).post("/v1/capacity", {
        "deployment": given_deployment(seller, grade).pk, "market": market.pk, "quantity": 90_000,
        "tokens_per_minute": 2_000, "reserve_price": "0.002", "list_price": "0.005",
    })  # fmt: skip
    given_orders(buyer, {"market": market, "side": "buy", "lots": 60, "price": 30}, now=now)
    with transaction.atomic():
        advance(market_id=market.pk, now=market.gate_closes_at)
    at = market.gate_closes_at
    close = partial(durable, partial(close_gate, market_id=market.pk, now=at))
    back = partial(durable, partial(_take_back, answer.json()["id"], seller.pk, at))

    def report():
        contract = DeliveryContract.objects.filter(market=market).first()
        if contract is None:
            return None
        return durable(partial(
            withdraw, contract_id=contract.pk, provider_id=seller.pk, quantity_tokens=60_000, delivered_tokens=0, now=at
        ))  # fmt: skip

    results = race(close, close, back, back, report, report)
    expected = (GateStillOpen, CapacityAlreadySold)  # who comes second finds it taken back
    assert not [r for r in results if isinstance(r, Exception) and not isinstance(r, expected)], results
    assert DeliveryContract.objects.get().quantity_tokens == 60_000
    capacity = Capacity.objects.get()
    assert capacity.withdrawn_tokens == 30_000
    assert Shortfall.objects.count() <= 1
    call_command("audit")


@pytest.mark.django_db(transaction=True)
def test_killed_between_the_preliminary_and_the_final_settlement_it_ends_the_same():
    create_operator()
    sold = Sold(lots=60, offers_b=0, ahead=timedelta(minutes=20))
    now = sold.market.window_start + timedelta(minutes=30)
    durable(partial(
        withdraw, contract_id=sold.contract.pk, provider_id=sold.a.pk, quantity_tokens=20_000, delivered_tokens=0,
        now=now,
    ))  # fmt: skip
    made = durable(lambda: claims.make_claim(
        contract_id=sold.contract.pk, buyer_id=sold.buyer.pk, request_ids=["r"], quantity_tokens=5_000, note="",
        now=now,
    ))  # fmt: skip
    sold.settle()
    durable(partial(
        claims.accept_claim, claim_id=made.pk, provider=sold.a, quantity_tokens=None, note="",
        now=sold.market.window_end + timedelta(hours=1),
    ))  # fmt: skip
    before = micro(available(sold.buyer.pk))
    due = sold.market.window_end + timedelta(days=2)
    for place in ("return_bonds", "mark_final"):
        die_in(place, sold.market.pk, due)
        assert micro(available(sold.buyer.pk)) == before
        assert Market.objects.get(pk=sold.market.pk).finalized_at is None
    assert durable(partial(finality.finalize_market, market_id=sold.market.pk, now=due))
    assert not durable(partial(finality.finalize_market, market_id=sold.market.pk, now=due))
    assert micro(bond(sold.a.pk, sold.market.scope)) == 0
    # 35 lots unused at half the price, 25 refunded with a fifth on top.
    assert micro(available(sold.buyer.pk)) == (1_000_000 - 120 + 35) * MICRO + 25 * 2 * MICRO * 12 // 10
    call_command("audit")


def die_in(place, market_id, now):
    """Finalize in a process of its own that is killed -9 before `place`."""
    connections.close_all()
    child = os.fork()
    if not child:
        setattr(finality, place, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        durable(partial(finality.finalize_market, market_id=market_id, now=now))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
