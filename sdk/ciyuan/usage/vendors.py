"""One function per vendor: its usage object in, disjoint classes out."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from ciyuan.usage.classes import COUNTS, MODALITIES, REASONING, REJECTED_DRAFT, TOKEN_CLASSES, Usage, UsageError
from ciyuan.usage.report import Classes, Report, check_total, less


def _openai_input(out: Classes, total: int, of: str, details: Report, writes: Mapping[str, int], read: int) -> None:
    """Input of the OpenAI family: one total that includes everything, with overlapping details beside it."""
    modality = {m: details.number(f"{m}_tokens") for m in ("audio", "image", "video")}
    modality["text"] = less(total, {details.path(f"{m}_tokens"): n for m, n in modality.items()}, of)
    if details.has("text_tokens") and details.number("text_tokens") != modality["text"]:
        text = details.number("text_tokens")
        raise UsageError(
            "total_mismatch",
            details.path("text_tokens"),
            f"{details.path('text_tokens')} is {text}, but {of} leaves {modality['text']} for text",
        )
    less(total, {details.path("cached_tokens"): read, **{f"cache writes ({k})": n for k, n in writes.items()}}, of)
    cached = details.inside("cached_tokens_details")
    known = {m: cached.number(f"{m}_tokens") for m in MODALITIES if cached.has(f"{m}_tokens")}
    out.input(modality, {"cache_read": read, **writes}, {"cache_read": known})


def _openai_output(out: Classes, total: int, of: str, details: Report, reasoning: int | None = None) -> None:
    thinking = details.number("reasoning_tokens") if reasoning is None else reasoning
    rejected = details.number("rejected_prediction_tokens")
    details.number("accepted_prediction_tokens")  # among the visible ones
    parts = {details.path(f"{m}_tokens"): details.number(f"{m}_tokens") for m in ("audio", "image", "video")}
    text = less(
        total,
        {details.path("reasoning_tokens"): thinking, details.path("rejected_prediction_tokens"): rejected, **parts},
        of,
    )
    details.number("text_tokens")
    out.add("output.text", text)
    for m in ("audio", "image", "video"):
        out.add(f"output.{m}", parts[details.path(f"{m}_tokens")])
    out.add(REASONING, thinking)
    out.add(REJECTED_DRAFT, rejected)


def from_openai_chat(usage: Any) -> Usage:
    """Chat completions of OpenAI, vLLM, SGLang, DashScope and the compatible: details are parts of the totals."""
    report = Report(usage)
    out = Classes()
    prompt, completion = report.number("prompt_tokens", default=None), report.number("completion_tokens")
    check_total(report, ("total_tokens",), {"prompt_tokens": prompt, "completion_tokens": completion})
    details = report.inside("prompt_tokens_details", "input_tokens_details")
    writes = {"cache_write_5m": details.number("cache_write_tokens", "cache_creation_tokens")}
    _openai_input(out, prompt, "prompt_tokens", details, writes, details.number("cached_tokens"))
    thinking = report.inside("completion_tokens_details", "output_tokens_details")
    # SGLang reports reasoning beside the totals, of which it is a part all the same.
    beside = report.number("reasoning_tokens")
    _openai_output(out, completion, "completion_tokens", thinking, None if thinking.has("reasoning_tokens") else beside)
    return out.done(report)


def from_openai_responses(usage: Any) -> Usage:
    """The Responses and Realtime APIs: input_tokens and output_tokens, details are parts of them."""
    report = Report(usage)
    out = Classes()
    given, made = report.number("input_tokens", default=None), report.number("output_tokens")
    check_total(report, ("total_tokens",), {"input_tokens": given, "output_tokens": made})
    details = report.inside("input_tokens_details", "input_token_details")
    writes = {"cache_write_5m": details.number("cache_write_tokens")}
    _openai_input(out, given, "input_tokens", details, writes, details.number("cached_tokens"))
    _openai_output(out, made, "output_tokens", report.inside("output_tokens_details", "output_token_details"))
    return out.done(report)


def from_otel(attributes: Any) -> Usage:
    """OpenTelemetry's GenAI attributes: cache and reasoning counts are subsets of the two totals."""
    report = Report(attributes)
    out = Classes()
    prefix = "gen_ai.usage."
    given = report.number(prefix + "input_tokens", prefix + "prompt_tokens", default=None)
    made = report.number(prefix + "output_tokens", prefix + "completion_tokens")
    read = report.number(prefix + "cache_read.input_tokens", prefix + "cache_read_input_tokens")
    written = report.number(prefix + "cache_creation.input_tokens", prefix + "cache_creation_input_tokens")
    thinking = report.number(prefix + "reasoning.output_tokens", prefix + "reasoning_tokens")
    less(
        given,
        {prefix + "cache_read.input_tokens": read, prefix + "cache_creation.input_tokens": written},
        prefix + "input_tokens",
    )
    out.input({"text": given}, {"cache_read": read, "cache_write_5m": written})
    out.add("output.text", less(made, {prefix + "reasoning.output_tokens": thinking}, prefix + "output_tokens"))
    out.add(REASONING, thinking)
    return out.done(report)


def from_anthropic(usage: Any) -> Usage:
    """Anthropic's messages: input_tokens excludes cache reads and writes; output_tokens includes thinking."""
    report = Report(usage)
    out = Classes()
    plain = report.number("input_tokens", default=None)
    read = report.number("cache_read_input_tokens")
    written = report.number("cache_creation_input_tokens")
    details = report.inside("cache_creation")
    five_minutes, hour = details.number("ephemeral_5m_input_tokens"), details.number("ephemeral_1h_input_tokens")
    if not details.data:
        five_minutes = written  # the default lifetime
    elif report.has("cache_creation_input_tokens") and five_minutes + hour != written:
        raise UsageError(
            "total_mismatch",
            "cache_creation_input_tokens",
            f"cache_creation_input_tokens is {written}, but cache_creation says {five_minutes} for 5 minutes"
            f" + {hour} for 1 hour",
        )
    out.input(
        {"text": plain + read + five_minutes + hour},
        {"cache_read": read, "cache_write_5m": five_minutes, "cache_write_1h": hour},
    )
    out.add("output.text", report.number("output_tokens"))
    tools = report.inside("server_tool_use")
    out.counts["search_calls"] = tools.number("web_search_requests")
    return out.done(report)


def from_gemini(usage: Any) -> Usage:
    """
    Gemini's usageMetadata (camel or snake case): promptTokenCount includes the cached content, thoughts and the
    prompts of tools stand beside prompt and candidates, and the total has all of them.
    """
    report = Report(usage)
    out = Classes()
    prompt = report.number("promptTokenCount", "prompt_token_count", default=None)
    visible = report.number(
        "candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count"
    )
    thoughts = report.number("thoughtsTokenCount", "thoughts_token_count")
    tools = report.number("toolUsePromptTokenCount", "tool_use_prompt_token_count")
    read = report.number("cachedContentTokenCount", "cached_content_token_count")
    parts = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": visible,
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": tools,
    }
    check_total(report, ("totalTokenCount", "total_token_count"), parts)

    modality = _named_or_text(
        report.by_modality("promptTokensDetails", "prompt_tokens_details"), prompt, "promptTokenCount"
    )
    of_tools = report.by_modality("toolUsePromptTokensDetails", "tool_use_prompt_tokens_details")
    cached = report.by_modality("cacheTokensDetails", "cache_tokens_details")
    less(prompt, {"cachedContentTokenCount": read}, "promptTokenCount")
    out.input(modality, {"cache_read": read}, {"cache_read": cached})
    for m, n in _named_or_text(of_tools, tools, "toolUsePromptTokenCount").items():
        out.add(f"input.{m}", n)
    made = report.by_modality("candidatesTokensDetails", "candidates_tokens_details", "responseTokensDetails")
    for m, n in _named_or_text(made, visible, "candidatesTokenCount").items():
        out.add(f"output.{m}", n)
    out.add(REASONING, thoughts)
    return out.done(report)


def _named_or_text(named: Mapping[str, int], total: int, of: str) -> dict[str, int]:
    """Tokens by modality; what the details do not name is text."""
    rest = less(total, {f"{of} details": sum(named.values())}, of)
    return {**named, "text": named.get("text", 0) + rest}


def from_deepseek(usage: Any) -> Usage:
    """DeepSeek: prompt_tokens = prompt_cache_hit_tokens + prompt_cache_miss_tokens."""
    report = Report(usage)
    if not report.has("prompt_cache_hit_tokens"):
        return from_openai_chat(usage)
    out = Classes()
    prompt, completion = report.number("prompt_tokens", default=None), report.number("completion_tokens")
    hit, miss = report.number("prompt_cache_hit_tokens"), report.number("prompt_cache_miss_tokens", default=None)
    check_total(report, ("prompt_tokens",), {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": miss})
    check_total(report, ("total_tokens",), {"prompt_tokens": prompt, "completion_tokens": completion})
    details = report.inside("prompt_tokens_details")
    if details.has("cached_tokens") and details.number("cached_tokens") != hit:
        raise UsageError(
            "total_mismatch",
            "prompt_tokens_details.cached_tokens",
            f"prompt_tokens_details.cached_tokens is {details.number('cached_tokens')},"
            f" but prompt_cache_hit_tokens is {hit}",
        )
    out.input({"text": prompt}, {"cache_read": hit})
    _openai_output(out, completion, "completion_tokens", report.inside("completion_tokens_details"))
    return out.done(report)


def from_litellm(payload: Any) -> Usage:
    """
    LiteLLM's StandardLoggingPayload. Its prompt_tokens include cache reads and writes whatever the vendor; both are
    named twice (in the details and beside them), which must agree and are counted once.
    """
    outer = Report(payload)
    metadata = outer.inside("metadata")
    usage: dict[str, Any] = {
        k: payload[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens") if payload.get(k) is not None
    }
    inner = metadata.inside("usage_object")
    report = Report({**usage, **{k: v for k, v in inner.data.items() if v is not None}})
    for key, n in usage.items():
        if report.number(key) != n:
            raise UsageError(
                "total_mismatch", key, f"{key} is {n}, but metadata.usage_object.{key} is {report.number(key)}"
            )
    out = Classes()
    prompt, completion = report.number("prompt_tokens", default=None), report.number("completion_tokens")
    check_total(report, ("total_tokens",), {"prompt_tokens": prompt, "completion_tokens": completion})
    details = report.inside("prompt_tokens_details")
    read = _named_twice(report, "cache_read_input_tokens", details, "cached_tokens")
    written = _named_twice(report, "cache_creation_input_tokens", details, "cache_creation_tokens")
    lifetimes = details.inside("cache_creation_token_details")
    hour = lifetimes.number("ephemeral_1h_input_tokens")
    lifetimes.number("ephemeral_5m_input_tokens")
    five_minutes = less(written, {lifetimes.path("ephemeral_1h_input_tokens"): hour}, "cache_creation_input_tokens")
    _openai_input(out, prompt, "prompt_tokens", details, {"cache_write_5m": five_minutes, "cache_write_1h": hour}, read)
    _openai_output(out, completion, "completion_tokens", report.inside("completion_tokens_details"))
    out.counts["search_calls"] = report.inside("server_tool_use").number("web_search_requests") or details.number(
        "web_search_requests"
    )
    return out.done(report)


def _named_twice(report: Report, key: str, details: Report, detail_key: str) -> int:
    beside, within = report.number(key), details.number(detail_key)
    if beside and within and beside != within:
        raise UsageError("total_mismatch", key, f"{key} is {beside}, but {details.path(detail_key)} is {within}")
    return beside or within


def from_sglang(meta_info: Any) -> Usage:
    """SGLang's native meta_info: prompt_tokens includes cached_tokens. An OpenAI object passes too."""
    if not isinstance(meta_info, Mapping) or "cached_tokens" not in meta_info:
        return from_openai_chat(meta_info)
    report = Report(meta_info)
    out = Classes()
    prompt, read = report.number("prompt_tokens", default=None), report.number("cached_tokens")
    less(prompt, {"cached_tokens": read}, "prompt_tokens")
    out.input({"text": prompt}, {"cache_read": read})
    thinking = report.number("reasoning_tokens")
    out.add(
        "output.text", less(report.number("completion_tokens"), {"reasoning_tokens": thinking}, "completion_tokens")
    )
    out.add(REASONING, thinking)
    return out.done(report)


def from_ciyuan(usage: Any) -> Usage:
    """Our own shape: token classes and counts by name, nothing else."""
    report = Report(usage)
    tokens: dict[str, int] = {}
    counts: dict[str, int] = {}
    for key in report.data:
        if key not in TOKEN_CLASSES and key not in COUNTS:
            near = get_close_matches(str(key), (*TOKEN_CLASSES, *COUNTS), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError("unknown_class", str(key), f"{key!r} is no class of tokens{hint}")
        if n := report.number(key):
            (tokens if key in TOKEN_CLASSES else counts)[key] = n
    return Usage(tokens, counts)
