"""
The requests that are being served, on disk, so that a kill -9 in mid-stream loses nothing that the engine has reported.

A memory-mapped file of fixed slots: what is written to it outlives the process at once, and the machine from the next
flush on. A slot has a header, written when its request begins, and two records of counts, written in turns; each has a
checksum, and the later whole one counts. A slot's event follows from its contents alone: whoever makes it, and however
often, makes the same, so that the exchange counts it once.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, NamedTuple

from ciyuan.guard.counting import NOTHING, Counts

SLOT_BYTES, HEADER_BYTES, RECORD_BYTES = 1024, 896, 64
_HEAD = Struct("<II")
# number, state, inputs, cached, outputs, reasoning, at_ms, ttft_ms
_RECORD = Struct("<IIIIIIqi")
_SUM = Struct("<I")
NO_FIRST_TOKEN = -1

#: How a request ended: in its own time; left by its client; failed by the engine; ended with its window; or nobody
#: knows, because the guard was killed.
RUNNING, OK, ABANDONED, ENGINE_FAILED, WINDOW_OVER = range(5)
STATUS = {RUNNING: "guard_killed", OK: "ok", ABANDONED: "abandoned", ENGINE_FAILED: "engine_failed",
          WINDOW_OVER: "window_over"}  # fmt: skip
#: Added to a state: the engine has not reported, the counts are the guard's.
ESTIMATED = 16


@dataclass(frozen=True, slots=True)
class Begun:
    """
    What is known of a request at its beginning. Times in milliseconds since 1970.

    :param first_ms, last_ms: the bounds of the times that its event may have: the window's, where the clocks differ.
    """

    id: str
    subject: str
    model: str
    started_ms: int
    first_ms: int
    last_ms: int
    tolerance_ms: int
    attempt: str = ""


class Kept(NamedTuple):
    """A slot's latest whole record."""

    state: int
    counts: Counts
    at_ms: int
    ttft_ms: int

    @property
    def status(self) -> str:
        return STATUS.get(self.state % ESTIMATED, "guard_killed")

    @property
    def estimated(self) -> bool:
        return bool(self.state & ESTIMATED)


class JournalFull(Exception):
    """All slots are in use."""


class Slot:
    """One request that is being served."""

    __slots__ = ("_at", "_journal", "_number", "begun")

    def __init__(self, journal: Journal, at: int, begun: Begun) -> None:
        self._journal, self._at, self._number, self.begun = journal, at, 0, begun

    def keep(self, kept: Kept) -> None:
        """From now on this is what a kill leaves."""
        self._number += 1
        counts = kept.counts
        data = _RECORD.pack(
            self._number, kept.state, counts.inputs, counts.cached, counts.outputs, counts.reasoning, kept.at_ms,
            kept.ttft_ms,
        )  # fmt: skip
        place = self._at + HEADER_BYTES + (self._number & 1) * RECORD_BYTES
        self._journal.memory[place : place + _RECORD.size + 4] = data + _SUM.pack(zlib.crc32(data))

    def kept(self) -> Kept | None:
        """The latest record, or None while nothing was reported."""
        return self._journal.read_record(self._at)

    def free(self) -> None:
        """Its event is in the spool: nothing is left to remember."""
        self._journal.give_back(self._at)


class Journal:
    """
    :param path: made if need be. :param slots: how many requests may be served at once.

    Whoever opens it takes `left_behind` first: the requests that the last process did not bring to their end.
    """

    def __init__(self, path: Path, *, slots: int) -> None:
        size = slots * SLOT_BYTES
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        size = max(size, os.fstat(self._file).st_size // SLOT_BYTES * SLOT_BYTES)
        os.ftruncate(self._file, size)
        self.memory = mmap.mmap(self._file, size)
        self._free = [at for at in range(size - SLOT_BYTES, -1, -SLOT_BYTES) if self._header(at) is None]

    @property
    def free_slots(self) -> int:
        return len(self._free)

    def begin(self, begun: Begun) -> Slot:
        """:raises JournalFull: when too many requests are being served."""
        if not self._free:
            raise JournalFull
        at = self._free.pop()
        row = [begun.id, begun.subject, begun.model, begun.started_ms, begun.first_ms, begun.last_ms,
               begun.tolerance_ms, begun.attempt]  # fmt: skip
        data = json.dumps(row, separators=(",", ":")).encode()
        self.memory[at + HEADER_BYTES : at + SLOT_BYTES] = bytes(SLOT_BYTES - HEADER_BYTES)
        self.memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        self.memory[at : at + _HEAD.size] = _HEAD.pack(len(data), zlib.crc32(data))
        return Slot(self, at, begun)

    def left_behind(self) -> Iterator[Slot]:
        """Requests of the process before this one."""
        taken = set(self._free)
        for at in range(0, len(self.memory), SLOT_BYTES):
            if at not in taken and (begun := self._header(at)) is not None:
                yield Slot(self, at, begun)

    def _header(self, at: int) -> Begun | None:
        length, checksum = _HEAD.unpack_from(self.memory, at)
        if not 0 < length <= HEADER_BYTES - _HEAD.size:
            return None
        data = self.memory[at + _HEAD.size : at + _HEAD.size + length]
        return Begun(*json.loads(data)) if zlib.crc32(data) == checksum else None

    def read_record(self, at: int) -> Kept | None:
        best: tuple[Any, ...] | None = None
        for turn in (0, 1):
            place = at + HEADER_BYTES + turn * RECORD_BYTES
            data = self.memory[place : place + _RECORD.size]
            (checksum,) = _SUM.unpack_from(self.memory, place + _RECORD.size)
            row = _RECORD.unpack(data)
            if row[0] and zlib.crc32(data) == checksum and (best is None or row[0] > best[0]):
                best = row
        if best is None:
            return None
        _, state, inputs, cached, outputs, reasoning, at_ms, ttft_ms = best
        return Kept(state, Counts(inputs, cached, outputs, reasoning), at_ms, ttft_ms)

    def give_back(self, at: int) -> None:
        self.memory[at : at + _HEAD.size] = bytes(_HEAD.size)
        self._free.append(at)

    def flush(self) -> None:
        """Make what was written outlive the machine too."""
        self.memory.flush()

    def close(self) -> None:
        self.memory.flush()
        self.memory.close()
        os.close(self._file)


def event_time_ms(begun: Begun, at_ms: int) -> int:
    """
    The time of a request's event: its end, and within the window where only the clocks' difference put it outside.

    A request that ends later than that belongs to no window, and is reported with the time that it ended at.
    """
    if at_ms < begun.first_ms:
        return begun.first_ms
    return begun.last_ms if begun.last_ms < at_ms <= begun.last_ms + begun.tolerance_ms else at_ms


def event_of(slot: Slot) -> dict[str, Any] | None:
    """The usage event of a request, without source; None where nothing is known to have been served."""
    kept, begun = slot.kept(), slot.begun
    if kept is None or kept.counts == NOTHING:
        return None
    data: dict[str, Any] = {
        "input_tokens": kept.counts.inputs, "cached_input_tokens": kept.counts.cached,
        "output_tokens": kept.counts.outputs, "status": kept.status, "model": begun.model,
        "duration_ms": max(0, kept.at_ms - begun.started_ms),
    }  # fmt: skip
    if kept.counts.reasoning:
        data["reasoning_tokens"] = kept.counts.reasoning
    if kept.ttft_ms != NO_FIRST_TOKEN:
        data["ttft_ms"] = kept.ttft_ms
    if begun.attempt:
        data["attempt_id"] = begun.attempt
    if kept.estimated:
        data["tags"] = {"counted_by": "guard"}
    return {"id": begun.id, "subject": begun.subject, "time": event_time_ms(begun, kept.at_ms), "data": data}
