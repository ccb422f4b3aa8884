"""Capacity: published once, within what the deployment can do; withdrawn before it is sold."""

import contextlib
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import NotFound
from core.transactions import durable
from providers import audit, queries
from providers.actions import capacity as actions
from providers.actions.deployments import certify_deployment
from providers.actions.prices import PriceOffTick, set_list_price
from providers.actions.scores import record_score
from providers.models import Capacity, ListPrice
from tests.conftest import run_together
from tests.given import NOW, given_capacity, given_deployment, given_grade, given_organization, given_window

pytestmark = pytest.mark.django_db


def findings() -> list[str]:
    return [str(finding) for _name, check in audit.CHECKS for finding in check()]


def test_capacity_carries_what_was_published_and_its_list_price():
    capacity = given_capacity()
    assert (capacity.offered_tokens, capacity.window) == (600_000, given_window())
    assert queries.list_price_nano(capacity.deployment_id, NOW) == 5_000_000
    assert queries.highest_list_price_nano(capacity.grade_id, NOW) == 5_000_000
    assert findings() == []


def test_the_same_capacity_is_not_published_twice():
    capacity = given_capacity(window=given_window(hours=2))
    overlapping = given_window(NOW + timedelta(days=1, hours=1))
    with pytest.raises(actions.CapacityOverlaps) as refused:
        given_capacity(capacity.deployment, overlapping)
    assert refused.value.extra == {"capacity": capacity.pk}
    given_capacity(capacity.deployment, given_window(NOW + timedelta(days=1, hours=2)))
    given_capacity(window=overlapping)


def test_the_database_refuses_an_overlap_that_the_action_missed():
    first = given_capacity()
    with pytest.raises(IntegrityError, match="never_overlaps"), transaction.atomic():
        Capacity.objects.create(
            deployment=first.deployment,
            grade=first.grade,
            provider=first.provider,
            window_start=first.window_start + timedelta(minutes=59),
            window_end=first.window_end + timedelta(hours=1),
            quantity_tokens=1_000,
            tokens_per_minute=1,
            reserve_price_nano=1,
            list_price_nano=1,
            published_at=NOW,
        )


@pytest.mark.django_db(transaction=True)
def test_of_many_that_publish_at_once_one_does():
    deployment = given_deployment()

    def publish():
        return durable(
            lambda: actions.publish_capacity(
                deployment_id=deployment.pk,
                window=given_window(),
                quantity_tokens=600_000,
                tokens_per_minute=10_000,
                reserve_price_nano=2_000_000,
                list_price_nano=5_000_000,
                wait=False,
                now=NOW,
            )
        )

    results = run_together(*[publish] * 8)
    assert sum(isinstance(result, Capacity) for result in results) == 1
    assert sum(isinstance(result, actions.CapacityOverlaps) for result in results) == 7
    assert (Capacity.objects.count(), ListPrice.objects.count()) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"quantity_tokens": 0}, actions.QuantityNotInLots, "quantity"),
        ({"quantity_tokens": -1_000}, actions.QuantityNotInLots, "quantity"),
        ({"quantity_tokens": 1_500}, actions.QuantityNotInLots, "quantity"),
        ({"quantity_tokens": 10**16}, actions.QuantityNotInLots, "quantity"),
        ({"quantity_tokens": 601_000}, actions.CapacityBeyondRate, "quantity"),
        ({"tokens_per_minute": 0}, actions.CapacityBeyondRate, "tokens_per_minute"),
        ({"tokens_per_minute": 60_001}, actions.CapacityBeyondRate, "tokens_per_minute"),
        ({"reserve_price_nano": 2_050_000}, PriceOffTick, "reserve_price"),
        ({"list_price_nano": 5_050_000}, PriceOffTick, "list_price"),
        ({"reserve_price_nano": 5_100_000}, actions.ReserveAboveList, "reserve_price"),
        ({"window": given_window(NOW - timedelta(hours=1))}, actions.BadWindow, "window"),
    ],
)
def test_what_cannot_be_is_refused_by_name(fields, error, field):
    deployment = given_deployment()
    with pytest.raises(error) as refused:
        given_capacity(deployment, **fields)
    assert refused.value.field == field
    assert not Capacity.objects.exists() and not ListPrice.objects.exists()


def test_a_window_ends_after_it_starts():
    with pytest.raises(actions.BadWindow):
        actions.window_of(NOW, NOW)


def test_a_certificate_decides_while_it_is_valid_in_the_window():
    deployment = given_deployment()
    with transaction.atomic():
        certify_deployment(
            deployment_id=deployment.pk, tokens_per_minute=20_000, until=NOW + timedelta(days=2), now=NOW
        )
    with pytest.raises(actions.CapacityBeyondRate, match="18,000"):
        given_capacity(deployment, tokens_per_minute=18_001)
    given_capacity(deployment, tokens_per_minute=18_000)
    given_capacity(deployment, given_window(NOW + timedelta(days=3)), tokens_per_minute=60_000)


def test_another_providers_deployment_is_not_there():
    deployment, stranger = given_deployment(), given_organization("provider")
    with pytest.raises(NotFound), transaction.atomic():
        given_capacity(deployment, provider_id=stranger.pk)


REFUSALS = (actions.CapacityAlreadySold, actions.QuantityNotInLots, actions.CapacityAlreadyWithdrawn)


def withdraw(capacity, **fields):
    with transaction.atomic():
        return actions.withdraw_capacity(capacity_id=capacity.pk, now=NOW, **{"sold_tokens": 0, **fields})


def test_unsold_capacity_is_withdrawn_and_its_window_is_free_again():
    capacity = given_capacity()
    assert withdraw(capacity).withdrawn_at == NOW
    with pytest.raises(actions.CapacityAlreadyWithdrawn):
        withdraw(capacity)
    given_capacity(capacity.deployment)
    assert findings() == []


def test_what_is_sold_stays():
    capacity = given_capacity()
    with pytest.raises(actions.CapacityAlreadySold) as refused:
        withdraw(capacity, sold_tokens=200_000)
    assert refused.value.extra == {"sold": 200_000, "withdrawable": 400_000}
    part = withdraw(capacity, sold_tokens=200_000, quantity_tokens=400_000)
    assert (part.offered_tokens, part.withdrawn_at) == (200_000, None)
    with pytest.raises(actions.CapacityAlreadySold):
        withdraw(capacity, sold_tokens=200_000, quantity_tokens=1_000)
    with pytest.raises(actions.QuantityNotInLots):
        withdraw(capacity, quantity_tokens=999)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 700), st.integers(-1, 700)), max_size=6))
def test_never_more_is_withdrawn_than_is_unsold(steps):
    with transaction.atomic():
        capacity = given_capacity()
        sold = 0
        for sell_lots, withdraw_lots in steps:
            sold = min(capacity.offered_tokens, sold + 1_000 * sell_lots)
            with contextlib.suppress(*REFUSALS):
                capacity = withdraw(capacity, sold_tokens=sold, quantity_tokens=1_000 * withdraw_lots)
            assert capacity.offered_tokens >= sold
        transaction.set_rollback(True)


def price(deployment, price_nano, at):
    with transaction.atomic():
        set_list_price(deployment_id=deployment.pk, price_nano=price_nano, now=at)


def test_the_list_price_of_a_stretch_is_the_lowest_that_was_open_throughout():
    grade = given_grade()
    raised, late, ended, lowered = (given_deployment(grade=grade) for _ in range(4))
    week = timedelta(days=7)
    price(raised, 3_000_000, NOW - 2 * week)
    price(raised, 6_000_000, NOW - timedelta(days=1))  # raised on the eve: the discount does not grow
    price(late, 1_000_000, NOW - timedelta(days=2))  # not open for the whole week
    price(ended, 2_000_000, NOW - 2 * week)
    price(ended, None, NOW - timedelta(days=3))
    price(lowered, 5_000_000, NOW - 2 * week)
    price(lowered, 4_000_000, NOW - week)
    assert queries.lowest_list_price_nano(grade.pk, NOW - week, NOW) == 3_000_000
    assert queries.lowest_list_price_nano(grade.pk, NOW - 3 * week, NOW) is None
    assert queries.highest_list_price_nano(grade.pk, NOW) == 6_000_000
    assert queries.highest_list_price_nano(grade.pk, NOW - 2 * week) == 5_000_000
    assert queries.highest_list_price_nano(grade.pk, NOW - 3 * week) is None


def test_a_score_is_replaced_by_the_recomputed_one():
    provider = given_organization("provider")
    assert queries.delivered_thousandths(provider.pk) is None
    for undelivered in (1_000, 1):
        with transaction.atomic():
            record_score(
                provider_id=provider.pk, contracts=3, contracted_tokens=10_000, undelivered_tokens=undelivered, now=NOW
            )
    assert queries.delivered_thousandths(provider.pk) == 999


def test_the_audit_finds_what_was_changed_behind_the_actions():
    capacity = given_capacity()
    Capacity.objects.filter(pk=capacity.pk).update(quantity_tokens=700_000, list_price_nano=5_000_001)
    found = " ".join(findings())
    assert "capacity-rate" in found and "price-tick" in found
