"""What was served is recorded once: over outages, restarts, kills and full disks; and signed where there is a key."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import httpx
import pytest
from ciyuan.guard.counting import Counts
from ciyuan.guard.journal import NO_FIRST_TOKEN, OK, RUNNING, Begun, Journal, JournalFull, Kept, event_of
from ciyuan.spool import SpoolFull
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from core.signing import verifies
from scenarios.engine import Engine
from scenarios.engine.serving import serving as engine_serving
from tests.guard.given import ASK, DEPLOYMENT, QUICK, Exchange, given_guard

BEGUN = Begun("r-1", "contract:41", "sim-7b", 1_000, 0, 10_000, 60_000, "a-1")


async def test_while_the_exchange_is_away_usage_waits_and_is_sent_once(tmp_path):
    with Exchange() as exchange:
        async with given_guard(tmp_path, exchange=exchange) as world, world.client() as client:
            await client.chat.completions.create(**ASK)
            await world.events(1)
            exchange.script += [(503, {}, {"code": "away", "detail": "away"})] * 2 + ["lose"]
            for _ in range(5):
                await client.chat.completions.create(**ASK)
    # Gone altogether: the next guard starts with the terms and keys of the last one, serves, and keeps what it served.
    away = Exchange()
    away.key, away.server_address = exchange.key, exchange.server_address
    away.server_close()
    async with given_guard(tmp_path, exchange=away) as world, world.client(exchange.token()) as client:
        await client.chat.completions.create(**ASK)
        for _ in range(200):
            if not world.proxy.figures.running and world.guard.meter.state.failures:
                break
            await asyncio.sleep(0.01)
        assert world.guard.meter.state.waiting_events >= 1
        assert world.guard.health()[0] == 200
    with Exchange(exchange.server_address[1]) as back:
        back.events.update(exchange.events)
        async with given_guard(tmp_path, exchange=back) as world:
            events = await world.events(7)
        assert len({event["id"] for event in events}) == 7
        assert world.guard.meter.state.rejected_events == 0


async def test_without_room_to_record_nothing_more_is_served(tmp_path):
    async with given_guard(tmp_path) as world, world.client() as client:
        def full(*_):
            raise SpoolFull("the spool is full")

        world.guard.meter.spool.append, append = full, world.guard.meter.spool.append
        await client.chat.completions.create(**ASK)  # was let in before anybody knew
        await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as http:
            headers = {"Authorization": f"Bearer {world.exchange.token()}"}
            refused = await http.post(f"{world.guard.url}/v1/chat/completions", json=ASK, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cannot_meter")
            assert (await http.get(f"{world.guard.status_url}/healthz")).status_code == 503
        world.guard.meter.spool.append = append
        [event] = await world.events(1)
        assert event["data"]["output_tokens"] == 12


async def test_signed_where_the_meter_has_a_key(tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key").write_text(key.private_bytes_raw().hex())
    async with given_guard(tmp_path / "guard", signing_key=tmp_path / "key") as world, world.client() as client:
        await client.chat.completions.create(**ASK)
        await world.events(1)
        sent = [request for request in world.exchange.requests if request[1] == "/v1/events"]
    headers, body = {name.lower(): value for name, value in sent[0][3].items()}, sent[0][4]
    signature = base64.b64decode(headers["ciyuan-signature"].removeprefix("ed25519="))
    assert verifies(key.public_key().public_bytes_raw(), signature, body)
    assert headers["authorization"] == "Bearer meter-key"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)), min_size=1, max_size=8), st.data())
def test_a_journal_cut_off_anywhere_has_the_last_whole_record(tmp_path_factory, rows, data):
    """A kill may come between any two bytes of a record: then the one before it stands."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path, slots=2)
    slot = journal.begin(BEGUN)
    states = []
    for inputs, outputs in rows:
        slot.keep(Kept(RUNNING, Counts(inputs, 0, outputs, 0), 2_000, NO_FIRST_TOKEN))
        states.append(bytes(journal.memory))
    before, after = ([bytes(len(states[0])), *states])[-2:]
    if len(rows) == 1:
        before = after[:896] + bytes(128) + after[1024:]
    changed = [at for at in range(len(after)) if before[at] != after[at]]
    cut = data.draw(st.integers(0, len(changed)))
    torn = bytearray(before)
    for at in changed[:cut]:
        torn[at] = after[at]
    journal.close()
    path.write_bytes(torn)
    again = Journal(path, slots=2)
    [left] = again.left_behind()
    kept = left.kept()
    expected = rows if cut == len(changed) else rows[:-1]
    assert left.begun == BEGUN
    assert (kept.counts[::2] if kept else None) == (expected[-1] if expected else None)
    again.close()


def test_a_slot_makes_the_same_event_however_often_and_is_used_again(tmp_path):
    journal = Journal(tmp_path / "journal", slots=1)
    slot = journal.begin(BEGUN)
    with pytest.raises(JournalFull):
        journal.begin(BEGUN)
    assert event_of(slot) is None
    slot.keep(Kept(OK, Counts(10, 4, 3, 1), 2_500, 12))
    journal.close()
    again = Journal(tmp_path / "journal", slots=1)
    [left] = again.left_behind()
    assert event_of(left) == event_of(left) == {
        "id": "r-1", "subject": "contract:41", "time": 2_500,
        "data": {"input_tokens": 10, "cached_input_tokens": 4, "output_tokens": 3, "reasoning_tokens": 1,
                 "status": "ok", "model": "sim-7b", "duration_ms": 1_500, "ttft_ms": 12, "attempt_id": "a-1"},
    }  # fmt: skip
    left.free()
    assert event_of(again.begin(BEGUN)) is None
    again.close()


def start_guard(folder, engine_url, exchange, port):
    command = [sys.executable, "-m", "ciyuan.cli", "--url", exchange.url, "guard", "--engine", engine_url,
               "--deployment", str(DEPLOYMENT), "--grade", "sim", "--folder", str(folder), "--source", "guard-1",
               "--listen", f"127.0.0.1:{port}", "--status", "127.0.0.1:0"]  # fmt: skip
    environment = {**os.environ, "CIYUAN_API_KEY": "meter-key", "PYTHONPATH": "sdk"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    assert "guard of deployment" in line, line
    return process


@pytest.mark.proof
@pytest.mark.processes
async def test_killed_in_mid_stream_it_doubles_nothing_and_loses_nothing_that_was_reported(tmp_path, unused_tcp_port):
    """Kills under load: every token that a client saw is metered, none twice, none that the engine never made."""
    engine = Engine(QUICK)
    engine.change(tokens_per_s=100.0, answer_tokens=40)
    seen: Counter[str] = Counter()
    complete: set[str] = set()

    async def talk(http, token, number):
        headers = {"Authorization": f"Bearer {token}", "Ciyuan-Attempt-Id": f"a-{number}"}
        key = f"a-{number}"
        try:
            url = f"http://127.0.0.1:{unused_tcp_port}/v1/chat/completions"
            async with http.stream("POST", url, json={**ASK, "stream": True}, headers=headers) as answer:
                async for line in answer.aiter_lines():
                    if '"content"' in line:
                        seen[key] += 1
                    if "[DONE]" in line:
                        complete.add(key)
        except httpx.HTTPError:
            pass

    with Exchange() as exchange:
        async with engine_serving(engine) as engine_url, httpx.AsyncClient(timeout=10) as http:
            number = 0
            for round_ in range(6):
                guard = await asyncio.to_thread(start_guard, tmp_path, engine_url, exchange, unused_tcp_port)
                talks = [asyncio.create_task(talk(http, exchange.token(), number + n)) for n in range(20)]
                number += 20
                await asyncio.sleep(0.1 + 0.1 * round_)
                os.kill(guard.pid, signal.SIGKILL)
                await asyncio.to_thread(guard.wait)
                guard.stdout.close()
                await asyncio.gather(*talks)
            guard = await asyncio.to_thread(start_guard, tmp_path, engine_url, exchange, unused_tcp_port)
            await talk(http, exchange.token(), number)
            deadline = time.monotonic() + 30
            while f"a-{number}" not in {e["data"].get("attempt_id") for e in exchange.events.values()}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            guard.send_signal(signal.SIGTERM)
            await asyncio.to_thread(guard.wait)
            guard.stdout.close()
        events = list(exchange.events.values())
        requests = [request for request in exchange.requests if request[1] == "/v1/events"]
    metered = {event["data"]["attempt_id"]: event["data"]["output_tokens"] for event in events}
    assert len(metered) == len(events) == len(exchange.order)
    assert all(metered.get(key, 0) >= n for key, n in seen.items())
    assert all(metered[key] == 40 for key in complete)
    assert sum(metered.values()) <= engine.figures.generation_tokens
    killed = [e for e in events if e["data"]["status"] == "guard_killed"]
    assert len(killed) > 20
    assert len(complete) >= 1
    assert not (tmp_path / "spool" / "rejected.ndjson").exists()
    # Sent twice, an event is the same twice, or the exchange would have called it a conflict.
    versions: dict[str, set[str]] = {}
    for request in requests:
        for event in json.loads(request[4]):
            versions.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
    assert all(len(each) == 1 for each in versions.values())
