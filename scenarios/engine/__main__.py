"""`python -m scenarios.engine --port 8001`: one simulated engine, until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal

import uvloop

from scenarios.engine.app import Engine
from scenarios.engine.behaviour import add_options, from_options
from scenarios.engine.serving import serving


async def run(engine: Engine, host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(engine, port=port, host=host) as url:
        print(f"simulated engine {engine.behaviour.model} at {url}/v1", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one, which is printed")
    add_options(parser)
    options = parser.parse_args()
    try:
        behaviour = from_options(options)
    except ValueError as error:
        parser.error(str(error))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(Engine(behaviour), options.host, options.port))


if __name__ == "__main__":
    main()
