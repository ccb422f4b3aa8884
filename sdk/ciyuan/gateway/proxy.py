"""
What happens to a call: read, given a contract, asked of the caps, sent, failed over until it is answered, and metered.

A caller sees nothing of an attempt before its provider has sent text; until then any other provider may take its place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from aiohttp import web

from ciyuan.gateway.asking import Reader, Wanted
from ciyuan.gateway.caps import Allowed, Caps
from ciyuan.gateway.choice import Refusal as NoRoute
from ciyuan.gateway.choice import Why, choose
from ciyuan.gateway.holdings import Holdings
from ciyuan.gateway.provider import ATTEMPT_HEADER, Failed, Providers, Stream, body_of
from ciyuan.gateway.refusals import DENIED, FAILED, Refusal, of_no_route
from ciyuan.gateway.reports import Reports, event_data
from ciyuan.gateway.settings import Caller, Callers, GatewaySettings
from ciyuan.gateway.waiting import Begun, Line
from ciyuan.guard.counting import NOTHING, Counts
from ciyuan.service_minutes import ServiceMinutes

log = logging.getLogger("ciyuan.gateway")
MICRO_PER_YUAN = 1_000_000
MAX_ATTEMPT = 120
#: A provider that says so has delivered all of a contract's quantity that it is to serve.
USED_UP = "quantity_used_up"
#: Refusals that are no failure of the provider's.
LIMITS = frozenset({USED_UP, "rate_limit_exceeded"})


@dataclass(slots=True)
class Call:
    """A call under way: what is tried, and what it found so far."""

    wanted: Wanted
    body: bytes
    id: str
    headers: dict[str, str]
    allowed: Allowed | None = None
    attempts: int = 0
    used_micro: int = 0

    @property
    def attempt(self) -> str:
        """The name of this attempt: the call's, and from the second on its number."""
        return self.id if self.attempts <= 1 else f"{self.id}.{self.attempts}"


class Gateway:
    """:param clock: Unix seconds."""

    def __init__(
        self, settings: GatewaySettings, *, holdings: Holdings, callers: Callers, reader: Reader, caps: Caps | None,
        providers: Providers, reports: Reports, minutes: ServiceMinutes, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.settings, self.holdings, self.callers, self.reader = settings, holdings, callers, reader
        self.caps, self.providers, self.reports, self.clock = caps, providers, reports, clock
        self.minutes = minutes
        self.line = Line(clock)
        self.running = 0
        self.answered: Counter[str] = Counter()
        self.failovers: Counter[str] = Counter()
        self._overage_micro = 0
        self._unwatched: set[asyncio.Task[web.StreamResponse]] = set()

    # -- the doors -------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A call; every refusal leaves by here, counted by its code."""
        try:
            caller = self._caller(request)
            if self.running >= self.settings.most_running:
                raise Refusal(503, "gateway_busy", "Too many calls at once.", kind=FAILED, retry_after=1)
            self.running += 1
            try:
                return await self._serve(request, caller)
            finally:
                self.running -= 1
        except Refusal as refusal:
            return self._refused(refusal)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            # Where and what kind; never its text, which may have words of the request in it.
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
            log.error("a call failed inside the gateway: %s at %s", type(error).__name__, place)
            return self._refused(Refusal(500, "internal_error", "The gateway failed; its log says where.", kind=FAILED))

    async def models(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models and /v1/models/{model}: what is contracted."""
        try:
            self._caller(request)
            rows = self.holdings.models(self.clock())
            if (name := request.match_info.get("model")) is None:
                return web.json_response({"object": "list", "data": rows})
            found = next((row for row in rows if row["id"] == name), None)
            if found is None:
                raise Refusal(404, "model_not_found", "You have no contract for this model.", param="model")
            return web.json_response(found)
        except Refusal as refusal:
            return self._refused(refusal)

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        return self._refused(Refusal(404, "not_found", f"There is no {request.method} {request.path} here."))

    def _refused(self, refusal: Refusal) -> web.Response:
        self.answered[refusal.code] += 1
        headers = refusal.headers()
        if refusal.kind == "insufficient_quota":
            headers["x-should-retry"] = "false"  # OpenAI's client would try again at once
        return web.Response(status=refusal.status, body=refusal.body(), headers=headers)

    def _caller(self, request: web.Request) -> Caller:
        caller = self.callers.find(request.headers.get("Authorization", ""))
        if caller is None:
            raise Refusal(401, "invalid_api_key", "This gateway does not know that key.", kind=DENIED)
        return caller

    # -- a call ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            most = self.settings.max_body_bytes
            raise Refusal(413, "request_too_large", f"A request may have {most:,} bytes.") from None
        wanted = self.reader.read(request.path, body, request.headers, caller)
        given = request.headers.get(ATTEMPT_HEADER, "")
        named = given if 0 < len(given) <= MAX_ATTEMPT and given.isascii() and given.isprintable() else uuid4().hex
        call = Call(wanted, body_of(wanted, body), named, dict(request.headers))
        if wanted.counted.stream:
            return await self._answer(request, call)
        # A whole answer is waited for, and metered, whether or not its caller stays: it is served as one piece.
        task = asyncio.create_task(self._answer(request, call))
        self._unwatched.add(task)
        task.add_done_callback(self._unwatched.discard)
        return await asyncio.shield(task)

    async def _answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        tried: set[tuple[int, int]] = set()
        failed: list[Failed] = []
        try:
            while True:
                begun = await self._next(call, tried, failed)
                tried.add(begun.ticket.route.key)
                try:
                    response = await self._attempt(request, call, begun)
                except Failed as failure:
                    failed.append(failure)
                    self._note(begun, failure)
                    continue
                self.answered["ok" if response.status == 200 else f"status_{response.status}"] += 1
                return response
        finally:
            if self.caps is not None and call.allowed is not None:
                self.caps.settle(call.allowed, call.used_micro)
            self.line.look()

    async def _next(self, call: Call, tried: set[tuple[int, int]], failed: list[Failed]) -> Begun:
        """The contract that serves next. :raises Refusal: there is none, or the budget has not got it."""
        wanted = call.wanted
        if call.attempts >= self.settings.most_attempts:
            raise self._none_left(wanted, NoRoute(Why.FAILING), failed)

        def attempt() -> Begun | NoRoute:
            now = self.clock()
            answer = choose(
                wanted.ask, self.holdings.routes, now, overage_left_micro_yuan=self._overage_left(), without=tried
            )
            return answer if isinstance(answer, NoRoute) else Begun(answer, answer.begin(wanted.ask, now))

        wait = 0.0 if failed else self.settings.most_wait
        answer = await self.line.choose(wanted.model, wanted.priority, attempt, most_wait=wait)
        if isinstance(answer, NoRoute):
            raise self._none_left(wanted, answer, failed)
        call.attempts += 1
        if self.caps is not None and call.allowed is None:
            try:
                call.allowed = await self.caps.ask(
                    work_micro=answer.ticket.reserved_micro, contract=answer.ticket.route.contract.id,
                    key=wanted.caller.name, tags=wanted.tags,
                )  # fmt: skip
            except BaseException:
                answer.ticket.route.give_back(answer.ticket, self.clock())
                raise
        return answer

    def _none_left(self, wanted: Wanted, refused: NoRoute, failed: list[Failed]) -> Refusal:
        if failed and refused.why is not Why.USED_UP:
            busy = all(failure.status == 429 for failure in failed)
            refused = NoRoute(Why.RATE if busy else Why.FAILING, refused.retry_at)
        now = self.clock()
        return of_no_route(refused, now, beginning=self.holdings.next_window(wanted.model, now))

    def _overage_left(self) -> int:
        limit = self.holdings.allows_overage_micro
        if self.settings.overage_yuan is not None:
            limit = min(limit, int(self.settings.overage_yuan * MICRO_PER_YUAN))
        return max(0, limit - self._overage_micro)

    def _note(self, begun: Begun, failure: Failed) -> None:
        """What a failure says of a route."""
        now, route = self.clock(), begun.ticket.route
        self.failovers[failure.code] += 1
        if failure.code in LIMITS:
            self.minutes.limited(route.contract.id, route.deployment, now)
        else:
            self.minutes.failed(route.contract.id, route.deployment, now)
        if failure.code == USED_UP:
            route.fail(begun.ticket, now, retry_after=max(1.0, route.contract.window_end - now))
            return
        if failure.status in (401, 403):
            self.holdings.renew(route.contract.id)
        route.fail(begun.ticket, now, retry_after=failure.retry_after if failure.status == 429 else None)

    # -- an attempt ------------------------------------------------------------------------------------------------

    async def _attempt(self, request: web.Request, call: Call, begun: Begun) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.first_token_timeout
        route, wanted = begun.ticket.route, call.wanted
        try:
            door = self.holdings.doors.get(route.key)
            if door is None:
                raise Failed("no_longer_served")
            answer = await self.providers.send(
                wanted, door=door, attempt=call.attempt, given=call.headers, body=call.body
            )
            try:
                if not wanted.counted.stream or answer.status != 200:
                    return await self._whole(call, begun, answer)
                return await self._stream(request, call, begun, Stream(wanted, answer, self.providers), deadline)
            finally:
                answer.close() if wanted.counted.stream else answer.release()
        except Failed:
            raise
        except BaseException:
            # Whoever called has left, or something broke here: the provider has done nothing wrong.
            route.give_back(begun.ticket, self.clock())
            raise

    async def _whole(self, call: Call, begun: Begun, answer: object) -> web.Response:
        whole = await self.providers.whole(call.wanted, answer)  # type: ignore[arg-type]
        headers = {**whole.headers, **self._said(call, begun)}
        if whole.status != 200:  # the provider's own refusal goes back as it is
            begun.ticket.route.give_back(begun.ticket, self.clock())
            return web.Response(status=whole.status, body=whole.body, headers=headers)
        self._finish(call, begun, whole.counts or call.wanted.counted.estimate())
        return web.Response(body=whole.body, headers=headers)

    async def _stream(
        self, request: web.Request, call: Call, begun: Begun, stream: Stream, deadline: float
    ) -> web.StreamResponse:
        held = await stream.first(deadline)
        begun.ticket.route.first_token(begun.ticket, self.clock())
        whole = True
        response = web.StreamResponse(headers={
            "Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no",
            **self._said(call, begun),
        })  # fmt: skip
        try:
            await response.prepare(request)
            await response.write(held)
            while (data := await stream.next()) is not None:
                if data:
                    await response.write(data)
            if rest := stream.reader.end():
                await response.write(rest)
        except Refusal as broken:
            self.answered[broken.code] += 1
            with suppress(ConnectionError):
                await response.write(b"data: " + broken.body() + b"\n\n")
            begun.ticket.route.health.failed(self.clock())
            whole = False
        finally:
            self._finish(call, begun, stream.reader.counts, whole=whole)
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    def _said(self, call: Call, begun: Begun) -> dict[str, str]:
        route = begun.ticket.route
        return {
            ATTEMPT_HEADER: call.attempt, "Ciyuan-Contract": str(route.contract.id),
            "Ciyuan-Deployment": str(route.deployment), "X-Request-Id": call.id,
        }  # fmt: skip

    def _finish(self, call: Call, begun: Begun, counts: Counts, *, whole: bool = True) -> None:
        """A provider has served: take what it was from the contract, report it, learn from it."""
        now, route, wanted = self.clock(), begun.ticket.route, call.wanted
        work = route.contract.work(counts.inputs, counts.cached, counts.outputs).total_micro_st
        call.used_micro += work
        first = begun.ticket.first_token_at
        route.finish(begun.ticket, used_micro=work, output_tokens=counts.outputs, now=now)
        if begun.choice.overage_micro_yuan and begun.choice.work_micro:
            self._overage_micro += begun.choice.overage_micro_yuan * work // begun.choice.work_micro
        if not whole:
            self.minutes.failed(route.contract.id, route.deployment, now)
        if counts == NOTHING:
            return
        if whole:
            self._served(begun, counts, now)
        self.reader.learn(wanted, counts.inputs, counts.outputs)
        self.reports.add(
            id=uuid4().hex, contract=route.contract.id, ended_at=now, window_end=route.contract.window_end,
            data=event_data(
                counts, model=wanted.model, attempt=call.attempt, tags=dict(wanted.tags),
                first_ms=None if first is None else int((first - begun.ticket.began) * 1000),
                took_ms=int((now - begun.ticket.began) * 1000),
            ),
        )  # fmt: skip
        self.line.look()

    def _served(self, begun: Begun, counts: Counts, now: float) -> None:
        """Tell of an answer as evidence of how its contract is served."""
        route, first = begun.ticket.route, begun.ticket.first_token_at
        between = None
        if first is not None and counts.outputs > 1:
            between = round((now - first) * 1000 / (counts.outputs - 1))
        self.minutes.served(
            route.contract.id, route.deployment, now, route.contract.promise,
            first_ms=None if first is None else round((first - begun.ticket.began) * 1000), token_ms=between,
        )  # fmt: skip

    async def settle(self) -> None:
        """Wait for the answers that nobody waits for any more."""
        while self._unwatched:
            await asyncio.wait(self._unwatched)
