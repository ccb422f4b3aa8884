"""
What happens to a request: admitted or refused with a reason, sent on to the engine, counted as its answer passes.

Each request has a slot in the journal from before the engine sees it until its event is on the disk. A chunk's count is
kept before the chunk is sent on, so that whatever a client has got is known, however this process ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from ciyuan.guard import journal as j
from ciyuan.guard.access import SOONEST_REFRESH, AccessCheck, Claims, PublishedKeys, UnknownKey
from ciyuan.guard.admitted import Admitted
from ciyuan.guard.counting import Asked, Counts, asked_of, believable, final
from ciyuan.guard.engine import EngineClient, body_for_engine, headers_back
from ciyuan.guard.exchange import Terms
from ciyuan.guard.figures import Figures
from ciyuan.guard.journal import Begun, Journal, JournalFull
from ciyuan.guard.rates import Allowances
from ciyuan.guard.recorder import Recorder
from ciyuan.guard.refusals import DENIED, FAILED, Refusal
from ciyuan.guard.settings import GuardSettings
from ciyuan.guard.stream import StreamReader
from ciyuan.service_minutes import ServiceMinutes
from ciyuan.usage import UsageError

log = logging.getLogger("ciyuan.guard")
ATTEMPT_HEADER = "Ciyuan-Attempt-Id"
MAX_ATTEMPT = 128
WATCH_SECONDS = 0.1
_SSE = "text/event-stream"
_BEGUN = web.RequestKey("begun", bool)


class _Deadline:
    """When a stream has waited long enough, on the loop's clock."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at


class Proxy:
    """:param now: Unix seconds. :param count: counts a text's tokens, where a tokenizer is at hand."""

    def __init__(
        self, settings: GuardSettings, *, terms: Terms, keys: PublishedKeys, engine: EngineClient, journal: Journal,
        recorder: Recorder, allowances: Allowances, figures: Figures, minutes: ServiceMinutes,
        now: Callable[[], float] = time.time, count: Callable[[str], int] | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.terms, self.keys, self.engine = settings, terms, keys, engine
        self.journal, self.recorder, self.allowances, self.figures = journal, recorder, allowances, figures
        self.minutes = minutes
        self._now, self._count = now, count
        self._access = AccessCheck(keys, deployment=settings.deployment, tolerance=settings.tolerance_seconds)
        self._unwatched: set[asyncio.Task[web.Response]] = set()
        self._watched: dict[asyncio.Timeout, _Deadline] = {}

    def now(self) -> float:
        return self._now()

    def now_ms(self) -> int:
        return int(self.now() * 1000)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The door: every refusal leaves by here, counted by its code."""
        try:
            return await self._serve(request)
        except Refusal as refusal:
            self.figures.refused(refusal.code)
            return web.Response(status=refusal.status, body=refusal.body(), headers=refusal.headers())
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            # Where and what kind; never its text, which may have words of the request in it.
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
            log.error("a request failed inside the guard: %s at %s", type(error).__name__, place)
            self.figures.refused("internal_error")
            if _BEGUN in request:
                raise ConnectionError from None  # half an answer cannot become a refusal
            failed = Refusal(500, "internal_error", "The guard failed; the provider has a record of it.", kind=FAILED)
            return web.Response(status=500, body=failed.body(), headers=failed.headers())

    async def models(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models: the contract's model."""
        try:
            claims = await self._admitted(request)
        except Refusal as refusal:
            self.figures.refused(refusal.code)
            return web.Response(status=refusal.status, body=refusal.body(), headers=refusal.headers())
        model = {"id": claims.model, "object": "model", "created": claims.starts_at, "owned_by": "ciyuan"}
        return web.json_response({"object": "list", "data": [model]})

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        refusal = Refusal(404, "not_found", f"There is no {request.method} {request.path} here.")
        self.figures.refused(refusal.code)
        return web.Response(status=404, body=refusal.body(), headers=refusal.headers())

    # -- admission ----------------------------------------------------------------------------------------------------

    async def _admitted(self, request: web.Request) -> Claims:
        given = request.headers.get("Authorization", "")
        try:
            claims = self._access.check(given, self.now())
        except UnknownKey:
            with suppress(Exception):  # the exchange may be away: then the known keys have to do
                await self.keys.refresh(time.monotonic(), every=SOONEST_REFRESH)
            try:
                claims = self._access.check(given, self.now())
            except UnknownKey:
                raise Refusal(
                    401, "invalid_token", "This token is signed with a key that the exchange does not publish.",
                    kind=DENIED,
                ) from None  # fmt: skip
        if claims.model != self.terms.model:
            raise Refusal(
                403, "wrong_model", f"This token is for {claims.model}; {self.terms.model} is served here.", kind=DENIED
            )
        return claims

    async def _read(self, request: web.Request, claims: Claims) -> tuple[bytes, dict[str, Any], Asked]:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            most = self.settings.max_body_bytes
            raise Refusal(413, "request_too_large", f"A request may have {most:,} bytes.") from None
        try:
            content = json.loads(body)
            if not isinstance(content, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise Refusal(400, "invalid_json", "The body is no JSON object.") from None
        if content.get("model") not in (claims.model, self.settings.engine_model or claims.model):
            raise Refusal(
                404, "model_not_found", f"This contract is for the model {claims.model}; ask for that.", param="model"
            )
        try:
            return body, content, asked_of(content, len(body))
        except ValueError as error:
            raise Refusal(400, "invalid_value", f"A limit or number of choices is wrong: {error}.") from None

    def _begin(self, request: web.Request, claims: Claims, asked: Asked) -> Admitted:
        if self.recorder.problem is not None:
            raise Refusal(
                503, "cannot_meter", "The provider cannot record usage at the moment.", kind=FAILED, retry_after=10
            )
        attempt = request.headers.get(ATTEMPT_HEADER, "")
        begun = Begun(
            id=uuid4().hex, subject=claims.subject, model=claims.model[:80], started_ms=self.now_ms(),
            first_ms=claims.starts_at * 1000, last_ms=claims.ends_at * 1000 - 1,
            tolerance_ms=self.settings.tolerance_seconds * 1000,
            attempt=attempt if attempt.isascii() and attempt.isprintable() and len(attempt) <= MAX_ATTEMPT else "",
        )  # fmt: skip
        try:
            slot = self.journal.begin(begun)
        except JournalFull:
            raise Refusal(
                503, "too_many_requests_in_flight", "All of the guard's places are taken.", kind=FAILED, retry_after=1
            ) from None
        return Admitted(self, claims, asked, slot)

    # -- serving ------------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        claims = await self._admitted(request)
        try:
            response = await self._serve_for(request, claims)
        except Refusal as refusal:
            self._seen(claims, refusal.status, limited=refusal.status == 429)
            raise
        self._seen(claims, response.status, limited=False)
        return response

    def _seen(self, claims: Claims, status: int, *, limited: bool) -> None:
        """A refusal as evidence: beyond rate or quantity nobody failed, with 5xx or a busy engine the provider did."""
        if limited:
            self.minutes.limited(claims.contract, self.settings.deployment, self.now())
        elif status >= 500 or status == 429:
            self.minutes.failed(claims.contract, self.settings.deployment, self.now())

    async def _serve_for(self, request: web.Request, claims: Claims) -> web.StreamResponse:
        self.allowances.admit(claims, self.now())
        body, content, asked = await self._read(request, claims)
        mine = self._begin(request, claims, asked)
        text = _prompt_text(content) if self._count else ""
        body = body_for_engine(body, content, asked, self.settings)
        del content
        if asked.stream:
            return await self._stream(request, mine, body, text)
        # A whole answer is waited for, and metered, whether or not its client stays: it is served as one piece.
        task = asyncio.create_task(self._whole(request, mine, body, text))
        self._unwatched.add(task)
        task.add_done_callback(self._unwatched.discard)
        return await asyncio.shield(task)

    async def _answer(self, request: web.Request, mine: Admitted, body: bytes) -> aiohttp.ClientResponse:
        """The engine's answer, if it is a good one. :raises Refusal: it gave none."""
        try:
            answer = await self.engine.post(request.path, body, request.headers)
        except Refusal as refusal:
            self.figures.engine_errors[refusal.code] += 1
            mine.drop()
            raise
        except BaseException:
            mine.drop()
            raise
        return answer

    async def _whole(self, request: web.Request, mine: Admitted, body: bytes, text: str) -> web.Response:
        return await self._pass_whole(mine, await self._answer(request, mine, body), text)

    async def _pass_whole(self, mine: Admitted, answer: aiohttp.ClientResponse, text: str) -> web.Response:
        try:
            content = await answer.read()
            headers = {"Content-Type": answer.content_type, "X-Request-Id": mine.slot.begun.id}
            if answer.status != 200:  # the engine's own refusal goes back as it is
                self.figures.engine_errors[str(answer.status)] += 1
                return web.Response(status=answer.status, body=content, headers={**headers, **headers_back(answer)})
            whole = json.loads(content)
            counts, estimated = self._counted(mine.asked, whole.get("usage"), text, lambda: _answer_text(whole))
            mine.end(j.OK, counts, estimated=estimated)
            return web.Response(body=content, headers=headers)
        except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError):
            self.figures.engine_errors["broken_answer"] += 1
            raise Refusal(502, "engine_failed", "The engine broke off its answer.", kind=FAILED) from None
        finally:
            mine.drop()
            answer.release()

    def _counted(self, asked: Asked, usage: Any, text: str, said: Callable[[], str]) -> tuple[Counts, bool]:
        try:
            return believable(final(usage), asked), False
        except UsageError as error:
            self.figures.disbelieved["missing" if usage is None else error.code] += 1
        answer = said()
        if self._count:
            return Counts(inputs=self._count(text), outputs=self._count(answer)), True
        return asked.estimate()._replace(outputs=len(answer.encode("utf-8", "replace")) // 4), True

    async def _stream(self, request: web.Request, mine: Admitted, body: bytes, text: str) -> web.StreamResponse:
        answer = await self._answer(request, mine, body)
        if answer.status != 200 or answer.content_type != _SSE:
            return await self._pass_whole(mine, answer, text)
        reader = StreamReader(mine.asked, keep_text=self._count is not None, on_text=mine.first_token)
        state = j.ABANDONED  # whatever ends this from outside is the client's leaving
        try:
            response = web.StreamResponse(
                headers={"Content-Type": _SSE, "Cache-Control": "no-cache", "X-Request-Id": mine.slot.begun.id}
            )
            await response.prepare(request)
            request[_BEGUN] = True
            state = await self._relay(answer, response, reader, mine)
            await response.write_eof()
            return response
        finally:
            if reader.complaint or reader.reported is None:
                self.figures.disbelieved[reader.complaint or "missing"] += 1
            counts = reader.counts
            if reader.reported is None and reader.text is not None and self._count and reader.pieces:
                counts = Counts(inputs=self._count(text), outputs=self._count("".join(reader.text)))
            mine.end(state, counts, estimated=reader.reported is None)
            if state == j.OK:
                answer.release()
            else:
                answer.close()  # the engine need not go on

    async def _relay(
        self, answer: aiohttp.ClientResponse, response: web.StreamResponse, reader: StreamReader, mine: Admitted
    ) -> int:
        """Pass the stream on; returns how it ended."""
        loop, settings = asyncio.get_running_loop(), self.settings
        over = loop.time() + mine.claims.ends_at + settings.overrun_seconds - self.now()
        waiting_for_client = False
        limit = asyncio.timeout(None)
        try:
            async with limit:
                watched = self._watched[limit] = _Deadline(min(over, loop.time() + settings.first_token_timeout))
                while data := await answer.content.readany():
                    if out := reader.feed(data):
                        mine.keep(reader.counts, estimated=reader.reported is None)
                        waiting_for_client = True
                        watched.at = min(over, loop.time() + settings.stalled_seconds)
                        await response.write(out)
                        waiting_for_client = False
                    watched.at = min(over, loop.time() + settings.idle_timeout)
                if out := reader.end():
                    await response.write(out)
        except TimeoutError:
            if loop.time() >= over - WATCH_SECONDS:
                await self._say(response, "window_over", "The contract's window is over.")
                return j.WINDOW_OVER
            if waiting_for_client:
                return j.ABANDONED
            await self._say(response, "engine_timeout", "The engine stopped in the middle of its answer.")
            return j.ENGINE_FAILED
        except aiohttp.ClientConnectionResetError:
            return j.ABANDONED
        except aiohttp.ClientError:
            await self._say(response, "engine_failed", "The engine broke off its answer.")
            return j.ENGINE_FAILED
        finally:
            self._watched.pop(limit, None)
        return j.OK if reader.finished and not reader.failed else j.ENGINE_FAILED

    async def watch(self) -> None:
        """End the streams whose time is over: one look at all of them costs less than a timer for every chunk."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = loop.time()
            for limit, deadline in self._watched.items():
                if deadline.at <= now:
                    limit.reschedule(now)

    async def _say(self, response: web.StreamResponse, code: str, message: str) -> None:
        """End a stream with an error that OpenAI's clients raise."""
        self.figures.engine_errors[code] += 1
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(5):
                await response.write(b"data: " + Refusal(502, code, message, kind=FAILED).body() + b"\n\n")

    async def settle(self) -> None:
        """Wait for the answers that nobody waits for any more."""
        while self._unwatched:
            await asyncio.wait(self._unwatched)


def _prompt_text(content: dict[str, Any]) -> str:
    """What the model reads, for a tokenizer; it goes nowhere else."""
    parts: list[str] = []
    given = [m.get("content") for m in content.get("messages") or [] if isinstance(m, dict)]
    for part in [*given, content.get("prompt"), content.get("input")]:
        for text in part if isinstance(part, list) else [part]:
            said = text.get("text") if isinstance(text, dict) else text
            if isinstance(said, str):
                parts.append(said)
    return "\n".join(parts)


def _answer_text(whole: dict[str, Any]) -> str:
    parts: list[str] = []
    for choice in whole.get("choices") or []:
        message = choice.get("message") or {}
        parts += [choice.get("text") or "", message.get("content") or "", message.get("reasoning_content") or ""]
        if message.get("tool_calls"):
            parts.append(json.dumps(message["tool_calls"], ensure_ascii=False))
    return "".join(parts)
