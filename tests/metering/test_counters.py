"""Engine counters: the text of a scrape, and what was counted between two moments."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering_ingest.domain.counters import BadExposition, Point, counted, covers, parse_exposition

VLLM = """# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="Qwen/Qwen3-32B"} 8.128902e+06
# HELP vllm:prompt_tokens_created Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0",model_name="Qwen/Qwen3-32B"} 1.7637e+09
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="Qwen/Qwen3-32B"} 7557572.0
vllm:generation_tokens_total{engine="1",model_name="Qwen/Qwen3-32B"} 12.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="Qwen/Qwen3-32B"} 900.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a \\"quoted\\" name"} 3.0
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 4.0
"""
SGLANG = """# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="m",tp_rank="0"} 50.0
sglang:prompt_tokens_total{model_name="m",tp_rank="1"} 50.0
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{model_name="m",tp_rank="0"} 7.0
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{cache_source="device",model_name="m"} 20.0
"""


def test_a_scrape_of_vllm_gives_its_token_counters() -> None:
    found = parse_exposition(VLLM)
    assert sorted((r.counts, r.value) for r in found) == [
        ("cached", 900), ("output", 12), ("output", 7_557_572), ("prompt", 8_128_902), ("requests", 3),
    ]  # fmt: skip
    prompt = next(r for r in found if r.counts == "prompt")
    assert prompt.started_at == datetime(2025, 11, 21, 4, 40, tzinfo=UTC)
    assert len({r.series for r in found}) == 5
    assert parse_exposition(VLLM) == found  # the same series has the same name for ever
    restarted = parse_exposition(VLLM.replace("1.7637e+09", "1.7638e+09"))
    assert {r.series for r in restarted} ^ {r.series for r in found}


def test_ranks_of_one_replica_are_counted_once() -> None:
    assert sorted((r.counts, r.value) for r in parse_exposition(SGLANG)) == [
        ("cached", 20),
        ("output", 7),
        ("prompt", 50),
    ]


@pytest.mark.parametrize(
    "text", ["", "hello", "up 1\n", 'vllm:prompt_tokens_total{a="b 1\n', "vllm:prompt_tokens_total NaN\n"]
)
def test_what_is_no_scrape_is_refused(text: str) -> None:
    with pytest.raises(BadExposition):
        parse_exposition(text)


def test_a_counter_that_falls_began_anew() -> None:
    points = [Point(0, 100), Point(10, 160), Point(20, 30), Point(30, 50)]
    assert counted(points, 0, 30) == 60 + 30 + 20
    assert counted(points, 0, 15) == 60 + 15
    assert counted(points, -100, 100) == 110
    assert counted([Point(5, 7)], 0, 10) == 0  # a first reading says nothing of before


def test_readings_far_from_an_hours_ends_say_nothing_of_it() -> None:
    hour = 3_600_000
    assert covers([0, hour], 0, hour) and covers([-hour, 2 * hour], 0, hour)
    assert not covers([1, hour], 0, hour) and not covers([-hour - 1, hour], 0, hour)


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(0, 10**12)), min_size=1, max_size=20),
    st.lists(st.integers(0, 10**8), min_size=1, max_size=6),
)
def test_parts_of_time_add_up_to_the_whole(steps: list[tuple[int, int]], cuts: list[int]) -> None:
    at, points = 0, []
    for gap, value in steps:
        at += gap
        points.append(Point(at, value))
    edges = sorted({0, *cuts, at + 1})
    parts = [counted(points, a, b) for a, b in itertools.pairwise(edges)]
    assert all(part >= 0 for part in parts)
    naive = sum(b - a if b >= a else b for (_, a), (_, b) in itertools.pairwise(steps))
    assert sum(parts) == counted(points, edges[0], edges[-1])
    assert counted(points, 0, at) == naive
