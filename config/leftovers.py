"""What a killed start left behind: processes found by the pid and start time that `config/child.py` noted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import psutil

CLOCK_TOLERANCE_SECONDS = 0.05  # start times are given in ticks of 10 ms
FAST_SHUTDOWN = {"postgres": signal.SIGINT}  # SIGTERM would wait for its clients


@dataclass(frozen=True, slots=True)
class Record:
    """A process as noted when it started."""

    name: str
    pid: int
    started: float

    def leader(self) -> psutil.Process | None:
        """The process itself if it still runs; None when its pid has gone or belongs to another one now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= CLOCK_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def members(self) -> list[psutil.Process]:
        """
        The process and all that it started.

        They share its process group, which outlives it; a group's number is not reused while a member lives, and
        members that are older than the note belong to another boot's group of that number. Postgres gives each of its
        processes a group of its own; as long as it lives itself, they are found as its children.
        """
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                in_group = os.getpgid(process.pid) == self.pid
                if in_group and process.create_time() >= self.started - CLOCK_TOLERANCE_SECONDS:
                    found.append(process)
        if (leader := self.leader()) is not None:
            with contextlib.suppress(psutil.Error):
                found += [process for process in (leader, *leader.children(recursive=True)) if process not in found]
        return [process for process in found if process.pid != os.getpid()]


def read(folder: Path) -> list[Record]:
    """All notes of an instance, by name. A torn note is ignored."""
    records = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ValueError, KeyError, OSError):
            body = json.loads(path.read_text())
            records.append(Record(name=path.stem, pid=body["pid"], started=body["started"]))
    return records


def end(records: list[Record], *, seconds: float = 15) -> list[str]:
    """
    End the processes: ask, wait, then kill. The supervisor first, lest it start the others again; databases last.

    :returns: the names of those that were still running.
    """
    ended: list[str] = []
    last = [record for record in records if record.name in ("postgres", "valkey")]
    first = [record for record in records if record.name == "supervisor"]
    rest = [record for record in records if record not in (*first, *last)]
    for group in (first, rest, last):
        alive: list[psutil.Process] = []
        for record in group:
            members = record.members()
            if not members:
                continue
            ended.append(record.name)
            alive += members
            leader = record.leader()
            how = signal.SIGKILL if record.name == "supervisor" else FAST_SHUTDOWN.get(record.name, signal.SIGTERM)
            for process in [leader] if leader is not None else members:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(how)
        _, stubborn = psutil.wait_procs(alive, timeout=seconds)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, timeout=5)
    return ended


def forget(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.unlink(missing_ok=True)
