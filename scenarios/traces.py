"""
Traces of real inference requests, in the public formats, and generated traffic.

- Azure LLM inference traces (CSV: TIMESTAMP, ContextTokens, GeneratedTokens), 2023 and 2024.
- BurstGPT (CSV: Timestamp in seconds, Model, Request tokens, Response tokens, …). A request without a response failed.
- Mooncake traces (JSONL: timestamp in ms, input_length, output_length, hash_ids per block of 512 input tokens). A block
  whose id was seen before is a prefix-cache hit.
- Qwen-Bailian traces (JSONL: the same and chat_id; timestamp in seconds, blocks of 16 tokens).
"""

import csv
import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

BLOCK_TOKENS, BAILIAN_BLOCK_TOKENS = 512, 16
MAX_TOKENS = 10_000_000
When = TypeVar("When", datetime, timedelta)


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """
    One request: when it came after the trace's first, and its tokens. Cached ones are part of the input.

    :param blocks: ids of its blocks of input, where the trace names them: equal ones have an equal beginning.
    """

    line: int
    after: timedelta
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no request, by number, and what is wrong with it."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class NotATrace(ValueError):
    """The file is in none of the formats."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of a file in time order, the lines that are none, and when the first came (if the format says)."""

    requests: list[TraceRequest]
    bad_lines: list[BadLine]
    starts_at: datetime | None


def read_trace(path: Path) -> Trace:
    """
    Read a trace file of any of the formats.

    :raises NotATrace: the first line fits none of them, or no line is a request.
    :raises OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        if first.lstrip().startswith("{"):
            trace = _read_blocks(file, bailian='"chat_id"' in first)
        elif "contexttokens" in first.lower():
            trace = _read_azure(file)
        elif "request tokens" in first.lower():
            trace = _read_burst(file)
        else:
            raise NotATrace(
                f"{path}: neither a CSV of Azure (TIMESTAMP,ContextTokens,GeneratedTokens) or BurstGPT"
                " (Timestamp,Model,Request tokens,Response tokens) nor JSONL of Mooncake or Qwen-Bailian"
                ' ({"timestamp": …, "input_length": …, "output_length": …}).'
            )
    if not trace.requests:
        raise NotATrace(f"{path}: not one line is a request" + (f" ({trace.bad_lines[0]})" if trace.bad_lines else "."))
    return trace


def _read_azure(lines: Iterable[str]) -> Trace:
    timed, bad = _read_csv(lines, ("timestamp", "contexttokens", "generatedtokens"), _azure_time)
    start = timed[0][0] if timed else None
    requests = [TraceRequest(number, at - (start or at), inputs, 0, outputs) for at, number, inputs, outputs in timed]
    return Trace(requests, bad, start)


def _read_burst(lines: Iterable[str]) -> Trace:
    timed, bad = _read_csv(lines, ("timestamp", "request tokens", "response tokens"), _seconds)
    start = timed[0][0] if timed else timedelta()
    bad += [BadLine(number, "the request failed: it has no response tokens") for _, number, _, out in timed if not out]
    requests = [TraceRequest(number, at - start, inputs, 0, out) for at, number, inputs, out in timed if out]
    return Trace(requests, sorted(bad, key=lambda one: one.line), None)


def _read_csv(
    lines: Iterable[str], wanted: Sequence[str], time_of: Callable[[str], When]
) -> tuple[list[tuple[When, int, int, int]], list[BadLine]]:
    """Return (time, line, input tokens, output tokens) of each request by time, and the lines that are none."""
    reader = csv.reader(lines)
    header = [name.strip().lower() for name in next(reader)]
    try:
        columns = [header.index(name) for name in wanted]
    except ValueError as error:
        raise NotATrace(f"the CSV's header lacks a column: {error}") from None
    timed: list[tuple[When, int, int, int]] = []
    bad: list[BadLine] = []
    for row in reader:
        if not row:
            continue
        number = reader.line_num
        try:
            at, inputs, outputs = (row[column].strip() for column in columns)
            timed.append((time_of(at), number, _count(inputs), _count(outputs)))
        except (ValueError, IndexError, OverflowError) as error:
            bad.append(BadLine(number, _reason(error, row)))
    timed.sort(key=lambda item: item[:2])
    return timed, bad


def _azure_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _seconds(value: object) -> timedelta:
    """Return a time given as seconds since some beginning."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no time in seconds")
    at = timedelta(seconds=float(value))
    if at < timedelta():
        raise ValueError(f"the time {value} is negative")
    return at


def _milliseconds(value: object) -> timedelta:
    return timedelta(milliseconds=_whole(value))


def _read_blocks(lines: Iterable[str], *, bailian: bool) -> Trace:
    time_of, block_tokens = (_seconds, BAILIAN_BLOCK_TOKENS) if bailian else (_milliseconds, BLOCK_TOKENS)
    rows: list[tuple[timedelta, int, int, int, list[int]]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            blocks = row.get("hash_ids", [])
            if not isinstance(blocks, list) or not all(isinstance(block, int) for block in blocks):
                raise ValueError("hash_ids is no list of integers")
            inputs, outputs = _count(row["input_length"]), _count(row["output_length"])
            rows.append((time_of(row["timestamp"]), number, inputs, outputs, blocks))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            bad.append(BadLine(number, _reason(error, line)))
    rows.sort(key=lambda item: item[:2])
    start = rows[0][0] if rows else timedelta()
    seen: set[int] = set()
    requests = []
    for at, number, inputs, outputs, blocks in rows:
        hits = 0
        for block in blocks:
            if block not in seen:
                break
            hits += 1
        seen.update(blocks)
        cached = min(hits * block_tokens, inputs)
        requests.append(TraceRequest(number, at - start, inputs, cached, outputs, tuple(blocks)))
    return Trace(requests, bad, None)


def _count(value: object) -> int:
    """Return a number of tokens, written as an integer or its text."""
    number = _whole(value)
    if number > MAX_TOKENS:
        raise ValueError(f"{number} tokens in one request is beyond {MAX_TOKENS}")
    return number


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is no whole number")
    number = int(value)
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def _reason(error: Exception, line: object) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, IndexError):
        return f"too few columns in {line!r:.60}"
    if isinstance(error, AttributeError):
        return f"not an object: {line!r:.60}"
    return str(error)[:120]


def generate(*, seed: int, requests: int = 4_000, over: timedelta = timedelta(hours=1)) -> Trace:
    """
    Return seeded traffic: bursts (a two-state modulated Poisson process) and heavy-tailed lengths (log-normal).

    Medians and spread follow the Azure conversation trace: about 1,000 tokens in, 130 out, tails to 32,000.
    """
    dice = random.Random(seed)
    return Trace(list(_generated(dice, requests, over.total_seconds())), [], None)


def _generated(dice: random.Random, count: int, seconds: float) -> Iterator[TraceRequest]:
    gaps, bursting = [], False
    for _ in range(count):
        if dice.random() < 0.02:
            bursting = not bursting
        gaps.append(dice.expovariate(8.0 if bursting else 1.0))
    scale = seconds / (sum(gaps) or 1.0)
    at = 0.0
    for index, gap in enumerate(gaps):
        if index:
            at += gap * scale
        inputs = min(32_000, max(1, round(math.exp(dice.gauss(math.log(1_000), 1.2)))))
        outputs = min(8_000, max(1, round(math.exp(dice.gauss(math.log(130), 0.9)))))
        cached = (inputs // BLOCK_TOKENS) * BLOCK_TOKENS if dice.random() < 0.3 else 0
        yield TraceRequest(index + 1, timedelta(milliseconds=round(at * 1_000)), inputs, cached, outputs)
