"""
What the buyer holds: its contracts that are open or to come, with their access tokens, as routes for the choice.

It is asked of the exchange every few seconds and written to the disk, so that a gateway which starts while the exchange
is away serves by what was known.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from ciyuan.client import AsyncClient
from ciyuan.errors import CiyuanError
from ciyuan.gateway.routes import MICRO, RANKS, Contract, Route
from ciyuan.service_minutes import Promise
from ciyuan.standard_token import ModelCard, work_function

log = logging.getLogger("ciyuan.gateway")
NANO_PER_YUAN = 1_000_000_000
MICRO_PER_YUAN = 1_000_000
#: How long a contract is kept after its window, for requests that end late.
KEPT_SECONDS = 600.0
#: Lists of contracts begin with the newest: after so many that are over, no open one is expected any more.
OVER_IN_A_ROW = 100


class Holdings:
    """
    :param folder: where what is known is kept. :param renew_seconds: how often a contract's access is asked for anew.

    `routes` is what the choice looks at, `doors` where each of them is: (address, access token).
    """

    def __init__(self, client: AsyncClient, folder: Path, *, renew_seconds: float) -> None:
        self._client, self._renew = client, renew_seconds
        self._path = folder / "holdings.json"
        self.routes: list[Route] = []
        self.contracts: dict[int, Contract] = {}
        self.doors: dict[tuple[int, int], tuple[str, str]] = {}
        self.allows_overage_micro = 0
        self.problem: str | None = "the exchange has not been asked yet"
        self._rows: dict[int, dict[str, Any]] = {}
        self._asked_access_at: dict[int, float] = {}
        self._terms: dict[str, dict[str, Any]] = {}
        self._cards: dict[str, dict[str, Any]] = {}

    # -- what is known ---------------------------------------------------------------------------------------------

    def restore(self, now: float) -> None:
        """Take up what the last process knew."""
        try:
            saved = json.loads(self._path.read_text())
            self._terms, self._cards = saved["terms"], saved["cards"]
            self.allows_overage_micro = int(saved["allows_overage_micro"])
            for row in saved["contracts"]:
                if _seconds(row["window_end"]) > now:
                    self._take(row)
        except (OSError, ValueError, KeyError, TypeError):
            return

    async def refresh(self, now: float) -> None:
        """
        Look at contracts, tokens and what was used.

        :raises CiyuanError: when the exchange does not say; what was known stays.
        """
        try:
            await self._refresh(now)
        except CiyuanError as error:
            self.problem = str(error)
            raise
        self.problem = None

    async def _refresh(self, now: float) -> None:
        for row in [row async for row in _newest(self._client, now)]:
            if _seconds(row["window_end"]) <= now:
                continue
            due = now - self._asked_access_at.get(row["id"], float("-inf")) >= self._renew
            if not due:
                continue
            if "per_token_p95_ms" not in self._terms.get(row["grade_slug"], ()):
                await self._learn(row["grade_slug"])
            try:
                access = (await self._client.contracts.access(row["id"])).raw
            except CiyuanError as error:
                if error.code != "contract-over":
                    raise
                continue
            self._asked_access_at[row["id"]] = now
            self.allows_overage_micro = int(Decimal(access.get("allows_overage") or 0) * MICRO_PER_YUAN)
            kept = ("id", "grade_slug", "model", "window_start", "window_end", "tokens_per_minute", "lots")
            self._take({**{name: row[name] for name in kept}, "endpoints": access["endpoints"]})
        self._forget(now)
        await self._look_at_usage(now)
        await asyncio.to_thread(self._save)

    def renew(self, contract: int) -> None:
        """Ask for the access of a contract anew at the next look: its provider did not take it."""
        self._asked_access_at.pop(contract, None)

    async def _learn(self, grade: str) -> None:
        terms = (await self._client.grades.get(grade)).raw
        if terms["model"] not in self._cards:
            async for model in self._client.models.list():
                self._cards[model.slug] = {
                    name: model.raw[name] for name in ("active_params", "active_weight_bytes", "attention")
                }
        names = ("model", "service_class", "max_context_tokens", "cached_share_thousandths", "take_or_pay_thousandths")
        promised = ("first_token_p95_ms", "per_token_p95_ms")
        self._terms[grade] = {name: terms[name] for name in names} | {name: terms.get(name) for name in promised}

    def _take(self, row: Mapping[str, Any]) -> None:
        """Make a contract and its routes, or bring those that are there up to date."""
        known = self.contracts.get(row["id"])
        terms = self._terms[row["grade_slug"]]
        lots = sorted((int(lot["quantity"]) * MICRO, _nano(lot["price"])) for lot in row["lots"])
        lots.sort(key=lambda lot: lot[1])
        if known is None:
            card = ModelCard.from_dict(self._cards[terms["model"]], name=terms["model"])
            known = self.contracts[row["id"]] = Contract(
                id=row["id"], model=row["model"], rank=RANKS.get(terms["service_class"], 0),
                window_start=_seconds(row["window_start"]), window_end=_seconds(row["window_end"]), lots=tuple(lots),
                tokens_per_minute=int(row["tokens_per_minute"]), max_context_tokens=int(terms["max_context_tokens"]),
                take_or_pay_thousandths=int(terms["take_or_pay_thousandths"]),
                work=work_function(card, int(terms["cached_share_thousandths"])), promise=Promise.of(terms),
            )  # fmt: skip
        known.lots = tuple(lots)
        known.tokens_per_minute = int(row["tokens_per_minute"])
        routes = {route.key: route for route in self.routes}
        keys = set()
        for place in row["endpoints"]:
            key = (known.id, int(place["deployment"]))
            keys.add(key)
            route = routes.get(key)
            if route is None:
                route = self._like_another(Route(known, key[1]))
                self.routes.append(route)
            route.list_price_nano = None if place.get("list_price") is None else _nano(place["list_price"])
            self.doors[key] = (str(place["endpoint"]).rstrip("/"), str(place["token"]))
        self._drop([route for route in self.routes if route.contract is known and route.key not in keys])
        self._rows[known.id] = dict(row)

    def _like_another(self, route: Route) -> Route:
        """A deployment is as fast, as sound and has the same cache in every contract that it serves."""
        for other in self.routes:
            if other.deployment == route.deployment:
                route.speed, route.health, route.prefixes = other.speed, other.health, other.prefixes
                break
        return route

    def _forget(self, now: float) -> None:
        self._drop([route for route in self.routes if route.contract.window_end + KEPT_SECONDS < now])
        for contract in [c for c in self.contracts.values() if c.window_end + KEPT_SECONDS < now]:
            for known in (self.contracts, self._rows, self._asked_access_at):
                known.pop(contract.id, None)

    def _drop(self, gone: list[Route]) -> None:
        for route in gone:
            self.routes.remove(route)
            self.doors.pop(route.key, None)

    async def _look_at_usage(self, now: float) -> None:
        """What others used of the same contracts, or this gateway before its start, as the meters told the exchange."""
        opened = [contract for contract in self.contracts.values() if contract.open_at(now)]
        if not opened:
            return
        first = min(contract.window_start for contract in opened)
        begin = datetime.fromtimestamp(first - first % 3_600, UTC)  # usage is added up by the hour
        for row in await self._client.usage.query(group_by=["contract"], start=begin):
            contract = self.contracts.get(int(row["contract"])) if row["contract"] is not None else None
            if contract is not None:
                contract.used_micro = max(contract.used_micro, int(row.standard_tokens * MICRO))

    def _save(self) -> None:
        saved = {
            "terms": self._terms, "cards": self._cards, "allows_overage_micro": self.allows_overage_micro,
            "contracts": list(self._rows.values()),
        }  # fmt: skip
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(saved))
        fresh.replace(self._path)

    # -- what is told ----------------------------------------------------------------------------------------------

    def models(self, now: float) -> list[dict[str, Any]]:
        """The models of contracts that are open or to come, as OpenAI lists them."""
        first: dict[str, float] = {}
        for contract in self.contracts.values():
            if contract.window_end > now:
                first[contract.model] = min(first.get(contract.model, contract.window_start), contract.window_start)
        return [
            {"id": model, "object": "model", "created": int(start), "owned_by": "ciyuan"}
            for model, start in sorted(first.items())
        ]

    def next_window(self, model: str, now: float) -> float | None:
        """When the next contract for a model begins, None where none is bought."""
        starts = [c.window_start for c in self.contracts.values() if c.model == model and c.window_start > now]
        return min(starts, default=None)


async def _newest(client: AsyncClient, now: float) -> Any:
    """The contracts with a window, as far back as any may still be open."""
    over = 0
    async for contract in client.contracts.list():
        if contract.window_end is None:
            continue
        over = over + 1 if contract.window_end.timestamp() <= now else 0
        if over > OVER_IN_A_ROW:
            return
        yield contract.raw


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _nano(price: Any) -> int:
    return int(Decimal(str(price)) * NANO_PER_YUAN)
