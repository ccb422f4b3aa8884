"""A simulated engine behind a guard, and an exchange that publishes keys and terms and keeps events once."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import jwt
import openai
from ciyuan.guard.serving import serving as guard_serving
from ciyuan.guard.settings import GuardSettings
from ciyuan.standard_token import REFERENCE_7B, work
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.signing import as_jwk
from scenarios.engine import Behaviour, Engine
from scenarios.engine.serving import serving as engine_serving
from tests.sdk.endpoint import Endpoint

DEPLOYMENT, CONTRACT, MODEL = 7, 41, "sim-7b"
QUICK = Behaviour(first_token_ms=1, tokens_per_s=1_000, answer_tokens=12, cache_tokens=0)
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "SECRET-PROMPT what is a standard token?"}]}
PROMPT = "SECRET-PROMPT"


class Exchange(Endpoint):
    """What a guard needs of the exchange, with keys of its own."""

    def __init__(self, port=0):
        super().__init__(port)
        self.key = Ed25519PrivateKey.generate()
        self.publish("key-1")
        card = {**REFERENCE_7B.to_dict(), "id": 1, "slug": MODEL, "name": "Simulated"}
        self.routes["GET", "/v1/grades/sim"] = (
            200, {"id": 3, "slug": "sim", "model": MODEL, "cached_share_thousandths": 100, "tick": "0.0001"},
        )  # fmt: skip
        self.routes["GET", "/v1/models"] = (200, {"items": [card], "next_cursor": None})

    def publish(self, kid):
        self.kid = kid
        keys = [as_jwk(kid, self.key.public_key().public_bytes_raw())]
        self.routes["GET", "/.well-known/ciyuan-keys.json"] = (200, {"keys": keys})

    def token(self, *, key=None, kid=None, **changes):
        now = int(time.time())
        claims = {
            "iss": "ciyuan", "sub": str(CONTRACT), "aud": f"deployment:{DEPLOYMENT}", "model": MODEL, "buyer": 5,
            "quantity": 10**9, "st_per_minute": 10**9, "nbf": now - 600, "exp": now + 600, "iat": now,
        } | changes  # fmt: skip
        return jwt.encode(claims, key or self.key, algorithm="EdDSA", headers={"kid": kid or self.kid})


class World:
    """One guard with its engine and exchange."""

    def __init__(self, exchange, engine, guard, settings):
        self.exchange, self.engine, self.guard, self.settings = exchange, engine, guard, settings

    @property
    def proxy(self):
        return self.guard.proxy

    def client(self, token=None, **options):
        return openai.AsyncOpenAI(
            base_url=f"{self.guard.url}/v1", api_key=token or self.exchange.token(), max_retries=0,
            **{"timeout": 10, **options},
        )  # fmt: skip

    async def events(self, count):
        """The events that the exchange has, once there are so many."""
        for _ in range(500):
            if len(self.exchange.events) >= count and not self.proxy.figures.running:
                break
            await asyncio.sleep(0.01)
        found = list(self.exchange.events.values())
        assert len(found) == count, found
        return found


def settings_for(folder, **changes):
    base = GuardSettings(
        engine="", deployment=DEPLOYMENT, grade="sim", folder=folder, source="guard-1", meter_key="meter-key",
        host="127.0.0.1", port=0, status_port=0, most_streams=64,
    )  # fmt: skip
    return replace(base, **changes)


@asynccontextmanager
async def given_guard(folder, *, behaviour=QUICK, exchange=None, now=time.time, **changes):
    engine = Engine(behaviour)
    own = None if exchange else Exchange()
    if own:
        own.__enter__()
    exchange = exchange or own
    try:
        async with engine_serving(engine) as engine_url:
            settings = settings_for(folder, engine=f"{engine_url}/v1", url=exchange.url, **changes)
            async with guard_serving(settings, now=now) as guard:
                yield World(exchange, engine, guard, settings)
    finally:
        if own:
            own.__exit__()


def work_of(event):
    data = event["data"]
    return work(REFERENCE_7B, data["input_tokens"], data["cached_input_tokens"], data["output_tokens"], 100)
