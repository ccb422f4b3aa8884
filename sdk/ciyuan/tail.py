"""
Follows a growing log file into a meter, across rotations and restarts.

How far it has read is saved beside the meter's spool, after the lines read are in the spool. A crash between the two
reads some lines again, with the same ids, which the exchange counts once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ciyuan.lines import BadLine, event_of_line
from ciyuan.meter import Meter

BATCH_LINES = 1_000
MARK_BYTES = 64


class Tail:
    """
    :param path: the log; it may not exist yet.
    :param complain: called with the place and the reason for each line that no event can be made of; the rest goes on.
    """

    def __init__(
        self, path: Path, meter: Meter, *, subject: str | None = None, complain: Callable[[str, str], None]
    ) -> None:
        self.path = path
        self.meter = meter
        self._subject = subject
        self._complain = complain
        self._place = meter.spool.folder / "tail.json"
        self._file: BinaryIO | None = None
        self._inode = self._offset = 0
        self._generation = -1
        self._mark = b""

    def read_available(self) -> int:
        """Hand every whole line that is there to the meter; returns how many events that made."""
        events = 0
        while (file := self._open()) is not None:
            lines, made = self._read_batch(file)
            events += made
            if lines:
                continue
            if not self._rotated():
                break
            # The old file is read to its end; the new one begins at its beginning.
            self.close()
            if (fresh := self._current()) is not None:
                self._begin_anew(fresh)
        return events

    def _open(self) -> BinaryIO | None:
        if self._file is None:
            saved = self._saved()
            file = self._unfinished(saved) or self._current()
            if file is None:
                return None
            self._begin(file, saved)
        assert self._file is not None
        if not self._continues(self._file):
            # Truncated in place and perhaps written anew: other lines stand where the old ones stood.
            self._begin_anew(self._file)
        return self._file

    def _begin(self, file: BinaryIO, saved: dict[str, Any]) -> None:
        """Read this file, from where it was left if it is the one that was saved."""
        self._generation = int(saved.get("generation", -1))
        if saved.get("inode") != os.fstat(file.fileno()).st_ino:
            self._begin_anew(file)
            return
        self._file, self._inode = file, int(saved["inode"])
        self._offset, self._mark = int(saved["offset"]), bytes.fromhex(saved["mark"])

    def _begin_anew(self, file: BinaryIO) -> None:
        """Read this file from its beginning. The generation tells its lines from those of an earlier one."""
        self._file, self._inode = file, os.fstat(file.fileno()).st_ino
        self._offset, self._mark, self._generation = 0, b"", self._generation + 1
        self._save()

    def _current(self) -> BinaryIO | None:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            return None

    def _unfinished(self, saved: dict[str, Any]) -> BinaryIO | None:
        """The file read last, if it was renamed while nobody looked: `log` is now `log.1`."""
        if not saved or (self.path.exists() and self.path.stat().st_ino == saved["inode"]):
            return None
        for sibling in self.path.parent.glob(f"{self.path.name}*"):
            if sibling.is_file() and sibling.stat().st_ino == saved["inode"]:
                return sibling.open("rb")
        return None

    def _continues(self, file: BinaryIO) -> bool:
        """Whether the last bytes that were read still stand before the place where reading goes on."""
        file.seek(self._offset - len(self._mark))
        return file.read(len(self._mark)) == self._mark

    def _read_batch(self, file: BinaryIO) -> tuple[int, int]:
        """Read up to a batch of whole lines; (lines read, events made)."""
        file.seek(self._offset)
        at, mark, lines, events = self._offset, self._mark, 0, []
        while lines < BATCH_LINES:
            line = file.readline()
            if not line.endswith(b"\n"):
                break  # still being written
            if line.strip():
                place = f"{self._generation}:{at}"
                try:
                    events.append(event_of_line(line, place=place, subject=self._subject))
                except BadLine as error:
                    self._complain(f"{self.path} at byte {at:,}", str(error))
            at += len(line)
            lines += 1
            mark = line[-MARK_BYTES:]
        if lines:
            self.meter.add_many(events)
            self._offset, self._mark = at, mark
            self._save()
        return lines, len(events)

    def _rotated(self) -> bool:
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return False

    def _saved(self) -> dict[str, Any]:
        try:
            saved = json.loads(self._place.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return saved if isinstance(saved, dict) and saved.get("path") == str(self.path.absolute()) else {}

    def _save(self) -> None:
        place = {
            "path": str(self.path.absolute()),
            "inode": self._inode,
            "generation": self._generation,
            "offset": self._offset,
            "mark": self._mark.hex(),
        }
        fresh = self._place.with_suffix(".new")
        fresh.write_text(json.dumps(place))
        fresh.replace(self._place)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
