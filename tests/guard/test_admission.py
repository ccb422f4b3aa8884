"""Who is let in: the contract's token, in its window, for its model and deployment, at its rate, up to its quantity."""

import time

import jwt
import openai
import pytest
from ciyuan.guard.access import Claims
from ciyuan.guard.rates import Allowances
from ciyuan.guard.refusals import Refusal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.guard.given import ASK, CONTRACT, given_guard

OTHER_KEY = Ed25519PrivateKey.generate()


async def refused(world, token, **request):
    async with world.client(token) as client:
        with pytest.raises(openai.APIStatusError) as error:
            await client.chat.completions.create(**{**ASK, **request})
    return error.value.status_code, error.value.code


async def test_only_a_good_token_is_let_in_and_every_refusal_is_counted(tmp_path):
    async with given_guard(tmp_path) as world:
        make = world.exchange.token
        genuine = make()
        body = genuine.split(".")
        other_contract = jwt.encode({**jwt.decode(genuine, options={"verify_signature": False}), "sub": "42"},
                                    OTHER_KEY, algorithm="EdDSA").split(".")  # fmt: skip
        now = int(time.time())
        cases = [
            ("nonsense", (401, "invalid_token")),
            (make(key=OTHER_KEY), (401, "invalid_token")),  # forged: our key's name, another key
            (f"{body[0]}.{other_contract[1]}.{body[2]}", (401, "invalid_token")),  # another contract, our signature
            (make(kid="key-9"), (401, "invalid_token")),
            (jwt.encode({"sub": "41"}, "x" * 32, algorithm="HS256", headers={"kid": "key-1"}), (401, "invalid_token")),
            (make(iss="somebody"), (401, "invalid_token")),
            (make(quantity="much"), (401, "invalid_token")),
            (make(aud="deployment:8"), (403, "wrong_deployment")),
            (make(model="other-7b"), (403, "wrong_model")),
            (make(exp=now - 61), (401, "token_expired")),
            (make(nbf=now + 300), (401, "token_not_yet_valid")),
        ]  # fmt: skip
        for token, expected in cases:
            assert await refused(world, token) == expected, (token, expected)
        assert await refused(world, genuine, model="gpt-9") == (404, "model_not_found")
        assert await refused(world, genuine, max_tokens=-1) == (400, "invalid_value")
        assert world.engine.requests == 0
        for token in (make(exp=now - 30), make(nbf=now + 59)):  # clocks a minute apart
            async with world.client(token) as client:
                await client.chat.completions.create(**ASK)
        events = await world.events(2)
        figures = world.guard.figures()
    assert 'ciyuan_guard_refusals_total{code="invalid_token"} 7' in figures
    assert 'ciyuan_guard_requests_total{status="ok"} 2' in figures
    # The clocks' difference does not take a request out of its contract's window.
    late, early = (event["time"] for event in events)
    assert late == world_time((now - 30) * 1000 - 1)
    assert early == world_time((now + 59) * 1000)


def world_time(milliseconds):
    from ciyuan.guard.recorder import _with_time

    return _with_time({"time": milliseconds})["time"]


async def test_a_rotated_key_is_fetched_and_a_withdrawn_one_no_longer_good(tmp_path):
    async with given_guard(tmp_path) as world:
        old = world.exchange.token()
        async with world.client(old) as client:
            await client.models.list()
        world.exchange.key = Ed25519PrivateKey.generate()
        world.exchange.publish("key-2")
        world.proxy.keys._asked_at = float("-inf")  # longer ago than ten seconds
        async with world.client() as client:
            await client.models.list()
        assert await refused(world, old) == (401, "invalid_token")


async def test_the_rate_holds_and_says_when_there_is_room_again(tmp_path):
    async with given_guard(tmp_path) as world, world.client(world.exchange.token(st_per_minute=6)) as client:
        await client.chat.completions.create(**ASK)  # 12 standard tokens and more
        with pytest.raises(openai.RateLimitError) as error:
            await client.chat.completions.create(**ASK)
        assert error.value.code == "rate_limit_exceeded"
        assert 20 < int(error.value.response.headers["retry-after"]) < 120


async def test_a_used_up_quantity_is_remembered_over_a_restart(tmp_path):
    async with given_guard(tmp_path) as world:
        token = world.exchange.token(quantity=5)
        async with world.client(token) as client:
            await client.chat.completions.create(**ASK)
        assert await refused(world, token) == (429, "quantity_used_up")
        exchange = world.exchange
        await world.events(1)
    async with given_guard(tmp_path) as world:
        world.exchange.key = exchange.key
        world.exchange.publish("key-1")
        await world.proxy.keys.refresh(0, every=float("-inf"))
        assert await refused(world, token) == (429, "quantity_used_up")
    async with given_guard(tmp_path / "2", beyond_quantity=True) as world, world.client(
        world.exchange.token(quantity=5)
    ) as client:
        for _ in range(2):
            await client.chat.completions.create(**ASK)


def test_an_allowance_fills_at_its_rate_and_never_beyond_a_minutes_worth(tmp_path):
    claims = Claims(CONTRACT, 5, "m", 10**6, 600, 0, 10**6)
    mine = Allowances(tmp_path / "used.json")
    for moment, taken in ((0, 600), (30, 300), (31, 10)):
        mine.admit(claims, moment)
        mine.take(claims, taken * 1_000_000, moment)
    mine.admit(claims, 600)
    mine.take(claims, 600 * 1_000_000, 600)  # ten minutes idle are one minute's worth
    with pytest.raises(Refusal):
        mine.admit(claims, 600)
    mine.admit(claims, 601)
    assert mine.used_micro_st(CONTRACT) == 1_510 * 1_000_000
