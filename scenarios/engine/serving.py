"""An engine on a port, inside the running event loop: for programs and tests that want one of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from granian.constants import Interfaces
from granian.server.embed import Server


@asynccontextmanager
async def serving(app: Any, *, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve an ASGI application; gives its address."""
    if port == 0:
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
    server = Server(app, address=host, port=port, interface=Interfaces.ASGINL, log_enabled=False, backlog=1024)
    task = asyncio.create_task(server.serve())
    try:
        await _listening(host, port, task)
        yield f"http://{host}:{port}"
    finally:
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait((task,), timeout=5)


async def _listening(host: str, port: int, task: asyncio.Task[None]) -> None:
    while not task.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        return
    await task
    raise RuntimeError(f"no engine at {host}:{port}")
