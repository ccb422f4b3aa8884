from datetime import timedelta
from pathlib import Path

import pytest

from scenarios.traces import NotATrace, generate, read_trace

TRACES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the public traces are not at {TRACES}")


@needs_traces
def test_reads_the_azure_hour():
    trace = read_trace(TRACES / "azure_llm_2023_code.csv")
    assert len(trace.requests) == 8_819 and not trace.bad_lines
    assert trace.requests[0].input_tokens == 4_808 and trace.requests[0].output_tokens == 10
    assert trace.requests[0].after == timedelta(0)
    assert timedelta(minutes=50) < trace.requests[-1].after < timedelta(minutes=70)
    assert trace.starts_at is not None and trace.starts_at.isoformat() == "2023-11-16T18:17:03.979960+00:00"


@needs_traces
def test_reads_mooncake_and_finds_the_prefix_hits():
    trace = read_trace(TRACES / "mooncake_conversation_first3000.jsonl")
    assert len(trace.requests) == 3_000 and not trace.bad_lines
    assert [request.cached_input_tokens for request in trace.requests[:3]] == [0, 512, 512]
    assert all(0 <= request.cached_input_tokens <= request.input_tokens for request in trace.requests)


def test_names_bad_lines_and_goes_on(tmp_path):
    azure = tmp_path / "a.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:00:01.0000000,10,5\nnot a time,1,1\n2023-11-16 18:00:00.0000000,7,3\n"
        "2023-11-16 18:00:03,-4,3\n2023-11-16 18:00:04,4\n"
    )
    trace = read_trace(azure)
    assert [(r.line, r.input_tokens, r.after.total_seconds()) for r in trace.requests] == [(4, 7, 0.0), (2, 10, 1.0)]
    assert [bad.line for bad in trace.bad_lines] == [3, 5, 6]
    mooncake = tmp_path / "m.jsonl"
    mooncake.write_text(
        '{"timestamp": 5, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}\n{"timestamp": 6}\n[]\n'
        '{"timestamp": 7, "input_length": 600, "output_length": 1, "hash_ids": [1, 2]}\nnonsense\n'
        '{"timestamp": 8, "input_length": 600, "output_length": 1, "hash_ids": [9, 2]}\n'
    )
    trace = read_trace(mooncake)
    assert [r.cached_input_tokens for r in trace.requests] == [0, 600, 0]
    assert [str(bad).split(":")[0] for bad in trace.bad_lines] == ["line 2", "line 3", "line 5"]


def test_reads_burst_gpt_without_the_requests_that_failed(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "45.5,ChatGPT,1087,230,1317,Conversation log\n5,ChatGPT,472,18,490,Conversation log\n"
        "118,GPT-4,417,0,417,API log\nnan,GPT-4,1,1,2,API log\n"
    )
    trace = read_trace(path)
    found = [(r.line, r.input_tokens, r.output_tokens, r.after.total_seconds()) for r in trace.requests]
    assert found == [(3, 472, 18, 0.0), (2, 1087, 230, 40.5)]
    assert [bad.line for bad in trace.bad_lines] == [4, 5] and "failed" in trace.bad_lines[0].reason


def test_reads_bailian_in_seconds_and_blocks_of_sixteen(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"chat_id": 1, "timestamp": 61.114, "input_length": 40, "output_length": 2, "hash_ids": [7, 8, 9]}\n'
        '{"chat_id": 2, "timestamp": 62.5, "input_length": 50, "output_length": 3, "hash_ids": [7, 8, 5]}\n'
        '{"chat_id": 3, "timestamp": -1, "input_length": 50, "output_length": 3, "hash_ids": []}\n'
    )
    trace = read_trace(path)
    assert [request.cached_input_tokens for request in trace.requests] == [0, 32]
    assert trace.requests[1].after == timedelta(seconds=1.386)
    assert [str(bad) for bad in trace.bad_lines] == ["line 3: the time -1 is negative"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "{}\n"])
def test_refuses_what_is_no_trace(tmp_path, text):
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(NotATrace):
        read_trace(path)


def test_generated_traffic_is_the_same_for_a_seed_and_is_bursty():
    one, two = generate(seed=7, requests=2_000), generate(seed=7, requests=2_000)
    assert one == two and one != generate(seed=8, requests=2_000)
    gaps = [(b.after - a.after).total_seconds() for a, b in zip(one.requests, one.requests[1:], strict=False)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation / mean > 1.1
    assert max(request.input_tokens for request in one.requests) > 10_000
