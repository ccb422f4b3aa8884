"""A gateway as a running server: its parts put together, and what it does every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiohttp import web

from ciyuan.client import AsyncClient
from ciyuan.errors import CiyuanError
from ciyuan.gateway.asking import Reader
from ciyuan.gateway.caps import Caps
from ciyuan.gateway.holdings import Holdings
from ciyuan.gateway.provider import Providers
from ciyuan.gateway.proxy import Gateway
from ciyuan.gateway.reports import Reports
from ciyuan.gateway.settings import Callers, GatewaySettings
from ciyuan.listening import listen
from ciyuan.meter import Meter
from ciyuan.service_minutes import ServiceMinutes
from ciyuan.signing import Signer
from ciyuan.transport import AsyncTransport, Retry

log = logging.getLogger("ciyuan.gateway")
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
CAP_TIMEOUT = 5.0


class _Silent(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's own complaints quote what they could not read, which may be a prompt: none of them is kept."""

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        if level >= logging.ERROR:
            log.warning("a connection was ended: its request could not be read")


class RunningGateway:
    """:param url: where it serves."""

    def __init__(self, gateway: Gateway, meter: Meter | None) -> None:
        self.gateway, self.meter = gateway, meter
        self.url = ""

    def health(self) -> dict[str, Any]:
        """What it holds and how it is; no key, no token."""
        gateway, now = self.gateway, self.gateway.clock()
        state = self.meter.state if self.meter else None
        return {
            "status": "ok" if gateway.holdings.problem is None else "without the exchange",
            "problem": gateway.holdings.problem,
            "running": gateway.running, "waiting": len(gateway.line),
            "answered": dict(gateway.answered), "failovers": dict(gateway.failovers),
            "waiting_events": state.waiting_events if state else 0,
            "rejected_events": state.rejected_events if state else 0,
            "contracts": [
                {
                    "contract": route.contract.id, "deployment": route.deployment, "model": route.contract.model,
                    "open": route.contract.open_at(now), "left_standard_tokens": route.contract.left_micro // 1_000_000,
                    "running": route.speed.in_flight, "failures": route.health.failures,
                    "first_token_seconds": round(route.speed.first_token_seconds(1_000, now), 3),
                    "token_seconds": round(route.speed.token_seconds(now), 4),
                }
                for route in gateway.holdings.routes
            ],
        }  # fmt: skip


@asynccontextmanager
async def serving(
    settings: GatewaySettings, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[RunningGateway]:
    """
    Serve until the block is left; then answers that are on their way are cut off and metered to where they were.

    :raises CiyuanError: for settings or a key that cannot be, or an exchange that is away at the first start.
    """
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    callers = Callers.read(settings.callers)
    client = AsyncClient(settings.api_key, settings.url, timeout=10.0, retry=Retry(attempts=2))
    quick = AsyncClient(settings.api_key, settings.url, timeout=CAP_TIMEOUT, retry=Retry(attempts=1))
    holdings = Holdings(client, folder, renew_seconds=settings.renew_seconds)
    holdings.restore(clock())
    try:
        await holdings.refresh(clock())
    except CiyuanError as error:
        if 400 <= error.status < 500 or not holdings.contracts:
            raise
        log.warning("serving by what was known of the contracts: %s", error)
    meter = None
    if settings.meter_key:
        meter = Meter(
            source=settings.source, spool=folder / "spool", url=settings.url, api_key=settings.meter_key,
            max_spool_bytes=settings.max_spool_bytes,
        )  # fmt: skip
    providers = Providers(
        first_token_timeout=settings.first_token_timeout, answer_timeout=settings.answer_timeout,
        idle_timeout=settings.idle_timeout,
    )  # fmt: skip
    reports = Reports(meter)
    minutes = ServiceMinutes(
        folder / "minutes.json", signer=Signer.read(settings.signing_key) if settings.signing_key else None
    )
    evidence = AsyncTransport(settings.meter_key, settings.url, timeout=5.0, retry=Retry(attempts=1))
    caps = Caps(quick, without_exchange=settings.without_exchange) if settings.ask_caps else None
    gateway = Gateway(
        settings, holdings=holdings, callers=callers, reader=Reader(settings.promises), caps=caps, providers=providers,
        reports=reports, minutes=minutes, clock=clock,
    )  # fmt: skip
    running = RunningGateway(gateway, meter)
    tasks = [asyncio.create_task(reports.run()), asyncio.create_task(_refreshing(gateway))]
    if settings.meter_key:
        tasks.append(asyncio.create_task(minutes.run(evidence, clock)))
    runner = web.AppRunner(
        _app(running), access_log=None, handler_cancellation=True, logger=_Silent(log), shutdown_timeout=0.5
    )
    try:
        running.url = await listen(runner, settings.host, settings.port)
        yield running
    finally:
        await runner.cleanup()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await gateway.settle()
        for task in tasks[1:]:
            task.cancel()
        reports.stop()
        await tasks[0]
        if caps is not None:
            await caps.close()
        if settings.meter_key:
            await minutes.close(evidence, clock())
        await evidence.close()
        await providers.close()
        await client.close()
        await quick.close()
        if meter is not None:
            await asyncio.to_thread(meter.close)


async def _refreshing(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(gateway.settings.refresh_seconds)
        try:
            await gateway.holdings.refresh(gateway.clock())
        except CiyuanError:
            continue  # `health` says so, and what is known is served on
        except Exception as error:
            log.error("the contracts could not be read: %s", type(error).__name__)
            continue
        gateway.line.look()


def _app(running: RunningGateway) -> web.Application:
    gateway = running.gateway
    app = web.Application(client_max_size=gateway.settings.max_body_bytes)
    for path in PATHS:
        app.router.add_post(path, gateway.handle)
    app.router.add_get("/v1/models", gateway.models)
    app.router.add_get("/v1/models/{model:.+}", gateway.models)
    app.router.add_get("/healthz", partial(_health, running))
    app.router.add_route("*", "/{path:.*}", gateway.unknown)
    return app


async def _health(running: RunningGateway, request: web.Request) -> web.Response:
    return web.json_response(running.health())
