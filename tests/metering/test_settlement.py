"""Settling a market's contracts: usage becomes charges and money, once, and later truths only their difference."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.core.management import call_command
from django.db import connection, transaction

from billing.domain.accounts import available, bank, bond, default_fund, escrow, payable, receivable
from billing.domain.postings import Posting, Stage
from billing.models import Charge
from billing.queries import account_balance, spendable_micro
from core.money import cost_micro
from exchange.models import Market, Shortfall
from identity.models import Organization
from metering_ingest.actions.attribution import access_of, forget_cached_routes, route_book_of
from metering_ingest.actions.meters import register_alias
from metering_ingest.actions.settlement import NotDueYet, settle_contract, settle_market
from metering_ingest.actions.store import ingest
from metering_ingest.domain.events import decode
from metering_ingest.models import ContractSettlement, LateUsage, Meter, UsageEvent, UsageVoid
from tests.billing.given import given_deposit, post
from tests.given import NOW, given_deployment, given_grade, given_organization
from tests.metering.conftest import event
from tests.metering.given import given_contract, given_market, given_meter

pytestmark = pytest.mark.django_db
DUE = NOW + timedelta(seconds=10)


class Delivery:
    """A market whose window ended now, with two contracts of one provider, their escrow, and a meter."""

    def __init__(self, take_or_pay: int = 1_000, lots: Any = None, bond_micro: int = 0) -> None:
        forget_cached_routes()
        self.grade = given_grade(tick_nano=100, grace_seconds=10, take_or_pay_thousandths=take_or_pay)
        self.deployment = given_deployment(grade=self.grade)
        self.provider = self.deployment.provider
        self.market = given_market(self.grade)
        self.contracts = [
            given_contract(self.deployment, given_organization(allows_overage_micro=10**9), self.market, lots)
            for _ in range(2)
        ]
        self.buyer = self.contracts[0].buyer
        self.meter = given_meter(self.deployment)
        for contract in self.contracts:
            lots_sold = list(contract.lots.all())
            paid = sum(cost_micro(tokens=lot.quantity_tokens, price_nano=lot.buyer_price_nano) for lot in lots_sold)
            held = sum(cost_micro(tokens=lot.quantity_tokens, price_nano=lot.seller_price_nano) for lot in lots_sold)
            post(Posting(f"fund:{contract.pk}", "trade", Stage.POSTED, bank(), escrow(self.market.scope), paid))
            if paid != held:  # somebody bought at the one price and resold at the other
                gain = Posting(
                    f"resale:{contract.pk}", "resale", Stage.POSTED, escrow(self.market.scope), bank(), paid - held
                )
                post(gain)
        if bond_micro:
            post(Posting("bond", "bond", Stage.POSTED, bank(), bond(self.provider.pk, self.market.scope), bond_micro))
        with transaction.atomic():
            register_alias(provider=self.provider, subject="acme", buyer=self.buyer, now=NOW)

    def report(self, *events: dict[str, Any], now: Any = NOW) -> list[str]:
        """Send events of the first buyer as the door would."""
        access = access_of(Meter.objects.select_related("deployment__grade__model_card").get(pk=self.meter.pk))
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        results = ingest(
            connection.connection,
            decode(msgspec.json.encode(events)),
            meter=access.facts,
            route_book=route_book_of(access),
            clock=lambda: now,
        )
        return [r.status for r in results]

    def settle(self, now: Any = DUE) -> int:
        with transaction.atomic():
            return settle_market(market_id=self.market.pk, now=now)

    def micro(self, account: Any) -> int:
        return account_balance(account).posted_micro


def mine(id_: str = "e-1", **changes: Any) -> dict[str, Any]:
    return event(id_, subject="acme", **{"time": (NOW - timedelta(minutes=30)).isoformat()} | changes)


def test_a_market_is_settled_once_and_its_escrow_is_zero() -> None:
    delivery = Delivery()
    assert delivery.report(mine(output_tokens=5_000), mine("e-2", output_tokens=9_000)) == ["accepted"] * 2
    with pytest.raises(NotDueYet):
        delivery.settle(NOW)
    assert delivery.settle() == 2
    assert delivery.settle() == 0
    assert Market.objects.get().phase == "settled"
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    assert delivery.micro(payable(delivery.provider.pk)) == 2 * 3_000_000 * 98 // 100
    work = sum(e.input_micro_st + e.cached_micro_st + e.output_micro_st for e in UsageEvent.objects.all())
    used = Charge.objects.get(kind="used")
    assert used.quantity_micro_st == work
    assert used.buyer_amount_micro == (work * 3_000 + 5 * 10**8) // 10**9
    assert used.tokens == {"requests": 2, "input.text": 120, "input.text.cache_read": 80, "output.text": 14_000}
    assert used.buyer_id == delivery.buyer.pk and used.labels["lot"] == 1
    assert Charge.objects.filter(kind="unused").count() == 2
    assert sum(Charge.objects.values_list("quantity_micro_st", flat=True)) == 2_000_000 * 10**6


def test_take_or_pay_returns_the_rest_to_the_buyers() -> None:
    delivery = Delivery(take_or_pay=800)
    delivery.settle()
    assert delivery.micro(available(delivery.buyer.pk)) == 600_000
    assert delivery.micro(escrow(delivery.market.scope)) == 0


def test_late_usage_pushes_only_the_difference() -> None:
    delivery = Delivery(take_or_pay=0)
    delivery.report(mine(output_tokens=40_000))
    delivery.settle()
    refund = delivery.micro(available(delivery.buyer.pk))
    assert not LateUsage.objects.exists()
    assert delivery.report(mine("late", output_tokens=10_000), now=DUE + timedelta(hours=1)) == ["accepted"]
    assert LateUsage.objects.get().contract_id == delivery.contracts[0].pk
    assert delivery.settle(DUE + timedelta(hours=2)) == 1
    assert not LateUsage.objects.exists()
    revised = Charge.objects.filter(revision=1)
    assert {row.kind for row in revised} == {"used", "unused"}
    used = next(row for row in revised if row.kind == "used")
    assert used.buyer_amount_micro > 0 and used.tokens["output.text"] == 10_000
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    assert delivery.micro(available(delivery.buyer.pk)) == refund - used.buyer_amount_micro


def test_a_void_after_settlement_gives_the_money_back() -> None:
    delivery = Delivery(take_or_pay=0)
    sent = mine(output_tokens=100_000)
    delivery.report(sent)
    delivery.settle()
    paid = delivery.micro(payable(delivery.provider.pk))
    assert paid > 0
    void = mine("v", type="ciyuan.usage.void", data={"refers_to": {"id": "e-1", "time": sent["time"]}})
    assert delivery.report(void, now=DUE + timedelta(days=1)) == ["accepted"]
    assert delivery.settle(DUE + timedelta(days=2)) == 1
    assert delivery.micro(payable(delivery.provider.pk)) == 0
    assert delivery.micro(available(delivery.buyer.pk)) == 3_000_000
    assert delivery.micro(escrow(delivery.market.scope)) == 0


def test_the_same_id_at_another_time_counts_once() -> None:
    delivery = Delivery()
    delivery.report(mine(output_tokens=1_000))
    delivery.report(
        mine(output_tokens=1_000, time=(NOW - timedelta(minutes=20)).isoformat()), now=NOW + timedelta(seconds=1)
    )
    assert UsageEvent.objects.count() == 2
    delivery.settle()
    void = UsageVoid.objects.get()
    assert void.reason == "duplicate"
    assert Charge.objects.get(kind="used").tokens["output.text"] == 1_000


def test_usage_beyond_the_lots_is_overage_at_list_price_up_to_the_limit() -> None:
    from providers.actions.prices import set_list_price

    delivery = Delivery(lots=[(1_000, 3_000, 3_000)])
    with transaction.atomic():
        set_list_price(deployment_id=delivery.deployment.pk, price_nano=5_000, now=NOW - timedelta(days=1))
    given_deposit(delivery.buyer, 10_000_000)
    delivery.report(mine(output_tokens=100_000))
    delivery.settle()
    over = Charge.objects.get(kind="overage")
    assert over.buyer_price_nano == 5_000 and over.buyer_amount_micro > 0
    assert delivery.micro(available(delivery.buyer.pk)) == 10_000_000 - over.buyer_amount_micro
    assert delivery.micro(escrow(delivery.market.scope)) == 0


def test_what_was_not_made_available_comes_back_with_the_bond() -> None:
    delivery = Delivery(lots=[(10_000, 5_000, 3_000)], bond_micro=50_000)
    contract = delivery.contracts[0]
    Shortfall.objects.create(
        contract=contract, cause="claim", quantity_tokens=10_000, reported_at=NOW, source_key="claim:1"
    )
    delivery.settle()
    # The price of ¥0.05 and a fifth on top; the escrow held ¥0.03, and the bond bears the other ¥0.03.
    assert delivery.micro(available(contract.buyer_id)) == 50_000 + 10_000
    assert delivery.micro(bond(delivery.provider.pk, delivery.market.scope)) == 0
    assert delivery.micro(available(delivery.provider.pk)) == 50_000 - 30_000
    assert delivery.micro(payable(delivery.provider.pk)) == 30_000 * 98 // 100  # of the other contract
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    amounts = {row.kind: (row.buyer_amount_micro, row.seller_amount_micro) for row in Charge.objects.filter(
        buyer_id=contract.buyer_id)}  # fmt: skip
    assert amounts == {
        "undelivered": (0, 0), "compensation": (0, -20_000), "penalty": (-10_000, -10_000), "from_bond": (0, 30_000),
    }  # fmt: skip


@pytest.mark.parametrize(("bond_micro", "used_elsewhere"), [(0, True), (10_000, True), (0, False)])
def test_a_loss_falls_on_the_bond_then_on_what_is_owed_then_on_the_default_account(bond_micro, used_elsewhere) -> None:
    delivery = Delivery(take_or_pay=1_000, lots=[(10_000, 5_000, 3_000)], bond_micro=bond_micro)
    missing = delivery.contracts[:1] if used_elsewhere else delivery.contracts
    for contract in missing:
        Shortfall.objects.create(
            contract=contract, cause="claim", quantity_tokens=10_000, reported_at=NOW, source_key=f"claim:{contract.pk}"
        )
    delivery.settle()
    earned = 29_400 if used_elsewhere else 0
    owed = 30_000 * len(missing)
    borne = max(0, owed - bond_micro - earned)
    assert delivery.micro(bond(delivery.provider.pk, delivery.market.scope)) == 0
    assert delivery.micro(payable(delivery.provider.pk)) == max(0, earned + bond_micro - owed)
    assert delivery.micro(default_fund()) == -borne
    assert all(delivery.micro(available(contract.buyer_id)) == 60_000 for contract in missing)
    assert {charge.labels["penalty_thousandths"] for charge in Charge.objects.filter(kind="penalty")} == {200}
    assert delivery.micro(escrow(delivery.market.scope)) == 0
    call_command("audit")


def test_late_usage_takes_a_part_of_the_penalty_back_and_repays_the_default_account() -> None:
    delivery = Delivery(take_or_pay=0, lots=[(10_000, 3_000, 3_000)])
    Shortfall.objects.create(
        contract=delivery.contracts[0], cause="claim", quantity_tokens=10_000, reported_at=NOW, source_key="claim:1"
    )
    delivery.settle()
    assert delivery.micro(default_fund()) == -6_000
    given_deposit(delivery.buyer, 10_000_000)
    delivery.report(mine("late", output_tokens=1_000_000), now=DUE + timedelta(hours=1))  # all of it was used after all
    assert delivery.settle(DUE + timedelta(hours=2)) == 1
    assert delivery.micro(default_fund()) == 0
    assert delivery.micro(payable(delivery.provider.pk)) == 30_000 * 98 // 100
    assert delivery.micro(escrow(delivery.market.scope)) == 0


def test_overage_is_charged_as_far_as_money_and_credit_go() -> None:
    from providers.actions.prices import set_list_price

    delivery = Delivery(lots=[(1_000, 3_000, 3_000)])
    with transaction.atomic():
        set_list_price(deployment_id=delivery.deployment.pk, price_nano=1_000_000, now=NOW - timedelta(days=1))
    Organization.objects.filter(pk=delivery.buyer.pk).update(credit_limit_micro=2_000_000)
    given_deposit(delivery.buyer, 1_000_000)
    assert spendable_micro(delivery.buyer.pk, credit_limit_micro=2_000_000) == 3_000_000
    delivery.report(mine(output_tokens=100_000))
    delivery.settle()
    charged, uncharged = Charge.objects.filter(kind="overage").order_by("buyer_price_nano").reverse()
    assert charged.buyer_amount_micro == 3_000_000 < 10**9  # the month's limit would have allowed more
    assert uncharged.labels["uncharged"] and uncharged.buyer_amount_micro == 0
    assert delivery.micro(available(delivery.buyer.pk)) == 0
    assert delivery.micro(receivable(delivery.buyer.pk)) == -2_000_000
    assert spendable_micro(delivery.buyer.pk, credit_limit_micro=2_000_000) == 0
    # Money that comes later is no reason to charge what was not charged.
    given_deposit(delivery.buyer, 50_000_000, reference="later")
    assert delivery.settle(DUE + timedelta(hours=1)) == 0


def test_what_an_order_holds_is_not_spent_on_overage() -> None:
    buyer = given_organization()
    given_deposit(buyer, 2_000_000)
    post(Posting("hold", "order_hold", Stage.PENDING, available(buyer.pk), escrow("market:9"), 1_500_000))
    assert spendable_micro(buyer.pk, credit_limit_micro=500_000) == 1_000_000
    post(Posting("owes", "usage", Stage.POSTED, receivable(buyer.pk), escrow("market:9"), 800_000))
    assert spendable_micro(buyer.pk, credit_limit_micro=500_000) == 500_000


def test_list_usage_is_settled_by_the_day() -> None:
    from exchange.models import DeliveryContract
    from providers.actions.prices import set_list_price

    delivery = Delivery()
    with transaction.atomic():
        set_list_price(deployment_id=delivery.deployment.pk, price_nano=5_000, now=NOW - timedelta(days=3))
    given_deposit(delivery.buyer, 10_000_000)
    earlier = NOW - timedelta(days=1)
    assert delivery.report(mine(output_tokens=10_000, time=earlier.isoformat())) == ["accepted"]
    standing = DeliveryContract.objects.get(kind="list")
    with transaction.atomic(), pytest.raises(NotDueYet):
        settle_contract(contract_id=standing.pk, at=NOW, now=DUE)
    with transaction.atomic():
        assert settle_contract(contract_id=standing.pk, at=earlier, now=DUE) == 1
    with transaction.atomic():
        assert settle_contract(contract_id=standing.pk, at=earlier, now=DUE) == 0
    charge = Charge.objects.get()
    assert (charge.kind, charge.buyer_price_nano) == ("overage", 5_000)
    assert delivery.micro(available(delivery.buyer.pk)) == 10_000_000 - charge.buyer_amount_micro
    assert ContractSettlement.objects.get().overage_micro == charge.buyer_amount_micro
