"""A request that was let in, until its last count: what it used, and what that took from its contract's rate."""

from __future__ import annotations

import time
from typing import Protocol

from ciyuan.guard import journal as j
from ciyuan.guard.access import Claims
from ciyuan.guard.counting import NOTHING, Asked, Counts
from ciyuan.guard.exchange import Terms
from ciyuan.guard.figures import Figures
from ciyuan.guard.journal import NO_FIRST_TOKEN, Kept, Slot
from ciyuan.guard.rates import Allowances
from ciyuan.guard.recorder import Recorder
from ciyuan.guard.settings import GuardSettings
from ciyuan.service_minutes import ServiceMinutes

#: Output tokens after which a stream's work is taken from its contract's rate anew.
TAKE_EVERY = 16


class Guarding(Protocol):
    """What an admitted request needs of its guard."""

    terms: Terms
    allowances: Allowances
    figures: Figures
    recorder: Recorder
    minutes: ServiceMinutes
    settings: GuardSettings

    def now(self) -> float: ...
    def now_ms(self) -> int: ...


class Admitted:
    """One admitted request: its slot, what it has used so far, and what of that its contract has been charged with."""

    def __init__(self, guard: Guarding, claims: Claims, asked: Asked, slot: Slot) -> None:
        self._guard, self.claims, self.asked, self.slot = guard, claims, asked, slot
        self.started = time.perf_counter()
        self.ttft_ms = NO_FIRST_TOKEN
        self._kept: Counts = NOTHING
        self._charged = 0
        self._charged_at = -TAKE_EVERY
        self._ended = False
        guard.figures.running += 1
        self.charge(asked.estimate())

    def first_token(self) -> None:
        seconds = time.perf_counter() - self.started
        self.ttft_ms = int(seconds * 1000)
        self._guard.figures.first_token(seconds)

    def keep(self, counts: Counts, *, estimated: bool) -> None:
        """This is known to be served, or is about to be."""
        if counts == self._kept:
            return
        self._kept = counts
        state = j.RUNNING | (j.ESTIMATED if estimated else 0)
        self.slot.keep(Kept(state, counts, self._guard.now_ms(), self.ttft_ms))
        if counts.outputs - self._charged_at >= TAKE_EVERY:
            self.charge(counts)

    def charge(self, counts: Counts) -> None:
        self._charged_at = counts.outputs
        micro = self._guard.terms.work(counts.inputs, counts.cached, counts.outputs).total_micro_st
        self._guard.allowances.take(self.claims, micro - self._charged, self._guard.now())
        self._charged = micro

    def end(self, state: int, counts: Counts, *, estimated: bool) -> None:
        """It is over; a second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        self._guard.figures.running -= 1
        self.charge(counts)
        self.slot.keep(Kept(state | (j.ESTIMATED if estimated else 0), counts, self._guard.now_ms(), self.ttft_ms))
        self._guard.recorder.ended(self.slot)
        if counts != NOTHING:
            self._count(state, counts)

    def _count(self, state: int, counts: Counts) -> None:
        """Tell what became of it as evidence of how the contract was served."""
        guard, contract = self._guard, self.claims.contract
        if state == j.ENGINE_FAILED:
            guard.minutes.failed(contract, guard.settings.deployment, guard.now())
            return
        first = None if self.ttft_ms == NO_FIRST_TOKEN else self.ttft_ms
        rest = (time.perf_counter() - self.started) * 1000 - (first or 0)
        guard.minutes.served(
            contract, guard.settings.deployment, guard.now(), guard.terms.promise, first_ms=first,
            token_ms=round(rest / (counts.outputs - 1)) if first is not None and counts.outputs > 1 else None,
        )  # fmt: skip

    def drop(self) -> None:
        """Nothing was served."""
        self.end(j.ENGINE_FAILED, NOTHING, estimated=False)
