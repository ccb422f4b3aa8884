"""Guard and exchange as they are: a contract's token from the exchange, kills in mid-stream, usage in the contract."""

import asyncio
import os
import signal
import subprocess
import sys

import httpx
import openai
import psycopg
import pytest
from ciyuan import Client
from ciyuan.signing import Signer

from config.instance import ROOT, Instance
from scenarios.engine import Engine
from scenarios.engine.serving import serving as engine_serving
from tests.guard.given import QUICK

pytestmark = [pytest.mark.processes, pytest.mark.proof]
PREPARE = """
import sys
import django; django.setup()
from datetime import timedelta
from core import clock
from exchange.models import DeliveryContract
from tests.given import *
from tests.given import advanced
from tests.metering.given import given_meter, given_meter_key
grade, now = given_grade(signed_usage=True), clock.now()
provider, buyer = given_money(given_organization("provider")), given_money(given_organization("buyer"))
deployment = given_deployment(provider, grade)
market = given_market(grade, now=now)
made = given_api(provider).post("/v1/capacity", {"deployment": deployment.pk, "market": market.pk, "quantity": 90_000,
    "tokens_per_minute": 2_000, "reserve_price": "0.002", "list_price": "0.005"})
assert made.status_code == 201, made.json()
given_orders(buyer, {"market": market, "side": "buy", "lots": 60, "price": 30}, now=now)
advanced(market)
DeliveryContract.objects.update(window_start=now - timedelta(minutes=10), window_end=now + timedelta(minutes=50))
meter = given_meter(deployment, public_key=bytes.fromhex(sys.argv[1]))
contract = DeliveryContract.objects.get()
print(contract.pk, deployment.pk, grade.slug, grade.model_card.slug, given_api(buyer).secret, given_meter_key(meter))
"""


async def started_guard(folder, url, engine_url, deployment, grade, meter_key, port):
    command = [sys.executable, "-m", "ciyuan.cli", "--url", url, "guard", "--engine", engine_url, "--deployment",
               deployment, "--grade", grade, "--folder", str(folder / "guard"), "--signing-key", str(folder / "key"),
               "--listen", f"127.0.0.1:{port}", "--status", "127.0.0.1:0"]  # fmt: skip
    environment = {**os.environ, "CIYUAN_API_KEY": meter_key, "PYTHONPATH": str(ROOT / "sdk")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = await asyncio.to_thread(process.stdout.readline)
    assert "guard of deployment" in line, line
    return process


async def test_what_a_buyer_got_is_in_its_contract_to_the_token(tmp_path, unused_tcp_port):
    instance = Instance(var=tmp_path / "var", matching_workers=0, workers=0, beat=False,
                        settings={"CIYUAN_MATCHING_WORKERS": "1"})  # fmt: skip
    signer = Signer.new()
    (tmp_path / "key").write_text(signer.private_hex)
    try:
        await asyncio.to_thread(instance.start, wait=False)
        made = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", PREPARE, signer.public_hex], cwd=ROOT, capture_output=True,
            env=instance.environment(), text=True, timeout=120,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        contract, deployment, grade, model, buyer_key, meter_key = made.stdout.split()[-6:]
        async with httpx.AsyncClient(timeout=5) as http:
            for _ in range(300):
                try:
                    await http.get(f"{instance.base_url}/healthz")
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)
        buyer = Client(buyer_key, instance.base_url)
        access = await asyncio.to_thread(buyer.contracts.access, int(contract))
        engine = Engine(QUICK)
        engine.change(model=model, tokens_per_s=60.0, answer_tokens=30)
        seen = complete = 0
        async with engine_serving(engine) as engine_url:
            give = (tmp_path, instance.base_url, engine_url, deployment, grade, meter_key, unused_tcp_port)
            ask = {"model": model, "messages": [{"role": "user", "content": "what is a standard token?"}]}
            client = openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{unused_tcp_port}/v1", api_key=access.token, max_retries=0, timeout=10
            )

            async def talk():
                nonlocal seen, complete
                try:
                    async for chunk in await client.chat.completions.create(**ask, stream=True):
                        seen += bool(chunk.choices[0].delta.content)
                        complete += chunk.choices[0].finish_reason is not None
                except (openai.APIError, httpx.HTTPError):
                    pass

            for _ in range(2):
                guard = await started_guard(*give)
                talks = [asyncio.create_task(talk()) for _ in range(8)]
                await asyncio.sleep(0.35)
                os.kill(guard.pid, signal.SIGKILL)
                await asyncio.to_thread(guard.wait)
                guard.stdout.close()
                await asyncio.gather(*talks)
            guard = await started_guard(*give)
            await talk()
            for _ in range(600):  # an exchange that was too busy is asked again after a while
                rows = stored(instance)
                if any(row[0] == int(contract) and row[2] == "ok" for row in rows):
                    break
                await asyncio.sleep(0.1)
            guard.send_signal(signal.SIGTERM)
            await asyncio.to_thread(guard.wait)
            guard.stdout.close()
            await client.close()
        rows = stored(instance)
        assert {row[0] for row in rows} == {int(contract)}
        # One that was killed between its last chunk and its record is whole for the client alone.
        assert 1 <= sum(row[2] == "ok" for row in rows) <= complete
        assert seen <= sum(row[1] for row in rows) <= engine.figures.generation_tokens
        assert sum(row[2] == "guard_killed" for row in rows) >= 8
    finally:
        await asyncio.to_thread(instance.stop)
        instance.remove()


def stored(instance):
    """Contract, output tokens and status of what the exchange has."""
    with psycopg.connect(instance.postgres.url()) as connection:
        return connection.execute("SELECT contract_id, output_tokens, details ->> 'status' FROM usage_event").fetchall()
