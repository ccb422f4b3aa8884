"""
How well a gateway chooses: `python -m benchmarks.scheduler` (FULL=1 adds buyers who bought more or less).

Both traces of ../shared/data/traces are played on a simulated fleet of mixed accelerators (`benchmarks.fleet`, with
speeds as published) through `ciyuan.gateway.choice`, the very code that serves, and through three rules that people
use: round-robin, least-loaded (fewest requests under way), cheapest-first. All rules choose among the same able
contracts, and go beyond them at list prices alike. A buyer has bought a fifth more than what the trace needs if every
repeated prefix is found in a cache; the rate of each contract is 2.5 times what its quantity takes on average.

`cost_vs_best_rule` is our cost per token ÷ that of the cheapest rule, `slo_vs_best_rule` our share of requests within
their latency promise ÷ that of the best rule; each the worse of the two traces. `cost_vs_optimum` is our cost on small
cases ÷ that of the best of all assignments, which knows the future and keeps at least as many promises.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ciyuan.gateway.choice import Choice, choose, choose_able
from ciyuan.gateway.routes import MICRO, Ask, Contract, Route
from ciyuan.named_cards import named_card
from ciyuan.standard_token import work_function

from benchmarks.fleet import ASCEND_910C, H20, H100, H800, Engine, Played, Policy, Promise, play
from benchmarks.harness import environment, report, table
from scenarios.traces import TraceRequest, generate, read_trace

TRACES = Path(__file__).resolve().parents[2] / "shared/data/traces"
MODEL = "deepseek-v3"
WORK = work_function(named_card("DeepSeek-V3"))
UNLIMITED = 10**18
#: Accelerator, how many of them prefill, and the price of its contract's lot in nano-yuan per standard token.
FLEET = ((ASCEND_910C, 1, 2_700), (H20, 2, 2_900), (H800, 1, 3_200), (H100, 1, 3_800))
LIST_PRICE_NANO = 8_000
SPARE, OTHER_SPARES, BURST = 1.2, (1.05, 1.1, 1.3), 2.5
FULL = os.environ.get("FULL") == "1"
CACHE_BLOCKS = 6_000  # three million tokens a deployment
SMALL_CASES, SMALL_REQUESTS, SMALL_SPARES = 25, 6, (2.0, 4.0)


def ours(ask: Ask, routes: Sequence[Route], now: float) -> Route | float:
    """Choose as the gateway does."""
    answer = choose(ask, routes, now, overage_left_micro_yuan=UNLIMITED)
    return answer.route if isinstance(answer, Choice) else answer.retry_at or now + 1.0


def rule(rank: Callable[[Route], object]) -> Policy:
    """A policy that takes the first of the able contracts by `rank`; beyond all of them, the first of all."""

    def policy(ask: Ask, routes: Sequence[Route], now: float) -> Route | float:
        able = choose_able(ask, routes, now)
        if able:
            return min(able, key=rank)  # type: ignore[arg-type]
        answer = choose(ask, routes, now, overage_left_micro_yuan=UNLIMITED)
        return answer.route if isinstance(answer, Choice) else answer.retry_at or now + 1.0

    return policy


def round_robin() -> Policy:
    """Take the able contracts in turn."""
    turns = itertools.count(1)
    last: dict[tuple[int, int], int] = {}
    inner = rule(lambda route: last.get(route.key, 0))

    def policy(ask: Ask, routes: Sequence[Route], now: float) -> Route | float:
        picked = inner(ask, routes, now)
        if isinstance(picked, Route):
            last[picked.key] = next(turns)
        return picked

    return policy


RULES: dict[str, Callable[[], Policy]] = {
    "round-robin": round_robin,
    "least-loaded": lambda: rule(lambda route: (route.speed.in_flight, route.key)),
    "cheapest-first": lambda: rule(lambda route: (next(route.contract.next_lots(1))[1], route.key)),
}


def fleet(
    requests: Sequence[TraceRequest], *, size: int, faster: float, engines: int = len(FLEET), spare: float = SPARE
) -> tuple[list[Route], list[Engine]]:
    """Return contracts that suffice for a trace, in proportion to what each deployment can do, and their engines."""
    needed = sum(WORK(r.input_tokens, r.cached_input_tokens, r.output_tokens).total_micro_st for r in requests)
    seconds = max(requests[-1].after.total_seconds() / faster, 1.0)
    chosen = FLEET[:engines]
    able = [accelerator.input_per_second * number for accelerator, number, _ in chosen]
    routes, machines = [], []
    for number, ((accelerator, prefills, price), capable) in enumerate(zip(chosen, able, strict=True), start=1):
        quantity = int(needed * spare * capable / sum(able))
        contract = Contract(
            id=number, model=MODEL, rank=1, window_start=0.0, window_end=seconds * 1.02 + 30,
            lots=((quantity, price),), tokens_per_minute=int(quantity / MICRO / seconds * 60 * BURST) + 1,
            max_context_tokens=1_000_000, take_or_pay_thousandths=0, work=WORK,
        )  # fmt: skip
        routes.append(Route(contract, number, LIST_PRICE_NANO))
        machines.append(
            Engine(accelerator, prefills=prefills * size, decodes=prefills * size, cache_blocks=CACHE_BLOCKS)
        )
    return routes, machines


def compare(
    name: str, requests: Sequence[TraceRequest], *, size: int, faster: float, promise: Promise, spare: float = SPARE
) -> dict[str, Played]:
    """Play a trace through all policies and print what came of it."""
    results = {}
    for policy_name, make in {"ours": lambda: ours, **RULES}.items():
        routes, engines = fleet(requests, size=size, faster=faster, spare=spare)
        results[policy_name] = play(requests, routes, engines, make(), promise=promise, model=MODEL, faster=faster)
    rows = [
        (
            policy_name,
            f"{r.yuan_per_million:.4f}",
            f"{100 * r.share_in_time:.2f}",
            f"{sorted(r.first_token_seconds)[int(0.95 * r.requests)]:.2f}",
            f"{r.cached_tokens / sum(q.input_tokens for q in requests):.1%}",
            f"{r.overage_share:.1%}",
        )
        for policy_name, r in results.items()
    ]
    title = (
        f"{name}: {len(requests):,} requests, {spare:g} × the need bought;"
        f" promised: first token {promise.first_token_seconds:g} s, then {1e3 * promise.token_seconds:g} ms a token"
    )
    print(table(title, ("policy", "¥ per million", "% in time", "first p95 s", "cached", "at list"), rows))
    return results


def optimum(
    requests: Sequence[TraceRequest], make: Callable[[], tuple[list[Route], list[Engine]]], promise: Promise
) -> float:
    """Return our cost ÷ the least of all assignments that keep at least as many promises."""
    routes, engines = make()
    our = play(requests, routes, engines, ours, promise=promise, model=MODEL)
    best = our.cost_yuan
    for assignment in itertools.product(range(len(routes)), repeat=len(requests)):
        routes, engines = make()
        turn = iter(assignment)

        def told(ask: Ask, routes: Sequence[Route], now: float, turn: Iterator[int] = turn) -> Route:
            return routes[next(turn)]

        fixed = play(requests, routes, engines, told, promise=promise, model=MODEL)
        if fixed.in_time >= our.in_time:
            best = min(best, fixed.cost_yuan)
    return our.cost_yuan / best


def small_cases(requests: Sequence[TraceRequest], promise: Promise) -> list[float]:
    """Return our cost ÷ the optimum's on a few requests in a row, from places all over a trace."""
    dice = random.Random(2026)
    ratios = []
    for _ in range(SMALL_CASES):
        start = dice.randrange(len(requests) - SMALL_REQUESTS)
        some = requests[start : start + SMALL_REQUESTS]
        some = [replace(request, after=request.after - some[0].after) for request in some]
        make = partial(fleet, some, size=1, faster=1.0, engines=3, spare=dice.choice(SMALL_SPARES))
        ratios.append(optimum(some, make, promise))
    return ratios


def main() -> None:
    """Print the tables and the figures."""
    print(environment())
    plans = (
        ("Azure code 2023", "azure_llm_2023_code.csv", 2, 1.0, Promise(2.0, 0.1)),
        ("Mooncake conversation", "mooncake_conversation_first3000.jsonl", 2, 1.0, Promise(10.0, 0.1)),
    )
    costs, shares, ratios = [], [], []
    for name, file, size, faster, promise in plans:
        if (TRACES / file).exists():
            requests = read_trace(TRACES / file).requests
        else:
            print(f"{TRACES / file} is missing: generated traffic takes its place")
            requests = generate(seed=size).requests
        began = time.perf_counter()
        results = compare(name, requests, size=size, faster=faster, promise=promise)
        for spare in OTHER_SPARES if FULL else ():
            compare(name, requests, size=size, faster=faster, promise=promise, spare=spare)
        our = results.pop("ours")
        costs.append(our.yuan_per_million / min(r.yuan_per_million for r in results.values()))
        shares.append(our.share_in_time / max(r.share_in_time for r in results.values()))
        ratios += small_cases(requests, promise)
        print(f"({time.perf_counter() - began:.0f} s)")
    mean = sum(ratios) / len(ratios)
    print(f"\n{len(ratios)} small cases: cost ÷ optimum {mean:.4f} on average, worst {max(ratios):.4f}")
    report({"cost_vs_best_rule": max(costs), "slo_vs_best_rule": min(shares), "cost_vs_optimum": mean})


if __name__ == "__main__":
    main()
