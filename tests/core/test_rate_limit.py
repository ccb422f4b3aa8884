"""Requests are limited per organization, over all processes; without Valkey, per process."""

import pytest
from django.conf import settings

from core import rate_limit
from core.rate_limit import Limiter, TooManyRequests

URL = settings.CACHES["default"]["LOCATION"]


@pytest.fixture(autouse=True)
def _one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window does not end in the middle of a test."""
    monkeypatch.setattr(rate_limit, "_window", lambda: 100)


def allowed(*limiters: Limiter, asked: int = 600, organization: int = 1) -> int:
    count = 0
    for n in range(asked):
        try:
            limiters[n % len(limiters)].take(organization)
        except TooManyRequests as refused:
            assert refused.extra["retry_after"] >= 1
        else:
            count += 1
    return count


@pytest.mark.parametrize("per_minute", [6, 600, 2_394])
def test_processes_share_the_limit(per_minute: int) -> None:
    most = per_minute // 6
    assert allowed(Limiter(per_minute, URL)) == most
    assert allowed(Limiter(per_minute, URL), organization=1) == 0
    assert allowed(Limiter(per_minute, URL), Limiter(per_minute, URL), organization=2) == most
    assert allowed(Limiter(per_minute, URL), organization=3) == most


def test_without_valkey_each_process_counts_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    one, other = Limiter(600, nowhere), Limiter(600, nowhere)
    assert allowed(one) == allowed(other) == 100
    monkeypatch.setattr(rate_limit, "_window", lambda: 101)
    assert allowed(one) == 100


def test_the_headers_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "time", lambda: 1_003.5)
    limits = Limiter(600, URL)
    assert limits.headers(9) == {
        "RateLimit-Policy": '"organization";q=100;w=10', "RateLimit": '"organization";r=100;t=7',
    }  # fmt: skip
    for _ in range(3):
        limits.take(9)
    assert limits.headers(9)["RateLimit"] == '"organization";r=97;t=7'
    assert allowed(limits, organization=9) == 97
    assert limits.headers(9)["RateLimit"] == '"organization";r=0;t=7'
