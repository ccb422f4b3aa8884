"""
What one bought at an auction, consumed by an unmodified `openai` client through the gateway across two providers, of
which one is killed in the window: web, workers, engines, guards and gateway are processes of their own.

Two providers sell 100,000 standard tokens each to one buyer. In the middle of a stream one provider's guard and engine
are killed; the gateway goes on with the other. The provider withdraws what it will not deliver, which nobody can
replace; the buyer claims the call that broke, and the operator upholds it. When the window is over the provider starts
its guard again without an engine: what its journal and spool still hold is metered. The documents then have to say:
used tokens at the auction's price, the take-or-pay share of what was left unused, nothing for what was not delivered,
and a fifth of its price as penalty, out of the provider's bond.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

import httpx
import openai
import pytest
from ciyuan.calls import write
from ciyuan.records import Anything

from config.instance import ROOT, Instance, free_port
from scenarios.parties import Keyring, Setting

pytestmark = [pytest.mark.proof, pytest.mark.processes]
MODEL, GRADE, LOTS = "reference-7b", "end-to-end", 100_000
WITHDRAWN, CLAIMED, UPHELD = 60_000, 3_000, 2_000
FEN = Decimal("0.01")
MESSAGES = [{"role": "user", "content": "SECRET-PROMPT " + "what did the auction say? " * 20}]


def soon(seconds):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def wait_for(look, what, seconds=40):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")


class Program:
    """A process that says in its first line that it listens."""

    def __init__(self, log, *command, **environment):
        self._command, self._log = [sys.executable, "-m", *map(str, command)], log
        self._environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}", **environment}
        self.process = None

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        return self

    def listens(self):
        line = self.process.stdout.readline()
        assert " at http" in line, (line, self._log.read_text())

    def end(self, how=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)
        if self.process is not None:
            self.process.stdout.close()


class Site:
    """A provider with its engine and guard."""

    def __init__(self, story, number):
        self.party = story.setting.party(
            "provider", f"Provider {number}", f"供方{number}", deposit="1000.00"
        )  # fmt: skip
        port, engine_port = free_port(), free_port()
        self.deployment = self.party.client.deployments.register(
            name=f"hall {number}", grade=GRADE, accelerator="nvidia-h100-80gb-sxm", accelerator_count=8, engine="sim",
            precision="bf16", region="cn-north", endpoint=f"http://127.0.0.1:{port}/v1",
            rated_tokens_per_minute=500_000,
        ).id  # fmt: skip
        meter = self.party.client.meters.register(name="guard", role="provider", deployment=self.deployment)
        self.engine_url = f"http://127.0.0.1:{engine_port}"
        self.engine = story.program(
            f"engine-{number}", "scenarios.engine", "--port", engine_port, "--model", MODEL, "--first-token-ms", 2,
            "--tokens-per-s", 2_000, "--answer-tokens", 40,
        )  # fmt: skip
        self.guard = story.program(
            f"guard-{number}", "ciyuan.cli", "--url", story.instance.base_url, "guard", "--engine",
            f"{self.engine_url}/v1", "--deployment", self.deployment, "--grade", GRADE, "--folder",
            story.folder / f"guard-{number}", "--listen", f"127.0.0.1:{port}", "--status", "127.0.0.1:0",
            CIYUAN_API_KEY=meter.secret,
        )  # fmt: skip

    def pace(self, tokens_per_s):
        httpx.patch(f"{self.engine_url}/behaviour", json={"tokens_per_s": float(tokens_per_s)}).raise_for_status()


class Story:
    """Operator, two providers and a buyer; a market that delivers in a few seconds."""

    def __init__(self, instance, folder):
        self.instance, self.folder, self.programs = instance, folder, []
        key = instance.bootstrap()["api_key"]
        self.setting = Setting(url=instance.base_url, operator_key=key, name="story", keyring=Keyring(folder / "keys"))
        self.operator = self.setting.operator
        self.operator.grades.publish(
            slug=GRADE, name="End to end", model=MODEL, precisions=["bf16"], service_class="realtime", region="cn",
            max_context_tokens=32_768, max_output_tokens=8_192, take_or_pay_thousandths=600, grace_seconds=5,
            tick="0.0001", min_order=1_000, reference_price="0.002",
        )  # fmt: skip
        party = self.setting.party("buyer", "Buyer", "买方", deposit="2000.00")
        self.buyer, self.buyer_key = party.client, party.client.transport.settings.api_key
        self.sites = [Site(self, number) for number in (1, 2)]
        meter = self.buyer.meters.register(name="gateway", role="buyer")
        self.gateway_url = f"http://127.0.0.1:{(port := free_port())}"
        self.gateway = self.program(
            "gateway", "ciyuan.cli", "--url", instance.base_url, "gateway", "--folder", folder / "gateway", "--listen",
            f"127.0.0.1:{port}", CIYUAN_API_KEY=self.buyer_key, CIYUAN_METER_KEY=meter.secret,
        )  # fmt: skip

    def program(self, name, *command, **environment):
        self.programs.append(Program(self.folder / f"{name}.log", *command, **environment))
        return self.programs[-1]

    def clear_market(self):
        """Start everything; open a market, sell and buy in it, and wait for its contracts."""
        for program in self.programs:
            program.start()
        for program in self.programs:
            program.listens()
        self.start, self.end = soon(14), soon(150)
        body = {
            "grade": GRADE, "window": {"start": self.start.isoformat(), "end": self.end.isoformat()},
            "call_opens_at": soon(-1).isoformat(), "call_closes_at": soon(10).isoformat(),
            "gate_closes_at": soon(11).isoformat(), "cap_price": "0.005", "reference_price": "0.002",
        }  # fmt: skip
        self.market = self.operator.transport.send(write("POST", "/v1/markets", Anything, body))["id"]
        wait_for(lambda: self.operator.markets.get(self.market).phase == "call", "the call")
        for site in self.sites:
            site.party.client.capacity.publish(
                deployment=site.deployment, market=self.market, quantity=LOTS, tokens_per_minute=LOTS,
                reserve_price="0.002", list_price="0.005",
            )  # fmt: skip
        self.buyer.orders.buy(self.market, quantity=2 * LOTS, price="0.003")
        rows = wait_for(lambda: [*self.buyer.contracts.list(market=self.market)], "contracts")
        self.contracts = {row.provider: row for row in rows}
        assert [row.quantity for row in rows] == [LOTS, LOTS]
        (lot,) = rows[0].lots
        self.price = lot.price

    def contract_of(self, site):
        return self.contracts[site.party.organization]


async def consume(story):
    """Call through the gateway, kill in mid-stream, go on; returns who died, who lived, and what the stream gave."""
    client = openai.AsyncOpenAI(base_url=f"{story.gateway_url}/v1", api_key="none", max_retries=0, timeout=30)
    completions = client.chat.completions.with_raw_response
    await asyncio.sleep(max(0.0, (story.start - soon(0)).total_seconds()) + 0.5)
    served = []

    async def call():
        raw = await completions.create(model=MODEL, messages=MESSAGES)
        assert raw.parse().usage.completion_tokens == 40
        served.append(int(raw.headers["Ciyuan-Contract"]))

    for _ in range(10):
        await call()
    for site in story.sites:
        site.pace(20)
    raw = await completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers={"Ciyuan-Attempt-Id": "the-call-that-broke"}
    )
    died = next(s for s in story.sites if story.contract_of(s).id == int(raw.headers["Ciyuan-Contract"]))
    lived = next(s for s in story.sites if s is not died)
    seen = 0
    with pytest.raises(openai.APIError):
        async for chunk in raw.parse():
            seen += bool(chunk.choices and chunk.choices[0].delta.content)
            if seen == 5:
                for program in (died.guard, died.engine):
                    await asyncio.to_thread(program.end, signal.SIGKILL)
    lived.pace(2_000)
    before = len(served)
    for _ in range(10):
        await call()
    assert set(served[before:]) == {story.contract_of(lived).id}
    await client.close()
    return died, lived, seen


def report(story, died):
    """The provider withdraws, the buyer claims, the operator upholds a part."""
    contract = story.contract_of(died).id
    died.party.client.shortfalls.report(contract=contract, quantity=WITHDRAWN)
    claim = story.buyer.claims.make(contract=contract, requests=["the-call-that-broke"], quantity=CLAIMED)
    story.operator.claims.rule(claim.id, verdict="upheld", quantity=UPHELD, note="the stream broke")


def used_by_contract(story, **by):
    period = {"start": story.start.replace(minute=0, second=0, microsecond=0), "end": story.end}
    rows = story.buyer.usage.query(group_by=["contract", "class"], **period, **by)
    return {(int(row["contract"]), row["class"]): row.quantity for row in rows}


def both_meters(story, died, seen):
    """Wait until all events are in; of the stream that broke both meters have what had come, the guard a chunk more."""

    def events():
        theirs, ours = used_by_contract(story), used_by_contract(story, reported_by="buyer")
        return (theirs, ours) if len(theirs) == len(ours) and total(theirs) >= total(ours) > 0 else None

    def total(rows):
        return sum(quantity for (_, name), quantity in rows.items() if name != "output.text")

    theirs, ours = wait_for(lambda: (both := events()) and total(both[0]) == total(both[1]) and both, "both meters")
    broken = (story.contract_of(died).id, "output.text")
    assert {k: v for k, v in theirs.items() if k != broken} == {k: v for k, v in ours.items() if k != broken}
    assert seen <= ours[broken] % 40 <= theirs[broken] % 40 <= seen + 3
    assert ours[broken] // 40 == theirs[broken] // 40


def check(story, died, lived):
    """Hold the documents of both sides, and the bond, against what was used, unused and not delivered."""
    rows = story.buyer.usage.query(
        group_by=["contract"], start=story.start.replace(minute=0, second=0, microsecond=0), end=story.end
    )
    used = {int(row["contract"]): row.standard_tokens for row in rows}
    one, other = story.contract_of(died).id, story.contract_of(lived).id
    assert set(used) == {one, other}
    story.instance.set_clock(product=story.end + timedelta(seconds=7))
    wait_for(lambda: story.operator.markets.get(story.market).phase == "settled", "the settlement")
    assert {s.cause: s.quantity for s in story.buyer.shortfalls.list()} == {"withdrawn": WITHDRAWN, "claim": UPHELD}

    def documents_of(client, kind, name):
        return wait_for(
            lambda: (rows := [*kind.list()]) and all(c.raw.get(name) for c in client.account.charges()) and rows,
            f"each {name}",
        )  # fmt: skip

    price, undelivered = story.price, WITHDRAWN + UPHELD
    expected = {
        "used": price * (used[one] + used[other]),
        "unused": price * Decimal("0.6") * (2 * LOTS - undelivered - used[one] - used[other]),
        "undelivered": Decimal(0),
        "penalty": -price * undelivered / 5,
    }
    invoices = documents_of(story.buyer, story.buyer.invoices, "invoice")
    by_kind = {}
    for line in (line for row in invoices for line in story.buyer.invoices.get(row.id).lines):
        by_kind[line.kind] = by_kind.get(line.kind, 0) + line.amount_exact
    assert by_kind.keys() == expected.keys()
    for kind, amount in expected.items():
        assert abs(by_kind[kind] - amount) < Decimal("0.00001"), (kind, by_kind, expected)
    total = sum(row.total for row in invoices)
    assert total == sum(expected.values()).quantize(FEN, ROUND_HALF_UP), (total, expected)
    # What the buyer has left is what it brought less its invoice: the refund is what comes to that.
    assert story.buyer.account.balance().available == (2000 - sum(expected.values())).quantize(FEN, ROUND_HALF_UP)
    moved = [t for t in died.party.client.account.transfers() if t.kind in ("bond_call", "default_cover")]
    assert [t.kind for t in moved] == ["bond_call"]
    assert sum(t.amount for t in moved) == (price * undelivered / 5).quantize(FEN, ROUND_HALF_UP)
    lines = []
    for row in documents_of(died.party.client, died.party.client.statements, "statement"):
        lines += died.party.client.statements.get(row.id).lines
    owed = {line.kind: line.amount_exact for line in lines}
    assert owed["penalty"] == by_kind["penalty"] and owed["from_bond"] == -by_kind["penalty"], owed


def test_a_contract_is_consumed_across_two_providers_of_which_one_is_killed(tmp_path):
    instance = Instance(var=tmp_path / "var", clock=True)
    story = None
    try:
        with instance.started(wait=False):
            instance.wait_ready(240)
            story = Story(instance, tmp_path)
            story.clear_market()
            died, lived, seen = asyncio.run(consume(story))
            report(story, died)
            died.guard.start().listens()  # as its operator does; the engine stays dead
            both_meters(story, died, seen)
            for program in story.programs:
                program.end()
            check(story, died, lived)
            audit = instance.manage("audit", check=False)
            assert audit.returncode == 0, audit.stdout
            for file in (f for f in tmp_path.rglob("*") if f.is_file() and "postgres" not in f.parts):
                assert b"SECRET-PROMPT" not in file.read_bytes(), file
    finally:
        for program in story.programs if story else []:
            with contextlib.suppress(OSError):
                program.end(signal.SIGKILL)
        instance.remove()
