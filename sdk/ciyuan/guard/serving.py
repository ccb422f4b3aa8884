"""A guard as a running server: its parts put together, its two addresses, and what it does every second."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from ciyuan.errors import CiyuanError
from ciyuan.guard.access import PublishedKeys
from ciyuan.guard.engine import EngineClient
from ciyuan.guard.exchange import fetch_keys, keys_transport, load_terms
from ciyuan.guard.figures import Figures
from ciyuan.guard.journal import Journal
from ciyuan.guard.proxy import Proxy
from ciyuan.guard.rates import Allowances
from ciyuan.guard.recorder import Recorder
from ciyuan.guard.settings import GuardSettings
from ciyuan.listening import listen
from ciyuan.meter import Meter
from ciyuan.service_minutes import ServiceMinutes
from ciyuan.signing import Signer
from ciyuan.transport import AsyncTransport, Retry

log = logging.getLogger("ciyuan.guard")
TICK_SECONDS = 1.0
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


class _Silent(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's own complaints quote what they could not read, which may be a prompt: none of them is kept."""

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        if level >= logging.ERROR:
            log.warning("a connection was ended: its request could not be read")


class RunningGuard:
    """:param url: where it serves. :param status_url: where its figures are."""

    def __init__(self, proxy: Proxy, meter: Meter, refusals: Path) -> None:
        self.proxy, self.meter, self._refusals = proxy, meter, refusals
        self.url = self.status_url = ""

    def figures(self) -> str:
        state = self.meter.state
        return self.proxy.figures.exposition({
            "waiting_events": state.waiting_events, "sent_events": state.sent_events,
            "rejected_events": state.rejected_events, "sending_failures": state.failures,
            "free_slots": self.proxy.journal.free_slots, "keys": len(self.proxy.keys.by_name),
        })  # fmt: skip

    def health(self) -> tuple[int, dict[str, Any]]:
        problem = self.proxy.recorder.problem
        if problem is None and not self.proxy.keys.by_name:
            problem = "the exchange's keys are not known yet"
        body = {"status": "ok" if problem is None else "unable", "problem": problem,
                "running": self.proxy.figures.running}  # fmt: skip
        return (200 if problem is None else 503), body

    async def tick(self) -> None:
        """What is due now and then; nothing of it may end the guard."""
        now = self.proxy.now()
        with suppress(CiyuanError, OSError):
            await self.proxy.keys.refresh(time.monotonic())
        try:
            refused = self.proxy.figures.take_refusals()
            await asyncio.to_thread(self._on_disk, refused, now)
        except OSError as error:
            log.error("the guard's folder cannot be written: %s", error.strerror)

    def _on_disk(self, refused: dict[str, int], now: float) -> None:
        self.proxy.journal.flush()
        self.proxy.allowances.save(now)
        if refused:
            row = {"at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"), "refused": refused}
            with self._refusals.open("a") as file:
                file.write(json.dumps(row) + "\n")


@asynccontextmanager
async def serving(settings: GuardSettings, *, now: Callable[[], float] = time.time) -> AsyncIterator[RunningGuard]:
    """
    Serve until the block is left; then answers that are on their way are cut off and metered to where they were.

    :raises CiyuanError: for settings that cannot be, or an exchange that is away at the first start.
    """
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    signer = Signer.read(settings.signing_key) if settings.signing_key else None
    terms = await asyncio.to_thread(load_terms, settings.grade, url=settings.url, kept=folder / "terms.json")
    count = None
    if settings.tokenizer:
        from ciyuan.canonical import canonical

        count = canonical(settings.tokenizer).count
    transport = keys_transport(settings.url)
    keys = PublishedKeys(partial(fetch_keys, transport), folder / "keys.json")
    meter = Meter(
        source=settings.source, spool=folder / "spool", url=settings.url, api_key=settings.meter_key,
        max_spool_bytes=settings.max_spool_bytes, signer=signer,
    )  # fmt: skip
    figures, engine = Figures(), EngineClient(settings)
    journal = Journal(folder / "journal", slots=settings.most_streams)
    recorder = Recorder(journal, meter, figures.metered)
    if recovered := recorder.recover():
        log.warning("%d requests of a guard that was killed are metered to where they were", recovered)
    allowances = Allowances(folder / "used.json", beyond_quantity=settings.beyond_quantity)
    minutes = ServiceMinutes(
        folder / "minutes.json", deployment=settings.deployment, signer=signer,
        on_answer=partial(_give_back, allowances),
    )  # fmt: skip
    reports = AsyncTransport(settings.meter_key, settings.url, timeout=5.0, retry=Retry(attempts=1))
    proxy = Proxy(
        settings, terms=terms, keys=keys, engine=engine, journal=journal, recorder=recorder, figures=figures,
        minutes=minutes, now=now, count=count, allowances=allowances,
    )  # fmt: skip
    guard = RunningGuard(proxy, meter, folder / "refusals.ndjson")
    await guard.tick()
    tasks = [
        asyncio.create_task(recorder.run()),
        asyncio.create_task(_ticking(guard)),
        asyncio.create_task(proxy.watch()),
        asyncio.create_task(minutes.run(reports, now)),
    ]
    runners = [
        web.AppRunner(app, access_log=None, handler_cancellation=True, logger=_Silent(log), shutdown_timeout=0.5)
        for app in (_app(guard), _status_app(guard))
    ]
    try:
        guard.url = await listen(runners[0], settings.host, settings.port)
        guard.status_url = await listen(runners[1], settings.status_host, settings.status_port)
        yield guard
    finally:
        for runner in runners:
            await runner.cleanup()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await proxy.settle()
        recorder.stop()
        await tasks[0]
        for task in tasks[1:]:
            task.cancel()
        await guard.tick()
        await minutes.close(reports, now())
        await reports.close()
        await engine.close()
        await transport.close()
        await asyncio.to_thread(meter.close)
        journal.close()


def _give_back(allowances: Allowances, answer: dict[str, Any]) -> None:
    """What of the buyers' contracts the exchange's own requests have taken, as it says afterwards."""
    for row in answer.get("probed") or ():
        allowances.give_back(int(row["contract"]), int(row["work_micro_st"]))


async def _ticking(guard: RunningGuard) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        await guard.tick()


def _app(guard: RunningGuard) -> web.Application:
    app = web.Application(client_max_size=guard.proxy.settings.max_body_bytes)
    for path in PATHS:
        app.router.add_post(path, guard.proxy.handle)
    app.router.add_get("/v1/models", guard.proxy.models)
    app.router.add_get("/healthz", partial(_health, guard))
    app.router.add_route("*", "/{path:.*}", guard.proxy.unknown)
    return app


def _status_app(guard: RunningGuard) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=guard.figures(), content_type="text/plain")

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", partial(_health, guard))
    return app


async def _health(guard: RunningGuard, request: web.Request) -> web.Response:
    status, body = guard.health()
    return web.json_response(body, status=status)
