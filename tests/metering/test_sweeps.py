"""The sweeps that beat sends find what is due, and nothing twice; identical batches race to one result."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import transaction

from billing.models import Charge
from core import clock
from exchange.models import DeliveryContract, Market
from metering_ingest import tasks
from metering_ingest.actions import attribution, partitions
from metering_ingest.actions.attribution import access_of, route_book_of
from metering_ingest.actions.store import ingest
from metering_ingest.audit import rollups_are_events
from metering_ingest.domain.events import decode
from metering_ingest.ingest_workers import close_own_connection, own_connection
from metering_ingest.models import LateUsage, Meter, RejectedEvent, UsageEvent
from providers.actions.prices import set_list_price
from tests.billing.given import given_deposit
from tests.given import NOW
from tests.metering.given import Door, given_market, given_meter_key
from tests.metering.test_settlement import DUE, Delivery, mine

pytestmark = pytest.mark.django_db(transaction=True)


class Time:
    """The product's clock in these tests."""

    now = NOW


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    monkeypatch.setattr(clock, "now", lambda: Time.now)
    Time.now = NOW
    attribution.forget_cached_routes()
    partitions.forget_known_days()
    yield Time()
    close_own_connection()


@pytest.fixture
def delivery(time: Time) -> Delivery:
    with transaction.atomic():
        return Delivery(take_or_pay=0)


def test_due_markets_are_settled_and_late_usage_again(time: Time, delivery: Delivery) -> None:
    door = Door(given_meter_key(delivery.meter))
    assert door.post([mine(output_tokens=40_000)]).json()["accepted"] == 1
    assert tasks.settle_due_markets() == 0
    Time.now = DUE
    assert tasks.settle_due_markets() == 1
    assert [tasks.settle_market(delivery.market.pk) for _ in range(2)] == [2, 0]
    assert Market.objects.get().phase == "settled"
    assert tasks.settle_due_markets() == 0
    assert door.post([mine("late", output_tokens=10_000)]).json()["accepted"] == 1
    assert LateUsage.objects.count() == 1
    assert tasks.settle_late_usage() == 1
    assert tasks.settle_late_usage() == 0
    assert LateUsage.objects.count() == 0
    assert Charge.objects.filter(revision=1, kind="used").exists()


def test_list_usage_of_a_day_that_is_over_is_settled(time: Time, delivery: Delivery) -> None:
    with transaction.atomic():
        set_list_price(deployment_id=delivery.deployment.pk, price_nano=5_000, now=NOW - timedelta(days=3))
    given_deposit(delivery.buyer, 10_000_000)
    door = Door(given_meter_key(delivery.meter))
    assert door.post([mine(time=(NOW - timedelta(hours=3)).isoformat())]).json()["accepted"] == 1
    assert DeliveryContract.objects.filter(kind="list").count() == 1
    assert tasks.settle_list_usage() == 0
    Time.now = NOW + timedelta(days=1)
    assert tasks.settle_list_usage() == 1
    assert tasks.settle_list_usage() == 0
    assert Charge.objects.get().kind == "overage"


def test_events_that_waited_for_their_contracts_are_stored_by_themselves(time: Time, delivery: Delivery) -> None:
    market = given_market(delivery.grade, NOW - timedelta(hours=5), phase="closed", gate_closed_at=None)
    door = Door(given_meter_key(delivery.meter))
    sent = mine(time=(NOW - timedelta(hours=4, minutes=30)).isoformat())
    assert door.post([sent]).json()["results"][0]["code"] == "contract-pending"
    assert tasks.replay_pending() == 1
    assert UsageEvent.objects.count() == 0
    Market.objects.filter(pk=market.pk).update(phase="delivering", gate_closed_at=NOW)
    attribution.forget_cached_routes()
    tasks.replay_pending()
    assert UsageEvent.objects.count() == 1
    assert RejectedEvent.objects.get().resolved_at is not None
    assert tasks.replay_pending() == 0


def test_partitions_are_made_ahead(time: Time) -> None:
    tasks.make_partitions()
    tasks.make_partitions()


def test_identical_batches_race_to_one_result(time: Time, delivery: Delivery, race: Callable[..., Any]) -> None:
    access = access_of(Meter.objects.select_related("deployment__grade__model_card").get(pk=delivery.meter.pk))
    body = msgspec.json.encode([mine(f"e-{n}") for n in range(200)])

    def send() -> list[str]:
        results = ingest(
            own_connection(), decode(body), meter=access.facts, route_book=route_book_of(access), clock=clock.now
        )
        return [result.status for result in results]

    answers = race(*[send] * 16)
    assert all(isinstance(answer, list) for answer in answers), answers
    accepted = sum(answer.count("accepted") for answer in answers)
    assert accepted == 200 and sum(answer.count("duplicate") for answer in answers) == 15 * 200
    assert UsageEvent.objects.count() == 200
    assert list(rollups_are_events()) == []
