"""What the demo and the day through gateways stand on: prompts of a known size, calls that are due, both meters."""

import asyncio
import json
import time

import pytest
from ciyuan import Client
from ciyuan.gateway.routes import MICRO

from scenarios.delivery import delivering, prompt_of
from scenarios.demo_delivery import consume, missing
from scenarios.engine import Behaviour
from scenarios.engine.text import count, prompt_bytes
from scenarios.parties import Party, Supply
from tests.gateway.given import MODEL, Market

NAMES = ("input_tokens", "output_tokens", "attempt_id")


@pytest.mark.parametrize(("tokens", "known"), [(1, 0), (2, 0), (63, 10), (200, 512), (4_000, 512), (12_345, 0)])
def test_a_prompt_has_the_tokens_it_is_asked_for(tokens, known):
    prompt = prompt_of(tokens, topic="request 7", known_tokens=known)
    assert count(prompt_bytes({"messages": [{"role": "user", "content": prompt}]})) == max(tokens, 2)


async def test_what_is_due_is_called_for_and_both_meters_say_the_same(tmp_path, unused_tcp_port):
    with Market() as market:
        party = Party(5, "B", Client("key", market.url))
        supply = Supply(party, 11, "guard-11", Client("meter", market.url))
        market.sells(
            41,
            f"http://127.0.0.1:{unused_tcp_port}",
            deployment=11,
            start=-5_500,
            end=500,
            quantity=20_000,
            rate=20_000,
        )
        async with delivering(url=market.url, folder=tmp_path) as delivery:
            behaviour = Behaviour(model=MODEL, first_token_ms=1, tokens_per_s=0, answer_tokens=8_192)
            await delivery.serve(supply, grade="sim", behaviour=behaviour, port=unused_tcp_port)
            caller = await delivery.caller(party, meter_key="buyer-meter", refresh_seconds=0.1)
            (contract,) = caller.holdings.contracts.values()
            due = missing([contract], time.time())[MODEL]
            assert 0.4 * 20_000 * MICRO < due <= 1.08 * 20_000 * MICRO
            calling, gateway = asyncio.create_task(consume(caller)), caller.running.gateway
            async with asyncio.timeout(60):
                while missing([contract], time.time())[MODEL] > 0 or gateway.running:
                    await asyncio.sleep(0.05)
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)
                await gateway.settle()
                while delivery.sent_events != (gateway.answered["ok"],) * 2:
                    await asyncio.sleep(0.05)
        sides = [
            sorted(json.dumps({name: event["data"][name] for name in NAMES}) for event in market.of(source))
            for source in ("guard-11", "gateway-5")
        ]
        assert sides[0] == sides[1] and len(sides[0]) > 3
