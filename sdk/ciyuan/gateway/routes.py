"""
What the choice looks at: contracts with what is left of them, and routes, the deployments that serve them.

Plain objects in memory, changed in place by what happens to a request: `Route.begin`, `first_token`, `finish`, `fail`.
Times are seconds on the caller's clock. Quantities are micro-standard-tokens, prices nano-yuan per standard token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from ciyuan.gateway.measures import Health, PrefixMemory, Speed
from ciyuan.service_minutes import NO_PROMISE, Promise
from ciyuan.standard_token import Work

MICRO = 1_000_000
SECONDS_PER_MINUTE = 60.0
#: The share of a window before which its demand is not judged by what came so far alone.
BEGINNING = 0.05
#: Grades' service classes, the more demanding the higher.
RANKS = {"batch": 0, "realtime": 1}
REALTIME = RANKS["realtime"]


@dataclass(frozen=True, slots=True)
class Ask:
    """
    A request as far as the choice needs it: no text.

    :param rank: the least service class that will do (`RANKS`); None takes any and waits behind real-time requests.
    :param output_tokens: how many are expected. :param most_output_tokens: how many the caller allows at most.
    :param first_token_seconds: the promise on the first token, None where nobody waits.
    :param token_seconds: the promise on the mean time per further token.
    :param prefix: the conversation so far as a chain of (hash, tokens up to there), so that caches are found again.
    """

    model: str
    input_tokens: int
    output_tokens: int
    most_output_tokens: int = 0
    rank: int | None = None
    first_token_seconds: float | None = None
    token_seconds: float | None = None
    prefix: tuple[tuple[Hashable, int], ...] = ()

    @property
    def context_tokens(self) -> int:
        """The most positions that the request may fill."""
        return self.input_tokens + max(self.output_tokens, self.most_output_tokens)


@dataclass(slots=True)
class Contract:
    """
    One delivery contract of the buyer, and how much of it is used.

    :param lots: (quantity, price), the cheapest first: so settlement consumes them.
    :param tokens_per_minute: standard tokens; up to one minute's worth may be taken at once.
    :param take_or_pay_thousandths: the share of an unused token's price that is owed all the same.
    """

    id: int
    model: str
    rank: int
    window_start: float
    window_end: float
    lots: tuple[tuple[int, int], ...]
    tokens_per_minute: int
    max_context_tokens: int
    take_or_pay_thousandths: int
    work: Callable[[int, int, int], Work]
    promise: Promise = NO_PROMISE
    #: Used as far as is known, and reserved by requests under way.
    used_micro: int = 0
    reserved_micro: int = 0
    _level_micro: float = field(default=0.0, init=False)
    _level_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._level_micro = float(self.rate_micro)
        self._level_at = self.window_start

    @property
    def quantity_micro(self) -> int:
        return sum(quantity for quantity, _ in self.lots)

    @property
    def rate_micro(self) -> int:
        return self.tokens_per_minute * MICRO

    @property
    def left_micro(self) -> int:
        return max(0, self.quantity_micro - self.used_micro - self.reserved_micro)

    def open_at(self, now: float) -> bool:
        return self.window_start <= now < self.window_end

    # the rate ----------------------------------------------------------------------------------------------------

    def rate_left_micro(self, now: float) -> float:
        """Return what may be taken at once; below zero after a request that was larger than was thought."""
        passed = max(0.0, now - self._level_at)
        return min(float(self.rate_micro), self._level_micro + passed * self.rate_micro / SECONDS_PER_MINUTE)

    def take_rate(self, micro: int, now: float) -> None:
        self._level_micro = self.rate_left_micro(now) - micro
        self._level_at = max(now, self._level_at)

    def rate_free_at(self, micro: float, now: float) -> float:
        """Return when so much may be taken; what exceeds a minute's worth waits for a full minute's."""
        missing = min(micro, self.rate_micro) - self.rate_left_micro(now)
        return now if missing <= 0 else now + missing * SECONDS_PER_MINUTE / max(1, self.rate_micro)

    # money -------------------------------------------------------------------------------------------------------

    def next_lots(self, micro: int) -> Iterator[tuple[int, int]]:
        """Yield (quantity, price) of the lots that the next `micro` will consume; less than that where they end."""
        gone = self.used_micro + self.reserved_micro
        for quantity, price in self.lots:
            if gone >= quantity:
                gone -= quantity
                continue
            part = min(quantity - gone, micro)
            gone = 0
            if part > 0:
                yield part, price
            micro -= part
            if micro <= 0:
                return

    # pace --------------------------------------------------------------------------------------------------------

    @property
    def used_share(self) -> float:
        return (self.used_micro + self.reserved_micro) / max(1, self.quantity_micro)

    def passed_share(self, now: float) -> float:
        """Return how much of the window has passed. A contract that is used up sooner leaves the rest to the others."""
        length = self.window_end - self.window_start
        return min(1.0, max(0.0, (now - self.window_start) / length)) if length > 0 else 1.0

    def demand_micro(self, now: float) -> float:
        """Return the work per minute that the contract has got on average; at the beginning, as if spread a little."""
        passed = max(self.passed_share(now), BEGINNING) * (self.window_end - self.window_start)
        return (self.used_micro + self.reserved_micro) * SECONDS_PER_MINUTE / max(passed, 1.0)


@dataclass(slots=True)
class Ticket:
    """A request under way on a route: what was reserved, and what it was expected to wait for."""

    route: Route
    reserved_micro: int
    uncached_tokens: int
    load_tokens: int
    began: float
    prefix: tuple[tuple[Hashable, int], ...]
    first_token_at: float | None = None
    done: bool = False


@dataclass(slots=True)
class Route:
    """
    A deployment that serves a contract.

    :param list_price_nano: what it costs beyond the contract's lots; None where the provider does not serve that.
    """

    contract: Contract
    deployment: int
    list_price_nano: int | None = None
    speed: Speed = field(default_factory=Speed)
    health: Health = field(default_factory=Health)
    prefixes: PrefixMemory = field(default_factory=PrefixMemory)
    #: Until when the provider asked to be left alone with this contract (Retry-After): nothing is broken.
    busy_until: float = -math.inf

    @property
    def rests_until(self) -> float:
        return max(self.busy_until, self.health.rests_until)

    @property
    def key(self) -> tuple[int, int]:
        return self.contract.id, self.deployment

    def begin(self, ask: Ask, *, cached_tokens: int, work_micro: int, now: float) -> Ticket:
        """Take rate and quantity for a request that is sent now."""
        uncached = max(0, ask.input_tokens - cached_tokens)
        self.contract.reserved_micro += work_micro
        self.contract.take_rate(work_micro, now)
        self.speed.waiting_input_tokens += uncached
        self.speed.in_flight += 1
        self.prefixes.remember(ask.prefix)
        return Ticket(self, work_micro, uncached, self.speed.waiting_input_tokens, now, ask.prefix)

    def first_token(self, ticket: Ticket, now: float) -> None:
        """The answer has begun."""
        if ticket.first_token_at is None and not ticket.done:
            ticket.first_token_at = now
            self.speed.waiting_input_tokens -= ticket.uncached_tokens
            self.speed.prefill.observe(ticket.load_tokens, now - ticket.began, now)
            self.health.answered()

    def _came_whole(self, ticket: Ticket) -> None:
        """An answer that came in one piece: when its first token was there is not known, so nothing is measured."""
        self.speed.waiting_input_tokens -= ticket.uncached_tokens
        self.health.answered()

    def finish(self, ticket: Ticket, *, used_micro: int, output_tokens: int, now: float) -> None:
        """The request has ended; `used_micro` is what it was in the end. A second call changes nothing."""
        if ticket.done:
            return
        if ticket.first_token_at is None:
            self._came_whole(ticket)
        elif output_tokens > 1 and now > ticket.first_token_at:
            took = now - ticket.first_token_at
            self.speed.decode.observe(self.speed.in_flight, took / (output_tokens - 1), now)
        self._release(ticket)
        self.contract.used_micro += used_micro
        self.contract.take_rate(used_micro - ticket.reserved_micro, now)

    def fail(self, ticket: Ticket, now: float, *, retry_after: float | None = None) -> None:
        """
        The request was not served. A second call changes nothing.

        :param retry_after: seconds that the provider asks to wait; then it is busy, not broken.
        """
        if not self.give_back(ticket, now):
            return
        if retry_after is not None:
            self.busy_until = now + retry_after
        else:
            self.health.failed(now)
            self.prefixes.forget()

    def give_back(self, ticket: Ticket, now: float) -> bool:
        """Nothing was asked of the provider after all; False if the request had ended already."""
        if ticket.done:
            return False
        if ticket.first_token_at is None:
            self.speed.waiting_input_tokens -= ticket.uncached_tokens
        self._release(ticket)
        self.contract.take_rate(-ticket.reserved_micro, now)
        return True

    def _release(self, ticket: Ticket) -> None:
        ticket.done = True
        self.speed.in_flight -= 1
        self.contract.reserved_micro -= ticket.reserved_micro
