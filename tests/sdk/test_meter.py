"""The meter's promise: what `record` returned for reaches the exchange once, in order, whatever happens between."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ciyuan.meter import Meter, MeterBehind
from ciyuan.spool import Spool, SpoolError, SpoolFull, SpoolInUse
from ciyuan.standard_token import StandardTokenError
from ciyuan.transport import Retry
from ciyuan.usage import UsageError

from tests.sdk.endpoint import Endpoint

SDK = Path(__file__).parents[2] / "sdk"


class ProductTime:
    """The product's clock: waiting takes no time, but the clock moves by it."""

    def __init__(self):
        self.moment = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
        self.waits = []

    def now(self):
        return self.moment

    def pause(self, seconds):
        self.waits.append(seconds)
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def exchange():
    with Endpoint() as server:
        yield server


@pytest.fixture
def given_meter(tmp_path):
    meters = []

    def build(url, *, clock=None, **kwargs):
        clock = clock or ProductTime()
        kwargs = {
            "source": "gateway-1",
            "spool": tmp_path / "spool",
            "api_key": "ck_test",
            "background": False,
            **kwargs,
        }
        meter = Meter(url=url, now=clock.now, pause=clock.pause, **kwargs)
        meters.append(meter)
        return meter

    yield build
    for meter in meters:
        meter.close()


def usage(n=1):
    return {"subject": "contract-1", "input_tokens": n, "output_tokens": 1}


def test_events_arrive_as_cloudevents_in_order(exchange, given_meter):
    meter = given_meter(exchange.url)
    ids = [meter.record(**usage(n), tags={"team": "search"}) for n in range(5)]
    meter.flush()
    assert exchange.order == ids
    (_, path, _, headers, body), *_ = exchange.requests
    assert (path, headers["Authorization"]) == ("/v1/events", "Bearer ck_test")
    assert json.loads(body)[3] == {
        "specversion": "1.0",
        "type": "ciyuan.usage",
        "id": ids[3],
        "source": "gateway-1",
        "subject": "contract-1",
        "time": "2026-11-20T09:00:00+00:00",
        "data": {"input_tokens": 3, "cached_input_tokens": 0, "output_tokens": 1, "tags": {"team": "search"}},
    }
    assert (meter.state.waiting_events, meter.state.sent_events) == (0, 5)


def test_batches_have_a_thousand_events_at_most(exchange, given_meter):
    meter = given_meter(exchange.url)
    meter.add_many({"subject": "c", "data": {"input_tokens": n}} for n in range(2_500))
    meter.flush()
    assert [len(json.loads(body)) for *_, body in exchange.requests] == [1_000, 1_000, 500]


def test_a_vendors_usage_object_is_checked_and_sent_as_it_came(exchange, given_meter):
    meter = given_meter(exchange.url)
    report = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    meter.record_usage("openai", report, subject="c", model="Qwen3-32B")
    with pytest.raises(UsageError):
        meter.record_usage("openai", {**report, "total_tokens": 9}, subject="c")
    with pytest.raises(StandardTokenError):
        meter.record(subject="c", input_tokens=1, cached_input_tokens=2)
    meter.flush()
    (event,) = exchange.events.values()
    assert event["data"] == {"format": "openai", "usage": report, "model": "Qwen3-32B"}


def test_an_hours_outage_drains_without_help(exchange, given_meter):
    clock = ProductTime()
    meter = given_meter(exchange.url, clock=clock, retry=Retry(first=0.5, most=60.0, draw=random.Random(1).random))
    began = clock.now()
    ids = []
    while clock.now() < began + timedelta(hours=1):
        ids.append(meter.record(**usage()))
        exchange.script = ["drop"] if len(ids) % 2 else [(503, {}, {"code": "unavailable", "detail": "starting"})]
        wait = meter.step()
        assert 0.25 <= wait <= 60
        clock.pause(wait)
    assert len(clock.waits) < 110  # it backs off: about one attempt a minute once it has given up hurrying
    assert len(set(clock.waits[-20:])) > 10  # with jitter
    assert meter.state.failures == len(ids)
    assert meter.state.problem
    exchange.script = []
    meter.flush()
    assert exchange.order == ids
    assert meter.state.failures == 0


def test_a_retry_after_is_obeyed(exchange, given_meter):
    meter = given_meter(exchange.url, retry=Retry(first=0.1, most=0.1))
    meter.record(**usage())
    exchange.script = [(429, {"Retry-After": "7"}, {"code": "too-many-requests", "detail": "slower"})]
    assert meter.step() == 7.0


def test_an_answer_that_was_lost_does_not_double_the_events(exchange, given_meter):
    meter = given_meter(exchange.url)
    ids = [meter.record(**usage(n)) for n in range(3)]
    exchange.script = ["lose"]
    assert meter.step() > 0
    meter.record(**usage(9))
    meter.flush()
    assert len(exchange.order) == 4
    assert exchange.order[:3] == ids
    assert not meter.rejected_path.exists()


def test_refused_events_are_kept_with_the_reason_and_spare_their_neighbours(exchange, given_meter):
    meter = given_meter(exchange.url)
    exchange.refuse["b"] = ("unknown-subject", "no contract is named so", "subject")
    for id_ in "abc":
        meter.record(**usage(), id=id_)
    meter.flush()
    assert exchange.order == ["a", "c"]
    (row,) = [json.loads(line) for line in meter.rejected_path.read_text().splitlines()]
    assert (row["code"], row["field"], row["event"]["id"]) == ("unknown-subject", "subject", "b")
    assert (meter.state.sent_events, meter.state.rejected_events, meter.state.waiting_events) == (2, 1, 0)


def test_the_same_id_with_other_content_is_put_aside(exchange, given_meter):
    meter = given_meter(exchange.url)
    meter.record(**usage(1), id="a")
    meter.record(**usage(2), id="a")
    meter.flush()
    assert json.loads(meter.rejected_path.read_text())["code"] == "conflict"


def test_a_body_refused_as_a_whole_is_halved(exchange, given_meter):
    exchange.largest = 3
    meter = given_meter(exchange.url)
    ids = [meter.record(**usage(n)) for n in range(20)]
    meter.flush()
    assert exchange.order == ids


def test_one_event_that_spoils_its_body_is_found(exchange, given_meter):
    poison = (400, {"code": "bad-request", "detail": "no"})

    def serve(_headers, _query, body):
        events = json.loads(body)
        return poison if any(e["id"] == "bad" for e in events) else (200, exchange.keep(events))

    exchange.routes["POST", "/proxy/v1/events"] = serve
    meter = given_meter(exchange.url + "/proxy")
    for id_ in ["a", "b", "bad", "c", "d"]:
        meter.record(**usage(), id=id_)
    meter.flush()
    assert exchange.order == ["a", "b", "c", "d"]
    assert json.loads(meter.rejected_path.read_text())["event"]["id"] == "bad"


def test_a_full_spool_says_so_and_takes_nothing(given_meter):
    meter = given_meter("http://127.0.0.1:9", max_spool_bytes=2_000)
    taken = 0
    with pytest.raises(SpoolFull) as error:
        for _ in range(100):
            meter.record(**usage())
            taken += 1
    meter.step()
    assert f"{taken} events" in str(error.value) and "2,000 bytes" in str(error.value)
    assert meter.state.waiting_events == taken
    with pytest.raises(SpoolFull, match="unreachable"):
        meter.record(**usage())


def test_a_revoked_key_is_named_and_nothing_is_lost(exchange, given_meter):
    meter = given_meter(exchange.url)
    meter.record(**usage())
    exchange.script = [(401, {}, {"code": "key-invalid", "detail": "This API key is revoked."})]
    with pytest.raises(MeterBehind, match="key-invalid: This API key is revoked"):
        meter.flush()
    meter.flush()
    assert len(exchange.order) == 1


def test_flush_gives_up_in_time(given_meter):
    meter = given_meter("http://127.0.0.1:9")
    meter.record(**usage())
    with pytest.raises(MeterBehind, match=r"1 events still wait, safe in .*unreachable"):
        meter.flush(timeout=30)


def test_what_waits_is_sent_by_the_next_meter_with_the_spool(exchange, given_meter):
    first = given_meter("http://127.0.0.1:9")
    ids = [first.record(**usage(n)) for n in range(3)]
    first.close()
    second = given_meter(exchange.url)
    assert second.state.waiting_events == 3
    ids.append(second.record(**usage()))
    second.flush()
    assert exchange.order == ids


def test_the_thread_sends_without_being_asked(exchange, given_meter):
    meter = given_meter(exchange.url, background=True, linger=0)
    ids = [meter.record(**usage(n)) for n in range(10)]
    meter.flush(timeout=20)
    assert exchange.order == ids


def test_threads_record_at_once_and_each_event_arrives_once(exchange, given_meter):
    meter = given_meter(exchange.url, background=True)
    ids, barrier = [[] for _ in range(8)], threading.Barrier(8)

    def work(mine):
        barrier.wait()
        mine.extend(meter.record(**usage(n)) for n in range(40))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    meter.flush(timeout=30)
    assert sorted(exchange.order) == sorted(i for mine in ids for i in mine)
    for mine in ids:
        assert [i for i in exchange.order if i in set(mine)] == mine


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from ciyuan.meter import Meter
meter = Meter(source="killed", spool=sys.argv[2], url=sys.argv[3], api_key="ck_test", linger=0)
n = 0
while True:
    print(meter.record(subject="c", input_tokens=n), flush=True)
    n += 1
"""


def test_a_meter_killed_at_any_moment_loses_and_doubles_nothing(exchange, tmp_path):
    confirmed = []
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(SDK), str(tmp_path / "spool"), exchange.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        confirmed += [process.stdout.readline().strip() for _ in range(40 + 30 * round_)]
        os.kill(process.pid, signal.SIGKILL)
        confirmed += process.stdout.read().split()
        process.wait()
    # A word printed in part is not a confirmation.
    confirmed = [id_ for id_ in confirmed if len(id_) == 32]
    with Meter(source="killed", spool=tmp_path / "spool", url=exchange.url, api_key="ck_test") as meter:
        meter.flush(timeout=30)
    assert len(exchange.order) == len(set(exchange.order))
    assert [id_ for id_ in exchange.order if id_ in set(confirmed)] == confirmed
    # At most one event a round was on the disk without its caller having heard of it.
    assert len(exchange.order) - len(confirmed) <= 3


# -- the spool ---------------------------------------------------------------------------------------------------------


def test_segments_roll_and_go_when_done_with(tmp_path):
    spool = Spool(tmp_path, max_bytes=10**6, segment_bytes=100)
    lines = [f"line {n:03d}".encode() for n in range(50)]
    for line in lines:
        spool.sync(spool.append([line]))
    assert len(list(tmp_path.glob("*.ndjson"))) == 5
    taken = []
    while True:
        some, after = spool.peek(7, 10**6)
        if not some:
            break
        taken += some
        spool.finish(after, len(some))
    assert taken == lines
    assert len(list(tmp_path.glob("*.ndjson"))) == 1
    assert (spool.waiting_bytes, spool.waiting_events) == (0, 0)
    spool.close()


def test_a_line_cut_short_by_a_crash_is_cut_off(tmp_path):
    spool = Spool(tmp_path, max_bytes=10**6)
    spool.append([b"whole"])
    spool.close()
    with (tmp_path / "00000000.ndjson").open("ab") as segment:
        segment.write(b'{"half": ')
    spool = Spool(tmp_path, max_bytes=10**6)
    spool.append([b"next"])
    assert spool.peek(10, 10**6)[0] == [b"whole", b"next"]
    spool.close()


def test_a_position_saved_before_a_crash_counts(tmp_path):
    spool = Spool(tmp_path, max_bytes=10**6, segment_bytes=10)
    for n in range(6):
        spool.append([f"line {n}".encode()])
    some, after = spool.peek(4, 10**6)
    spool.finish(after, len(some))
    # As after a kill -9: nothing is closed, only the lock goes with the process.
    os.close(spool._owner)
    again = Spool(tmp_path, max_bytes=10**6, segment_bytes=10)
    assert again.peek(10, 10**6)[0] == [b"line 4", b"line 5"]
    assert again.waiting_events == 2
    again.close()


def test_a_damaged_line_is_put_aside_not_in_the_way(exchange, given_meter, tmp_path):
    meter = given_meter(exchange.url)
    meter.record(**usage(), id="a")
    meter.spool.append([b"\x00\x00\x00"])
    meter.record(**usage(), id="b")
    meter.flush()
    assert exchange.order == ["a", "b"]
    assert json.loads(meter.rejected_path.read_text())["code"] == "damaged"


def test_one_process_at_a_time(tmp_path):
    spool = Spool(tmp_path, max_bytes=10**6)
    with pytest.raises(SpoolInUse, match=f"process {os.getpid()}"):
        Spool(tmp_path, max_bytes=10**6)
    spool.close()
    Spool(tmp_path, max_bytes=10**6).close()


def test_a_disk_that_refuses_is_named_and_leaves_no_half_line(tmp_path):
    code = f"""
import sys, resource, signal
sys.path.insert(0, {str(SDK)!r})
from pathlib import Path
from ciyuan.spool import Spool, SpoolError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
spool = Spool(Path({str(tmp_path)!r}), max_bytes=10**6)
taken = 0
try:
    while True:
        spool.append([b"x" * 99])
        taken += 1
except SpoolError as error:
    print(taken, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    taken, _, message = done.stdout.partition(" ")
    assert "cannot be written: file too large" in message
    spool = Spool(tmp_path, max_bytes=10**6)
    assert len(spool.peek(1_000, 10**6)[0]) == int(taken) == 40
    spool.close()


def test_a_damaged_position_is_named(tmp_path):
    (tmp_path / "position.json").write_text("{")
    with pytest.raises(SpoolError, match=r"position\.json is damaged"):
        Spool(tmp_path, max_bytes=10**6)


def test_recording_is_quick_enough_for_a_busy_gateway(given_meter):
    meter = given_meter("http://127.0.0.1:9")
    began = time.perf_counter()
    meter.add_many({"subject": "c", "data": {"input_tokens": n}} for n in range(5_000))
    assert time.perf_counter() - began < 5
