"""
Matching workers that fight for the same markets, and are killed one after another while orders pour in over HTTP.

Each of two Celery workers takes the queue of every market, as after a botched change of their number: they meet in each
market all the time, and only the market's row lock and the journal keep them apart. Every second the older of them is
killed as `kill -9` does it, and another begins, without any book. In the end, with the books still open and full, each
market's journal must give the same book from the beginning and from its last snapshot, the same trades that are stored,
and the audit be clean.
"""

import json
import random
import re
import sys
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import psycopg
import pytest
from ciyuan import CiyuanError

from config.instance import Instance
from scenarios.parties import Keyring, Setting

pytestmark = [pytest.mark.processes, pytest.mark.proof]

SEED, KILLS, MOST_SECONDS, MARKETS, PARTIES, BATCH = 20261122, 30, 150, 4, 6, 20
LOT, TICK_NANO = 1_000, 100_000
GRADE = {
    "slug": "contested", "name": "Contested", "model": "reference-7b", "precisions": ["bf16"],
    "service_class": "batch", "region": "cn", "max_context_tokens": 32_768, "max_output_tokens": 8_192,
    "tick": "0.0001", "min_order": LOT, "mode": "exchange",
}  # fmt: skip


class Contested(Instance):
    """An instance with two matching workers that both take every matching queue."""

    def processes(self):
        queues = ",".join(f"matching.{number}" for number in range(self.matching_workers))
        fighters = [sys.executable, "-m", "tests.exchange.worker_nursery", queues, "2"]
        found = {one.name: one for one in super().processes()}
        fought = replace(found["matching0"], name="fighters", command=fighters)
        return [fought, *(one for name, one in found.items() if not name.startswith("matching"))]


class Killer:
    """Each second kills the older matching worker, once it has said that it is ready."""

    def __init__(self, instance):
        self.instance = instance
        self.killed = 0
        self.enough = threading.Event()

    def run(self):
        nursery = psutil.Process(self.instance.pid("fighters"))
        while self.killed < KILLS and not self.enough.wait(1):
            fighters = sorted(nursery.children(), key=lambda process: process.create_time())
            log = (self.instance.logs / "fighters.log").read_text()
            if len(fighters) == 2 and all(re.search(rf"fighter{one.pid}@\S+ ready", log) for one in fighters):
                fighters[0].kill()
                self.killed += 1
        self.enough.set()


class Trader:
    """A member that sends batches of everything there is, to all markets at once, until it is enough."""

    def __init__(self, party, markets, seed, enough):
        self.client = party.client
        self.markets = markets
        self.dice = random.Random(seed)
        self.enough = enough
        self.mine = []
        self.answers = Counter()

    def run(self):
        while not self.enough.is_set():
            try:
                results = self.client.orders.batch([self.command() for _ in range(BATCH)])
            except CiyuanError as error:
                self.answers[error.code] += 1
                continue
            for result in results:
                self.answers[result.code or result.status] += 1
                if result.status == "accepted" and "side" in result.order.raw:
                    self.mine.append(result.order["id"])

    def command(self):
        dice = self.dice
        action = dice.random()
        if action < 0.25 and self.mine:
            return {"action": "cancel", "order": self.mine.pop(dice.randrange(len(self.mine)))}
        if action < 0.32 and self.mine:
            changes = dice.choice([{"price": self.price()}, {"quantity": dice.randint(1, 30) * LOT}])
            return {"action": "replace", "order": dice.choice(self.mine), **changes}
        side, lots = dice.choice(["buy", "sell"]), dice.randint(1, 20)
        order = {"market": dice.choice(self.markets), "side": side, "quantity": lots * LOT, "price": self.price()}
        kind = dice.random()
        if kind < 0.1:
            order |= {"time_in_force": dice.choice(["ioc", "fok"])}
        elif kind < 0.15:
            order |= {"display_quantity": max(1, lots // 4) * LOT}
        elif kind < 0.2:
            order |= {"type": "stop_limit", "stop_price": self.price()}
        elif kind < 0.25:
            order |= {"all_or_none": True}
        elif kind < 0.3:
            order |= {"self_trade": dice.choice(["cancel_oldest", "cancel_both", "decrement", "none"])}
        elif kind < 0.35:
            order |= {"session": "auction"}
        elif kind < 0.4:
            del order["price"]
            order |= {"type": "market"}
        return order

    def price(self):
        return f"0.{self.dice.randint(20, 40):04d}"


@pytest.fixture
def contested(tmp_path):
    instance = Contested(var=tmp_path / "contested", matching_workers=2, seed=SEED)
    with instance.started(wait=False) as running:
        running.wait_ready(300)
        yield running
    instance.remove()


def given_members(instance, key):
    setting = Setting(url=instance.base_url, operator_key=key, name="fight", keyring=Keyring(instance.var / "keys"))
    setting.operator.grades.publish(**GRADE)
    members = [setting.party("both", f"Member {n}", "会员", deposit="500000000.00") for n in range(PARTIES)]
    deployments = [
        member.client.deployments.register(
            name="hall", grade=GRADE["slug"], accelerator="nvidia-h100-80gb-sxm", accelerator_count=64, engine="vllm",
            precision="bf16", region="cn-north", endpoint="https://member.example/v1",
            rated_tokens_per_minute=10_000_000, idempotency_key=f"fight:{member.name}",
        ).id
        for member in members
    ]  # fmt: skip
    return setting.operator, members, deployments


def given_markets(operator, members, deployments):
    """Markets in windows that follow each other, all in their call now and in continuous trading after ten seconds."""
    now, markets = datetime.now(UTC), []
    for hour in range(1, MARKETS + 1):
        market = operator.markets.create(
            grade=GRADE["slug"],
            window=(now + timedelta(hours=hour + 1), now + timedelta(hours=hour + 2)),
            call_opens_at=now, call_closes_at=now + timedelta(seconds=10),
            gate_closes_at=now + timedelta(hours=1), cap_price="0.005", reference_price="0.003",
        )  # fmt: skip
        markets.append(market.id)
        for member, deployment in zip(members, deployments, strict=True):
            member.client.capacity.publish(
                deployment=deployment, market=market.id, quantity=20_000 * LOT, tokens_per_minute=500_000,
                reserve_price="0.003", list_price="0.005", wait=True,
                idempotency_key=f"fight:{market.id}:{deployment}",
            )  # fmt: skip
    return markets


def test_two_workers_fight_for_the_same_markets_while_one_is_killed_each_second(contested):
    operator, members, deployments = given_members(contested, contested.bootstrap()["api_key"])
    markets = given_markets(operator, members, deployments)
    killer = Killer(contested)
    traders = [Trader(member, markets, SEED + n, killer.enough) for n, member in enumerate(members)]
    with ThreadPoolExecutor(len(traders) + 1) as threads:
        work = [threads.submit(killer.run), *(threads.submit(trader.run) for trader in traders)]
        wait(work, MOST_SECONDS, FIRST_EXCEPTION)
        killer.enough.set()
        for one in work:
            one.result()
    wait_for_the_last(contested)

    answers = sum((trader.answers for trader in traders), Counter())
    in_the_act = (contested.logs / "postgres.log").read_text().count("client connection with an open transaction")
    lines = [json.loads(line) for line in contested.manage("replay", *map(str, markets)).stdout.splitlines()]
    print(f"{killer.killed} killed, {in_the_act} of them in a transaction; {answers}")
    print(*lines, sep="\n")
    assert contested.manage("audit").stdout.strip().endswith("audit: clean")
    assert [line["market"] for line in lines] == markets
    for line in lines:
        assert line["same"] and line["state_hash"] == line["state_hash_from_snapshot"]
        assert line["trades_digest"] == line["stored_trades_digest"]
        assert line["trades"] > 50 and line["open_orders"] > 10
    assert killer.killed >= KILLS // 4, "too few were killed to prove anything"
    assert in_the_act, "nobody was killed in the act"


def wait_for_the_last(instance):
    """Wait until nothing queued is left behind by whoever was killed."""
    deadline = time.monotonic() + 120
    with psycopg.connect(instance.postgres.url(), autocommit=True) as connection:
        while connection.execute("SELECT count(*) FROM exchange_commandqueue").fetchone() != (0,):
            assert time.monotonic() < deadline, "commands are left behind"
            time.sleep(0.5)
