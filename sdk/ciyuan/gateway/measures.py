"""What a gateway measures of a route while it uses it: how fast it answers, how often it fails, what it has cached."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence

#: Seconds after which a measurement counts a third of a new one: engines warm up, and neighbours come and go.
MEMORY_SECONDS = 60.0


class Line:
    """
    y = base + slope · x, fitted to recent observations and to what was assumed before the first of them.

    What was assumed never loses its small weight, so that a route which was slow once is believed to be slow only
    while it is measured to be.
    """

    __slots__ = ("_assumed", "_at", "_n", "_x", "_xx", "_xy", "_y")

    def __init__(self, *, base: float, slope: float, typical_x: float) -> None:
        self._assumed = _sums(base, slope, typical_x)
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._at = -math.inf

    def observe(self, x: float, y: float, now: float) -> None:
        self._fade(now)
        self._n += 1.0
        self._x += x
        self._y += y
        self._xx += x * x
        self._xy += x * y

    def _fade(self, now: float) -> None:
        if now > self._at:
            share = math.exp((self._at - now) / MEMORY_SECONDS) if self._n else 0.0
            self._n *= share
            self._x *= share
            self._y *= share
            self._xx *= share
            self._xy *= share
            self._at = now

    def at(self, x: float, now: float) -> float:
        self._fade(now)
        n, sx, sy, sxx, sxy = self._assumed
        n, sx, sy, sxx, sxy = n + self._n, sx + self._x, sy + self._y, sxx + self._xx, sxy + self._xy
        spread = n * sxx - sx * sx
        slope = max(0.0, (n * sxy - sx * sy) / spread) if spread > 0 else 0.0
        return max(0.0, (sy - slope * sx) / n + slope * x)


def _sums(base: float, slope: float, typical_x: float) -> tuple[float, float, float, float, float]:
    """Two observations of weight one half each, at nothing and at twice the typical x."""
    x = 2 * typical_x
    return 1.0, x / 2, base + slope * x / 2, x * x / 2, (base + slope * x) * x / 2


class Speed:
    """
    How fast a route answers.

    The time to the first token grows with the input tokens that wait for theirs, this request's among them; the time
    per further token with the number of requests under way.
    """

    __slots__ = ("decode", "in_flight", "prefill", "waiting_input_tokens")

    def __init__(
        self, *, first_token_seconds: float = 0.2, input_tokens_per_second: float = 8_000.0, token_seconds: float = 0.03
    ) -> None:
        self.prefill = Line(base=first_token_seconds, slope=1 / input_tokens_per_second, typical_x=2_000)
        self.decode = Line(base=token_seconds, slope=token_seconds / 64, typical_x=16)
        self.waiting_input_tokens = 0
        self.in_flight = 0

    def first_token_seconds(self, uncached_tokens: int, now: float) -> float:
        """The time to the first token that is to be expected of a request of so many uncached input tokens."""
        return self.prefill.at(self.waiting_input_tokens + uncached_tokens, now)

    def queue_seconds(self, now: float) -> float:
        """How much of that goes by waiting for the input of other requests."""
        return self.prefill.at(self.waiting_input_tokens, now) - self.prefill.at(0, now)

    def token_seconds(self, now: float) -> float:
        """The time per further output token that is to be expected of one more request."""
        return self.decode.at(self.in_flight + 1, now)


class Health:
    """Failures in a row, and until when a route rests after them: one second, doubled up to a minute."""

    __slots__ = ("failures", "rests_until")

    FIRST, MOST = 1.0, 60.0

    def __init__(self) -> None:
        self.failures = 0
        self.rests_until = -math.inf

    def failed(self, now: float) -> None:
        self.failures += 1
        self.rests_until = now + min(self.MOST, self.FIRST * 2.0 ** min(self.failures - 1, 10))

    def answered(self) -> None:
        self.failures = 0
        self.rests_until = -math.inf


class PrefixMemory:
    """
    Which prefixes a route has read lately, by hash alone, so that a conversation stays where its cache is.

    A prefix is a chain of (hash, tokens up to there). What it remembers is bounded; the least recently used goes first.
    """

    __slots__ = ("_known", "_most")

    def __init__(self, most: int = 100_000) -> None:
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._most = most

    def cached_tokens(self, prefix: Sequence[tuple[Hashable, int]]) -> int:
        """Return how many of the first tokens of this chain have been read here."""
        cached = 0
        known = self._known
        for link, tokens in prefix:
            if link not in known:
                break
            cached = tokens
        return cached

    def remember(self, prefix: Sequence[tuple[Hashable, int]]) -> None:
        known = self._known
        for link, _ in reversed(prefix):  # the beginning is used most, so it is forgotten last
            known[link] = None
            known.move_to_end(link)
        while len(known) > self._most:
            known.popitem(last=False)

    def forget(self) -> None:
        """The engine was restarted: nothing is cached there any more."""
        self._known.clear()
