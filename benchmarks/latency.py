"""
How long it takes from an order's acceptance over HTTP to its published fill: `python -m benchmarks.latency [seconds]`.

Part of `benchmarks.orders`, in a process of its own, because it needs a whole instance: web, matching workers, beat.
A buyer and a seller send requests of 20 orders at 1,000 orders a second, which meet each other; each fill counts from
the time that stands in its order's row to the arrival of the message that publishes its journal number, after two
seconds of the same that do not count. The floor is an empty Celery round trip and a one-row commit on the same
services, idle.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp

from benchmarks.harness import environment, report, table
from config.instance import ROOT, Instance

ORDERS_A_REQUEST, ORDERS_A_SECOND = 20, 1_000
WARM_UP_SECONDS = 2
LOT = 1_000
GRADE = {
    "slug": "latency", "name": "Latency", "model": "reference-7b", "precisions": ["bf16"], "service_class": "batch",
    "region": "cn", "max_context_tokens": 32_768, "max_output_tokens": 8_192, "tick": "0.0001", "min_order": LOT,
    "mode": "exchange",
}  # fmt: skip


@contextlib.contextmanager
def services() -> Iterator[Instance]:
    """A fresh instance with all its processes; gone afterwards."""
    instance = Instance(
        var=ROOT / "var" / "bench" / "latency", web_workers=2, matching_workers=2,
        postgres_settings={"shared_buffers": "512MB"},
    )  # fmt: skip
    instance.stop()
    instance.remove()
    os.environ.update(instance.environment())
    try:
        instance.start(wait=False)
        instance.wait_ready(300)
        yield instance
    finally:
        instance.stop()
        instance.remove()


def given_market(instance: Instance) -> tuple[int, Any, Any]:
    """Return a market in continuous trading, a buyer and a seller with all they need."""
    from scenarios.parties import Keyring, Setting

    setting = Setting(url=instance.base_url, operator_key=instance.bootstrap()["api_key"], name="latency",
                      keyring=Keyring(instance.var / "keys.json"))  # fmt: skip
    setting.operator.grades.publish(**GRADE)
    buyer = setting.party("buyer", "Buyer", "买方", deposit="500000000.00")
    seller = setting.party("provider", "Seller", "卖方", deposit="500000000.00")
    deployment = seller.client.deployments.register(
        name="hall", grade="latency", accelerator="nvidia-h100-80gb-sxm", accelerator_count=64, engine="vllm",
        precision="bf16", region="cn-north", endpoint="https://hall.example/v1", rated_tokens_per_minute=40_000_000,
    )  # fmt: skip
    now = datetime.now(UTC)
    market = setting.operator.markets.create(
        grade="latency", window=(now + timedelta(hours=2), now + timedelta(hours=3)), call_opens_at=now,
        call_closes_at=now + timedelta(seconds=2), gate_closes_at=now + timedelta(hours=1), cap_price="0.005",
        reference_price="0.003",
    )  # fmt: skip
    seller.client.capacity.publish(
        deployment=deployment.id, market=market.id, quantity=1_000_000 * LOT, tokens_per_minute=20_000_000,
        reserve_price="0.003", list_price="0.005", wait=True,
    )  # fmt: skip
    while setting.operator.markets.get(market.id).phase != "continuous":
        time.sleep(0.2)
    return market.id, buyer, seller


async def trade(market: int, parties: tuple[Any, Any], seconds: float) -> tuple[list[tuple[int, float]], float]:
    """Send orders at the rate; return (journal number, time) of each message, and from when on orders count."""
    from channels.layers import get_channel_layer

    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(f"market.{market}", channel)
    published: list[tuple[int, float]] = []

    async def listen() -> None:
        while True:
            message = (await layer.receive(channel))["message"]
            published.append((message["sequence"], time.time()))

    async def send(session: aiohttp.ClientSession, number: int) -> None:
        headers = {"Idempotency-Key": str(uuid4()), "Content-Type": "application/json"}
        async with session.post("/v1/orders/batch", data=bodies[number % 2], headers=headers) as answer:
            if answer.status != 202 or b'"refused":0' not in await answer.read():
                raise RuntimeError(f"{answer.status}: {(await answer.text())[:300]}")

    orders = [{"market": market, "side": side, "quantity": LOT, "price": "0.003"} for side in ("buy", "sell")]
    bodies = [json.dumps({"orders": [order] * ORDERS_A_REQUEST}).encode() for order in orders]
    listening = asyncio.create_task(listen())
    async with contextlib.AsyncExitStack() as stack:
        # The clients share the processors with what is measured, so they do no more than a client must.
        sessions = []
        for party in parties:
            settings = party.client.transport.settings
            sessions.append(await stack.enter_async_context(aiohttp.ClientSession(
                settings.url, headers={"Authorization": f"Bearer {settings.api_key}"},
            )))  # fmt: skip
        requests, apart = [], ORDERS_A_REQUEST / ORDERS_A_SECOND
        started, since = time.monotonic(), time.time() + WARM_UP_SECONDS
        for number in range(int((WARM_UP_SECONDS + seconds) / apart)):
            await asyncio.sleep(max(0.0, started + number * apart - time.monotonic()))
            requests.append(asyncio.create_task(send(sessions[number % 2], number)))
        await asyncio.gather(*requests)
        await asyncio.sleep(3)
    listening.cancel()
    await asyncio.wait([listening])
    return published, since


def waits(market: int, published: list[tuple[int, float]], since: float) -> list[float]:
    """Return the seconds from acceptance to publication of each order since then that met another at once."""
    from django.db import connection

    published = sorted(published)
    sequences = [sequence for sequence, _ in published]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT t.sequence, extract(epoch FROM c.accepted_at)::float8 FROM exchange_trade t"
            " JOIN exchange_journalentry j ON j.id = t.id >> 32 << 32 | t.sequence"
            " JOIN exchange_command c ON c.id = j.command_id"
            " WHERE t.id >> 32 = %s AND c.accepted_at >= to_timestamp(%s)",
            [market, since],
        )
        rows = cursor.fetchall()
    return [published[place][1] - accepted for sequence, accepted in rows
            if (place := bisect_left(sequences, sequence)) < len(published)]  # fmt: skip


def floor(instance: Instance, count: int) -> list[float]:
    """Return what the floor takes on the instance's services while nothing else goes on."""
    from benchmarks.baselines import empty_task

    command = [sys.executable, "-m", "celery", "-A", "benchmarks.baselines.empty_task", "worker", "-P", "solo",
               "-Q", "empty", "-l", "error", "--without-gossip", "--without-mingle"]  # fmt: skip
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, env=instance.environment(), **silent) as worker:
        try:
            empty_task.empty.delay().get(timeout=120)
            return empty_task.round_trips(instance.postgres.url(), count)
        finally:
            worker.terminate()


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[-1]


def main(seconds: float = 30) -> None:
    """Print the figures."""
    print(environment())
    with services() as instance:
        import django

        django.setup()
        idle = floor(instance, 300)
        market, buyer, seller = given_market(instance)
        published, since = asyncio.run(trade(market, (buyer, seller), seconds))
        taken = waits(market, published, since)
    rows = [(name, f"{1e3 * statistics.median(each):.1f}", f"{1e3 * p99(each):.1f}", f"{len(each):,}")
            for name, each in (("floor: empty task, one-row commit", idle), ("accepted to fill published", taken))]
    title = f"{ORDERS_A_SECOND:,} orders a second for {seconds:g} s over HTTP"
    print(table(title, ("what", "median ms", "p99 ms", "count"), rows))
    report({"http_p99_vs_floor": p99(taken) / p99(idle), "http_p99_ms": 1e3 * p99(taken), "http_fills": len(taken)})


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
