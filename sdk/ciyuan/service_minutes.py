"""
What became of requests minute by minute, kept for the exchange as evidence of how contracts were served.

Guard and gateway count alike: served, failed, limited (refused for rate or quantity, which is nobody's failure), and
how many answers missed the grade's promised times. A minute is sent when it is over; while the exchange is away, it
waits in a file; of too many the oldest go. No content is in them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from ciyuan.calls import Call
from ciyuan.errors import CiyuanError
from ciyuan.records import Anything
from ciyuan.signing import Signer

PATH = "/v1/service/reports"
SECONDS = 60
MOST_WAITING, MOST_AT_ONCE = 20_000, 2_000
MOST_SAMPLES = 2_000
RETRY_SECONDS = 15.0


class Sends(Protocol):
    """What sends a call, such as an async client's transport."""

    async def send(self, call: Call[Any], /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Promise:
    """The grade's promised times in milliseconds; None where there is none."""

    first_token_ms: int | None = None
    token_ms: int | None = None

    @classmethod
    def of(cls, terms: Any) -> Promise:
        """:param terms: a grade as the exchange shows it; older ones promise nothing."""
        return cls(terms.get("first_token_p95_ms"), terms.get("per_token_p95_ms"))


NO_PROMISE = Promise()


@dataclass(slots=True)
class _Count:
    served: int = 0
    failed: int = 0
    limited: int = 0
    first_late: int = 0
    token_late: int = 0
    first: list[int] = field(default_factory=list)
    token: list[int] = field(default_factory=list)


class ServiceMinutes:
    """
    :param path: where minutes wait that were not sent. :param deployment: whose guard this is: then every minute of
        its running is reported, whether or not somebody called.
    :param on_answer: told what the exchange answers to a report.
    """

    def __init__(
        self, path: Path, *, deployment: int | None = None, signer: Signer | None = None,
        on_answer: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._path, self._deployment, self._signer, self._on_answer = path, deployment, signer, on_answer
        self.name = uuid4().hex  # of this process: counts of several are added up
        self._counts: dict[tuple[int, int | None, int], _Count] = {}
        self._minute: int | None = None
        self._retry_at = 0.0
        self.waiting: list[dict[str, Any]] = []
        try:
            self.waiting = [dict(row) for row in json.loads(path.read_text())]
        except (OSError, ValueError, TypeError):
            self.waiting = []

    # -- counting --------------------------------------------------------------------------------------------------

    def served(
        self, contract: int, deployment: int, now: float, promise: Promise, *, first_ms: int | None = None,
        token_ms: int | None = None,
    ) -> None:  # fmt: skip
        count = self._of(contract, deployment, now)
        count.served += 1
        if first_ms is not None and len(count.first) < MOST_SAMPLES:
            count.first.append(max(0, first_ms))
            count.first_late += promise.first_token_ms is not None and first_ms > promise.first_token_ms
        if token_ms is not None and len(count.token) < MOST_SAMPLES:
            count.token.append(max(0, token_ms))
            count.token_late += promise.token_ms is not None and token_ms > promise.token_ms

    def failed(self, contract: int, deployment: int, now: float) -> None:
        self._of(contract, deployment, now).failed += 1

    def limited(self, contract: int, deployment: int, now: float) -> None:
        self._of(contract, deployment, now).limited += 1

    def _of(self, contract: int, deployment: int, now: float) -> _Count:
        key = (int(now) // SECONDS, contract, deployment)
        return self._counts.setdefault(key, _Count())

    # -- sending ---------------------------------------------------------------------------------------------------

    def turn(self, now: float) -> bool:
        """Set the minutes aside that are over; returns whether anything waits to be sent."""
        minute = int(now) // SECONDS
        if self._deployment is not None and self._minute is not None:
            for passed in range(max(self._minute, minute - MOST_AT_ONCE), minute):
                self._counts.setdefault((passed, None, self._deployment), _Count())
        self._minute = minute
        over = sorted((key for key in self._counts if key[0] < minute), key=lambda key: key[0])
        if over:
            self.waiting += [self._row(key, self._counts.pop(key)) for key in over]
            del self.waiting[:-MOST_WAITING]
            self._save()
        return bool(self.waiting) and now >= self._retry_at

    async def send(self, sender: Sends, now: float) -> None:
        """
        Send what waits, some thousands at once; what the exchange refuses for good is dropped.

        :raises CiyuanError: when it does not take it; it stays, and is tried again a little later.
        """
        while self.waiting:
            run = self.waiting[0]["run"]
            some = [row for row in self.waiting[:MOST_AT_ONCE] if row["run"] == run]
            minutes = [{name: value for name, value in row.items() if name != "run"} for row in some]
            try:
                answer = await sender.send(report_call(run, minutes, self._signer))
            except CiyuanError as error:
                if error.status in (400, 403, 404, 413):
                    self._done(len(some))
                else:
                    self._retry_at = now + RETRY_SECONDS
                raise
            self._done(len(some))
            self._on_answer(getattr(answer, "raw", None) or {})

    async def run(self, sender: Sends, now: Callable[[], float], *, every: float = 1.0) -> None:
        """Send each minute when it is over, until cancelled."""
        self.turn(now())  # from now on it is running
        while True:
            await asyncio.sleep(every)
            with suppress(CiyuanError, OSError):
                if self.turn(now()):
                    await self.send(sender, now())

    async def close(self, sender: Sends, now: float) -> None:
        """Send or keep what was counted, the minute that is not over too."""
        with suppress(CiyuanError, OSError):
            if self.turn((int(now) // SECONDS + 1) * SECONDS):
                await self.send(sender, now)

    def _done(self, count: int) -> None:
        del self.waiting[:count]
        self._save()

    def _row(self, key: tuple[int, int | None, int], count: _Count) -> dict[str, Any]:
        minute, contract, deployment = key
        return {
            "run": self.name, "minute": _iso(minute * SECONDS), "deployment": deployment, "contract": contract,
            "served": count.served, "failed": count.failed, "limited": count.limited,
            "first_measured": len(count.first), "first_late": count.first_late, "first_token_ms": p95(count.first),
            "token_measured": len(count.token), "token_late": count.token_late, "token_ms": p95(count.token),
        }  # fmt: skip

    def _save(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self.waiting))
        fresh.replace(self._path)


def report_call(run: str, minutes: Sequence[dict[str, Any]], signer: Signer | None = None) -> Call[Anything]:
    """The call that sends a report."""
    body = json.dumps({"run": run, "minutes": [*minutes]}, separators=(",", ":")).encode()
    headers = signer.headers(body) if signer is not None else {}
    return Call("POST", PATH, Anything, content=body, headers=headers, repeatable=True)


def p95(samples: Sequence[int]) -> int | None:
    """The value that 95 of 100 do not exceed."""
    return sorted(samples)[min(len(samples) - 1, len(samples) * 95 // 100)] if samples else None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
