"""llama.cpp's server tells its count in timings: asked for, read, and taken out again."""

import json
from pathlib import Path

import pytest
from ciyuan.guard.counting import asked_of
from ciyuan.guard.engine import body_for_engine
from ciyuan.guard.stream import StreamReader

from tests.guard.given import settings_for


@pytest.mark.parametrize("wanted", [{}, {"include_usage": True, "continuous_usage_stats": True}])
def test_llama_cpps_timings_are_its_count(wanted):
    messages = [{"role": "user", "content": "x" * 400}]
    ask = {"model": "m", "messages": messages, "stream": True, "stream_options": wanted}
    asked = asked_of(ask, 450)
    for llama_cpp in (False, True):
        sent = body_for_engine(json.dumps(ask).encode(), ask, asked, settings_for(Path(), llama_cpp=llama_cpp))
        assert json.loads(sent).get("timings_per_token", False) is llama_cpp
    reader = StreamReader(asked)
    timings = {"prompt_n": 10, "cache_n": 35, "predicted_n": 3, "predicted_ms": 0.5}
    chunk = {"choices": [{"index": 0, "delta": {"content": "ab"}}], "timings": timings}
    out = json.loads(reader.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n").removeprefix(b"data: "))
    assert reader.counts == (45, 35, 3, 0) and "timings" not in out
    assert out.get("usage", {}).get("completion_tokens") == (3 if wanted else None)
    reader.feed(b"data: " + json.dumps(chunk | {"timings": {"prompt_n": -1}}).encode() + b"\n\n")
    assert reader.complaint == "unreadable" and reader.counts.outputs == 3
