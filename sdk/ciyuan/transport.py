"""
Sends calls: address and key, retries with backoff and jitter, answers into results or errors.

What is sent when, and how long to wait between, is decided by one generator without any input or output of its own
(`_exchange`); the two transports below only carry out what it yields.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, TypeVar

import httpx

from ciyuan.calls import Call
from ciyuan.errors import CiyuanError, ConfigurationError, Unreachable, error_of

T = TypeVar("T")

#: Answers after which the same request may succeed. Writes are safe to repeat: each carries its idempotency key.
RETRIED_STATUSES = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Retry:
    """
    How often and how patiently a request is sent again.

    Waits grow from `first` by doubling up to `most` seconds, each drawn between half of it and all of it, so that many
    clients do not come back at once. A longer Retry-After of the exchange is obeyed up to `longest_asked`.
    """

    attempts: int = 5
    first: float = 0.25
    most: float = 8.0
    longest_asked: float = 60.0
    draw: Callable[[], float] = field(default=random.random)

    def wait(self, failures: int, asked: float = 0.0) -> float:
        """Seconds to wait after so many failures in a row."""
        full = min(self.most, self.first * 2.0 ** min(failures - 1, 30))
        return max(full * (0.5 + 0.5 * self.draw()), min(asked, self.longest_asked))


@dataclass(frozen=True)
class _Sleep:
    seconds: float


_Exchange = Generator["httpx.Request | _Sleep", "httpx.Response | httpx.TransportError | None", T]


def _exchange(call: Call[T], build: Callable[[Call[T]], httpx.Request], retry: Retry, base_url: str) -> _Exchange[T]:
    repeatable = call.repeatable or call.method == "GET" or call.idempotency_key is not None
    for failures in range(1, retry.attempts + 1):
        outcome = yield build(call)
        assert outcome is not None
        last = failures == retry.attempts or not repeatable
        if isinstance(outcome, httpx.TransportError):
            # A connection that was never made did nothing, whatever the method.
            if failures == retry.attempts or not (repeatable or isinstance(outcome, httpx.ConnectError)):
                raise Unreachable(
                    "unreachable", f"no answer from {base_url}: {_words(outcome)}", problem={"attempts": failures}
                ) from outcome
            yield _Sleep(retry.wait(failures))
            continue
        if outcome.status_code in RETRIED_STATUSES and not last:
            yield _Sleep(retry.wait(failures, _retry_after(outcome)))
            continue
        return _read(call, outcome)
    raise AssertionError("the last attempt returns or raises")


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def _read(call: Call[T], response: httpx.Response) -> T:
    request_id = response.headers.get("X-Request-ID")
    if response.is_success:
        if call.binary:
            return call.parse(response.content)
        try:
            return call.parse(response.json() if response.content else None)
        except (ValueError, KeyError, TypeError) as error:
            raise CiyuanError(
                "unreadable-answer",
                f"the answer to {call.method} {call.path} is not what this version of the client expects: {error!r}",
                status=response.status_code,
                request_id=request_id,
            ) from error
    try:
        body = response.json()
    except ValueError:
        body = None
    raise error_of(
        response.status_code, body, request_id=request_id, text=response.text, retry_after=_retry_after(response)
    )


class _Settings:
    """Where the exchange is and who is asking: arguments first, then the environment."""

    def __init__(self, api_key: str | None, url: str | None, timeout: float, retry: Retry) -> None:
        self.url = (url or os.environ.get("CIYUAN_URL") or "http://localhost:8000").rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigurationError(
                "bad-url", f"{self.url!r} is not an address: it begins with http:// or https://", field="url"
            )
        self.api_key = api_key or os.environ.get("CIYUAN_API_KEY") or None
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigurationError("bad-key", "an API key consists of printable ASCII characters", field="api_key")
        self.timeout = timeout
        self.retry = retry

    def headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"ciyuan-python/{_version()}", "Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def _version() -> str:
    try:
        return version("ciyuan")
    except PackageNotFoundError:
        return "0"


def _arguments(call: Call[Any]) -> dict[str, Any]:
    headers = {**call.headers, **({"Idempotency-Key": call.idempotency_key} if call.idempotency_key else {})}
    if call.binary:
        headers["Accept"] = "*/*"
    out: dict[str, Any] = {"headers": headers, "params": dict(call.params) or None}
    if call.content is not None:
        headers.setdefault("Content-Type", "application/json")
        out["content"] = call.content
    elif call.json is not None:
        out["json"] = call.json
    return out


class Transport:
    """Sends calls and waits for them."""

    is_async: ClassVar[bool] = False

    def __init__(
        self,
        api_key: str | None = None,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        retry: Retry = Retry(),
        sleep: Callable[[float], None] = time.sleep,
        http: httpx.Client | None = None,
    ) -> None:
        self.settings = _Settings(api_key, url, timeout, retry)
        self._sleep = sleep
        self._http = http or httpx.Client(base_url=self.settings.url, timeout=timeout, headers=self.settings.headers())

    def send(self, call: Call[T], /) -> T:
        """:raises CiyuanError: for a refusal, or when no answer came."""
        steps = _exchange(call, self._build, self.settings.retry, self.settings.url)
        step = next(steps)
        try:
            while True:
                step = steps.send(self._carry_out(step))
        except StopIteration as done:
            result: T = done.value
            return result

    def _build(self, call: Call[Any]) -> httpx.Request:
        return self._http.build_request(call.method, call.path, **_arguments(call))

    def _carry_out(self, step: httpx.Request | _Sleep) -> httpx.Response | httpx.TransportError | None:
        if isinstance(step, _Sleep):
            self._sleep(step.seconds)
            return None
        try:
            return self._http.send(step)
        except httpx.TransportError as error:
            return error

    def close(self) -> None:
        self._http.close()


class AsyncTransport:
    """Sends calls without blocking."""

    is_async: ClassVar[bool] = True

    def __init__(
        self,
        api_key: str | None = None,
        url: str | None = None,
        *,
        timeout: float = 30.0,
        retry: Retry = Retry(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.settings = _Settings(api_key, url, timeout, retry)
        self._sleep = sleep
        self._http = http or httpx.AsyncClient(
            base_url=self.settings.url, timeout=timeout, headers=self.settings.headers()
        )

    async def send(self, call: Call[T], /) -> T:
        """:raises CiyuanError: for a refusal, or when no answer came."""
        steps = _exchange(call, self._build, self.settings.retry, self.settings.url)
        step = next(steps)
        try:
            while True:
                step = steps.send(await self._carry_out(step))
        except StopIteration as done:
            result: T = done.value
            return result

    def _build(self, call: Call[Any]) -> httpx.Request:
        return self._http.build_request(call.method, call.path, **_arguments(call))

    async def _carry_out(self, step: httpx.Request | _Sleep) -> httpx.Response | httpx.TransportError | None:
        if isinstance(step, _Sleep):
            await self._sleep(step.seconds)
            return None
        try:
            return await self._http.send(step)
        except httpx.TransportError as error:
            return error

    async def close(self) -> None:
        await self._http.aclose()
