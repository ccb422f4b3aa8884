"""
How many requests an organization may send a minute, over all of its keys, all addresses and all processes.

A process takes permits from Valkey in portions and serves from them without asking again, so that together the
processes never allow more than the limit. While Valkey is away each process counts for itself: the limit is then per
process.
"""

import logging
import threading
from dataclasses import dataclass
from functools import cache
from math import ceil
from time import monotonic, time

import redis
from django.conf import settings

from core.errors import Problem

log = logging.getLogger(__name__)

WINDOW_SECONDS = 10
PORTIONS = 20  # of a window's permits; what a process holds unused is lost to the others until the window ends
AWAY_SECONDS = 1.0
MOST_KNOWN = 50_000


class TooManyRequests(Problem):
    """More requests than the organization may send; `retry_after` says in how many seconds there is room again."""

    code = "too-many-requests"
    status = 429
    title = "Too many requests"


@dataclass(slots=True)
class _Held:
    """What a process holds of one organization's permits in one window."""

    window: int
    permits: int = 0
    used_up: bool = False
    elsewhere: int = 0  # what nobody had taken yet when this process last asked


class Limiter:
    """
    :param per_minute: the limit.
    :param url: Valkey's address; any redis:// URL.
    """

    def __init__(self, per_minute: int, url: str) -> None:
        self.most = max(1, per_minute * WINDOW_SECONDS // 60)
        self._valkey = redis.Redis.from_url(url, socket_timeout=0.2, socket_connect_timeout=0.2)
        self._held: dict[int, _Held] = {}
        self._lock = threading.Lock()
        self._away_until = 0.0

    def take_held(self, organization_id: int) -> bool:
        """Take a permit that this process holds already; False where it would have to ask."""
        with self._lock:
            held = self._held.get(organization_id)
            if held is None or held.window != _window() or held.permits <= 0:
                return False
            held.permits -= 1
            return True

    def take(self, organization_id: int) -> None:
        """
        Take a permit, asking Valkey where none is held.

        :raises TooManyRequests: when the window's are used up.
        """
        if self.take_held(organization_id):
            return
        window = _window()
        with self._lock:
            if len(self._held) > MOST_KNOWN:
                self._held.clear()
            held = self._held.setdefault(organization_id, _Held(window))
            if held.window != window:
                held.window, held.permits, held.used_up, held.elsewhere = window, 0, False, 0
            if not held.used_up and held.permits <= 0:
                held.permits += self._portion(organization_id, held)
            if held.permits > 0:
                held.permits -= 1
                return
        seconds = round((window + 1) * WINDOW_SECONDS - time(), 1)
        raise TooManyRequests(
            f"Your organization may send {self.most:,} requests in {WINDOW_SECONDS} seconds; send again in "
            f"{max(seconds, 0.1)} seconds, or send events in batches.",
            retry_after=max(1, round(seconds)),
        )

    def _portion(self, organization_id: int, held: _Held) -> int:
        portion = max(1, self.most // PORTIONS)
        if monotonic() >= self._away_until:
            name = f"rate:{organization_id}:{held.window}"
            try:
                with self._valkey.pipeline(transaction=False) as pipeline:
                    pipeline.incrby(name, portion)
                    pipeline.expire(name, 2 * WINDOW_SECONDS)
                    taken = int(pipeline.execute()[0])
            except redis.RedisError as error:
                log.warning("requests are counted per process: %s", error)
                self._away_until = monotonic() + AWAY_SECONDS
            else:
                granted = min(portion, portion + self.most - taken)
                held.used_up = granted < portion
                held.elsewhere = max(0, self.most - taken)
                return max(0, granted)
        held.used_up, held.elsewhere = True, 0
        return self.most

    def headers(self, organization_id: int) -> dict[str, str]:
        """
        Return what tells a client how much it may still send, as the RateLimit header fields of the IETF's draft do.

        `q` requests are allowed in `w` seconds; about `r` are left of them for `t` seconds, of which other processes
        may take some.
        """
        with self._lock:
            held = self._held.get(organization_id)
            current = held if held is not None and held.window == _window() else None
            left = self.most if current is None else current.permits + current.elsewhere
        seconds = max(1, ceil((_window() + 1) * WINDOW_SECONDS - time()))
        return {
            "RateLimit-Policy": f'"organization";q={self.most};w={WINDOW_SECONDS}',
            "RateLimit": f'"organization";r={left};t={seconds}',
        }


def _window() -> int:
    return int(time() // WINDOW_SECONDS)


@cache
def limiter() -> Limiter:
    """Return this process's limiter."""
    return Limiter(settings.REQUESTS_PER_MINUTE, settings.CACHES["default"]["LOCATION"])
