"""Requests that wait for rate or for a provider that rests: by service class, the oldest first."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from ciyuan.gateway.choice import Choice, Refusal
from ciyuan.gateway.routes import Ticket

#: Seconds between two looks where nothing says when to look next.
LOOK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Begun:
    """A choice, and what was taken for it."""

    choice: Choice
    ticket: Ticket


Attempt = Callable[[], Begun | Refusal]


@dataclass(eq=False)
class _Waiter:
    model: str
    order: tuple[int, int]
    attempt: Attempt
    until: float
    answer: asyncio.Future[Begun | Refusal] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Line:
    """
    The line in front of the contracts. A request is served at once if nobody before it waits for the same model.

    :param clock: seconds, as the choice counts them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._waiting: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def choose(self, model: str, priority: int, attempt: Attempt, *, most_wait: float) -> Begun | Refusal:
        """Return what `attempt` chooses and takes once it is this request's turn; its refusal if that is too late."""
        order = (-priority, next(self._numbers))
        before = any(w.model == model and w.order < order for w in self._waiting)
        answer = None if before else attempt()
        if isinstance(answer, Begun):
            return answer
        now = self._clock()
        if answer is not None and (answer.retry_at is None or answer.retry_at > now + most_wait):
            return answer
        waiter = _Waiter(model, order, attempt, now + most_wait)
        self._waiting.append(waiter)
        self._waiting.sort(key=lambda w: w.order)
        self._look_at(answer.retry_at if answer is not None and answer.retry_at else now + LOOK_SECONDS)
        try:
            return await waiter.answer
        except asyncio.CancelledError:
            if waiter.answer.done() and not waiter.answer.cancelled():
                begun = waiter.answer.result()
                if isinstance(begun, Begun):
                    begun.ticket.route.give_back(begun.ticket, self._clock())
            raise
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def look(self) -> None:
        """Something has changed: let those in front try again."""
        now, blocked, next_look = self._clock(), set[str](), float("inf")
        for waiter in list(self._waiting):
            if waiter.answer.done():
                self._waiting.remove(waiter)
                continue
            overdue = waiter.until <= now
            if waiter.model in blocked and not overdue:
                continue
            answer = waiter.attempt()
            if isinstance(answer, Begun) or overdue or answer.retry_at is None or answer.retry_at > waiter.until:
                self._waiting.remove(waiter)
                waiter.answer.set_result(answer)
                continue
            blocked.add(waiter.model)
            next_look = min(next_look, answer.retry_at, waiter.until)
        if self._waiting:
            self._look_at(min(next_look, min(w.until for w in self._waiting), now + LOOK_SECONDS))

    def _look_at(self, at: float) -> None:
        loop = asyncio.get_running_loop()
        when = loop.time() + max(0.005, at - self._clock())
        if self._timer is not None:
            if self._timer.when() <= when and not self._timer.cancelled() and self._timer.when() > loop.time():
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self.look)
