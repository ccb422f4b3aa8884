"""
Every vendor's usage object as disjoint classes of tokens that sum to the total.

Vendors count differently: OpenAI and OpenTelemetry include cached tokens in the input total and reasoning in the output
total, Anthropic excludes cached ones from its input, Gemini puts thoughts beside the candidates, DeepSeek reports cache
hits and misses. Adding such numbers up as they stand counts tokens twice or not at all, which is the best-known mistake
of billing systems. Here each token falls into exactly one class:

    input.<text|audio|image|video>[.cache_read|.cache_write_5m|.cache_write_1h]
    output.<text|audio|image|video>      what the caller sees
    output.reasoning                     thinking, billed as output
    output.rejected_draft                predicted or drafted tokens that were not accepted: recorded, never billed

Beside them stand counts that are not tokens: requests, search calls, images, seconds of audio or video, and the
token-hours of cache storage. A report that does not add up, or that would leave a class below zero, is refused with
the field that is wrong; nothing is clamped. Numbers that are not understood are listed in `unrecognised`.

Where a vendor says how many tokens were cached but not of which modality, text is taken to be cached first, then
images, audio and video; the work in standard tokens does not depend on it, and `assumed` says that it was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from ciyuan.usage.classes import (
    COUNTS,
    INPUT_CLASSES,
    MODALITIES,
    REASONING,
    REJECTED_DRAFT,
    TOKEN_CLASSES,
    VISIBLE_CLASSES,
    Usage,
    UsageError,
)
from ciyuan.usage.vendors import (
    from_anthropic,
    from_ciyuan,
    from_deepseek,
    from_gemini,
    from_litellm,
    from_openai_chat,
    from_openai_responses,
    from_otel,
    from_sglang,
)

__all__ = [
    "COUNTS",
    "FORMATS",
    "INPUT_CLASSES",
    "MODALITIES",
    "REASONING",
    "REJECTED_DRAFT",
    "TOKEN_CLASSES",
    "VISIBLE_CLASSES",
    "Usage",
    "UsageError",
    "from_anthropic",
    "from_ciyuan",
    "from_deepseek",
    "from_gemini",
    "from_litellm",
    "from_openai_chat",
    "from_openai_responses",
    "from_otel",
    "from_sglang",
    "parse_usage",
]

FORMATS: Mapping[str, Callable[[Any], Usage]] = {
    "ciyuan": from_ciyuan,
    "openai": from_openai_chat,
    "openai-responses": from_openai_responses,
    "otel": from_otel,
    "anthropic": from_anthropic,
    "gemini": from_gemini,
    "deepseek": from_deepseek,
    "litellm": from_litellm,
    "vllm": from_openai_chat,
    "sglang": from_sglang,
}


def parse_usage(format: str, report: Any) -> Usage:
    """:raises UsageError: for an unknown format or a report that does not add up."""
    try:
        parse = FORMATS[format]
    except KeyError:
        near = get_close_matches(format, FORMATS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(FORMATS)}"
        raise UsageError("unknown_format", "format", f"{format!r} is no known format of usage{hint}") from None
    return parse(report)
