"""
A queue of lines on disk, for one process at a time: what was added is there after a kill -9 or a power cut.

Lines go to append-only segment files, `00000001.ndjson` and so on; `position.json` says how far they are done with and
is replaced atomically. A line that a crash cut short was never confirmed to anyone and is cut off at the next start. A
segment whose lines are all done with is kept in the folder `sent` for a while, so that they can be sent again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SEGMENT_BYTES = 8 * 1024 * 1024
KEEP_BYTES = 256 * 1024 * 1024
KEEP_SECONDS = 31 * 86_400.0
SENT = "sent"
_SUFFIX = ".ndjson"


class SpoolError(Exception):
    """The spool cannot take or give events; the message says why and what would help."""


class SpoolFull(SpoolError):
    """The spool has reached its limit. Nothing was dropped: the new events were not taken."""


class SpoolInUse(SpoolError):
    """Another process has the folder."""


@dataclass(frozen=True, order=True)
class Position:
    """A place between two lines: segment number, and bytes from its beginning."""

    segment: int
    offset: int


class Spool:
    """
    :param folder: made if need be; one process at a time.
    :param max_bytes: the most that may wait; beyond it `append` refuses.
    :param keep_bytes: the most that is kept of what is done with, for 31 days; the oldest goes first.
    :raises SpoolInUse: while another process has it.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.keep_bytes = keep_bytes
        self.segment_bytes = segment_bytes
        self._lock, self._sync_lock = threading.Lock(), threading.Lock()
        try:
            (folder / SENT).mkdir(parents=True, exist_ok=True)
            self._owner = _own(folder / "lock")
            self._done, last = self._read_position()
            self._file, self._end = self._open_last(last)
            self._done = min(self._done, self._end)
            self._waiting_bytes, self.waiting_events = self._count()
        except OSError as error:
            raise SpoolError(f"the spool folder {folder} cannot be used: {_words(error)}") from error
        self._synced = self._end

    # -- adding -------------------------------------------------------------------------------------------------------

    def append(self, lines: list[bytes]) -> Position:
        """
        Add lines (JSON without a newline) and return the position after them. `sync` makes them survive a power cut.

        :raises SpoolFull: when they would go beyond the limit; none of them is taken.
        :raises SpoolError: when the disk refuses; none of them is taken.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            if self._waiting_bytes + len(data) > self.max_bytes:
                raise SpoolFull(
                    f"the spool {self.folder} is full: {self.waiting_events:,} events ({self._waiting_bytes:,} bytes)"
                    f" wait to be sent and the limit is {self.max_bytes:,} bytes;"
                    f" {'this event was' if len(lines) == 1 else f'these {len(lines):,} events were'} not taken"
                )
            if self._end.offset >= self.segment_bytes:
                self._roll()
            try:
                _write_all(self._file, data)
            except OSError as error:
                # What was written of it must go, or it would stand before the next line.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end.offset)
                raise SpoolError(f"the spool {self.folder} cannot be written: {_words(error)}") from error
            self._end = Position(self._end.segment, self._end.offset + len(data))
            self._waiting_bytes += len(data)
            self.waiting_events += len(lines)
            return self._end

    def sync(self, position: Position) -> None:
        """Return when everything before `position` is on the disk. Callers at the same time share one fsync."""
        with self._sync_lock:
            with self._lock:
                if position <= self._synced:
                    return
                end, file = self._end, os.dup(self._file)  # a copy: the segment may be rolled meanwhile
            try:
                os.fsync(file)
            except OSError as error:
                raise SpoolError(f"the spool {self.folder} cannot be written: {_words(error)}") from error
            finally:
                os.close(file)
            with self._lock:
                self._synced = max(self._synced, end)

    def _roll(self) -> None:
        os.fsync(self._file)
        os.close(self._file)
        self._synced = self._end = Position(self._end.segment + 1, 0)
        self._file = os.open(self._path(self._end.segment), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _sync_folder(self.folder)

    # -- taking -------------------------------------------------------------------------------------------------------

    @property
    def end(self) -> Position:
        with self._lock:
            return self._end

    @property
    def done(self) -> Position:
        with self._lock:
            return self._done

    @property
    def waiting_bytes(self) -> int:
        with self._lock:
            return self._waiting_bytes

    def peek(self, most: int, most_bytes: int) -> tuple[list[bytes], Position]:
        """The oldest lines, in order, that are not done with, and the position after them. They stay where they are."""
        with self._lock:
            at, end = self._done, self._end
        lines: list[bytes] = []
        size = 0
        while len(lines) < most and at < end:
            with self._path(at.segment).open("rb") as segment:
                segment.seek(at.offset)
                while len(lines) < most and at < end:
                    line = segment.readline()
                    if not line:
                        break
                    if lines and size + len(line) > most_bytes:
                        return lines, at
                    lines.append(line.removesuffix(b"\n"))
                    size += len(line)
                    at = Position(at.segment, at.offset + len(line))
            if at.segment < end.segment and at.offset >= self._path(at.segment).stat().st_size:
                at = Position(at.segment + 1, 0)
            elif len(lines) < most and at < end:
                break
        return lines, at

    def finish(self, position: Position, events: int) -> None:
        """Everything before `position` is done with: remember so, and delete what is no longer needed."""
        with self._lock:
            before = self._done
            replace_file(
                self.folder / "position.json", json.dumps({"segment": position.segment, "offset": position.offset})
            )
            self._done = position  # not before the disk has taken it: a full one leaves everything as it was
            freed = position.offset - before.offset
            for number in range(before.segment, position.segment):
                freed += self._path(number).stat().st_size
                self._keep(number)
            if position.segment > before.segment:
                self._forget_oldest()
            self._waiting_bytes -= freed
            self.waiting_events -= events

    def _keep(self, number: int) -> None:
        path = self._path(number)
        path.rename(self.folder / SENT / path.name)

    def _forget_oldest(self) -> None:
        """Delete what is kept beyond the limit."""
        kept = [(path, path.stat()) for path in segments(self.folder / SENT)]
        size = sum(facts.st_size for _, facts in kept)
        oldest = time.time() - KEEP_SECONDS
        for path, facts in kept:
            if size <= self.keep_bytes and facts.st_mtime >= oldest:
                break
            path.unlink()
            size -= facts.st_size

    def close(self) -> None:
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                os.close(self._file)
                os.close(self._owner)
                self._file = -1

    # -- opening ------------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}{_SUFFIX}"

    def _read_position(self) -> tuple[Position, int]:
        """How far all is done with, and the number of the last segment."""
        try:
            saved = json.loads((self.folder / "position.json").read_text())
            position = Position(int(saved["segment"]), int(saved["offset"]))
        except FileNotFoundError:
            position = Position(0, 0)
        except (ValueError, KeyError, TypeError) as error:
            raise SpoolError(
                f"{self.folder / 'position.json'} is damaged ({error}); set it right or remove it"
            ) from error
        numbers = [int(path.stem) for path in segments(self.folder)]
        for number in numbers:
            if number < position.segment:  # done with; a crash came before it was put with the others
                self._keep(number)
        first = next((number for number in numbers if number >= position.segment), None)
        if first is not None and first != position.segment:
            position = Position(first, 0)
        return position, max([position.segment, *numbers])

    def _open_last(self, number: int) -> tuple[int, Position]:
        path = self._path(number)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _sync_folder(self.folder)
        whole = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(file, whole)
        os.fsync(file)
        return file, Position(number, whole)

    def _count(self) -> tuple[int, int]:
        size = events = 0
        for number in range(self._done.segment, self._end.segment + 1):
            with self._path(number).open("rb") as segment:
                segment.seek(self._done.offset if number == self._done.segment else 0)
                for line in segment:
                    size += len(line)
                    events += 1
        return size, events


def segments(folder: Path) -> list[Path]:
    """The segment files in a folder, oldest first."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _own(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise SpoolInUse(
            f"the spool {path.parent} is in use by process {holder or 'unknown'}; give each process a folder of its own"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def replace_file(path: Path, text: str) -> None:
    """Write a small file so that a crash leaves the old or the new one, whole."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
