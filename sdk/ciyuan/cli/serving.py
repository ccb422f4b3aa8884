"""What commands that serve share: an address to listen at, a log, and running until they are told to end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import click


class AddressType(click.ParamType[tuple[str, int]]):
    """HOST:PORT, an IPv6 host in brackets; without a host, all addresses of the machine."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, colon, port = str(value).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not (colon and port.isascii() and port.isdigit()) or int(port) > 65_535 or (":" in host and not bracketed):
            self.fail(f"{value!r} is no HOST:PORT such as 127.0.0.1:8080 or [::1]:8080", param, ctx)
        return (host[1:-1] if bracketed else host) or "0.0.0.0", int(port)


ADDRESS = AddressType()


def run_until_told(serving: AbstractAsyncContextManager[Any], greeting: Callable[[Any], str]) -> None:
    """Serve until SIGTERM or SIGINT; `greeting` is printed once all listens."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serving as running:
            click.echo(greeting(running))
            await stop.wait()

    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(run())
    else:
        uvloop.run(run())
