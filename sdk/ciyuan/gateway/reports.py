"""What the buyer's meter tells: one event for each request that a provider served."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

from ciyuan.guard.counting import Counts
from ciyuan.meter import Meter
from ciyuan.spool import SpoolError

log = logging.getLogger("ciyuan.gateway")
RETRY_SECONDS = 1.0
#: A request that ends this much after its window is still that window's.
LATE_SECONDS = 60.0


def event_data(
    counts: Counts, *, model: str, attempt: str, tags: dict[str, str], first_ms: int | None, took_ms: int
) -> dict[str, Any]:
    """The data of an event: counts, times, tags; no text."""
    data: dict[str, Any] = {
        "input_tokens": counts.inputs, "cached_input_tokens": counts.cached, "output_tokens": counts.outputs,
        "model": model, "duration_ms": took_ms, "attempt_id": attempt,
    }  # fmt: skip
    if counts.reasoning:
        data["reasoning_tokens"] = counts.reasoning
    if first_ms is not None:
        data["ttft_ms"] = first_ms
    if tags:
        data["tags"] = tags
    return data


class Reports:
    """Events on their way to the disk: in batches, one fsync for many. Without a meter nothing is reported."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter
        self._waiting: list[dict[str, Any]] = []
        self._more = asyncio.Event()
        self._stopping = False
        self.reported = 0

    def add(self, *, id: str, contract: int, ended_at: float, window_end: float, data: dict[str, Any]) -> None:
        """Report a request. Its time is that of its end, at the latest its window's last moment."""
        if self._meter is None:
            return
        last = window_end - 0.001
        at = last if last < ended_at < window_end + LATE_SECONDS else ended_at
        self._waiting.append({
            "id": id, "subject": f"contract:{contract}", "data": data,
            "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        })  # fmt: skip
        self._more.set()

    async def run(self) -> None:
        """Until `stop`, and until all is on the disk."""
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                await self._more.wait()
            self._more.clear()
            batch, self._waiting = self._waiting, []
            if not batch:
                continue
            try:
                assert self._meter is not None
                await asyncio.to_thread(self._meter.add_many, batch)
                self.reported += len(batch)
            except (SpoolError, OSError) as error:
                log.error("usage cannot be kept: %s", error)
                self._waiting = batch + self._waiting
                if self._stopping:
                    return
                await asyncio.sleep(RETRY_SECONDS)

    def stop(self) -> None:
        self._stopping = True
        self._more.set()
