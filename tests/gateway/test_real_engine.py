"""
Guard and gateway before an engine that nobody here wrote: llama.cpp's server, on a random model made on the spot. What
it counts, by its answers and by its own counters, is what both meters report, to the token.
"""

import asyncio
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from ciyuan.gateway.serving import serving as gateway_serving
from ciyuan.guard.serving import serving as guard_serving

from config.environments import engine_python
from tests.gateway.given import MODEL, Market, World
from tests.gateway.given import settings_for as gateway_settings
from tests.guard.given import settings_for as guard_settings

pytestmark = [pytest.mark.engine, pytest.mark.processes]
PROGRAM = Path(__file__).with_name("llama_engine.py")
SAY = [{"role": "user", "content": "What is the price of one standard token? 词元的价格"}]
MOST = 1_500


class RealWorld(World):
    """A gateway, a guard and the real engine; `engine` is its address."""

    engine = ""

    async def counters(self):
        """What the engine itself counted: input, of it cached, output."""
        async with httpx.AsyncClient() as http:
            text = (await http.get(f"{self.engine}/metrics")).text
        found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        read, cached, made = (
            int(found[f"llamacpp:{name}_total"])
            for name in ("prompt_tokens", "prompt_tokens_cached", "tokens_predicted")
        )
        return read + cached, cached, made


@asynccontextmanager
async def given_engine(folder):
    python = await asyncio.to_thread(engine_python)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "engine.log").open("w") as log:
        process = subprocess.Popen([python, PROGRAM, str(port), MODEL], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(timeout=2) as http:
            for _ in range(300):
                assert process.poll() is None, (folder / "engine.log").read_text()[-2_000:]
                try:
                    if (await http.get(f"{url}/health")).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def given_real_world(folder):
    async with given_engine(folder) as url:
        with Market() as market:
            at_guard = guard_settings(
                folder / "guard", engine=f"{url}/v1", url=market.url, deployment=11, source="guard-1", llama_cpp=True
            )
            async with guard_serving(at_guard) as guard:
                market.sells(41, guard.url, deployment=11)
                settings = gateway_settings(folder / "gateway", url=market.url, first_token_timeout=20.0)
                async with gateway_serving(settings) as running:
                    world = RealWorld(market, [], running, settings)
                    world.engine, world.guard = url, guard
                    yield world


def counts_of(event):
    data = event["data"]
    return data["input_tokens"], data["cached_input_tokens"], data["output_tokens"]


def usage_of(usage):
    return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens


async def test_every_token_that_a_real_engine_counts_is_metered(tmp_path):
    async with given_real_world(tmp_path) as world, world.client(timeout=60) as client:
        told = []
        for most in (1, 17, 200):
            answer = await client.chat.completions.create(model=MODEL, messages=SAY, max_tokens=most)
            told.append(usage_of(answer.usage))
            stream = await client.chat.completions.create(
                model=MODEL, messages=SAY, max_tokens=most, stream=True, stream_options={"include_usage": True},
                temperature=1.5, seed=most,
            )  # fmt: skip
            chunks = [chunk async for chunk in stream]
            assert all(not (chunk.model_extra or {}).get("timings") for chunk in chunks[:-1]), "nobody asked for them"
            told.append(usage_of(chunks[-1].usage))
        plain = await client.completions.create(model=MODEL, prompt="one token of the buyer", max_tokens=40)
        told.append(usage_of(plain.usage))
        silent = [c async for c in await client.completions.create(model=MODEL, prompt="x", max_tokens=30, stream=True)]
        assert all(chunk.usage is None for chunk in silent)
        mine, theirs = await world.events(8), await world.events(8, "guard-1")
        counted = [counts_of(event) for event in mine]
        assert sorted(counted) == sorted(counts_of(event) for event in theirs)
        rest = counted.copy()
        for one in told:
            rest.remove(one)
        assert len(rest) == 1 and rest[0][2] <= 30, "the stream that was told no usage is metered too"
        assert tuple(map(sum, zip(*counted, strict=True))) == await world.counters()
        assert not any("tags" in event["data"] for event in theirs), "the engine counted, not the guard"
        assert len({one[1] for one in told}) > 1, "its prefix cache was used, and is told"


async def test_a_stream_that_is_left_is_metered_to_where_it_stopped(tmp_path):
    async with given_real_world(tmp_path) as world:
        seen = []
        for leave_after in (1, 5, 40):
            async with world.client(timeout=60) as client:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=SAY, max_tokens=MOST, stream=True, logit_bias={"2": -100},
                    stream_options={"include_usage": True, "continuous_usage_stats": True},
                )  # fmt: skip
                last = None
                chunks = 0
                async for chunk in stream:
                    last = chunk.usage or last
                    chunks += bool(chunk.choices and chunk.choices[0].delta.content)
                    if chunks == leave_after:
                        break
                await stream.close()
                seen.append(usage_of(last))
        mine, theirs = await world.events(3), await world.events(3, "guard-1")
        for _ in range(100):
            made = await world.counters()
            await asyncio.sleep(0.1)
            if made == await world.counters():
                break
        mine.sort(key=lambda event: event["time"])
        theirs.sort(key=lambda event: event["time"])
        for client_saw, gateway, guard in zip(seen, map(counts_of, mine), map(counts_of, theirs), strict=True):
            assert client_saw[:2] == gateway[:2] == guard[:2], "the input is known with the first chunk"
            assert client_saw[2] <= gateway[2] <= guard[2] < MOST, (client_saw, gateway, guard)
        assert {event["data"]["status"] for event in theirs} == {"abandoned"}
        # What the engine made and nobody got is nobody's: it stops when its client has left.
        assert sum(counts_of(event)[2] for event in theirs) <= made[2]
