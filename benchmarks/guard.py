"""
What a guard costs an engine's buyers: 64 streams at 30 tokens a second each, with the guard and without it.

The simulated engine answers after 20 ms and paces each stream by the clock. Engine, guard and the client that counts
are processes of their own; every worker of the client asks again as soon as its answer has ended, over kept
connections, beginning at its own moment. Rounds with and without the guard alternate. The guard has everything on:
tokens checked, each chunk counted, kept in the journal and rewritten (the client asked for no usage), events spooled
with an fsync. The exchange is away, as it may be.
"""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import psutil
import uvloop
from ciyuan.standard_token import REFERENCE_7B
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.harness import environment, report, table
from core.signing import as_jwk

ROOT = Path(__file__).resolve().parent.parent
STREAMS, TOKENS_PER_SECOND, FIRST_TOKEN_MS, ANSWER_TOKENS = 64, 30, 20, 90
MODEL, DEPLOYMENT = "sim-7b", 7
ASK = {
    "model": MODEL, "stream": True,
    "messages": [{"role": "user", "content": "Explain what a standard token is. " * 60}],
}  # fmt: skip


@contextlib.contextmanager
def started(*command: str) -> Iterator[tuple[psutil.Process, str]]:
    """Start a process; gives it and the first address that it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"}
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = next(word for word in line.split() if word.startswith("http")).rstrip(",")
            yield psutil.Process(process.pid), address.removesuffix("/v1")
        finally:
            process.terminate()


def given_folder(folder: Path, key: Ed25519PrivateKey) -> None:
    """What a guard keeps of an exchange that has gone away since."""
    card = {name: REFERENCE_7B.to_dict()[name] for name in ("active_params", "active_weight_bytes", "attention")}
    terms = {"grade": "sim", "model": MODEL, "cached_share_thousandths": 100, "card": card}
    (folder / "terms.json").write_text(json.dumps(terms))
    keys = {"keys": [as_jwk("key-1", key.public_key().public_bytes_raw())]}
    (folder / "keys.json").write_text(json.dumps(keys))


def token(key: Ed25519PrivateKey) -> str:
    now = int(time.time())
    claims = {
        "iss": "ciyuan", "sub": "41", "aud": f"deployment:{DEPLOYMENT}", "model": MODEL, "buyer": 5, "nbf": now - 60,
        "quantity": 10**9, "st_per_minute": 10**9, "exp": now + 3_600, "iat": now,
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": "key-1"})


async def worker(
    session: aiohttp.ClientSession, url: str, number: int, begins: float, ends: float
) -> tuple[int, list[float]]:
    """Ask again and again; returns the tokens got before `ends`, and the first-token times of whole requests."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begins - loop.time() + number / STREAMS * ANSWER_TOKENS / TOKENS_PER_SECOND)
    tokens, firsts = 0, []
    body = json.dumps(ASK).encode()
    while loop.time() < ends:
        asked, first = time.perf_counter(), None
        async with session.post(f"{url}/v1/chat/completions", data=body) as answer:
            answer.raise_for_status()
            async for data in answer.content.iter_any():
                if loop.time() >= ends:
                    return tokens, firsts
                tokens += data.count(b'"content":')
                if first is None and b'"content":' in data:
                    firsts.append(first := time.perf_counter() - asked)
    return tokens, firsts


async def round_(url: str, bearer: str, seconds: float) -> tuple[float, list[float], int]:
    """Tokens a second, first-token times and tokens of one round."""
    loop = asyncio.get_running_loop()
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, connector=connector, read_bufsize=2**18) as session:
        begins = loop.time() + 0.1
        ends = begins + seconds
        parts = await asyncio.gather(*(worker(session, url, n, begins, ends) for n in range(STREAMS)))
    tokens = sum(part[0] for part in parts)
    return tokens / seconds, [first for part in parts for first in part[1]], tokens


def rounds(direct: str, guard: str, bearer: str, process: psutil.Process, seconds: float, repeats: int) -> Any:
    """Rounds without and with the guard, in turns; what each gave, and the guard's processor time for each token."""
    rates: dict[str, list[float]] = {"without": [], "with": []}
    firsts: dict[str, list[float]] = {"without": [], "with": []}
    spent = tokens_through = 0.0
    for number in range(-1, repeats):  # the first pair warms up
        for name, url in (("without", direct), ("with", guard)):
            before = sum(process.cpu_times()[:2])
            rate, times, tokens = uvloop.run(round_(url, bearer, seconds if number >= 0 else 4))
            if number < 0:
                continue
            rates[name].append(rate)
            firsts[name] += times
            if name == "with":
                spent += sum(process.cpu_times()[:2]) - before
                tokens_through += tokens
    return rates, firsts, 1e6 * spent / tokens_through


def main(seconds: float = 12, repeats: int = 4) -> None:
    """Print the figures."""
    print(environment())
    key = Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        given_folder(folder, key)
        _, direct = stack.enter_context(started(
            "-m", "scenarios.engine", "--port", "0", "--first-token-ms", str(FIRST_TOKEN_MS), "--tokens-per-s",
            str(TOKENS_PER_SECOND), "--answer-tokens", str(ANSWER_TOKENS), "--model", MODEL,
        ))  # fmt: skip
        process, guard = stack.enter_context(started(
            "-m", "ciyuan.cli", "--url", "http://127.0.0.1:9", "guard", "--engine", direct, "--deployment",
            str(DEPLOYMENT), "--grade", "sim", "--folder", name, "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0",
        ))  # fmt: skip
        rates, firsts, cpu = rounds(direct, guard, token(key), process, seconds, repeats)
    median = {name: statistics.median(times) for name, times in firsts.items()}
    rows = [
        (name, f"{statistics.median(rates[name]):,.0f}", f"{1e3 * median[name]:.1f}",
         f"{1e3 * statistics.quantiles(firsts[name], n=20)[-1]:.1f}", f"{len(firsts[name]):,}")
        for name in ("without", "with")
    ]  # fmt: skip
    header = ("guard", "tokens/s", "first token ms", "p95", "requests")
    print(table(f"{STREAMS} streams at {TOKENS_PER_SECOND} tokens/s; {cpu:.0f} µs of processor a token", header, rows))
    report({
        "throughput_with_vs_without": statistics.median(rates["with"]) / statistics.median(rates["without"]),
        "ttft_vs_direct": median["with"] / median["without"],
        "ttft_p95_vs_direct": statistics.quantiles(firsts["with"], n=20)[-1]
        / statistics.quantiles(firsts["without"], n=20)[-1],
        "ttft_direct_ms": 1e3 * median["without"], "guard_cpu_us_per_token": cpu,
    })  # fmt: skip


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3]))
