"""
Whatever happens to the exchange, the network, the disk or the clock, each token that was reported counts once.

One instance of real processes for all of it: it is killed piece by piece while two days of real requests are replayed
by the SDK's meter, raced on sixteen connections, spoken to by clients that stop in the middle, given wrong times, and
put on a disk that fills up. Afterwards count, sums and rollups are those of what was sent, and the audit is clean.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from ciyuan import Client, Meter
from ciyuan.standard_token import REFERENCE_7B, work
from ciyuan.transport import Retry

from config.instance import ROOT, Instance
from scenarios.traces import read_trace
from tests.scenarios.test_traces import TRACES, needs_traces

pytestmark = [pytest.mark.processes, pytest.mark.proof, pytest.mark.xdist_group("keeps_its_word")]

SEED, ROUNDS, DISK_MB = 20261122, 2, 700
KILLED = ("web", "valkey", "worker", "postgres")
METERS = ("azure", "mooncake", "raced", "rude", "skewed", "full")
QUICK = Retry(first=0.05, most=0.5)
DAY = timedelta(days=1)


class Exchange:
    """The instance, its meters' keys, and what its database says."""

    def __init__(self, instance, parties, disk):
        self.instance, self.disk = instance, disk
        self.url = instance.base_url
        self.owner = Client(url=self.url, api_key=parties["owner"])
        self.keys = {name: made["secret"] for name, made in parties["meters"].items()}
        self.ids = {name: made["id"] for name, made in parties["meters"].items()}

    def rows(self, sql, *values):
        with psycopg.connect(self.instance.postgres.url(), autocommit=True) as connection:
            return connection.execute(sql, values).fetchall()

    def stored(self, name):
        """(events, input, cached, output tokens, work) of a meter's events."""
        return self.rows(
            "SELECT count(*), coalesce(sum(input_tokens + cached_tokens), 0), coalesce(sum(cached_tokens), 0),"
            " coalesce(sum(output_tokens), 0), coalesce(sum(input_micro_st + cached_micro_st + output_micro_st), 0)"
            " FROM usage_event WHERE meter_id = %s", self.ids[name],
        )[0]  # fmt: skip

    def rolled_up(self, name):
        """The same from the rollup."""
        of = {code: (q, w) for code, q, w in self.rows(
            "SELECT token_class, sum(quantity), sum(work_micro_st) FROM usage_rollup WHERE meter_id = %s GROUP BY 1",
            self.ids[name],
        )}  # fmt: skip
        quantity = [of.get(code, (0, 0))[0] for code in (1, 2, 3, 4)]
        work = sum(w for _, w in of.values())
        return quantity[0], quantity[1] + quantity[2], quantity[2], quantity[3], work

    def meter(self, name, spool, **options):
        key = self.keys[name]
        return Meter(source=name, spool=spool, url=self.url, api_key=key, retry=QUICK, timeout=10, **options)

    def post(self, name, events, timeout=10):
        return httpx.post(
            f"{self.url}/v1/events", json=events, headers={"Authorization": f"Bearer {self.keys[name]}"},
            timeout=timeout,
        )  # fmt: skip

    def answers(self, deadline=60):
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200:
                    return
            time.sleep(0.1)
        raise AssertionError("the web does not answer")

    def holds(self, name, sent):
        """What is stored and rolled up of a meter is what was sent, to the token, and nothing was refused."""
        assert self.stored(name) == sums(sent)
        assert self.rolled_up(name) == sums(sent)


def sums(events):
    """(events, input, cached, output tokens, work) as the published formula counts them, one by one."""
    total = [0, 0, 0, 0, 0]
    for event in events:
        data = event["data"]
        counts = data["input_tokens"], data["cached_input_tokens"], data["output_tokens"]
        for place, value in enumerate((1, *counts, work(REFERENCE_7B, *counts).total_micro_st)):
            total[place] += value
    return tuple(total)


def event(source, id_, at, input_tokens=100, cached=40, output_tokens=20):
    return {
        "specversion": "1.0", "type": "ciyuan.usage", "id": id_, "source": source, "subject": "cust-1",
        "time": at.isoformat(),
        "data": {"input_tokens": input_tokens, "cached_input_tokens": cached, "output_tokens": output_tokens},
    }  # fmt: skip


def trace_events(name, file, starts=None):
    trace = read_trace(TRACES / file)
    start = trace.starts_at or starts
    return [
        event(name, f"{name}-{r.line}", start + r.after, r.input_tokens, r.cached_input_tokens, r.output_tokens)
        for r in trace.requests
    ]  # fmt: skip


@contextlib.contextmanager
def small_disk(folder, owner):
    """A file system of its own of DISK_MB on `folder`; yields whether there is one (only root can mount)."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [] if owner is None else [f"uid={owner.pw_uid}", f"gid={owner.pw_gid}"]
    options = ",".join([f"size={DISK_MB}m", "mode=700", *ids])
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode == 0  # fmt: skip
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory):
    from config.services import service_owner

    instance = Instance(
        var=tmp_path_factory.mktemp("word"), clock=True, settings={"CIYUAN_REQUESTS_PER_MINUTE": "1000000"},
        postgres_settings={"max_wal_size": "128MB", "min_wal_size": "32MB"},
    )  # fmt: skip
    folder = instance.postgres.home.folder
    with small_disk(folder, service_owner()) as mounted, instance.started(wait=False) as running:
        running.wait_ready(180)
        made = subprocess.run(
            [sys.executable, "-m", "tests.metering.word_parties", *METERS], cwd=ROOT, env=running.environment(),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        yield Exchange(running, json.loads(made.stdout.splitlines()[-1]), folder if mounted else None)
    instance.remove()


class Killer(threading.Thread):
    """Kills one process after another as `kill -9` does, and starts it again."""

    def __init__(self, exchange):
        super().__init__(daemon=True)
        self.exchange, self.killed = exchange, Counter()
        self.error = None

    def run(self):
        try:
            for _ in range(ROUNDS):
                for name in KILLED:
                    time.sleep(0.7)
                    self.exchange.instance.kill9(name)
                    self.killed[name] += 1
                    time.sleep(0.3)
                    self.exchange.instance.restart(name)
                    if name == "web":
                        self.exchange.answers()
        except BaseException as error:
            self.error = error


@needs_traces
def test_both_traces_while_everything_is_killed(exchange, tmp_path):
    dice = random.Random(SEED)
    now = datetime.now(UTC)
    sent = {
        "azure": trace_events("azure", "azure_llm_2023_code.csv"),
        # A log that comes 72 hours late.
        "mooncake": trace_events("mooncake", "mooncake_conversation_first3000.jsonl", now - timedelta(hours=73)),
    }
    killer = Killer(exchange)
    meters = {name: exchange.meter(name, tmp_path / name, batch=50) for name in sent}
    queues = {}
    for name, events in sent.items():
        queues[name] = list(events)
        dice.shuffle(queues[name])  # out of order over the whole of it
    killer.start()
    while killer.is_alive():
        for name, queue in queues.items():
            meters[name].add_many(queue[-20:])
            del queue[-20:]
        time.sleep(0.05)
    assert killer.error is None, killer.error
    for name, queue in queues.items():
        meters[name].add_many(queue)
        meters[name].flush(60)
    for name, events in sent.items():
        exchange.holds(name, events)
        assert meters[name].state.rejected_events == 0

    # A meter that replays its whole day: in the order of the log, in other batches.
    for name, events in sent.items():
        answered = Counter()
        for at in range(0, len(events), 1_000):
            results = exchange.post(name, events[at : at + 1_000]).json()["results"]
            answered.update(result["status"] for result in results)
        assert answered == {"duplicate": len(events)}
        exchange.holds(name, events)
        meters[name].close()
    print(f"killed {dict(killer.killed)}; {sum(map(len, sent.values())):,} events, each counted once")


def test_identical_batches_raced_on_sixteen_connections(exchange):
    now = datetime.now(UTC) - timedelta(hours=1)
    batch = [event("raced", f"r-{n}", now + timedelta(milliseconds=n), 100 + n, 40, 20) for n in range(1_000)]
    barrier, counted, wrong = threading.Barrier(16), Counter(), []

    def race(number):
        mine = list(batch)
        random.Random(number).shuffle(mine)
        barrier.wait(30)
        for _ in range(2):
            answer = exchange.post("raced", mine, timeout=60)
            if answer.status_code != 200:
                wrong.append(answer.text)
                continue
            counted.update(result["status"] for result in answer.json()["results"])

    threads = [threading.Thread(target=race, args=[number]) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert counted == {"accepted": 1_000, "duplicate": 31_000}
    exchange.holds("raced", batch)


def test_clients_that_stop_or_dawdle(exchange):
    now = datetime.now(UTC) - timedelta(hours=2)
    events = [event("rude", f"x-{n}", now, 100 + n) for n in range(40)]
    address = urlsplit(exchange.url)

    def request(body, length=None):
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {exchange.keys['rude']}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def open_():
        return socket.create_connection((address.hostname, address.port), timeout=20)

    half = json.dumps(events[:10]).encode()
    for cut in (0, 1, len(half) // 2, len(half) - 1):  # the body stops, and so does the client
        with open_() as client:
            client.sendall(request(half[:cut], length=len(half)))
            time.sleep(0.05)
    for number in range(5):  # hangs up with a reset, whole body sent, without reading the answer
        with open_() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            client.sendall(request(json.dumps(events[10 + number : 20 + number]).encode()))
    with open_() as client:  # sends that its body is longer than it is
        client.sendall(request(half, length=len(half) + 10))
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(65_536)
        assert not answer or (b" 400 " in answer.splitlines()[0] and b"body-incomplete" in answer), answer
    body = json.dumps(events[20:25]).encode()
    slow = [open_() for _ in range(8)]
    parts = [request(body)[at : at + 300] for at in range(0, len(request(body)), 300)]
    for part in parts:  # eight who dawdle, while others are served at once
        for client in slow:
            client.sendall(part)
        started = time.monotonic()
        assert exchange.post("rude", events[25:40]).status_code == 200
        assert time.monotonic() - started < 5
        time.sleep(0.2)
    for client in slow:
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        client.close()
    assert exchange.post("rude", events[10:20]).status_code == 200
    stored = {row[0] for row in exchange.rows("SELECT id FROM usage_event WHERE meter_id = %s", exchange.ids["rude"])}
    assert not stored & {f"x-{n}" for n in range(10)}, "a body that never was complete was stored"
    exchange.holds("rude", events[10:])
    assert exchange.post("rude", events[:10]).status_code == 200
    exchange.holds("rude", events)


def test_clocks_that_go_wrong(exchange):
    """Four minutes ahead is taken; ten are kept aside until it is so late; the exchange's own clock may jump."""
    now = datetime.now(UTC)
    early = [event("skewed", f"early-{n}", now + timedelta(minutes=4, seconds=-n)) for n in range(10)]
    ahead = [event("skewed", f"ahead-{n}", now + timedelta(minutes=10, seconds=n)) for n in range(10)]
    late = [event("skewed", f"late-{n}", now - timedelta(hours=72, seconds=n)) for n in range(10)]
    mixed = [one for three in zip(early, ahead, late, strict=True) for one in three]
    answered = exchange.post("skewed", mixed).json()["results"]
    assert [result["status"] for result in answered] == ["accepted", "rejected", "accepted"] * 10
    assert {result["code"] for result in answered[1::3]} == {"future-time"}
    exchange.holds("skewed", early + late)
    kept = {row.event_id for row in exchange.owner.events.rejected(code="future-time")}
    assert kept == {f"ahead-{n}" for n in range(10)}
    try:
        exchange.instance.set_clock(product=now + timedelta(minutes=30))
        replayed = exchange.owner.events.replay(code="future-time")
        assert (replayed["accepted"], replayed["remaining"]) == (10, 0)
        exchange.holds("skewed", early + late + ahead)
        exchange.instance.clock_file.unlink()  # back by half an hour, over what is stored already
        answered = exchange.post("skewed", late).json()["results"]
        assert {result["status"] for result in answered} == {"duplicate"}
        exchange.holds("skewed", early + late + ahead)
    finally:
        exchange.instance.clock_file.unlink(missing_ok=True)


def test_a_full_disk(exchange, tmp_path):
    """Nothing is acknowledged that is not on it, refusals are clear, and it goes on when there is room."""
    if exchange.disk is None:
        pytest.skip("a disk of our own to fill needs root and mount")
    now = datetime.now(UTC) - timedelta(hours=3)
    events = [event("full", f"f-{n}", now + timedelta(milliseconds=n), 100 + n % 50) for n in range(20_000)]
    waiting = [event("full", f"w-{n}", now + timedelta(milliseconds=n), 200) for n in range(3_000)]
    # A day that has no partition yet: making a table on a full disk fails too.
    other_day = [event("full", f"o-{n}", now - 40 * DAY, 300) for n in range(10)]
    ballast, answers, acknowledged = exchange.disk / "ballast", Counter(), []
    with exchange.meter("full", tmp_path / "full") as meter:
        fill(ballast)
        for at in range(0, len(events), 1_000):
            fill(ballast)
            part = events[at : at + 1_000]
            try:
                answer = exchange.post("full", part, timeout=30)
            except httpx.HTTPError as error:
                answers[type(error).__name__] += 1
                continue
            answers[answer.status_code] += 1
            if answer.status_code == 200:
                assert {result["status"] for result in answer.json()["results"]} == {"accepted"}
                acknowledged += part
                continue
            problem = answer.json()
            answers[problem["code"]] += 1
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
            if answers["storage-full"] == 1:
                assert "disk" in problem["detail"]
        meter.add_many(waiting)
        assert exchange.post("full", other_day).status_code == 503
        time.sleep(1)
        assert answers["storage-full"] and meter.state.waiting_events == len(waiting) and meter.state.problem
        alive = exchange.instance.postgres.is_running()
        ballast.unlink()
        if not alive:  # as the supervisor does
            exchange.instance.restart("postgres")
        exchange.answers()
        meter.flush(60)
        exchange.holds("full", acknowledged + waiting)
        for at in range(0, len(events), 1_000):
            answer = exchange.post("full", events[at : at + 1_000], timeout=30)
            assert answer.status_code == 200, answer.text
        assert exchange.post("full", other_day).status_code == 200
        exchange.holds("full", events + waiting + other_day)
    print(f"on a full disk: {dict(answers)}; Postgres {'went on' if alive else 'stopped and was started again'}")


def test_the_books_after_all_of_it(exchange):
    """Recomputed from the events, rollups, settlements and money are what they should be."""
    assert exchange.instance.manage("audit").stdout.strip().endswith("audit: clean")


def fill(path):
    """Leave no byte free on the disk of `path`."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for block in (2**20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(block)) == block:
                    pass
