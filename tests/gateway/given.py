"""A gateway before two guarded engines, and an exchange that holds the buyer's contracts, caps and events."""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import openai
from ciyuan.gateway.serving import serving as gateway_serving
from ciyuan.gateway.settings import GatewaySettings

from tests.guard.given import ASK, MODEL, PROMPT, QUICK, Exchange, given_guard

__all__ = ["ASK", "MODEL", "PROMPT", "QUICK", "Market", "given_gateway", "settings_for"]


class Market(Exchange):
    """The exchange as the buyer's gateway sees it, too."""

    def __init__(self, port=0):
        super().__init__(port)
        self.contracts = {}
        self.asked, self.settled = [], {}
        self.cap = None  # standard tokens; None: no budget
        self.routes["GET", "/v1/contracts"] = lambda *_: (
            200, {"items": [*self.contracts.values()], "next_cursor": None},
        )  # fmt: skip
        self.routes["GET", "/v1/usage"] = (200, {"items": []})
        self.routes["POST", "/v1/authorizations"] = self.authorize
        self.routes["GET", "/v1/grades/sim"][1].update(
            service_class="realtime", max_context_tokens=32_768, take_or_pay_thousandths=600
        )

    def sells(self, number, endpoint, *, deployment, price="0.000002", start=-600, end=600, rate=10**6, quantity=10**6,
              list_price=None, overage="0.00", token=None):  # fmt: skip
        """Give the buyer a contract that a guard at `endpoint` serves; times are seconds from now."""
        now = time.time()
        window = {
            "window_start": datetime.fromtimestamp(now + start, UTC).isoformat(),
            "window_end": datetime.fromtimestamp(now + end, UTC).isoformat(),
        }
        self.contracts[number] = {
            "id": number, "kind": "market", "market": 1, "grade": 3, "grade_slug": "sim", "model": MODEL, "buyer": 5,
            "buyer_name": "B", "provider": number, "provider_name": "P", "quantity": quantity,
            "tokens_per_minute": rate, "status": "delivering", **window,
            "lots": [{"number": 1, "quantity": quantity, "price": price}],
        }  # fmt: skip
        token = token or self.token(
            sub=str(number), aud=f"deployment:{deployment}", nbf=int(now + start), exp=int(now + end)
        )
        place = {
            "deployment": deployment, "endpoint": f"{endpoint}/v1", "quantity": quantity, "token": token,
            "list_price": list_price,
        }  # fmt: skip
        self.routes["GET", f"/v1/contracts/{number}/access"] = (
            200,
            {"contract": number, "model": MODEL, "endpoint": place["endpoint"], "token": token, "quantity": quantity,
             "tokens_per_minute": rate, **window, "endpoints": [place], "allows_overage": overage},
        )  # fmt: skip

    def authorize(self, headers, query, body):
        asked = json.loads(body)
        reserved = sum(n for n, used in self.settled.values() if used is None)
        used = sum(float(used) for _, used in self.settled.values() if used is not None)
        if self.cap is not None and used + reserved + asked["standard_tokens"] > self.cap:
            return 409, {"code": "budget-exceeded", "detail": f"Of {self.cap} standard tokens too few are left."}
        number = f"a-{len(self.asked)}"
        self.asked.append(asked)
        self.settled[number] = (asked["standard_tokens"], None)
        self.routes["POST", f"/v1/authorizations/{number}/settle"] = lambda h, q, b: self.settle(number, b)
        return 201, self.shown(number, asked)

    def settle(self, number, body):
        self.settled[number] = (self.settled[number][0], json.loads(body)["standard_tokens"])
        return 200, self.shown(number, {"standard_tokens": 0})

    def shown(self, number, asked):
        return {
            "id": number, "state": "open", "key": "", "tags": {}, "contract": None, "price": None,
            "standard_tokens": str(asked["standard_tokens"]), "used_standard_tokens": None,
            "expires_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip

    def of(self, source):
        """The events of one meter."""
        return [event for (name, _), event in self.events.items() if name == source]


class World:
    def __init__(self, market, sites, running, settings):
        self.market, self.sites, self.running, self.settings = market, sites, running, settings

    @property
    def gateway(self):
        return self.running.gateway

    def client(self, **options):
        return openai.AsyncOpenAI(
            base_url=f"{self.running.url}/v1", api_key="anything", **{"timeout": 10, "max_retries": 0, **options}
        )

    async def events(self, count, source="gateway-1"):
        for _ in range(500):
            if len(self.market.of(source)) >= count and not self.gateway.running:
                break
            await asyncio.sleep(0.01)
        found = self.market.of(source)
        assert len(found) == count, found
        return found


class Site:
    """A guard with its engine, which can be killed."""

    def __init__(self, world, stack):
        self.world, self._stack = world, stack

    @property
    def engine(self):
        return self.world.engine

    @property
    def url(self):
        return self.world.guard.url

    async def die(self):
        await self._stack.aclose()


def settings_for(folder, **changes):
    base = GatewaySettings(
        folder=folder, source="gateway-1", api_key="key", meter_key="meter", host="127.0.0.1", port=0,
        refresh_seconds=0.05, renew_seconds=0.2, most_wait=1.0, first_token_timeout=2.0,
    )  # fmt: skip
    return replace(base, **changes)


@asynccontextmanager
async def given_gateway(folder, *, behaviours=(QUICK, QUICK), contracts=({}, {"price": "0.000003"}), market=None,
                        **changes):  # fmt: skip
    """One gateway; for each behaviour an engine with its guard and a contract over it."""
    async with AsyncExitStack() as stack:
        if market is None:
            market = stack.enter_context(Market())
        sites = []
        for number, (behaviour, contract) in enumerate(zip(behaviours, contracts, strict=True), start=1):
            own = await stack.enter_async_context(AsyncExitStack())
            guard = await own.enter_async_context(
                given_guard(
                    folder / f"guard-{number}", behaviour=behaviour, exchange=market, deployment=10 + number,
                    source=f"guard-{number}",
                )
            )  # fmt: skip
            market.sells(40 + number, guard.guard.url, deployment=10 + number, **contract)
            sites.append(Site(guard, own))
        settings = settings_for(folder / "gateway", url=market.url, **changes)
        async with gateway_serving(settings) as running:
            yield World(market, sites, running, settings)
