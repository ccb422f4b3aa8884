"""The provider's engine as the guard speaks to it: any OpenAI-compatible server."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from ciyuan.guard.counting import Asked
from ciyuan.guard.refusals import FAILED, Refusal
from ciyuan.guard.settings import GuardSettings

CONNECT_SECONDS = 10.0
#: What goes on to the engine of a request's headers, and back of its answer's.
_ON, _BACK = ("x-request-id", "traceparent", "tracestate"), ("retry-after", "x-ratelimit-limit-requests")


class EngineClient:
    """Connections to one engine, kept open."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if settings.engine_key:
            headers["Authorization"] = f"Bearer {settings.engine_key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=settings.first_token_timeout
            ),
            headers=headers,
            auto_decompress=False,
        )

    async def post(self, path: str, body: bytes, given: Any) -> aiohttp.ClientResponse:
        """
        Send a request on and return the answer with its body still to come.

        :param given: the client's headers. :raises Refusal: when the engine does not answer.
        """
        headers = {name: given[name] for name in _ON if name in given}
        url = self._settings.engine_root + path
        for again in (True, False):
            try:
                return await self._session.post(url, data=body, headers=headers)
            except TimeoutError:
                raise Refusal(504, "engine_timeout", "The engine did not answer in time.", kind=FAILED) from None
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # A kept connection that the engine closed as this was sent: nothing was answered yet.
                if again and not isinstance(error, aiohttp.ClientConnectorError):
                    continue
                raise _unreachable() from None
            except aiohttp.ClientError:
                raise _unreachable() from None
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        await self._session.close()


def _unreachable() -> Refusal:
    return Refusal(502, "engine_unreachable", "The engine cannot be reached.", kind=FAILED, retry_after=5)


def headers_back(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name: answer.headers[name] for name in _BACK if name in answer.headers}


def body_for_engine(body: bytes, request: dict[str, Any], asked: Asked, settings: GuardSettings) -> bytes:
    """
    The request as the engine gets it: with its own name of the model, and asked to report its usage.

    What the client sent is spliced into, not written anew, where that is possible: a prompt may be ten megabytes.
    """
    changes: dict[str, Any] = {}
    if settings.engine_model and request["model"] != settings.engine_model:
        changes["model"] = settings.engine_model
    if asked.stream:
        given = request.get("stream_options")
        options = {**given} if isinstance(given, dict) else {}
        options["include_usage"] = True
        if settings.continuous:
            options["continuous_usage_stats"] = True
        if options != given:
            changes["stream_options"] = options
        if settings.continuous and settings.llama_cpp and not asked.wants_timings:
            changes["timings_per_token"] = True
    if not changes:
        return body
    if any(name in request for name in changes):
        return json.dumps({**request, **changes}, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    return body.rstrip()[:-1] + b"," + json.dumps(changes, separators=(",", ":")).encode()[1:]
