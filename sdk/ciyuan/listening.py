"""A web server's first step, the same for guard and gateway."""

from __future__ import annotations

from aiohttp import web


async def listen(runner: web.AppRunner, host: str, port: int) -> str:
    """Listen at `host` and `port` (0 takes a free one); returns the address as a URL."""
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()
    address = runner.addresses[0]
    return f"http://[{address[0]}]:{address[1]}" if ":" in address[0] else f"http://{address[0]}:{address[1]}"
