"""The unmodified openai client through the gateway, by two guards to two engines."""

import asyncio
import time
from dataclasses import replace
from decimal import Decimal

import httpx
import openai
import pytest
from ciyuan.standard_token import REFERENCE_7B, work

from tests.gateway.given import ASK, MODEL, PROMPT, QUICK, given_gateway
from tests.guard.given import work_of

PROOF, SWIFT = pytest.mark.proof, {"Ciyuan-Service-Class": "swift"}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}


async def test_answers_and_streams_are_the_engines_and_both_meters_agree(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        whole = await client.chat.completions.create(**ASK, user="u-1", metadata={"team": "search"})
        assert whole.usage.completion_tokens == 12
        stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
        plain = await client.completions.create(model=MODEL, prompt="one two", max_tokens=5)
        assert plain.usage.completion_tokens == 5
        vectors = await client.embeddings.create(model=MODEL, input=["one two", "three"])
        assert len(vectors.data) == 2
        assert [row.id async for row in client.models.list()] == [MODEL]
        assert (await client.models.retrieve(MODEL)).owned_by == "ciyuan"
        mine, theirs = await world.events(4), await world.events(4, "guard-1")

        def told(events):
            return sorted((e["data"]["attempt_id"], e["subject"], work_of(e).total_micro_st) for e in events)

        assert told(mine) == told(theirs)
        assert {event["subject"] for event in mine} == {"contract:41"}  # the cheaper one
        assert [event["data"]["tags"] for event in mine if "tags" in event["data"]] == [{"team": "search"}]
        assert all(amount is not None for _, amount in world.market.settled.values())
        used = sum(Decimal(amount) for _, amount in world.market.settled.values())
        assert used * 1_000_000 == sum(work_of(event).total_micro_st for event in mine)


@PROOF
async def test_usage_that_the_caller_did_not_ask_for_does_not_reach_it(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(**ASK, stream=True)]
        assert all(chunk.usage is None for chunk in chunks)
        await world.events(1)


@PROOF
async def test_tools_attempt_ids_and_tags_pass(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        headers = {"Ciyuan-Attempt-Id": "order-7", "Ciyuan-Tags": "team=search, app=chat"}
        raw = await client.chat.completions.with_raw_response.create(**ASK, tools=[TOOL], extra_headers=headers)
        assert raw.headers["Ciyuan-Attempt-Id"] == "order-7"
        assert raw.headers["Ciyuan-Contract"] == "41"
        assert raw.parse().choices[0].message.tool_calls[0].function.name == "look_up"
        (event,) = await world.events(1)
        assert event["data"]["attempt_id"] == "order-7"
        assert event["data"]["tags"] == {"team": "search", "app": "chat"}
        assert world.market.asked[0]["tags"] == {"team": "search", "app": "chat"}
        (theirs,) = await world.events(1, "guard-1")
        assert theirs["data"]["attempt_id"] == "order-7"


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        pytest.param(fault, stream, marks=PROOF)
        for fault in ("429", "500", "503") for stream in (False, True)
    ],
)
async def test_another_provider_takes_over_before_the_first_token(tmp_path, fault, stream):
    async with given_gateway(tmp_path) as world, world.client() as client:
        world.sites[0].engine.change(fault=fault, fault_every=1)
        answer = await client.chat.completions.create(**ASK, stream=stream)
        if stream:
            assert len([chunk async for chunk in answer]) > 2
        (event,) = await world.events(1)
        assert event["subject"] == "contract:42"
        assert event["data"]["attempt_id"].endswith(".2")
        used = str(Decimal(work_of(event).total_micro_st) / 10**6)
        assert [settled for _, settled in world.market.settled.values()] == [used]


@PROOF
async def test_a_provider_that_hangs_is_given_up_before_the_first_token(tmp_path):
    async with given_gateway(tmp_path, first_token_timeout=0.3) as world, world.client() as client:
        world.sites[0].engine.change(fault="hang", fault_every=1)
        began = time.perf_counter()
        answer = await client.chat.completions.create(**ASK, stream=True)
        assert len([chunk async for chunk in answer]) > 2
        assert time.perf_counter() - began < 2
        assert (await world.events(1))[0]["subject"] == "contract:42"


async def test_a_provider_that_was_killed_is_left_alone_and_the_other_serves(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        await client.chat.completions.create(**ASK)
        await world.sites[0].die()
        for _ in range(5):
            await client.chat.completions.create(**ASK)
        events = await world.events(6)
        assert [e["subject"] for e in events].count("contract:42") == 5
        assert world.gateway.failovers["unreachable"] == 1  # it rests after the first
        assert [route.health.failures for route in world.gateway.holdings.routes] == [1, 0]
        await world.sites[1].die()
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**ASK)
        assert (refused.value.status_code, refused.value.code) == (503, "providers_unavailable")
        assert int(refused.value.response.headers["Retry-After"]) >= 1


@PROOF
async def test_after_the_first_token_a_broken_answer_is_named_and_metered_so_far(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        world.sites[0].engine.change(fault="die", fault_every=1, die_after_tokens=5)
        seen = 0
        with pytest.raises(openai.APIError):
            async for chunk in await client.chat.completions.create(**ASK, stream=True):
                seen += bool(chunk.choices and chunk.choices[0].delta.content)
        assert seen == 5
        (mine,), (theirs,) = await world.events(1), await world.events(1, "guard-1")
        assert mine["data"]["output_tokens"] == theirs["data"]["output_tokens"] == 5


@PROOF
async def test_a_stream_that_its_caller_leaves_ends_at_the_engine_and_is_metered_so_far(tmp_path):
    slow = replace(QUICK, tokens_per_s=50, answer_tokens=500)
    async with given_gateway(tmp_path, behaviours=(slow, slow)) as world, world.client() as client:
        stream = await client.chat.completions.create(**ASK, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
        (mine,), (theirs,) = await world.events(1), await world.events(1, "guard-1")
        assert 1 <= mine["data"]["output_tokens"] <= theirs["data"]["output_tokens"] < 100
        route = world.gateway.holdings.routes[0]
        assert (route.speed.in_flight, route.contract.reserved_micro, route.health.failures) == (0, 0, 0)


async def test_a_cap_that_is_reached_refuses_and_openais_client_does_not_insist(tmp_path):
    async with given_gateway(tmp_path) as world, world.client(max_retries=2) as client:
        world.market.cap = 0
        before = len(world.market.requests)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**ASK)
        assert refused.value.code == "insufficient_quota"
        assert "too few are left" in str(refused.value)
        asked = [r for r in world.market.requests[before:] if r[1] == "/v1/authorizations"]
        assert len(asked) == 1
        assert world.gateway.holdings.routes[0].contract.reserved_micro == 0
        world.market.cap = 10**6
        await client.chat.completions.create(**ASK)
        await world.events(1)


@PROOF
async def test_serves_and_reports_later_while_the_exchange_is_away(tmp_path):
    async with given_gateway(tmp_path) as world, world.client() as client:
        market = world.market
        market.script = ["drop"] * 200
        await client.chat.completions.create(**ASK)
        async with httpx.AsyncClient() as plain:
            for _ in range(100):
                health = (await plain.get(f"{world.running.url}/healthz")).json()
                if health["problem"]:
                    break
                await asyncio.sleep(0.05)
        assert health["status"] == "without the exchange"
        assert world.gateway.caps.unasked == 1
        market.script = []
        await world.events(1)


@PROOF
async def test_refuses_while_the_exchange_is_away_if_told_so(tmp_path):
    async with given_gateway(tmp_path, without_exchange="refuse") as world, world.client() as client:
        world.market.script = ["drop"] * 50
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(**ASK)
        assert refused.value.code == "cap_not_asked"
        world.market.script = []


@PROOF
async def test_a_start_without_the_exchange_goes_on_with_what_was_known(tmp_path):
    from ciyuan.gateway.serving import serving

    async with given_gateway(tmp_path, meter_key=None) as world:
        settings = replace(world.settings, url="http://127.0.0.1:9")
        async with serving(settings) as second, openai.AsyncOpenAI(
            base_url=f"{second.url}/v1", api_key="x", max_retries=0
        ) as client:  # fmt: skip
            assert (await client.chat.completions.create(**ASK)).usage.completion_tokens == 12
        assert oct((settings.folder / "holdings.json").stat().st_mode)[-3:] == "600"


@pytest.mark.parametrize(
    ("contract", "change", "status", "code"),
    [
        ({"start": 300}, {}, 429, "no_open_contract"),
        pytest.param({}, {"model": "other"}, 404, "model_not_found", marks=PROOF),
        pytest.param({}, {"max_tokens": 40_000}, 400, "context_length_exceeded", marks=PROOF),
        pytest.param({}, {"max_tokens": "many"}, 400, "invalid_value", marks=PROOF),
        pytest.param({}, {"extra_headers": SWIFT}, 400, "unknown_service_class", marks=PROOF),
        pytest.param({"quantity": 0}, {}, 429, "contracts_used_up", marks=PROOF),
        pytest.param({"rate": 1}, {}, 429, "rate_limit_exceeded", marks=PROOF),
    ],
)
async def test_refusals_in_openais_shape(tmp_path, contract, change, status, code):
    async with given_gateway(tmp_path, behaviours=(QUICK,), contracts=(contract,), most_wait=0.1) as world:
        async with world.client() as client:
            if code == "rate_limit_exceeded":
                await client.chat.completions.create(**ASK)
            with pytest.raises(openai.APIStatusError) as refused:
                await client.chat.completions.create(**{**ASK, **change})
        assert (refused.value.status_code, refused.value.code) == (status, code)
        assert set(refused.value.response.json()["error"]) == {"message", "type", "param", "code"}
        if code == "no_open_contract":
            assert 290 <= int(refused.value.response.headers["Retry-After"]) <= 301
            assert "The next window begins at 20" in str(refused.value)


@PROOF
async def test_goes_beyond_the_contract_at_list_price_only_within_the_limit(tmp_path):
    def contract(overage):
        return {"quantity": 0, "list_price": "0.000005", "overage": overage}

    async with given_gateway(
        tmp_path, behaviours=(QUICK,), contracts=(contract("0.01"),)
    ) as world, world.client() as client:  # fmt: skip
        await client.chat.completions.create(**ASK)
        (event,) = await world.events(1)
        cost = work_of(event).total_micro_st * 5_000 // 10**9
        assert world.gateway._overage_micro == pytest.approx(cost, abs=2)
        world.gateway._overage_micro = 10_000  # all of it is spent
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**ASK)
        assert refused.value.code == "contracts_used_up"


@PROOF
async def test_waits_for_rate_real_time_first(tmp_path):
    need = work(REFERENCE_7B, 20, 0, 12, 100).total_micro_st // 10**6
    slow = replace(QUICK, tokens_per_s=100)
    async with given_gateway(
        tmp_path, behaviours=(slow,), contracts=({"rate": 60 * need},), most_wait=8.0
    ) as world, world.client() as client:
        contract = world.gateway.holdings.routes[0].contract
        contract.take_rate(int(contract.rate_micro * 1.01), time.time())
        served = []

        async def call(name, service_class):
            await client.chat.completions.create(
                **ASK, max_tokens=12, extra_headers={"Ciyuan-Service-Class": service_class}
            )
            served.append(name)

        tasks = [asyncio.create_task(call("batch", "batch"))]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(call("now", "realtime")))
        await asyncio.wait([tasks[1]])
        assert served == ["now"]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert contract.reserved_micro == 0


@PROOF
async def test_keeps_a_conversation_where_its_cache_is(tmp_path):
    caching = replace(QUICK, cache_tokens=100_000)
    async with given_gateway(
        tmp_path, behaviours=(caching, caching), contracts=({"price": "0.000003"}, {"price": "0.000003"})
    ) as world, world.client() as client:
        messages = [{"role": "system", "content": "Rules of the house. " * 600}]
        places = set()
        for turn in range(4):
            messages.append({"role": "user", "content": f"question {turn}"})
            raw = await client.chat.completions.with_raw_response.create(model=MODEL, messages=messages)
            places.add(raw.headers["Ciyuan-Contract"])
            answer = raw.parse()
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
            # The other contract gets cheaper work only if the conversation moves.
            other = next(r for r in world.gateway.holdings.routes if str(r.contract.id) not in places)
            other.contract.lots = ((other.contract.quantity_micro, 2_000),)
        assert len(places) == 1
        assert answer.usage.prompt_tokens_details.cached_tokens > 1_000


@PROOF
async def test_callers_have_keys_and_names(tmp_path):
    import hashlib
    import json

    file = tmp_path / "callers.json"
    digest = hashlib.sha256(b"sk-alice").hexdigest()
    file.write_text(json.dumps({"alice": {"sha256": digest, "tags": {"team": "law"}}}))
    async with given_gateway(tmp_path, callers=file) as world:
        async with world.client() as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(**ASK)
            await client.with_options(api_key="sk-alice").chat.completions.create(**ASK)
        (event,) = await world.events(1)
        assert event["data"]["tags"] == {"team": "law", "key": "alice"}
        assert world.market.asked[0]["key"] == "alice"


@PROOF
async def test_no_prompt_is_written_anywhere(tmp_path, caplog):
    caplog.set_level("DEBUG")
    async with given_gateway(tmp_path) as world, world.client() as client:
        await client.chat.completions.create(**ASK)
        async for _ in await client.chat.completions.create(**ASK, stream=True):
            pass
        world.sites[0].engine.change(fault="500", fault_every=1)
        await client.chat.completions.create(**ASK)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(**{**ASK, "model": "other"})
        await world.events(3)
    written = [path for path in (tmp_path / "gateway").rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert PROMPT.encode() not in path.read_bytes(), path
    said = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("openai", "httpcore", "httpx")))
    assert PROMPT not in said
