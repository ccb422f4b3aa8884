"""
What a request used, as far as it is known: from the engine's own report, or else counted here.

A report is believed unless it cannot be true: it must be readable, must not shrink while the answer grows, and must
not tell of more than the caller allowed. Whoever doubts the rest has the buyer's meter and the engine's counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ciyuan.usage import UsageError, parse_usage

BYTES_PER_TOKEN = 4
MOST_TOKENS = 10**9  # what an event may say
#: What a chat template may add to a prompt: tokens in all and for each message.
TEMPLATE_TOKENS, TEMPLATE_TOKENS_A_MESSAGE = 1_024, 64


class Counts(NamedTuple):
    """Tokens: `inputs` includes `cached`, `outputs` includes `reasoning`."""

    inputs: int = 0
    cached: int = 0
    outputs: int = 0
    reasoning: int = 0


NOTHING = Counts()


class Asked(NamedTuple):
    """
    What the guard keeps in mind of a request: numbers, no text.

    :param prompt_bytes: of the whole body. :param messages: how many. :param most_outputs: what the caller allowed for
        all choices together, None without a limit. :param only_text: whether bytes bound the tokens.
    """

    prompt_bytes: int
    messages: int
    most_outputs: int | None
    only_text: bool
    stream: bool
    wants_usage: bool
    wants_continuous: bool
    wants_timings: bool = False

    def estimate(self) -> Counts:
        """What the input may be where nobody says: four bytes to a token, rounded down."""
        return Counts(inputs=self.prompt_bytes // BYTES_PER_TOKEN)


def asked_of(request: Mapping[str, Any], prompt_bytes: int) -> Asked:
    """:raises ValueError: for a request whose limits are no numbers."""
    messages = request.get("messages")
    limit = request.get("max_completion_tokens", request.get("max_tokens"))
    choices = max(_whole(request.get("n"), 1), _whole(request.get("best_of"), 1))
    prompts = request.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        choices *= len(prompts)
    options = request.get("stream_options")
    options = options if isinstance(options, dict) else {}
    parts = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    return Asked(
        prompt_bytes=prompt_bytes,
        messages=len(parts),
        most_outputs=None if limit is None else _whole(limit, 0) * choices,
        only_text=all(
            not isinstance(part, list) or all(isinstance(p, dict) and p.get("type") == "text" for p in part)
            for part in parts
        ),
        stream=bool(request.get("stream")),
        wants_usage=bool(options.get("include_usage")),
        wants_continuous=bool(options.get("include_usage")) and bool(options.get("continuous_usage_stats")),
        wants_timings=request.get("timings_per_token") is True,
    )


def _whole(value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no whole number")
    return value


def running(usage: Any) -> Counts | None:
    """The counts of a usage object in mid-stream, read quickly; None for one that is not plain numbers."""
    if not isinstance(usage, dict):
        return None
    inputs, outputs = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    cached = reasoning = 0
    if details := usage.get("prompt_tokens_details"):
        cached = details.get("cached_tokens") or 0 if isinstance(details, dict) else -1
    if details := usage.get("completion_tokens_details"):
        reasoning = details.get("reasoning_tokens") or 0 if isinstance(details, dict) else -1
    if not (type(inputs) is type(outputs) is type(cached) is type(reasoning) is int):
        return None
    if not (0 <= cached <= inputs and 0 <= reasoning <= outputs):
        return None
    return Counts(inputs, cached, outputs, reasoning)


def timed(timings: Any) -> Counts | None:
    """The counts in llama.cpp's timings: input read and found in its cache, and what is predicted so far."""
    if not isinstance(timings, dict):
        return None
    read, cached, outputs = (timings.get(name, 0) for name in ("prompt_n", "cache_n", "predicted_n"))
    if not (type(read) is type(cached) is type(outputs) is int and min(read, cached, outputs) >= 0):
        return None
    return Counts(read + cached, cached, outputs)


def final(usage: Any) -> Counts:
    """:raises UsageError: for a report that does not add up."""
    read = parse_usage("openai", usage)
    return Counts(
        read.input_tokens, read.cached_input_tokens, read.output_tokens, read.tokens.get("output.reasoning", 0)
    )


def believable(counts: Counts, asked: Asked, before: Counts = NOTHING) -> Counts:
    """
    :param before: what was reported earlier of the same request.
    :raises UsageError: for counts that this request cannot have.
    """
    if asked.most_outputs is not None and counts.outputs > asked.most_outputs:
        raise UsageError(
            "too_many", "completion_tokens", f"{counts.outputs} tokens out, and {asked.most_outputs} were allowed"
        )
    if max(counts.inputs, counts.outputs) > MOST_TOKENS:
        raise UsageError("too_many", "usage", f"{counts.inputs} and {counts.outputs} are no request's tokens")
    most = asked.prompt_bytes + TEMPLATE_TOKENS + TEMPLATE_TOKENS_A_MESSAGE * asked.messages
    if asked.only_text and counts.inputs > most:
        raise UsageError(
            "too_many", "prompt_tokens", f"{counts.inputs} tokens in, of a request of {asked.prompt_bytes} bytes"
        )
    if counts.outputs < before.outputs or counts.inputs < before.inputs:
        raise UsageError("shrinks", "usage", f"{counts} after {before}")
    return counts
