"""
The exchange's own requests: every five minutes in a window, one of a few fixed prompts, its answer held against those
of the grade's other deployments, so that a smaller model or a harsher quantisation than sold shows up.

A probe is a call like the others: it bears the access token of a contract that the deployment serves, sends what a
gateway sends, and the guard admits, serves and meters it. Only its attempt's name tells the exchange, when its usage
comes in, that it was its own (`probe_attempts`). `ask` waits for somebody else's server, outside of any transaction.
"""

import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from typing import Any

import httpx

from core.transactions import assert_in_transaction
from exchange.actions.access import access_token
from exchange.models import ContractDeployment
from metering_ingest.domain.service import PROBE_EVERY
from metering_ingest.models import Probe
from metering_ingest.probe_attempts import new_attempt
from providers.models import Deployment

#: Answered with certainty by any copy of the same model at temperature 0, and long enough to tell two models apart.
PROMPTS = (
    "List the first twelve prime numbers, separated by commas.",
    "Translate into Chinese: The market opens at nine in the morning and closes at six in the evening.",
    "Write the SQL statement that counts the rows of a table named orders by status.",
    "Count from one to twenty in English words.",
)
ANSWER_TOKENS = 48
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
MOST_BYTES = 200_000
#: Contracts that are tried: one whose rate or quantity is used up says nothing of the deployment.
MOST_DOORS = 3
USED_UP = frozenset({"rate_limit_exceeded", "quantity_used_up"})
USER_AGENT = "Python/3.12 aiohttp/3.13.2"
#: A reference is what at least so many deployments of the grade say alike, of those probed in so long a time.
LEAST_ALIKE, LOOKED_BACK = 2, timedelta(days=1)
ALIKE_THOUSANDTHS = 600


@dataclass(frozen=True, slots=True)
class Door:
    """One way in: a contract's access token, and the name of the attempt."""

    contract_id: int
    token: str
    attempt: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe that is to be sent, by the first door that is open. :param prompt: number of the fixed prompt."""

    deployment_id: int
    endpoint: str
    doors: tuple[Door, ...]
    model: str
    prompt: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How it was answered; `reason` says why not."""

    ok: bool
    reason: str = ""
    first_token_ms: int | None = None
    token_ms: int | None = None
    output_tokens: int = 0
    text: str = ""
    contract_id: int | None = None


def prepare(*, deployment_id: int, now: datetime) -> Asked:
    """What is asked of a deployment now, and as the call of which of its contracts, by lot."""
    assert_in_transaction()
    deployment = Deployment.objects.select_related("grade__model_card").get(pk=deployment_id)
    serves = list(
        ContractDeployment.objects.filter(
            deployment=deployment, until__isnull=True, contract__window_start__lte=now, contract__window_end__gt=now
        ).select_related("contract__grade__model_card")
    )
    secrets.SystemRandom().shuffle(serves)
    doors = tuple(
        Door(one.contract_id, access_token(contract=one.contract, served=one, now=now), new_attempt(deployment.pk))
        for one in serves[:MOST_DOORS]
    )
    return Asked(
        deployment.pk, deployment.endpoint.rstrip("/"), doors, deployment.grade.model_card.slug,
        int(now.timestamp() // PROBE_EVERY.total_seconds()) % len(PROMPTS),
    )  # fmt: skip


def ask(asked: Asked) -> Answer | None:
    """
    Send a probe and read its answer as it comes. It never raises: what goes wrong is the answer. None where all of its
    contracts are used up for now, which says nothing.
    """
    for door in asked.doors:
        if (answer := _ask(asked, door)) is not None:
            return replace(answer, contract_id=door.contract_id)
    return None


def _ask(asked: Asked, door: Door) -> Answer | None:
    body = {
        "model": asked.model, "messages": [{"role": "user", "content": PROMPTS[asked.prompt]}], "temperature": 0,
        "max_tokens": ANSWER_TOKENS, "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }  # fmt: skip
    headers = {
        "Authorization": f"Bearer {door.token}", "Ciyuan-Attempt-Id": door.attempt, "User-Agent": USER_AGENT,
        "Accept": "*/*", "Content-Type": "application/json",
    }  # fmt: skip
    began = time.perf_counter()
    try:
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        with (
            httpx.Client(timeout=timeout, follow_redirects=False) as client,
            client.stream("POST", f"{asked.endpoint}/chat/completions", json=body, headers=headers) as answer,
        ):
            if answer.status_code == 429 and _code_of(answer) in USED_UP:
                return None
            if answer.status_code != 200:
                return Answer(False, f"status {answer.status_code}")
            return _read(answer, began)
    except httpx.TimeoutException:
        return Answer(False, "timeout")
    except (httpx.HTTPError, httpx.InvalidURL):
        return Answer(False, "unreachable")


def _code_of(answer: httpx.Response) -> str:
    content = b""
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > MOST_BYTES:
            return ""
    try:
        return str(json.loads(content)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return ""


def _read(answer: httpx.Response, began: float) -> Answer:
    text: list[str] = []
    first = last = 0.0
    tokens = size = 0
    done = False
    for line in answer.iter_lines():
        size += len(line)
        if size > MOST_BYTES or time.perf_counter() - began > ANSWER_SECONDS:
            return Answer(False, "too long")
        if not line.startswith("data:"):
            continue
        payload = line[5:].strip()
        if payload == "[DONE]":
            done = True
            break
        try:
            chunk: dict[str, Any] = json.loads(payload)
            if chunk.get("error"):
                return Answer(False, "error in the stream")
            delta = (chunk.get("choices") or [{}])[0].get("delta") or {}
            said = delta.get("content") or delta.get("reasoning_content") or ""
            tokens = int((chunk.get("usage") or {}).get("completion_tokens") or tokens)
        except (ValueError, AttributeError, TypeError, IndexError, KeyError):
            return Answer(False, "unreadable")
        if isinstance(said, str) and said:
            last = time.perf_counter()
            first = first or last
            text.append(said)
    if not done or not text:
        return Answer(False, "broke off" if text else "empty")
    tokens = tokens or len(text)
    per_token = round((last - first) * 1000 / (tokens - 1)) if tokens > 1 else None
    return Answer(True, "", round((first - began) * 1000), per_token, min(tokens, 10**6), "".join(text)[:4_000])


def record(*, asked: Asked, answer: Answer, now: datetime) -> Probe:
    """Keep how a probe was answered, and how like the reference."""
    assert_in_transaction()
    alike = None
    if answer.ok and (reference := _reference(asked, now)) is not None:
        alike = round(SequenceMatcher(None, reference, answer.text, autojunk=False).ratio() * 1_000)
    return Probe.objects.create(
        deployment_id=asked.deployment_id, contract_id=answer.contract_id, at=now, ok=answer.ok, reason=answer.reason,
        first_token_ms=answer.first_token_ms, token_ms=answer.token_ms, output_tokens=answer.output_tokens,
        prompt=asked.prompt, answer=answer.text, alike_thousandths=alike,
    )  # fmt: skip


def _reference(asked: Asked, now: datetime) -> str | None:
    """What most of the grade's other deployments last answered to the same prompt; None where too few agree."""
    grade = Deployment.objects.values_list("grade_id", flat=True).get(pk=asked.deployment_id)
    rows = (
        Probe.objects.filter(deployment__grade=grade, prompt=asked.prompt, ok=True, at__gt=now - LOOKED_BACK)
        .exclude(deployment=asked.deployment_id)
        .order_by("deployment_id", "-at")
        .distinct("deployment_id")
    )
    answers = Counter(rows.values_list("answer", flat=True))
    if not answers:
        return None
    text, count = answers.most_common(1)[0]
    return text if count >= LEAST_ALIKE else None
