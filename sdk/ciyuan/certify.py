"""
Runs the reference workload against a deployment's endpoint and reports what each request took; no judgement here.

    report = await measure("https://hall.example/v1", model="qwen3-32b", parts=reference_workload(...), key=TOKEN)

Prompts are made of random words, so that no cache knows them; `cached` ones share their beginning. How many words make
a token is asked of the endpoint first. Tokens are the endpoint's own count.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ciyuan.errors import CiyuanError
from ciyuan.reference_workload import REPEATS, Part

_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "si", "ta", "vo", "ze", "chu", "dan", "fel", "gor", "hin", "jup")
PROBE_WORDS = 400


class EndpointFailed(CiyuanError):
    """The endpoint did not serve what a certificate needs."""


@dataclass(frozen=True)
class Endpoint:
    """
    :param url: base address of an OpenAI-compatible API. :param model: its name for the model.
    :param ignore_eos: ask the engine to go on to the asked length (vLLM, SGLang); others read over it.
    """

    url: str
    model: str
    key: str | None = None
    ignore_eos: bool = True
    timeout: float = 600.0


async def measure(
    endpoint: Endpoint, parts: Sequence[Part], *, seed: int | None = None, tell: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """
    The runs of a report: per repeat of a part its `part`, `duration_ms`, `failed` and `served`.

    :param seed: of the prompts' words; another one each time by default. :param tell: hears of the progress.
    :raises EndpointFailed: when the endpoint does not answer at all, or reports no usage.
    """
    words = random.Random(seed if seed is not None else time.time_ns())
    headers = {"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(timeout=endpoint.timeout, headers=headers, limits=limits) as http:
        per_word = await _tokens_per_word(http, endpoint, words)
        runs = []
        for repeat in range(REPEATS):
            for part in parts:
                run = await _repeat(http, endpoint, part, per_word, words)
                tell(f"{part.name} {repeat + 1}/{REPEATS}: {run['duration_ms']:,} ms, {run['failed']} failed")
                runs.append(run)
        return runs


async def _repeat(
    http: httpx.AsyncClient, endpoint: Endpoint, part: Part, per_word: float, words: random.Random
) -> dict[str, Any]:
    shared = _text(part.shared_tokens / per_word, words)
    prompts = [f"{shared} {_text((part.input_tokens - part.shared_tokens) / per_word, words)}".strip()
               for _ in range(part.requests)]  # fmt: skip
    if part.shared_tokens:  # the beginning is known before the clock starts, as it is in a conversation
        await _ask(http, endpoint, shared, 1)
    room = asyncio.Semaphore(part.at_once)
    served: list[list[int]] = []
    failed = 0

    async def one(prompt: str) -> None:
        nonlocal failed
        async with room:
            try:
                served.append(await _ask(http, endpoint, prompt, part.output_tokens))
            except (EndpointFailed, httpx.HTTPError):
                failed += 1

    started = time.perf_counter()
    await asyncio.gather(*(one(prompt) for prompt in prompts))
    duration = time.perf_counter() - started
    return {"part": part.name, "duration_ms": max(1, round(duration * 1000)), "failed": failed, "served": served}


async def _tokens_per_word(http: httpx.AsyncClient, endpoint: Endpoint, words: random.Random) -> float:
    try:
        [short, *_], [long, *_] = (
            await _ask(http, endpoint, _text(PROBE_WORDS, words), 1),
            await _ask(http, endpoint, _text(2 * PROBE_WORDS, words), 1),
        )
    except httpx.HTTPError as error:
        raise EndpointFailed("endpoint-failed", f"{endpoint.url} does not answer: {type(error).__name__}") from error
    if long <= short:
        raise EndpointFailed("endpoint-failed", f"{endpoint.url} counts {short} and {long} tokens for twice the text")
    return (long - short) / PROBE_WORDS


async def _ask(http: httpx.AsyncClient, endpoint: Endpoint, prompt: str, tokens: int) -> list[int]:
    """Input, cached and output tokens, first token and total in milliseconds, of one streamed request."""
    body: dict[str, Any] = {
        "model": endpoint.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens,
        "temperature": 0, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    if endpoint.ignore_eos:
        body["ignore_eos"] = True
    started = time.perf_counter()
    first, usage = 0.0, None
    async with http.stream("POST", f"{endpoint.url.rstrip('/')}/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            await answer.aread()
            raise EndpointFailed(
                "endpoint-failed", f"{endpoint.url} answered {answer.status_code}: {answer.text[:200]}"
            )
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            if chunk.get("error"):
                raise EndpointFailed("endpoint-failed", f"{endpoint.url} broke off: {chunk['error']}")
            if not first and chunk.get("choices"):
                delta = chunk["choices"][0].get("delta") or {}
                if delta.get("content") or delta.get("reasoning_content"):
                    first = time.perf_counter()
            usage = chunk.get("usage") or usage
    ended = time.perf_counter()
    if not usage:
        raise EndpointFailed("endpoint-failed", f"{endpoint.url} reports no usage, without which nothing is certified")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    first = first or ended
    return [
        usage["prompt_tokens"], cached, usage["completion_tokens"], round((first - started) * 1000),
        round((ended - started) * 1000),
    ]  # fmt: skip


def _text(count: float, words: random.Random) -> str:
    return " ".join(
        words.choice(_SYLLABLES) + words.choice(_SYLLABLES) + words.choice(_SYLLABLES) for _ in range(round(count))
    )
