"""The simulated engine speaks OpenAI's API to the unmodified client, at the speed and with the faults it is told."""

import time

import httpx
import openai
import pytest

from metering_ingest.domain.counters import parse_exposition
from scenarios.engine import Behaviour, Engine
from scenarios.engine.serving import serving

ASK = {"model": "sim-7b", "messages": [{"role": "user", "content": "what is a standard token? " * 40}]}
QUICK = Behaviour(first_token_ms=1, tokens_per_s=2_000, answer_tokens=12)


def client_of(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=5)


async def test_answers_streams_and_counts_alike_and_caches_what_it_has_read():
    async with serving(engine := Engine(QUICK)) as url, client_of(url) as client:
        assert [model.id for model in (await client.models.list()).data] == ["sim-7b"]
        whole = await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(
            **ASK, stream=True, stream_options={"include_usage": True}, extra_body={"n": 1}
        )
        chunks = [chunk async for chunk in stream]
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert said == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
        assert [each.usage.prompt_tokens_details.cached_tokens for each in (whole, chunks[-1])] == [0, 256]
        figures = (await httpx.AsyncClient().get(f"{url}/metrics")).text
    counts = {reading.counts: reading.value for reading in parse_exposition(figures)}
    assert counts["output"] == engine.figures.generation_tokens == 24
    assert counts["cached"] == 256


async def test_calls_a_tool_whose_arguments_are_json():
    tool = {"type": "function", "function": {"name": "price_of", "parameters": {"type": "object"}}}
    async with serving(Engine(QUICK)) as url, client_of(url) as client:
        answer = await client.chat.completions.create(**ASK, tools=[tool])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.name == "price_of"
    assert answer.choices[0].message.tool_calls[0].function.arguments.startswith('{"text": "')


async def test_keeps_its_pace():
    async with serving(Engine(Behaviour(first_token_ms=30, tokens_per_s=100, answer_tokens=11))) as url:
        started = time.perf_counter()
        (await httpx.AsyncClient().post(f"{url}/v1/chat/completions", json=ASK)).raise_for_status()
        assert 0.13 <= time.perf_counter() - started < 1.0


@pytest.mark.parametrize(("fault", "error"), [
    ("429", openai.RateLimitError), ("503", openai.InternalServerError), ("hang", openai.APITimeoutError),
])  # fmt: skip
async def test_fails_as_told_every_second_time(fault, error):
    engine = Engine(QUICK)
    engine.change(fault=fault, fault_every=2)
    async with serving(engine) as url, client_of(url) as client:
        await client.chat.completions.create(**ASK)
        with pytest.raises(error):
            await client.chat.completions.create(**ASK, timeout=0.3)


async def test_dies_in_mid_stream_and_stops_when_nobody_listens():
    engine = Engine(QUICK)
    async with serving(engine) as url, client_of(url) as client:
        engine.change(fault="die", die_after_tokens=3)
        with pytest.raises((httpx.RemoteProtocolError, openai.APIError)):
            async for _ in await client.chat.completions.create(**ASK, stream=True):
                pass
        assert engine.figures.generation_tokens == 3
        engine.change(fault="", tokens_per_s=50.0, answer_tokens=5_000)
        stream = await client.chat.completions.create(**ASK, stream=True)
        async for _ in stream:
            break
        await stream.close()
        for _ in range(100):
            if not engine.figures.running_requests:
                break
            await client.models.list()
        assert engine.figures.running_requests == 0
        assert engine.figures.generation_tokens < 100


async def test_lies_as_told_and_refuses_what_it_does_not_know():
    engine = Engine(QUICK)
    async with serving(engine) as url, httpx.AsyncClient(base_url=url) as http:
        engine.change(usage="percent", usage_percent=200)
        assert (await http.post("/v1/chat/completions", json=ASK)).json()["usage"]["completion_tokens"] == 24
        assert (await http.patch("/behaviour", json={"usage": "none"})).status_code == 200
        assert "usage" not in (await http.post("/v1/chat/completions", json=ASK)).json()
        assert (await http.patch("/behaviour", json={"speed": 3})).status_code == 400
        assert (await http.post("/v1/chat/completions", json={**ASK, "model": "other"})).status_code == 404
        assert (await http.post("/v1/chat/completions", content=b"{")).status_code == 400
