"""
The demo market's delivery, in a thread of its own: every provider's engine and guard, every buyer's gateway and calls.

Each buyer uses between 55 and 108% of each contract, spread over its window: what exceeds it is overage at list price.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ciyuan import CiyuanError
from ciyuan.gateway.routes import Contract

from scenarios.delivery import Caller, Delivery, delivering, prompt_of
from scenarios.engine import Behaviour
from scenarios.parties import Party, Supply

log = logging.getLogger("scenarios.demo")
#: A real model's speed would let most answers of a one-minute window end in the next one.
TOKENS_PER_S, FIRST_TOKEN_MS = 400.0, 40.0
RETRY_SECONDS = 2.0
MOST_RUNNING = 24
SHORT_TOKENS = 120
KNOWN_TOKENS = 512

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hall:
    """A deployment of the demo and the port at which its guard answers."""

    supply: Supply
    grade: str
    model: str
    port: int


@dataclass(frozen=True, slots=True)
class Desk:
    """A buyer of the demo, its meter's key, and the port of its gateway (0: any)."""

    party: Party
    meter_key: str
    port: int = 0


class DemoDelivery:
    """Starts with `start`, ends with `stop`; an exchange that is away is waited for."""

    def __init__(self, *, url: str, folder: Path, halls: Sequence[Hall], desks: Sequence[Desk]) -> None:
        self._url, self._folder, self._halls, self._desks = url, folder, halls, desks
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 8.0) -> None:
        """End the calls, then gateways, guards and engines; what is still waiting is sent at the next start."""
        if self._loop is not None and self._ending is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(seconds)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        async with delivering(url=self._url, folder=self._folder) as delivery:
            callers: list[asyncio.Task[None]] = []
            starting = asyncio.create_task(self._start(delivery, callers))
            await self._ending.wait()
            for task in (starting, *callers):
                task.cancel()
            await asyncio.gather(starting, *callers, return_exceptions=True)

    async def _start(self, delivery: Delivery, callers: list[asyncio.Task[None]]) -> None:
        behaviour = Behaviour(tokens_per_s=TOKENS_PER_S, first_token_ms=FIRST_TOKEN_MS, answer_tokens=8_192)
        for hall in self._halls:
            served = behaviour.changed({"model": hall.model, "weights": hall.model})
            await _patiently(partial(delivery.serve, hall.supply, grade=hall.grade, behaviour=served, port=hall.port))
        for desk in self._desks:
            caller = await _patiently(
                partial(delivery.caller, desk.party, meter_key=desk.meter_key, port=desk.port, most_wait=2.0)
            )
            if caller is not None:
                callers.append(asyncio.create_task(consume(caller)))
        log.info("%d guards and %d gateways deliver", len(self._halls), len(callers))


async def _patiently(start: Callable[[], Awaitable[T]]) -> T | None:
    """What `start` gives, once the exchange is there; None, and a line in the log, where a port is taken."""
    while True:
        try:
            return await start()
        except CiyuanError as error:
            log.info("delivery waits for the exchange: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
        except OSError as error:
            log.warning("a port of the demo is taken, its owner is out of service: %s", error)
            return None


async def consume(caller: Caller) -> None:
    """Call for what is due of each contract, second by second, until cancelled."""
    running: dict[asyncio.Task[None], tuple[str, int]] = {}
    dice = random.Random(f"calls:{caller.party.organization}")
    try:
        while True:
            now = time.time()
            contracts = [contract for contract in caller.holdings.contracts.values() if contract.open_at(now)]
            for model, missing_micro in missing(contracts, now).items():
                left = missing_micro
                while left > 0 and len(running) < MOST_RUNNING:
                    task, work_micro = _call(caller, model, contracts, dice)
                    running[task] = (model, work_micro)
                    task.add_done_callback(lambda done: running.pop(done, None))
                    left -= work_micro
            await asyncio.sleep(1.0)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def missing(contracts: Iterable[Contract], now: float) -> Mapping[str, int]:
    """By model, the work that is due of contracts by now and neither used nor under way, in micro-standard-tokens."""
    due: dict[str, int] = {}
    for contract in contracts:
        share = random.Random(f"usage:{contract.id}").randint(55, 108)
        length = contract.window_end - contract.window_start
        passed = min(1.0, (now - contract.window_start) / (length * 0.92))  # the last answers end in their window
        wanted = int(contract.quantity_micro * share // 100 * passed)
        due[contract.model] = due.get(contract.model, 0) + wanted - contract.used_micro - contract.reserved_micro
    return due


def _call(
    caller: Caller, model: str, contracts: Sequence[Contract], dice: random.Random
) -> tuple[asyncio.Task[None], int]:
    inputs, outputs = dice.randint(600, 4_000), dice.randint(50, 900)
    stream = dice.random() < 0.15
    if stream:
        outputs = min(outputs, SHORT_TOKENS)
    known = KNOWN_TOKENS if dice.random() < 0.4 else 0
    prompt = prompt_of(inputs, topic=f"{caller.party.name} {dice.random()}", known_tokens=known)
    work = next(contract.work for contract in contracts if contract.model == model)(inputs, 0, outputs)
    tags = {"Ciyuan-Tags": f"team={dice.choice(('search', 'support', 'research'))}"}

    async def run() -> None:
        with suppress(Exception):  # a provider or the exchange is away: the next second is another chance
            await caller.call(model, prompt, outputs, stream=stream, headers=tags)

    return asyncio.create_task(run()), work.input_micro_st + work.cached_input_micro_st + work.output_micro_st
