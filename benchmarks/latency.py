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
import os
import statistics
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

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


async def trade(market: int, parties: tuple[Any, Any], seconds: float) -> tuple[list[tuple[int, float]], int]:
    """Send orders at the rate; return (journal number, time) of each message of the market, and the orders sent."""
    from channels.layers import get_channel_layer
    from ciyuan import AsyncClient

    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(f"market.{market}", channel)
    published: list[tuple[int, float]] = []

    async def listen() -> None:
        while True:
            message = (await layer.receive(channel))["message"]
            published.append((message["sequence"], time.time()))

    listening = asyncio.create_task(listen())
    clients = [AsyncClient(one.client.transport.settings.api_key, one.client.transport.settings.url) for one in parties]
    requests, sent = [], 0
    started = time.monotonic()
    for number in range(int(seconds * ORDERS_A_SECOND / ORDERS_A_REQUEST)):
        await asyncio.sleep(max(0.0, started + number * ORDERS_A_REQUEST / ORDERS_A_SECOND - time.monotonic()))
        order = {"market": market, "side": ("buy", "sell")[number % 2], "quantity": LOT, "price": "0.003"}
        requests.append(asyncio.create_task(clients[number % 2].orders.batch([order] * ORDERS_A_REQUEST)))
        sent += ORDERS_A_REQUEST
    await asyncio.gather(*requests)
    await asyncio.sleep(3)
    listening.cancel()
    for client in clients:
        await client.close()
    return published, sent


def waits(market: int, published: list[tuple[int, float]], since: float) -> list[float]:
    """Return the seconds from acceptance to publication of each order since then that met another at once."""
    from django.db import connection

    published = sorted(published)
    sequences = [sequence for sequence, _ in published]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT t.sequence, extract(epoch FROM c.accepted_at)::float8 FROM exchange_trade t"
            " JOIN exchange_journalentry j ON j.id = t.id >> 32 << 32 | t.sequence"
            " JOIN exchange_command c ON c.id = j.command_id WHERE t.id >> 32 = %s AND c.accepted_at >= to_timestamp(%s)",
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
        asyncio.run(trade(market, (buyer, seller), WARM_UP_SECONDS))
        since = time.time()
        published, sent = asyncio.run(trade(market, (buyer, seller), seconds))
        taken = waits(market, published, since)
    rows = [(name, f"{1e3 * statistics.median(each):.1f}", f"{1e3 * p99(each):.1f}", f"{len(each):,}")
            for name, each in (("floor: empty task, one-row commit", idle), ("accepted to fill published", taken))]
    print(table(f"{sent:,} orders in {seconds:g} s over HTTP", ("what", "median ms", "p99 ms", "count"), rows))
    report({"http_p99_vs_floor": p99(taken) / p99(idle), "http_p99_ms": 1e3 * p99(taken), "http_fills": len(taken)})


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
