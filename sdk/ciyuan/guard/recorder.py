"""
From a request that ended to an event on the disk: in batches, one fsync for many, and then its slot is free.

Whatever goes wrong on the way, the slot stays until the event is in the spool, and its event has the same id, time and
counts whenever it is made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from ciyuan.guard.journal import Journal, Slot, event_of
from ciyuan.meter import Meter
from ciyuan.spool import SpoolError

RETRY_SECONDS = 1.0
log = logging.getLogger("ciyuan.guard")


class Recorder:
    """
    :param on_event: told of each event once it is on the disk.

    `problem` says why events cannot be kept; while it does, nothing more should be served.
    """

    def __init__(self, journal: Journal, meter: Meter, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._journal, self._meter, self._on_event = journal, meter, on_event
        self._ended: list[Slot] = []
        self._more = asyncio.Event()
        self._stopping = False
        self.problem: str | None = None

    def recover(self) -> int:
        """Bring to its end what a killed process was serving; returns how many events that made."""
        return self._keep(list(self._journal.left_behind()))

    def ended(self, slot: Slot) -> None:
        """The slot's record is its last."""
        self._ended.append(slot)
        self._more.set()

    async def run(self) -> None:
        """Until `stop`, and until all is on the disk."""
        while True:
            if not self._ended:
                if self._stopping:
                    return
                await self._more.wait()
            self._more.clear()
            batch, self._ended = self._ended, []
            try:
                await asyncio.to_thread(self._keep, batch)
                self.problem = None
            except (SpoolError, OSError) as error:
                if self.problem is None:
                    log.error("usage cannot be kept, new requests are refused: %s", error)
                self.problem = str(error)
                self._ended = batch + self._ended
                if self._stopping:
                    return  # the slots keep it for the next start
                await asyncio.sleep(RETRY_SECONDS)

    def stop(self) -> None:
        self._stopping = True
        self._more.set()

    def _keep(self, slots: Iterable[Slot]) -> int:
        slots = list(slots)
        events = [event for slot in slots if (event := event_of(slot)) is not None]
        self._meter.add_many([_with_time(event) for event in events])
        for slot in slots:
            slot.free()
        for event in events:
            self._on_event(event)
        return len(events)


def _with_time(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "time": datetime.fromtimestamp(event["time"] / 1000, UTC).isoformat(timespec="milliseconds")}
