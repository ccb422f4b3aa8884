"""
Traces of real inference requests, in the two public formats, and generated traffic.

- Azure LLM inference traces (CSV: TIMESTAMP, ContextTokens, GeneratedTokens), 2023 and 2024.
- Mooncake traces (JSONL: timestamp in ms, input_length, output_length, hash_ids per block of 512 input tokens). A block
  whose id was seen before is a prefix-cache hit.
"""

import csv
import json
import math
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

BLOCK_TOKENS = 512
MAX_TOKENS = 10_000_000


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
    """The file is in neither format."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of a file in time order, the lines that are none, and when the first came (if the format says)."""

    requests: list[TraceRequest]
    bad_lines: list[BadLine]
    starts_at: datetime | None


def read_trace(path: Path) -> Trace:
    """
    Read a trace file of either format.

    :raises NotATrace: the first line fits neither format, or no line is a request.
    :raises OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
        file.seek(0)
        if first.lstrip().startswith("{"):
            trace = _read_mooncake(file)
        elif "contexttokens" in first.lower():
            trace = _read_azure(file)
        else:
            raise NotATrace(
                f"{path}: neither an Azure CSV (TIMESTAMP,ContextTokens,GeneratedTokens) nor Mooncake JSONL"
                ' ({"timestamp": …, "input_length": …, "output_length": …}).'
            )
    if not trace.requests:
        raise NotATrace(f"{path}: not one line is a request" + (f" ({trace.bad_lines[0]})" if trace.bad_lines else "."))
    return trace


def _read_azure(lines: Iterable[str]) -> Trace:
    reader = csv.reader(lines)
    header = [name.strip().lower() for name in next(reader)]
    try:
        columns = [header.index(name) for name in ("timestamp", "contexttokens", "generatedtokens")]
    except ValueError as error:
        raise NotATrace(f"the CSV's header lacks a column: {error}") from None
    timed: list[tuple[datetime, int, int, int]] = []
    bad: list[BadLine] = []
    for row in reader:
        if not row:
            continue
        number = reader.line_num
        try:
            at, inputs, outputs = (row[column].strip() for column in columns)
            timed.append((_azure_time(at), number, _count(inputs), _count(outputs)))
        except (ValueError, IndexError) as error:
            bad.append(BadLine(number, _reason(error, row)))
    timed.sort(key=lambda item: (item[0], item[1]))
    start = timed[0][0] if timed else None
    requests = [TraceRequest(number, at - (start or at), inputs, 0, outputs) for at, number, inputs, outputs in timed]
    return Trace(requests, bad, start)


def _azure_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace(" UTC", "+00:00"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_mooncake(lines: Iterable[str]) -> Trace:
    rows: list[tuple[int, int, int, int, list[int]]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            blocks = row.get("hash_ids", [])
            if not isinstance(blocks, list) or not all(isinstance(block, int) for block in blocks):
                raise ValueError("hash_ids is no list of integers")
            rows.append(
                (_whole(row["timestamp"]), number, _count(row["input_length"]), _count(row["output_length"]), blocks)
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            bad.append(BadLine(number, _reason(error, line)))
    rows.sort(key=lambda item: item[:2])
    start = rows[0][0] if rows else 0
    seen: set[int] = set()
    requests = []
    for at, number, inputs, outputs, blocks in rows:
        hits = 0
        for block in blocks:
            if block not in seen:
                break
            hits += 1
        seen.update(blocks)
        cached = min(hits * BLOCK_TOKENS, inputs)
        after = timedelta(milliseconds=at - start)
        requests.append(TraceRequest(number, after, inputs, cached, outputs, tuple(blocks)))
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
