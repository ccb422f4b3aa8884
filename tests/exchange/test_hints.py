"""A market has one hint on its way at a time: the others of its queue are not pushed aside by a busy one."""

import pytest
from celery import current_app
from django.core.cache import cache
from redis.exceptions import ConnectionError as ValkeyAway

from exchange.actions import hints


@pytest.fixture
def sent(monkeypatch):
    found = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **_: found.append(*args))
    return found


def test_a_busy_market_has_one_hint_on_its_way(sent):
    for _ in range(5):
        hints.send(1)
    hints.send(2)
    assert sent == [1, 2]
    hints.taken(1)
    hints.send(1)
    hints.send(2)
    assert sent == [1, 2, 1]


def test_a_hint_that_got_lost_is_sent_again(sent, monkeypatch):
    monkeypatch.setattr(hints, "ON_ITS_WAY_SECONDS", 0)  # it expires at once
    hints.send(1)
    hints.send(1)
    assert sent == [1, 1]


def test_without_valkey_nothing_is_raised(sent, monkeypatch, caplog):
    def away(*_, **__):
        raise ValkeyAway("no route")

    monkeypatch.setattr(cache, "add", away)
    monkeypatch.setattr(cache, "delete", away)
    hints.send(1)
    hints.taken(1)
    assert sent == []
    assert "market 1 was not hinted: no route" in caplog.text
