"""
`make day VIA=gateway`: the day's requests are made instead of reported. Each buyer has a gateway, each provider a guard
before a simulated engine, and both meters say what was used.

The trace is stretched over the whole window, because contracts have a rate: an hour's requests in an hour would be nine
times what was bought a minute. What a rate puts off is called again when the refusal said, on the day's clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from config.instance import free_port
from scenarios.day import GRADE, MODEL, PROVIDERS, Contract, Day, DayFailed
from scenarios.delivery import Caller, delivering, prompt_of
from scenarios.engine import Behaviour
from scenarios.traces import TraceRequest

AT_ONCE = 16
#: The last request begins when so much of the window has passed.
FILLED = 0.98
MOST_TRIES = 40
#: A refusal that names a later moment is one for good: the next window, not the next minute.
MOST_PUT_OFF_SECONDS = 300.0


class GatewayDay(Day):
    """A day whose usage is what guards and gateways metered of calls."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._ports = {offers.name: free_port() for offers in PROVIDERS}
        self._ahead = 0.0  # of the product's clock before the machine's, in seconds

    def _endpoint(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}/v1"

    def _go_to(self, moment: datetime) -> None:
        super()._go_to(moment)
        self._ahead = max(self._ahead, moment.timestamp() - time.time())

    def _now(self) -> float:
        return time.time() + self._ahead

    def deliver(self, contracts: Sequence[Contract]) -> Counter[str]:
        """Make the trace's requests; returns how many were served, and how many refused by status."""
        self._ahead = self.window_start.timestamp() - time.time()
        counted = asyncio.run(self._deliver())
        self.say("calls: " + ", ".join(f"{count:,} {what}" for what, count in sorted(counted.items())))
        return counted

    async def _deliver(self) -> Counter[str]:
        counted: Counter[str] = Counter()
        behaviour = Behaviour(model=MODEL, weights=MODEL, first_token_ms=0, tokens_per_s=0, answer_tokens=65_536)
        folder = self.instance.var / "delivery"
        async with delivering(url=self.instance.base_url, folder=folder, now=self._now) as delivery:
            for supply, offers in zip(self.supplies, PROVIDERS, strict=True):
                await delivery.serve(supply, grade=GRADE, behaviour=behaviour, port=self._ports[offers.name])
            keys = [await asyncio.to_thread(self.setting.buyer_meter, buyer) for buyer in self.buyers]
            callers = [
                await delivery.caller(buyer, meter_key=key, most_wait=0.0)
                for buyer, key in zip(self.buyers, keys, strict=True)
            ]
            for group in self._groups():
                await asyncio.to_thread(self._go_to, group[0][0])
                counted.update(await asyncio.gather(*(self._call(callers[n], request) for _, n, request in group)))
            until = time.monotonic() + 120
            while min(delivery.sent_events) < counted["served"]:
                if time.monotonic() > until:
                    raise DayFailed(
                        f"{counted['served']:,} calls were served, of which meters told {delivery.sent_events}."
                    )
                await asyncio.sleep(0.1)
        return counted

    def _groups(self) -> Iterator[list[tuple[datetime, int, TraceRequest]]]:
        """The requests in the order of their stretched times, some at once: (time, number of the buyer, request)."""
        last = max((request.after for request in self.trace.requests), default=timedelta(0))
        stretch = (self.market.window_end - self.market.window_start) * FILLED / max(last, timedelta(seconds=1))
        group: list[tuple[datetime, int, TraceRequest]] = []
        for request, _, buyer in self._by_buyer():
            group.append((self.window_start + request.after * stretch, buyer, request))
            if len(group) == AT_ONCE:
                yield group
                group = []
        if group:
            yield group

    async def _call(self, caller: Caller, request: TraceRequest) -> str:
        prompt = prompt_of(request.input_tokens, topic=f"request {request.line}")
        for _ in range(MOST_TRIES):
            called = await caller.call(MODEL, prompt, request.output_tokens)
            if called.status != 429 or not 0 < called.retry_after <= MOST_PUT_OFF_SECONDS:
                break
            put_off = datetime.fromtimestamp(self._now() + called.retry_after, UTC)
            await asyncio.to_thread(self._go_to, put_off)
        return "served" if called.status == 200 else f"refused with {called.status}"
