"""Doing together what waits together."""

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

W = TypeVar("W")
A = TypeVar("A")


class _Waiting(Generic[W, A]):
    """A piece of work whose thread waits until it is its turn or somebody has done it."""

    __slots__ = ("answer", "taken", "turn", "weight", "work")

    def __init__(self, work: W, weight: int) -> None:
        self.work = work
        self.weight = weight
        self.turn = threading.Event()
        self.answer: A | None = None
        self.taken: list[_Waiting[W, A]] = []  # what it is to do when its turn comes, itself first


class Gathering(Generic[W, A]):
    """
    Threads that would wait in line for one lock: the first works, and the next takes along all who have come meanwhile.

    So a stop of a moment is made up for at once, instead of one transaction after the other.

    :param together: does several pieces of one key, one answer each; None for a piece that must be done alone. When it
        raises, nothing of it may be left: each piece is then done alone, and raises what is its own.
    :param alone: does one piece.
    :param most: how much weight is done together.
    """

    def __init__(
        self, together: Callable[[Sequence[W]], Sequence[A | None]], alone: Callable[[W], A], *, most: int
    ) -> None:
        self._together = together
        self._alone = alone
        self._most = most
        self._lock = threading.Lock()
        self._lines: dict[Hashable, list[_Waiting[W, A]]] = {}  # behind the one who works; no line: nobody works

    def do(self, key: Hashable, work: W, *, weight: int = 1) -> A:
        """Return the answer to a piece of work, done by this thread or by another of its key."""
        mine: _Waiting[W, A] = _Waiting(work, weight)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
                mine.taken = [mine]
            else:
                line.append(mine)
        if line is not None:
            mine.turn.wait()
        if mine.taken:
            self._lead(key, mine.taken)
        return self._alone(work) if mine.answer is None else mine.answer

    def _lead(self, key: Hashable, taken: list[_Waiting[W, A]]) -> None:
        """Do what was taken, let its threads go on, and give the turn to the first who has come meanwhile."""
        try:
            if len(taken) > 1:
                answers = self._together([each.work for each in taken])
                for each, answer in zip(taken, answers, strict=True):
                    each.answer = answer
            else:
                taken[0].answer = self._alone(taken[0].work)
        except Exception:
            if len(taken) == 1:
                raise
            log.exception("what waited together failed; each is done alone", pieces=len(taken))
        finally:
            self._hand_on(key)
            for each in taken[1:]:
                each.turn.set()

    def _hand_on(self, key: Hashable) -> None:
        with self._lock:
            line = self._lines[key]
            if not line:
                del self._lines[key]
                return
            weight = count = 0
            while count < len(line) and (not count or weight + line[count].weight <= self._most):
                weight += line[count].weight
                count += 1
            first = line[0]
            first.taken, self._lines[key] = line[:count], line[count:]
        first.turn.set()
