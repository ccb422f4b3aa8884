"""Asks the buyer's budgets before a call and settles with them after it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from ciyuan.client import AsyncClient
from ciyuan.errors import CiyuanError
from ciyuan.gateway.refusals import Refusal

log = logging.getLogger("ciyuan.gateway")
MICRO = 1_000_000
SETTLE_ATTEMPTS, SETTLE_PAUSE = 5, 2.0


class Allowed(NamedTuple):
    """An authorization to settle; None where the exchange could not be asked."""

    id: str | None


class Caps:
    """
    :param client: one that gives up quickly: a caller waits for it.
    :param without_exchange: `serve` or `refuse` when it does not answer. What is served is metered all the same.
    """

    def __init__(self, client: AsyncClient, *, without_exchange: str) -> None:
        self._client, self._serve = client, without_exchange == "serve"
        self._settling: set[asyncio.Task[None]] = set()
        self.unasked = 0

    async def ask(self, *, work_micro: int, contract: int, key: str, tags: Mapping[str, str]) -> Allowed:
        """:raises Refusal: when a hard budget has not got it."""
        try:
            answer = await self._client.authorizations.ask(
                standard_tokens=max(1, -(-work_micro // MICRO)), contract=contract, key=key or None,
                tags={name: value for name, value in tags.items() if name != "key"} or None,
            )  # fmt: skip
        except CiyuanError as error:
            if 400 <= error.status < 500 and error.status not in (401, 403, 408, 429):
                if error.code == "budget-exceeded":
                    raise Refusal(429, "insufficient_quota", error.detail, kind="insufficient_quota") from None
                raise Refusal(400, error.code.replace("-", "_"), error.detail) from None
            self.unasked += 1
            if self._serve:
                return Allowed(None)
            raise Refusal(
                503, "cap_not_asked", "The exchange cannot be asked whether the budget allows this.",
                kind="server_error", retry_after=5,
            ) from None  # fmt: skip
        return Allowed(answer.id)

    def settle(self, allowed: Allowed, work_micro: int) -> None:
        """Say what was used, 0 for a call that was not served; goes on in the background."""
        if allowed.id is not None:
            task = asyncio.create_task(self._settle(allowed.id, Decimal(work_micro) / MICRO))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _settle(self, authorization: str, standard_tokens: Decimal) -> None:
        for attempt in range(1, SETTLE_ATTEMPTS + 1):
            try:
                await self._client.authorizations.settle(authorization, standard_tokens=standard_tokens)
                return
            except CiyuanError as error:
                if 400 <= error.status < 500 and error.status != 429:
                    log.warning("an authorization could not be settled: %s", error.code)
                    return
            await asyncio.sleep(SETTLE_PAUSE * attempt)
        log.warning("an authorization is left to expire: the exchange does not answer")

    async def close(self) -> None:
        if self._settling:
            await asyncio.wait(self._settling, timeout=5)
