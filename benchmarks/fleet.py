"""
A fleet of mixed accelerators that a trace is played on, for `benchmarks.scheduler`.

Speeds are published measurements of DeepSeek-V3/R1 in serving, per accelerator:

- H100: 52,300 input and 22,300 output tokens/s per node of eight (SGLang with large-scale expert parallelism,
  lmsys.org, May 2025).
- H800: 73,700 input tokens/s per node of eight, of which 56.3% were cache hits, and 14,800 output tokens/s at 20 to 22
  tokens/s a stream (DeepSeek-V3/R1 inference system overview, March 2025).
- Ascend 910C: 6,688 input tokens/s and 1,943 output tokens/s below 50 ms a token, per NPU (CloudMatrix384,
  arXiv:2506.12708).
- H20: 16,500 input and 5,700 output tokens/s per node of eight (Ant Group and SGLang, lmsys.org, September 2025).

What no publication says is assumed alike for all: 80 ms of overhead before the first token, 20 ms a token for a lone
stream, rising to 50 ms at the published output rate. Prefill is first come, first served; decoding is beside it, as in
those deployments. Each deployment has a prefix cache of its own, in blocks of 512 tokens, the least recently used gone
first.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ciyuan.gateway.routes import Ask, Route, Ticket

from scenarios.traces import BLOCK_TOKENS, TraceRequest

OVERHEAD_SECONDS = 0.08
LONE_TOKEN_SECONDS, FULL_TOKEN_SECONDS = 0.02, 0.05


@dataclass(frozen=True)
class Accelerator:
    """Tokens a second of one accelerator: input while it prefills, output while it decodes."""

    name: str
    input_per_second: float
    output_per_second: float


H100 = Accelerator("H100", 52_300 / 8, 22_300 / 8)
H800 = Accelerator("H800", 73_700 * (1 - 0.563) / 8, 14_800 / 8)
ASCEND_910C = Accelerator("Ascend 910C", 6_688, 1_943)
H20 = Accelerator("H20", 16_500 / 8, 5_700 / 8)


class Engine:
    """
    A deployment.

    :param prefills: accelerators that prefill, as one. :param decodes: accelerators that decode, as one.
    :param cache_blocks: how many blocks of 512 tokens its prefix cache holds.
    """

    def __init__(self, accelerator: Accelerator, *, prefills: int, decodes: int, cache_blocks: int) -> None:
        self.accelerator = accelerator
        self.input_per_second = prefills * accelerator.input_per_second
        full = decodes * accelerator.output_per_second * FULL_TOKEN_SECONDS
        self.slower_each = (FULL_TOKEN_SECONDS - LONE_TOKEN_SECONDS) / full
        self.cache: OrderedDict[int, None] = OrderedDict()
        self.cache_blocks = cache_blocks
        self.free_at = 0.0
        self.decoding = 0

    def cached_tokens(self, request: TraceRequest) -> int:
        """Return how many input tokens are cached here, and remember the request's blocks."""
        hits = 0
        for block in request.blocks:
            if block not in self.cache:
                break
            hits += 1
        for block in reversed(request.blocks):
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.cache_blocks:
            self.cache.popitem(last=False)
        return min(hits * BLOCK_TOKENS, request.input_tokens)

    def prefill(self, tokens: int, now: float) -> float:
        """Return when the first token comes of a request with so many uncached input tokens."""
        self.free_at = max(self.free_at, now) + tokens / self.input_per_second
        return self.free_at + OVERHEAD_SECONDS

    def token_seconds(self) -> float:
        """Return the time per token of one more stream."""
        return LONE_TOKEN_SECONDS + self.slower_each * (self.decoding + 1)


class Promise(NamedTuple):
    """What a request is promised: seconds to the first token and per further token."""

    first_token_seconds: float
    token_seconds: float


#: Chooses the route of a request, or the moment to try again.
Policy = Callable[[Ask, Sequence[Route], float], "Route | float"]


@dataclass
class Played:
    """What became of a trace: what it cost in yuan, its raw tokens, and how many requests kept their promise."""

    cost_yuan: float = 0.0
    tokens: int = 0
    requests: int = 0
    in_time: int = 0
    standard_tokens: float = 0.0
    overage_share: float = 0.0
    cached_tokens: int = 0
    first_token_seconds: list[float] = field(default_factory=list)

    @property
    def yuan_per_million(self) -> float:
        return self.cost_yuan / self.tokens * 1e6

    @property
    def share_in_time(self) -> float:
        return self.in_time / self.requests


@dataclass(slots=True)
class _Call:
    request: TraceRequest
    arrived: float
    ask: Ask
    ticket: Ticket | None = None
    work_micro: int = 0
    first_at: float = 0.0
    token_seconds: float = 0.0


ARRIVES, BEGINS, ENDS = range(3)


def play(
    requests: Sequence[TraceRequest],
    routes: Sequence[Route],
    engines: Sequence[Engine],
    policy: Policy,
    *,
    promise: Promise,
    model: str,
    faster: float = 1.0,
) -> Played:
    """
    Play requests through a policy on engines, of which `routes` are the contracts, in the same order.

    The policy knows what a gateway knows: its own measurements, and of the output the mean so far.
    """
    played = Played()
    engine_of = {route.key: engine for route, engine in zip(routes, engines, strict=True)}
    events: list[tuple[float, int, int, _Call]] = []
    for number, request in enumerate(requests):
        at = request.after.total_seconds() / faster
        ends = (min(end, request.input_tokens) for end in itertools.count(BLOCK_TOKENS, BLOCK_TOKENS))
        prefix = tuple(zip(request.blocks, ends, strict=False))
        ask = Ask(model, request.input_tokens, 0, 0, None, promise.first_token_seconds, promise.token_seconds, prefix)
        events.append((at, number, ARRIVES, _Call(request, at, ask)))
    heapq.heapify(events)
    number, ended, outputs = len(events), 1, 200
    while events:
        now, _, kind, call = heapq.heappop(events)
        number += 1
        request = call.request
        if kind == ARRIVES:
            ask = Ask(model, request.input_tokens, outputs // ended, 0, None, *promise, call.ask.prefix)
            picked = policy(ask, routes, now)
            if isinstance(picked, float):
                heapq.heappush(events, (max(picked, now + 0.01), number, ARRIVES, call))
                continue
            expected = min(picked.prefixes.cached_tokens(ask.prefix), ask.input_tokens)
            need = picked.contract.work(ask.input_tokens, expected, ask.output_tokens).total_micro_st
            call.ticket = picked.begin(ask, cached_tokens=expected, work_micro=need, now=now)
            engine = engine_of[picked.key]
            cached = engine.cached_tokens(request)
            played.cached_tokens += cached
            done = picked.contract.work(request.input_tokens, cached, request.output_tokens)
            call.work_micro = done.total_micro_st
            call.first_at = engine.prefill(request.input_tokens - cached, now)
            heapq.heappush(events, (call.first_at, number, BEGINS, call))
            continue
        assert call.ticket is not None
        route = call.ticket.route
        engine = engine_of[route.key]
        if kind == BEGINS:
            route.first_token(call.ticket, now)
            call.token_seconds = engine.token_seconds()
            engine.decoding += 1
            heapq.heappush(events, (now + call.token_seconds * max(0, request.output_tokens - 1), number, ENDS, call))
            continue
        engine.decoding -= 1
        route.finish(call.ticket, used_micro=call.work_micro, output_tokens=request.output_tokens, now=now)
        ended += 1
        outputs += request.output_tokens
        waited = call.first_at - call.arrived
        played.first_token_seconds.append(waited)
        played.requests += 1
        played.tokens += request.input_tokens + request.output_tokens
        played.in_time += waited <= promise.first_token_seconds and call.token_seconds <= promise.token_seconds
    _account(played, routes)
    return played


def _account(played: Played, routes: Sequence[Route]) -> None:
    """What the lots cost that were consumed, the cheapest first, and what went beyond them at list price."""
    beyond_micro = total_micro = 0
    for route in routes:
        left = route.contract.used_micro
        total_micro += left
        for quantity, price_nano in route.contract.lots:
            part = min(left, quantity)
            played.cost_yuan += part * price_nano / 1e15
            left -= part
        assert route.list_price_nano is not None
        played.cost_yuan += left * route.list_price_nano / 1e15
        beyond_micro += left
    played.standard_tokens = total_micro / 1e6
    played.overage_share = beyond_micro / total_micro
