"""
The whole path on real processes: a day played through the API, and the same day with processes killed under it.

Kills come at moments drawn from a seed, in the middle of the step they belong to; whatever is killed is started again a
moment later, as the supervisor would. The documents must be those of the undisturbed day, line by line.
"""

import random
import subprocess
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from config.instance import ROOT, Instance
from scenarios.day import Day
from scenarios.traces import generate, read_trace

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"
SEED = 3
pytestmark = pytest.mark.processes


class DisturbedDay(Day):
    """A day in which each step named in `kills` loses those processes while it runs."""

    def __init__(self, *, kills, dice, **given):
        super().__init__(**given)
        self.kills = kills
        self.dice = dice
        self.killed = []

    def disturbed(self, step, call):
        names = self.kills.get(step, ())
        threads = [threading.Thread(target=self.kill, args=(name, self.dice.uniform(0.05, 1.5))) for name in names]
        for thread in threads:
            thread.start()
        try:
            return call()
        finally:
            for thread in threads:
                thread.join()

    def kill(self, name, after):
        time.sleep(after)
        self.instance.kill9(name)
        self.killed.append(name)
        time.sleep(0.3)
        self.instance.restart(name)

    def publish_and_bid(self):
        return self.disturbed("bid", super().publish_and_bid)

    def clear(self):
        return self.disturbed("clear", super().clear)

    def close_gate(self):
        return self.disturbed("gate", super().close_gate)

    def deliver(self, contracts):
        return self.disturbed("deliver", lambda: super(DisturbedDay, self).deliver(contracts))

    def settle(self, *, traded):
        return self.disturbed("settle", lambda: super(DisturbedDay, self).settle(traded=traded))


@contextmanager
def another_beat(instance):
    """A second process that sends every periodic task, beside the first."""
    beat = next(process for process in instance.processes() if process.name == "beat")
    second = subprocess.Popen(
        beat.command, cwd=ROOT, env=instance.environment("beat"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
        assert second.poll() is None, "the second beat has ended before the day has"
    finally:
        second.kill()
        second.wait()


def play(var, trace, kills=None, second_beat=False, **given):
    instance = Instance(var=var, clock=True, seed=SEED, **given)
    day = DisturbedDay(
        kills=kills or {}, dice=random.Random(SEED), instance=instance, trace=trace, seed=SEED, say=lambda _line: None
    )
    instance.set_clock(product=day.starts_at, speed=1.0)
    try:
        with instance.started(), another_beat(instance) if second_beat else nullcontext():
            result = day.run()
    finally:
        instance.remove()
    assert day.killed == [] or set(day.killed) == {name for names in (kills or {}).values() for name in names}
    return result


def comparable(result):
    """What a day comes to, without ids and stamps; documents in the order of their parties."""
    documents = sorted(result["documents"], key=lambda one: (one["document"], one["party"], one["total"]))
    return {name: result[name] for name in ("auction", "contracts", "metered", "audit_clean")} | {
        "documents": documents
    }


@pytest.fixture(scope="module")
def trace():
    return generate(seed=SEED, requests=400)


@pytest.fixture(scope="module")
def undisturbed(trace, tmp_path_factory):
    return play(tmp_path_factory.mktemp("day"), trace)


@pytest.mark.proof
def test_a_day_ends_in_invoices_that_add_up(undisturbed, trace):
    assert undisturbed["audit_clean"]
    assert undisturbed["auction"]["volume"] > 0
    assert undisturbed["events"] == {"accepted": 400}
    documents = undisturbed["documents"]
    assert {document["document"] for document in documents} == {"invoice", "statement"}
    assert all(document["lines"] for document in documents)
    assert undisturbed["metered"]["requests"] == 400
    assert sum(undisturbed["metered"].values()) - 400 == sum(
        request.input_tokens + request.output_tokens for request in trace.requests
    )


@pytest.mark.proof
def test_two_of_every_process_and_every_task_sent_twice_change_nothing(undisturbed, trace, tmp_path):
    doubled = play(tmp_path, trace, second_beat=True, web_workers=2, matching_workers=2, workers=2)
    assert comparable(doubled) == comparable(undisturbed)


@pytest.mark.proof
@pytest.mark.parametrize("step", ["bid", "clear", "gate", "deliver", "settle"])
def test_every_process_may_be_killed_in_each_step(undisturbed, trace, tmp_path, step):
    disturbed = play(tmp_path, trace, {step: ["web", "matching0", "worker", "valkey", "postgres"]})
    assert comparable(disturbed) == comparable(undisturbed)


@pytest.mark.proof
@pytest.mark.skipif(not TRACES.is_dir(), reason=f"the public traces are not at {TRACES}")
@pytest.mark.parametrize("name", ["azure_llm_2023_code.csv", "mooncake_conversation_first3000.jsonl"])
def test_the_real_day_is_clean_and_the_same_again(tmp_path, name):
    real = read_trace(TRACES / name)
    first = play(tmp_path / "one", real)
    assert first["audit_clean"] and first["events"] == {"accepted": len(real.requests)}
    kills = {"clear": ["matching0"], "deliver": ["web", "valkey", "postgres"], "settle": ["worker"]}
    assert comparable(play(tmp_path / "two", real, kills)) == comparable(first)
