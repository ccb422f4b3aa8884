"""The unmodified openai client through a guard: what it gets is the engine's, and what it used is metered."""

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import openai
import pytest

from metering_ingest.actions.probes import Asked, Door, ask
from tests.guard.given import ASK, CONTRACT, DEPLOYMENT, MODEL, PROMPT, QUICK, given_guard, work_of


async def test_whole_answers_and_streams_are_the_engines_and_are_metered_alike(tmp_path):
    async with given_guard(tmp_path) as world, world.client() as client:
        whole = await client.chat.completions.create(**ASK, extra_headers={"Ciyuan-Attempt-Id": "a-1"})
        stream = await client.chat.completions.create(**ASK, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
        assert all(chunk.usage is None for chunk in chunks)  # not asked for, not shown
        plain = [c async for c in await client.completions.create(model="sim-7b", prompt="x" * 40, stream=True)]
        assert plain[-1].choices[0].finish_reason == "stop"
        await client.embeddings.create(model="sim-7b", input=["one text", "another text"], encoding_format="float")
        events = await world.events(4)
        assert [model.id for model in (await client.models.list()).data] == ["sim-7b"]
    first, second, third, fourth = (event["data"] for event in events)
    assert (first["input_tokens"], first["output_tokens"]) == (whole.usage.prompt_tokens, 12)
    assert (first["attempt_id"], first["status"], "ttft_ms" in first) == ("a-1", "ok", False)
    assert second["input_tokens"] == first["input_tokens"] and second["ttft_ms"] >= 1
    assert (second["output_tokens"], third["input_tokens"], third["output_tokens"]) == (12, 10, 12)
    assert fourth["output_tokens"] == 0 < fourth["input_tokens"]
    assert {event["subject"] for event in events} == {f"contract:{CONTRACT}"}
    assert world.proxy.allowances.used_micro_st(CONTRACT) == sum(work_of(event).total_micro_st for event in events)


@pytest.mark.parametrize("options", [
    {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}, {"include_usage": False},
])  # fmt: skip
async def test_a_client_sees_the_usage_that_it_asked_for(tmp_path, options):
    async with given_guard(tmp_path) as world, world.client() as client:
        stream = await client.chat.completions.create(**ASK, stream=True, stream_options=options)
        usages = [chunk.usage and chunk.usage.completion_tokens async for chunk in stream]
        await world.events(1)
    if not options["include_usage"]:
        assert set(usages) == {None}
    else:
        assert usages[-1] == 12
        assert usages[:3] == ([1, 2, 3] if len(options) == 2 else [None] * 3)


async def test_tools_and_choices_pass(tmp_path):
    tool = {"type": "function", "function": {"name": "price_of", "parameters": {"type": "object"}}}
    async with given_guard(tmp_path) as world, world.client() as client:
        stream = await client.chat.completions.create(**ASK, stream=True, tools=[tool])
        arguments = "".join([c.choices[0].delta.tool_calls[0].function.arguments async for c in stream
                             if c.choices[0].delta.tool_calls])  # fmt: skip
        assert json.loads(arguments)["text"]
        two = await client.chat.completions.create(**ASK, n=2)
        assert len(two.choices) == 2
        counted = [event["data"]["output_tokens"] for event in await world.events(2)]
    assert counted == [12, 24]


async def test_a_stream_that_its_client_leaves_is_metered_to_where_it_stopped(tmp_path):
    async with given_guard(tmp_path, behaviour=QUICK) as world, world.client() as client:
        world.engine.change(tokens_per_s=50.0, answer_tokens=2_000)
        stream = await client.chat.completions.create(**ASK, stream=True)
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 5:
                break
        await stream.close()
        [event] = await world.events(1)
        await asyncio.sleep(0.1)
        made = world.engine.figures.generation_tokens
    assert event["data"]["status"] == "abandoned"
    assert seen <= event["data"]["output_tokens"] <= made <= event["data"]["output_tokens"] + 2 < 100
    assert event["data"]["input_tokens"] > 0


async def test_a_whole_answer_is_metered_though_its_client_has_left(tmp_path):
    async with given_guard(tmp_path) as world:
        world.engine.change(first_token_ms=300.0)
        with pytest.raises(openai.APITimeoutError):
            async with world.client(timeout=0.1) as client:
                await client.chat.completions.create(**ASK)
        [event] = await world.events(1)
    assert (event["data"]["output_tokens"], event["data"]["status"]) == (12, "ok")


@pytest.mark.parametrize(("fault", "error", "code"), [
    ("429", openai.RateLimitError, 429), ("503", openai.InternalServerError, 503),
])  # fmt: skip
async def test_the_engines_refusals_pass_and_cost_nothing(tmp_path, fault, error, code):
    async with given_guard(tmp_path) as world, world.client() as client:
        world.engine.change(fault=fault)
        for stream in (False, True):
            with pytest.raises(error) as refused:
                await client.chat.completions.create(**ASK, stream=stream)
            assert (refused.value.status_code, refused.value.body["message"]) == (code, f"simulated {fault}")
        if fault == "429":
            assert refused.value.response.headers["retry-after"] == "1"
        assert world.proxy.allowances.used_micro_st(CONTRACT) == 0
        await world.events(0)


async def test_an_engine_that_dies_in_mid_stream_is_named_and_metered_so_far(tmp_path):
    async with given_guard(tmp_path) as world, world.client() as client:
        world.engine.change(fault="die", die_after_tokens=4)
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        [event] = await world.events(1)
        assert (event["data"]["output_tokens"], event["data"]["status"]) == (4, "engine_failed")
        assert world.proxy.figures.engine_errors == {"engine_failed": 1}


async def test_an_engine_that_stalls_or_is_away_is_named(tmp_path):
    async with given_guard(tmp_path, idle_timeout=0.2, first_token_timeout=0.4) as world, world.client() as client:
        world.engine.change(fault="stall", die_after_tokens=2)
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        world.engine.change(fault="hang")
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**ASK)
        assert (refused.value.status_code, refused.value.code) == (504, "engine_timeout")
        await world.events(1)
    async with given_guard(tmp_path / "2") as world, world.client() as client:
        world.proxy.engine._settings = type("Elsewhere", (), {"engine_root": "http://127.0.0.1:9"})
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**ASK)
        assert (refused.value.status_code, refused.value.code) == (502, "engine_unreachable")


async def test_an_answer_that_outlasts_its_window_is_ended_and_metered(tmp_path):
    async with given_guard(tmp_path, overrun_seconds=0, tolerance_seconds=0) as world:
        now = int(datetime.now(UTC).timestamp())
        token = world.exchange.token(nbf=now - 10, exp=now + 2)
        world.engine.change(tokens_per_s=20.0, answer_tokens=2_000)
        async with world.client(token) as client:
            with pytest.raises(openai.APIError, match="window is over"):
                async for _ in await client.chat.completions.create(**ASK, stream=True):
                    pass
        [event] = await world.events(1)
    assert event["data"]["status"] == "window_over"
    assert 5 < event["data"]["output_tokens"] < 60


@pytest.mark.parametrize(("usage", "code"), [("none", "missing"), ("garbage", "unreadable"), ("percent", "too_many")])
async def test_an_engine_that_reports_wrongly_or_not_is_counted_here(tmp_path, usage, code):
    async with given_guard(tmp_path) as world, world.client() as client:
        world.engine.change(usage=usage, usage_percent=300)
        ask = {**ASK, "max_tokens": 10}
        await client.chat.completions.create(**ask)
        async for _ in await client.chat.completions.create(**ask, stream=True):
            pass
        whole, stream = await world.events(2)
        figures = world.guard.figures()
    assert stream["data"]["output_tokens"] == (10 if usage != "percent" else 9)  # believed until it passed the limit
    assert 8 <= whole["data"]["output_tokens"] <= 20
    assert whole["data"]["tags"] == {"counted_by": "guard"}
    assert 5 < whole["data"]["input_tokens"] < 60
    assert f'usage_disbelieved_total{{code="{code}"}}' in figures


async def test_a_ten_megabyte_prompt_passes_and_larger_ones_are_refused(tmp_path):
    async with given_guard(tmp_path, max_body_bytes=11_000_000) as world, world.client() as client:
        text = "词元 token " * 714_000
        stream = await client.completions.create(model="sim-7b", prompt=text, stream=True)
        assert len([chunk async for chunk in stream]) == 13
        [event] = await world.events(1)
        assert event["data"]["input_tokens"] == -(-len(text.encode()) // 4)
        with pytest.raises(openai.APIStatusError) as refused:
            await client.completions.create(model="sim-7b", prompt=text * 2)
        assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")


async def test_a_client_that_stops_reading_is_let_go(tmp_path):
    async with given_guard(tmp_path, stalled_seconds=0.3) as world:
        world.engine.change(tokens_per_s=0.0, first_token_ms=0.0, answer_tokens=40_000)
        body = json.dumps({**ASK, "stream": True}).encode()
        host, port = world.guard.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Authorization: Bearer {world.exchange.token()}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )  # fmt: skip
        assert b"200" in await reader.readline()  # and no more
        [event] = await world.events(1)
        writer.close()
    assert event["data"]["status"] == "abandoned"
    assert 0 < event["data"]["output_tokens"] < 40_000


async def test_no_prompt_and_no_answer_is_written_anywhere(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with given_guard(tmp_path) as world, world.client() as client, httpx.AsyncClient() as http:
        said = (await client.chat.completions.create(**ASK)).choices[0].message.content
        async for _ in await client.chat.completions.create(**ASK, stream=True):
            pass
        world.engine.change(fault="die")
        with pytest.raises(openai.APIError):
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        headers = {"Authorization": f"Bearer {world.exchange.token()}"}
        for body in (b'{"prompt": "SECRET-PROMPT', b"\x00SECRET-PROMPT", b'{"model": "sim-7b", "n": "SECRET-PROMPT"}'):
            url = f"{world.guard.url}/v1/completions"
            assert (await http.post(url, content=body, headers=headers)).status_code == 400
        raw = await asyncio.open_connection(*world.guard.url.removeprefix("http://").split(":"))
        raw[1].write(b"POST /v1/completions HTTP/1.1\r\nSECRET-PROMPT \x00\r\n\r\n")
        await raw[0].read()
        raw[1].close()
        await world.events(3)
    logged = "\n".join(f"{record.name} {record.getMessage()}" for record in caplog.records
                       if record.name.split(".")[0] in ("ciyuan", "aiohttp"))  # fmt: skip
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    sent = b"".join(request[4] for request in world.exchange.requests)
    for place in (logged.encode(), written, sent):
        assert PROMPT.encode() not in place
        assert said.strip().encode() not in place
    assert b"contract:41" in sent


@pytest.mark.proof
async def test_a_thousand_idle_streams_leave_room_for_the_next(tmp_path):
    async with given_guard(tmp_path, most_streams=1_100, idle_timeout=60.0) as world:
        world.engine.change(tokens_per_s=0.2, answer_tokens=100)
        url, headers = f"{world.guard.url}/v1/chat/completions", {"Authorization": f"Bearer {world.exchange.token()}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits, headers=headers) as http:
            begun = asyncio.Semaphore(0)

            async def idle():
                async with http.stream("POST", url, json={**ASK, "stream": True}) as answer:
                    async for _ in answer.aiter_lines():
                        begun.release()

            streams = []
            for _ in range(20):  # a few at a time: connections, not their rush, are what is tried
                streams += [asyncio.create_task(idle()) for _ in range(50)]
                for _ in range(50):
                    await asyncio.wait_for(begun.acquire(), 30)
            assert world.proxy.figures.running == 1_000
            world.engine.change(tokens_per_s=1_000.0, answer_tokens=12)
            loop = asyncio.get_running_loop()
            started = loop.time()
            assert (await http.post(url, json=ASK)).status_code == 200
            assert loop.time() - started < 2
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)
        events = await world.events(1_001)
        assert all(event["data"]["output_tokens"] >= 1 for event in events)


async def test_the_exchanges_own_requests_are_served_and_metered_like_any(tmp_path):
    async with given_guard(tmp_path) as world:
        used_up, token = world.exchange.token(sub="43", quantity=0), world.exchange.token()
        doors = (Door(43, used_up, "a" * 32), Door(41, token, "b" * 32))
        asked = Asked(DEPLOYMENT, f"{world.guard.url}/v1", doors, MODEL, 0)
        answer = await asyncio.to_thread(ask, asked)
        assert (answer.ok, answer.contract_id, answer.output_tokens) == (True, 41, 12) and answer.text
        [event] = await world.events(1)
        assert (event["subject"], event["data"]["attempt_id"], event["data"]["output_tokens"]) == (
            "contract:41", "b" * 32, 12,
        )  # fmt: skip
        assert await asyncio.to_thread(ask, replace(asked, doors=doors[:1])) is None, "used up: that says nothing"
        world.engine.change(fault="500")
        failed = await asyncio.to_thread(ask, asked)
        assert (failed.ok, failed.reason, failed.contract_id) == (False, "status 500", 41)
        seen = world.proxy.minutes._counts.values()
        assert [sum(getattr(one, name) for one in seen) for name in ("served", "failed", "limited")] == [1, 1, 3]


async def test_what_the_exchange_took_is_given_back(tmp_path):
    now = [time.time()]
    async with given_guard(tmp_path, now=lambda: now[0]) as world, AsyncExitStack() as stack:
        client = await stack.enter_async_context(world.client(world.exchange.token(quantity=1)))
        while True:
            try:
                await client.chat.completions.create(**ASK)
            except openai.RateLimitError as refused:
                assert refused.code == "quantity_used_up"
                break
        used = world.proxy.allowances.used_micro_st(41)
        assert used >= 10**6
        said = {"new": 1, "probed": [{"contract": 41, "work_micro_st": used - 10**6 + 1},
                                     {"contract": 42, "work_micro_st": 5}]}  # fmt: skip
        world.exchange.routes["POST", "/v1/service/reports"] = (200, said)
        now[0] += 61
        for _ in range(300):
            if world.proxy.allowances._by_contract[41].probed:
                break
            await asyncio.sleep(0.02)
        await client.chat.completions.create(**ASK)
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**ASK)


async def test_minutes_of_service_reach_the_exchange_and_wait_while_it_is_away(tmp_path):
    now = [time.time()]
    async with given_guard(tmp_path, now=lambda: now[0]) as world, world.client() as client:
        reports = []
        path = ("POST", "/v1/service/reports")
        world.exchange.routes[path] = (503, {"code": "away"})
        await client.chat.completions.create(**ASK)
        world.engine.change(fault="500")
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(**ASK)
        world.engine.change(fault="")
        token = world.exchange.token(st_per_minute=1, sub="43")
        async with world.client(token) as slow:
            await slow.chat.completions.create(**ASK)
            with pytest.raises(openai.RateLimitError):
                await slow.chat.completions.create(**ASK)
        now[0] += 61
        for _ in range(300):
            if world.proxy.minutes.waiting:
                break
            await asyncio.sleep(0.02)
        assert world.proxy.minutes.waiting and not reports

        def take(headers, query, body):
            reports.append(json.loads(body))
            return 200, {"new": 1}

        world.exchange.routes[path] = take
        now[0] += 61
        for _ in range(300):
            if reports and not world.proxy.minutes.waiting:
                break
            await asyncio.sleep(0.02)
        rows = {row["contract"]: row for report in reports for row in reversed(report["minutes"])}
        assert [rows[41][name] for name in ("served", "failed", "limited")] == [1, 1, 0]
        assert [rows[43][name] for name in ("served", "failed", "limited")] == [1, 0, 1]
        assert None in rows, "it says that it was running"
