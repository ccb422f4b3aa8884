"""
Engines, guards and gateways of a scenario's cast in one event loop: what its buyers call is served and metered.

Providers are simulated (`scenarios.engine`); guards and gateways are those that anybody runs (`ciyuan guard`,
`ciyuan gateway`). An answer is as long as its caller asks for, so that a request's work is known before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
from ciyuan.gateway.serving import RunningGateway
from ciyuan.gateway.serving import serving as gateway_serving
from ciyuan.gateway.settings import GatewaySettings
from ciyuan.guard.serving import serving as guard_serving
from ciyuan.guard.settings import GuardSettings
from ciyuan.meter import Meter

from scenarios.engine import Behaviour, Engine
from scenarios.engine.serving import serving as engine_serving
from scenarios.engine.text import BYTES_PER_TOKEN
from scenarios.parties import Party, Supply

ANSWER_SECONDS = 120
_AROUND = len("<user>")  # what the engine reads around a message's text


@dataclass(frozen=True, slots=True)
class Called:
    """An answer: its status, and the seconds to wait where it was refused."""

    status: int
    retry_after: float = 0.0


def prompt_of(tokens: int, *, topic: str = "", known_tokens: int = 0) -> str:
    """
    A prompt that an engine counts as `tokens`.

    :param topic: the rest follows from it. :param known_tokens: how many at the beginning are the same for all topics.
    """
    bytes_in_all = max(1, tokens * BYTES_PER_TOKEN - _AROUND)
    known = min(bytes_in_all, known_tokens * BYTES_PER_TOKEN)
    beginning = ("What does a standard token measure? " * (known // 36 + 1))[:known]
    words = f"{topic} tells of markets, meters and windows; "
    return (beginning + words * ((bytes_in_all - known) // len(words) + 1))[:bytes_in_all]


class Caller:
    """A buyer's program: one gateway, called as any OpenAI-compatible server is."""

    def __init__(self, party: Party, running: RunningGateway, http: aiohttp.ClientSession) -> None:
        self.party, self.running = party, running
        self._http = http

    @property
    def holdings(self) -> Any:
        """What its gateway knows of its contracts."""
        return self.running.gateway.holdings

    async def call(
        self, model: str, prompt: str, output_tokens: int, *, stream: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Called:  # fmt: skip
        """Ask for an answer and read it to its end."""
        body = {
            "model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": output_tokens,
            "stream": stream,
        }  # fmt: skip
        url = f"{self.running.url}/v1/chat/completions"
        async with self._http.post(url, json=body, headers=headers) as answer:
            await answer.read()
            return Called(answer.status, float(answer.headers.get("Retry-After") or 0))


class Delivery:
    """
    What serves, until its block is left.

    :param url: the exchange. :param folder: where guards and gateways keep what waits.
    :param now: the exchange's clock in Unix seconds, where it is not the machine's.
    """

    def __init__(self, stack: AsyncExitStack, *, url: str, folder: Path, now: Callable[[], float]) -> None:
        self._stack, self._url, self._folder, self._now = stack, url, folder, now
        self._http: aiohttp.ClientSession | None = None
        self._sellers: list[Meter] = []
        self._buyers: list[Meter] = []

    @property
    def sent_events(self) -> tuple[int, int]:
        """How many events the exchange has taken of guards, and of gateways."""
        return sum(m.state.sent_events for m in self._sellers), sum(m.state.sent_events for m in self._buyers)

    async def serve(self, supply: Supply, *, grade: str, behaviour: Behaviour, port: int) -> None:
        """
        Start a deployment's engine, and its guard at `port`.

        :raises CiyuanError: the exchange is away. :raises OSError: the port is taken.
        """
        engine = await self._stack.enter_async_context(engine_serving(Engine(behaviour)))
        settings = GuardSettings(
            engine=f"{engine}/v1", deployment=supply.deployment, grade=grade, source=supply.source,
            folder=self._folder / f"guard-{supply.deployment}", url=self._url, meter_key=_key(supply.meter),
            host="127.0.0.1", port=port, status_port=0, beyond_quantity=True, most_streams=256,
        )  # fmt: skip
        guard = await self._stack.enter_async_context(guard_serving(settings, now=self._now))
        self._sellers.append(guard.meter)

    async def caller(self, party: Party, *, meter_key: str, port: int = 0, **changes: Any) -> Caller:
        """
        Start a buyer's gateway. `changes` are settings of it that are to be other than here.

        :raises CiyuanError: the exchange is away. :raises OSError: the port is taken.
        """
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            connector = aiohttp.TCPConnector(limit=0)
            self._http = await self._stack.enter_async_context(
                aiohttp.ClientSession(timeout=timeout, connector=connector)
            )
        settings = GatewaySettings(
            folder=self._folder / f"gateway-{party.organization}", source=f"gateway-{party.organization}",
            api_key=_key(party.client), meter_key=meter_key, url=self._url, port=port, ask_caps=False,
        )  # fmt: skip
        running = await self._stack.enter_async_context(gateway_serving(replace(settings, **changes), clock=self._now))
        if running.meter is not None:
            self._buyers.append(running.meter)
        return Caller(party, running, self._http)


@asynccontextmanager
async def delivering(*, url: str, folder: Path, now: Callable[[], float] = time.time) -> AsyncIterator[Delivery]:
    """A `Delivery`; all that was started in it ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        yield Delivery(stack, url=url, folder=folder, now=now)


def _key(client: Any) -> str:
    key: str = client.transport.settings.api_key
    return key
