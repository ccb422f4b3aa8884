"""What waits for one lock is done together: once each, nobody forgotten, errors to whom they belong."""

import threading

import pytest

from core.gathering import Gathering


class Desk:
    """Work that waits until it is let through, and notes who did what with whom."""

    def __init__(self, *, together_raises=False, leave=(), most=100):
        self.lots = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.together_raises = together_raises
        self.leave = leave
        self.gathering = Gathering(self.together, self.alone, most=most)

    def _work(self, lot):
        self.lots.append(lot)
        self.begun.release()
        assert self.go_on.acquire(timeout=20)

    def together(self, lot):
        self._work(list(lot))
        if self.together_raises:
            raise RuntimeError("no")
        return [None if work in self.leave else f"{work} of {len(lot)}" for work in lot]

    def alone(self, work):
        self._work([work])
        if work == "bad":
            raise ValueError(work)
        return f"{work} alone"


def run(desk, *names, key="k", weight=1):
    """Have the first name work, the others come meanwhile in order, then let all through; return who got what."""
    got = {}

    def one(name):
        try:
            got[name] = desk.gathering.do(key, name, weight=weight)
        except Exception as error:
            got[name] = error

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in names]
    threads[0].start()
    assert desk.begun.acquire(timeout=20)
    for place, thread in enumerate(threads[1:], 1):
        thread.start()
        while len(desk.gathering._lines[key]) < place:
            threading.Event().wait(0.001)
    for _ in range(3 * len(names)):
        desk.go_on.release()
    for thread in threads:
        thread.join(20)
    assert not desk.gathering._lines
    return got


def test_who_comes_while_another_works_is_done_together_with_the_others():
    desk = Desk()
    assert run(desk, "a", "b", "c", "d") == {"a": "a alone", "b": "b of 3", "c": "c of 3", "d": "d of 3"}
    assert desk.lots == [["a"], ["b", "c", "d"]]


def test_only_so_much_is_done_together():
    desk = Desk(most=5)
    got = run(desk, "a", "b", "c", "d", "e", weight=2)
    assert desk.lots == [["a"], ["b", "c"], ["d", "e"]] and len(got) == 5
    alone = Desk(most=5)
    run(alone, "a", "b", "c", weight=9)
    assert alone.lots == [["a"], ["b"], ["c"]]


def test_what_must_be_done_alone_is_done_by_its_own_thread():
    desk = Desk(leave=("c",))
    assert run(desk, "a", "b", "c") == {"a": "a alone", "b": "b of 2", "c": "c alone"}


def test_when_it_fails_together_each_gets_what_is_its_own():
    desk = Desk(together_raises=True)
    got = run(desk, "a", "b", "bad", "c")
    assert isinstance(got.pop("bad"), ValueError)
    assert got == {"a": "a alone", "b": "b alone", "c": "c alone"}
    assert desk.lots[1] == ["b", "bad", "c"] and sorted(map(tuple, desk.lots[2:])) == [("b",), ("bad",), ("c",)]


def test_one_who_fails_alone_leaves_the_turn_to_the_next():
    desk = Desk()
    got = run(desk, "bad", "b", "c")
    assert isinstance(got["bad"], ValueError) and got["b"] == "b of 2"


def test_keys_do_not_wait_for_each_other():
    desk = Desk()
    for _ in range(4):
        desk.go_on.release()
    assert desk.gathering.do("x", "a") == "a alone"
    with pytest.raises(ValueError, match="bad"):
        desk.gathering.do("y", "bad")
    assert not desk.gathering._lines
