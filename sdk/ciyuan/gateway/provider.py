"""One attempt of a request at one provider: sent, and what came back. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from ciyuan.gateway.asking import Wanted
from ciyuan.gateway.refusals import FAILED, Refusal
from ciyuan.guard.counting import NOTHING, Counts, believable, final
from ciyuan.guard.stream import StreamReader
from ciyuan.usage import UsageError

ATTEMPT_HEADER = "Ciyuan-Attempt-Id"
CONNECT_SECONDS = 5.0
#: What goes on to the provider of a request's headers, and back of its answer's.
ON, BACK = ("traceparent", "tracestate", "OpenAI-Beta"), ("Retry-After",)
CHUNK_BYTES = 65_536


class Failed(Exception):
    """
    The provider did not serve: another one may.

    :param code: its reason. :param retry_after: seconds that it asks to wait, if it is busy (429) and not broken.
    """

    def __init__(self, code: str, *, status: int = 502, retry_after: float = 1.0) -> None:
        super().__init__(code)
        self.code, self.status, self.retry_after = code, status, retry_after


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole answer: what goes to the caller, and what was counted; None where the provider did not say."""

    status: int
    body: bytes
    headers: dict[str, str]
    counts: Counts | None


class Providers:
    """Connections to the providers, kept open."""

    def __init__(self, *, first_token_timeout: float, answer_timeout: float, idle_timeout: float) -> None:
        self.first_token_timeout, self.answer_timeout = first_token_timeout, answer_timeout
        self.idle_timeout = idle_timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self, wanted: Wanted, *, door: tuple[str, str], attempt: str, given: Mapping[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        """
        Send a request to a provider; the answer's body is still to come.

        :raises Failed: it does not answer, is busy, or is broken. Other refusals are for the caller and come back.
        """
        address, token = door
        headers = {name: given[name] for name in ON if name in given}
        headers["Authorization"] = f"Bearer {token}"
        headers[ATTEMPT_HEADER] = attempt
        wait = self.first_token_timeout if wanted.counted.stream else self.answer_timeout
        url = address.removesuffix("/v1") + wanted.path
        for again in (True, False):
            try:
                async with asyncio.timeout(wait):
                    answer = await self._session.post(url, data=body, headers=headers)
                break
            except TimeoutError:
                raise Failed("timeout", status=504) from None
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept connection that the provider closed as this was sent: nothing was answered yet.
                if not again or isinstance(error, aiohttp.ClientConnectorError):
                    raise Failed("unreachable") from None
            except aiohttp.ClientError:
                raise Failed("unreachable") from None
        if answer.status in (401, 403, 408, 429) or answer.status >= 500:
            code = await _code_of(answer)
            asked = answer.headers.get("Retry-After", "")
            answer.release()
            raise Failed(code, status=answer.status, retry_after=float(asked) if asked.isdigit() else 1.0)
        return answer

    async def whole(self, wanted: Wanted, answer: aiohttp.ClientResponse) -> Whole:
        """:raises Failed: when the answer breaks off."""
        try:
            async with asyncio.timeout(self.answer_timeout):
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            raise Failed("broken_answer") from None
        headers = {"Content-Type": answer.content_type, **{h: answer.headers[h] for h in BACK if h in answer.headers}}
        if answer.status != 200:
            return Whole(answer.status, content, headers, NOTHING)
        try:
            counts: Counts | None = believable(final(json.loads(content).get("usage")), wanted.counted)
        except (ValueError, AttributeError, UsageError):
            counts = None
        return Whole(200, content, headers, counts)


def body_of(wanted: Wanted, body: bytes) -> bytes:
    """
    The request as a provider gets it: asked to report usage, or else as it came.

    What the caller sent is spliced into where that is possible: a prompt may be ten megabytes.
    """
    if not wanted.counted.stream:
        return body
    given = wanted.content.get("stream_options")
    options = {**(given if isinstance(given, dict) else {}), "include_usage": True, "continuous_usage_stats": True}
    if "stream_options" in wanted.content:
        changed = {**wanted.content, "stream_options": options}
        return json.dumps(changed, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return body.rstrip()[:-1] + b',"stream_options":' + json.dumps(options).encode() + b"}"


class Stream:
    """A provider's stream, up to its first text and then on."""

    def __init__(self, wanted: Wanted, answer: aiohttp.ClientResponse, providers: Providers) -> None:
        self._answer, self._providers = answer, providers
        self.reader = StreamReader(wanted.counted)

    async def first(self, deadline: float) -> bytes:
        """
        Return what came up to the first text.

        :param deadline: of the event loop's clock. :raises Failed: there is none: another provider may serve.
        """
        held = b""
        try:
            async with asyncio.timeout_at(deadline):
                while not (self.reader.pieces or self.reader.finished):
                    data = await self._answer.content.readany()
                    if not data:
                        held += self.reader.end()
                        break
                    held += self.reader.feed(data)
                    if self.reader.failed:
                        break
        except TimeoutError:
            raise Failed("timeout", status=504) from None
        except aiohttp.ClientError:
            raise Failed("broken_answer") from None
        if not self.reader.pieces and not self.reader.finished:
            raise Failed("broken_answer")
        return held

    async def next(self) -> bytes | None:
        """
        Return what can be sent on; None at the end.

        :raises Refusal: when the provider breaks off; what came so far was served.
        """
        try:
            async with asyncio.timeout(self._providers.idle_timeout):
                data = await self._answer.content.readany()
        except TimeoutError:
            raise Refusal(504, "provider_timeout", "The provider stopped in its answer.", kind=FAILED) from None
        except aiohttp.ClientError:
            raise Refusal(502, "provider_failed", "The provider broke off its answer.", kind=FAILED) from None
        if not data:
            if not self.reader.finished and not self.reader.failed:
                raise Refusal(502, "provider_failed", "The provider broke off its answer.", kind=FAILED)
            return None
        return self.reader.feed(data)


async def _code_of(answer: aiohttp.ClientResponse) -> str:
    """The stable code of a provider's refusal; never its sentence, which may quote the request."""
    try:
        async with asyncio.timeout(5):
            error: Any = json.loads(await answer.content.read(CHUNK_BYTES))["error"]
        code = error.get("code") if isinstance(error, dict) else None
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
        code = None
    return code if isinstance(code, str) and len(code) <= 60 and code.isascii() else f"status_{answer.status}"
