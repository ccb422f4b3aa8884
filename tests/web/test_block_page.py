"""The page of blocks: one rate over the windows of a call, placed once, withdrawn, and what became of it."""

from datetime import timedelta

import pytest
from django.test import Client

from exchange.models import Block, BlockResult
from tests.exchange.test_blocks_live import World
from tests.given import advanced, given_market, given_organization, given_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def world():
    return World()


@pytest.fixture
def buyer(world):
    client = Client()
    client.force_login(given_user(world.buyer))
    return client


def typed(world, **fields):
    windows = [market.pk for market in world.markets]
    return {"key": "k", "side": "buy", "windows": windows, "rate": "100", "limit": "3000", "least": 100, **fields}


def test_a_rate_over_two_windows_is_placed_once_and_accepted(world, buyer):
    assert buyer.get("/blocks").text.count('name="windows"') == 2
    assert {buyer.post("/blocks", typed(world)).status_code for _ in range(2)} == {302}
    block = Block.objects.get()
    assert (block.quantity_tokens, block.least_tokens, block.tokens_per_minute) == (12_000, 12_000, 100)
    for market in world.markets:
        advanced(market, market.call_closes_at)
    assert BlockResult.objects.get().outcome == "accepted"
    shown = buyer.get("/blocks").text
    assert "12,000" in shown and "36.00" in shown  # ¥0.003 for each of 12,000
    late = buyer.post(f"/blocks/{block.pk}/withdraw", {"key": "w"}, follow=True)
    assert 'class="note error"' in late.text and BlockResult.objects.get().outcome == "accepted"


def test_it_is_withdrawn_before_its_call_is_cleared(world, buyer):
    buyer.post("/blocks", typed(world))
    block = Block.objects.get()
    for _ in range(2):
        assert buyer.post(f"/blocks/{block.pk}/withdraw", {"key": "w"}).status_code == 302
    for market in world.markets:
        advanced(market, market.call_closes_at)
    assert BlockResult.objects.get().outcome == "withdrawn"
    stranger = Client()
    stranger.force_login(given_user(given_organization("buyer")))
    assert stranger.post(f"/blocks/{block.pk}/withdraw", {"key": "w"}).status_code == 404


@pytest.mark.parametrize(
    "fields",
    [{"rate": "0"}, {"limit": "x"}, {"least": 101}, {"windows": []}, {"windows": [999_999]}, {"rate": "1" + "0" * 12}],
)
def test_a_bad_block_is_told_and_changes_nothing(world, buyer, fields):
    answer = buyer.post("/blocks", typed(world, **fields))
    assert answer.status_code == 422 and ("field-error" in answer.text or 'role="alert"' in answer.text)
    assert not Block.objects.exists()


def test_windows_of_another_call_are_refused_in_a_sentence(world, buyer):
    other = given_market(now=world.now, call_closes_at=world.markets[0].call_closes_at - timedelta(minutes=1))
    answer = buyer.post("/blocks", typed(world, windows=[world.markets[0].pk, other.pk]))
    assert answer.status_code == 422 and not Block.objects.exists()
