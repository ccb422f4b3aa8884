"""
The simulated engine as an ASGI application.

    python -m scenarios.engine --port 8001 --tokens-per-s 30 --first-token-ms 20

`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`, `/health`, `/metrics` with vLLM's counters;
and `GET` or `PATCH /behaviour`, which says or changes how it behaves while it runs. Every answer follows from weights
and prompt, and every token is sent at its own time after the start, so that two runs say and take the same.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from itertools import islice
from typing import Any

from scenarios.engine.behaviour import Behaviour
from scenarios.engine.figures import Figures
from scenarios.engine.text import PrefixCache, count, prompt_bytes, words

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
CREATED = 1_700_000_000


class Refused(Exception):
    def __init__(self, status: int, message: str, kind: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


class Broken(Exception):
    """The engine dies while it answers: the server closes the connection."""


class Engine:
    """One engine; its behaviour may be changed between requests."""

    def __init__(self, behaviour: Behaviour = Behaviour()) -> None:  # noqa: B008  immutable
        self.behaviour = behaviour
        self.figures = Figures()
        self.requests = 0
        self._cache = PrefixCache(behaviour.cache_tokens)
        self._slots: asyncio.Semaphore | None = None

    def change(self, **changes: Any) -> None:
        """:raises ValueError: for a name or a value that there is not."""
        before, self.behaviour = self.behaviour, self.behaviour.changed(changes)
        if before.cache_tokens != self.behaviour.cache_tokens:
            self._cache = PrefixCache(self.behaviour.cache_tokens)
        if before.max_running != self.behaviour.max_running:
            self._slots = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        try:
            if method == "GET":
                await self._look(path, send)
            elif path == "/behaviour" and method == "PATCH":
                try:
                    self.change(**await _body(receive))
                except ValueError as error:
                    raise Refused(400, str(error), "BadRequestError") from error
                await _answer(send, 200, asdict(self.behaviour))
            elif method == "POST" and path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
                await self._serve(path.rsplit("/v1/")[-1], receive, send)
            else:
                raise Refused(404, f"there is no {method} {path}", "NotFoundError")
        except Refused as refused:
            said = {"message": str(refused), "type": refused.kind, "param": None, "code": refused.status}
            await _answer(send, refused.status, {"error": said}, refused.headers)

    async def _look(self, path: str, send: Send) -> None:
        if path == "/metrics":
            await _answer(send, 200, self.figures.exposition(self.behaviour.model), kind=b"text/plain; version=0.0.4")
        elif path == "/v1/models":
            model = {"id": self.behaviour.model, "object": "model", "created": CREATED, "owned_by": "simulation",
                     "max_model_len": self.behaviour.context_tokens}  # fmt: skip
            await _answer(send, 200, {"object": "list", "data": [model]})
        elif path == "/behaviour":
            await _answer(send, 200, asdict(self.behaviour))
        elif path == "/health":
            await _answer(send, 200, {})
        else:
            raise Refused(404, f"there is no {path}", "NotFoundError")

    async def _serve(self, kind: str, receive: Receive, send: Send) -> None:
        request = await _body(receive)
        now = self.behaviour
        if request.get("model") != now.model:
            raise Refused(404, f"The model `{request.get('model')}` does not exist.", "NotFoundError")
        self.requests += 1
        fault = now.fault if self.requests % now.fault_every == 0 else ""
        if fault.isdigit():
            headers = ((b"retry-after", b"1"),) if fault == "429" else ()
            raise Refused(int(fault), f"simulated {fault}", "SimulatedError", headers)
        gone = asyncio.create_task(_disconnected(receive))
        try:
            if fault == "hang":
                await gone
                return
            if kind == "embeddings":
                await self._embed(request, send)
            else:
                await self._generate(kind, request, fault, gone, send)
        finally:
            gone.cancel()

    async def _embed(self, request: dict[str, Any], send: Send) -> None:
        given = request.get("input", "")
        texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
        size = int(request.get("dimensions") or 8)
        rows, tokens = [], 0
        for index, text in enumerate(texts):
            prompt = prompt_bytes({"input": text})
            tokens += count(prompt)
            vector = [len(word) / 10 for word in islice(words(self.behaviour.weights, prompt), size)]
            rows.append({"object": "embedding", "index": index, "embedding": vector})
        await asyncio.sleep(self.behaviour.first_token_ms / 1000)
        self.figures.count(prompt=tokens)
        body = {"object": "list", "model": self.behaviour.model, "data": rows}
        await _answer(send, 200, self._with_usage(body, tokens, 0, 0))

    async def _generate(
        self, kind: str, request: dict[str, Any], fault: str, gone: asyncio.Task[None], send: Send
    ) -> None:
        now = self.behaviour
        prompt = prompt_bytes(request)
        inputs, choices = count(prompt), int(request.get("n") or 1)
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        length = min(now.answer_tokens, int(limit)) if limit else now.answer_tokens
        if inputs + length > now.context_tokens:
            raise Refused(400, f"{inputs} + {length} tokens exceed {now.context_tokens}", "BadRequestError")
        cached = self._cache.take(prompt)
        reason = "length" if limit and int(limit) < now.answer_tokens else "stop"
        chat, stream = kind == "chat/completions", bool(request.get("stream"))
        tools = request.get("tools") if chat and request.get("tool_choice") != "none" else None
        answered = request.get("messages", [{}])[-1:]
        tool = tools[0]["function"]["name"] if tools and answered and answered[0].get("role") != "tool" else None
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{self.requests}", "created": CREATED, "model": now.model,
            "object": f"{'chat.completion' if chat else 'text_completion'}{'.chunk' if stream and chat else ''}",
        }  # fmt: skip
        texts = [words(now.weights, prompt, choice) for choice in range(choices)]
        async with self._slot(), self.figures.running():
            started = time.perf_counter()
            first = now.first_token_ms / 1000
            if now.input_tokens_per_s:
                first += (inputs - cached) / now.input_tokens_per_s
            self.figures.count(prompt=inputs, cached=cached)
            made = 0
            try:
                writer = _Stream(self, request, head, chat, tool, inputs, cached, send) if stream else None
                parts: list[list[str]] = [[] for _ in range(choices)]
                for number in range(length):
                    due = started + first + (number / now.tokens_per_s if now.tokens_per_s else 0.0)
                    if await _waited(due - time.perf_counter(), gone):
                        return
                    if number == 0:
                        self.figures.first_token(time.perf_counter() - started)
                    if number == now.die_after_tokens and fault in ("die", "stall"):
                        if fault == "die":
                            raise Broken
                        await gone
                        return
                    made += choices
                    self.figures.count(output=choices)
                    for choice, text in enumerate(texts):
                        word = _tool_text(next(text), number, length) if tool else next(text)
                        if writer:
                            await writer.token(choice, word, made, first=number == 0)
                        else:
                            parts[choice].append(word)
                reason = "tool_calls" if tool else reason
                self.figures.finished(reason)
                if writer:
                    await writer.end(choices, reason, made)
                    return
                body = {**head, "choices": [_choice(n, "".join(p), reason, chat, tool) for n, p in enumerate(parts)]}
                await _answer(send, 200, self._with_usage(body, inputs, cached, made))
            finally:
                if made < length * choices:
                    self.figures.finished("abort")

    def _slot(self) -> asyncio.Semaphore:
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.behaviour.max_running or 1_000_000)
        return self._slots

    def _with_usage(self, body: dict[str, Any], inputs: int, cached: int, made: int) -> dict[str, Any]:
        return body if self.behaviour.usage == "none" else {**body, "usage": self.usage(inputs, cached, made)}

    def usage(self, inputs: int, cached: int, made: int) -> Any:
        """What it says it has read and made."""
        if self.behaviour.usage == "garbage":
            return {"prompt_tokens": "many", "completion_tokens": -1}
        if self.behaviour.usage == "percent":
            made = made * self.behaviour.usage_percent // 100
        usage: dict[str, Any] = {"prompt_tokens": inputs, "completion_tokens": made, "total_tokens": inputs + made}
        if self.behaviour.cache_tokens:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage


class _Stream:
    """The answer in chunks of server-sent events, with usage as it was asked for."""

    def __init__(
        self, engine: Engine, request: dict[str, Any], head: dict[str, Any], chat: bool, tool: str | None,
        inputs: int, cached: int, send: Send,
    ) -> None:  # fmt: skip
        asked = request.get("stream_options") or {}
        self._honest = engine.behaviour.usage != "none"
        self._final = bool(asked.get("include_usage")) and self._honest
        self._each = self._final and bool(asked.get("continuous_usage_stats")) and engine.behaviour.continuous
        self._head, self._chat, self._tool, self._send = head, chat, tool, send
        self._usage: Callable[[int], Any] = lambda made: engine.usage(inputs, cached, made)
        self._started = False

    async def token(self, choice: int, text: str, made: int, *, first: bool) -> None:
        if not self._chat:
            await self._chunk({"index": choice, "text": text, "logprobs": None, "finish_reason": None}, made)
            return
        delta: dict[str, Any] = {"content": text}
        if self._tool:
            call: dict[str, Any] = {"index": 0, "function": {"arguments": text}}
            if first:
                call |= {"id": f"call-{choice}", "type": "function"}
                call["function"]["name"] = self._tool
            delta = {"tool_calls": [call]}
        if first:
            delta = {"role": "assistant", **delta}
        await self._chunk({"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}, made)

    async def end(self, choices: int, reason: str, made: int) -> None:
        rest: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
        for choice in range(choices):
            await self._chunk({"index": choice, **rest, "logprobs": None, "finish_reason": reason}, made)
        if self._final:
            await self._event({**self._head, "choices": [], "usage": self._usage(made)})
        await self._write(b"data: [DONE]\n\n")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunk(self, choice: dict[str, Any], made: int) -> None:
        body = {**self._head, "choices": [choice]}
        await self._event({**body, "usage": self._usage(made)} if self._each else body)

    async def _event(self, body: dict[str, Any]) -> None:
        await self._write(b"data: " + _json(body) + b"\n\n")

    async def _write(self, data: bytes) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


def _choice(index: int, text: str, reason: str, chat: bool, tool: str | None) -> dict[str, Any]:
    if not chat:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool:
        function = {"name": tool, "arguments": text}
        message = {**message, "content": None}
        message["tool_calls"] = [{"id": f"call-{index}", "type": "function", "function": function}]
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def _tool_text(word: str, number: int, length: int) -> str:
    """A token of a call's arguments, which are one JSON object."""
    return ('{"text": "' if number == 0 else "") + word + ('"}' if number == length - 1 else "")


async def _waited(seconds: float, gone: asyncio.Task[None]) -> bool:
    """Sleep; returns whether the client has gone meanwhile."""
    if seconds > 0:
        await asyncio.wait((gone,), timeout=seconds)
    return gone.done()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> dict[str, Any]:
    parts = bytearray()
    while True:
        message = await receive()
        parts += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        request = json.loads(bytes(parts))
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}", "BadRequestError") from error
    if not isinstance(request, dict):
        raise Refused(400, "the body is not a JSON object", "BadRequestError")
    return request


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _answer(
    send: Send, status: int, body: Any, headers: tuple[tuple[bytes, bytes], ...] = (), kind: bytes = b"application/json"
) -> None:
    content = body.encode() if isinstance(body, str) else _json(body)
    every = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": content, "more_body": False})
