"""Every vendor's usage becomes disjoint classes that sum to the vendor's total; what cannot be is refused by field."""

import pytest
from ciyuan.standard_token import REFERENCE_7B, work
from ciyuan.usage import FORMATS, TOKEN_CLASSES, UsageError, parse_usage
from hypothesis import given
from hypothesis import strategies as st

OPENAI = {
    "prompt_tokens": 2_006,
    "completion_tokens": 300,
    "total_tokens": 2_306,
    "prompt_tokens_details": {"cached_tokens": 1_920, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 100,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 20,
        "rejected_prediction_tokens": 10,
    },
}


@pytest.mark.parametrize(
    ("format", "report", "tokens", "counts"),
    [
        (
            "openai",
            OPENAI,
            {
                "input.text": 86,
                "input.text.cache_read": 1_920,
                "output.text": 190,
                "output.reasoning": 100,
                "output.rejected_draft": 10,
            },
            {},
        ),
        (
            "openai-responses",
            {
                "input_tokens": 75,
                "input_tokens_details": {"cached_tokens": 32},
                "output_tokens": 1_186,
                "output_tokens_details": {"reasoning_tokens": 1_024},
                "total_tokens": 1_261,
            },
            {"input.text": 43, "input.text.cache_read": 32, "output.text": 162, "output.reasoning": 1_024},
            {},
        ),
        (
            "openai-responses",  # realtime, with the cache by modality
            {
                "total_tokens": 253,
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 119,
                    "audio_tokens": 13,
                    "cached_tokens": 64,
                    "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            {
                "input.text": 59,
                "input.text.cache_read": 60,
                "input.audio": 9,
                "input.audio.cache_read": 4,
                "output.text": 30,
                "output.audio": 91,
            },
            {},
        ),
        (
            "otel",
            {
                "gen_ai.usage.input_tokens": 1_000,
                "gen_ai.usage.output_tokens": 200,
                "gen_ai.usage.cache_read.input_tokens": 700,
                "gen_ai.usage.cache_creation.input_tokens": 100,
                "gen_ai.usage.reasoning.output_tokens": 50,
            },
            {
                "input.text": 200,
                "input.text.cache_read": 700,
                "input.text.cache_write_5m": 100,
                "output.text": 150,
                "output.reasoning": 50,
            },
            {},
        ),
        (
            "anthropic",
            {
                "input_tokens": 50,
                "cache_read_input_tokens": 100_000,
                "cache_creation_input_tokens": 248,
                "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 503,
                "server_tool_use": {"web_search_requests": 2},
                "service_tier": "standard",
            },
            {
                "input.text": 50,
                "input.text.cache_read": 100_000,
                "input.text.cache_write_5m": 148,
                "input.text.cache_write_1h": 100,
                "output.text": 503,
            },
            {"search_calls": 2},
        ),
        (
            "gemini",
            {
                "promptTokenCount": 1_000,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 80,
                "thoughtsTokenCount": 400,
                "toolUsePromptTokenCount": 20,
                "totalTokenCount": 1_500,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 742},
                    {"modality": "IMAGE", "tokenCount": 258},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 500},
                    {"modality": "IMAGE", "tokenCount": 100},
                ],
            },
            {
                "input.text": 262,
                "input.text.cache_read": 500,
                "input.image": 158,
                "input.image.cache_read": 100,
                "output.text": 80,
                "output.reasoning": 400,
            },
            {},
        ),
        (
            "deepseek",
            {
                "prompt_tokens": 17,
                "completion_tokens": 9,
                "total_tokens": 26,
                "prompt_tokens_details": {"cached_tokens": 12},
                "prompt_cache_hit_tokens": 12,
                "prompt_cache_miss_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            {"input.text": 5, "input.text.cache_read": 12, "output.text": 5, "output.reasoning": 4},
            {},
        ),
        (
            "litellm",
            {
                "id": "chatcmpl-1",
                "prompt_tokens": 2_148,
                "completion_tokens": 10,
                "total_tokens": 2_158,
                "metadata": {
                    "usage_object": {
                        "prompt_tokens": 2_148,
                        "completion_tokens": 10,
                        "total_tokens": 2_158,
                        "prompt_tokens_details": {"cached_tokens": 1_800, "cache_creation_tokens": 248},
                        "cache_read_input_tokens": 1_800,
                        "cache_creation_input_tokens": 248,
                    }
                },
            },
            {
                "input.text": 100,
                "input.text.cache_read": 1_800,
                "input.text.cache_write_5m": 248,
                "output.text": 10,
            },
            {},
        ),
        (
            "vllm",
            {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": None},
            {"input.text": 11, "output.text": 7},
            {},
        ),
        (
            "sglang",
            {"prompt_tokens": 40, "completion_tokens": 16, "cached_tokens": 32},
            {"input.text": 8, "input.text.cache_read": 32, "output.text": 16},
            {},
        ),
        (
            "sglang",  # its OpenAI endpoint names reasoning beside the totals
            {"prompt_tokens": 40, "completion_tokens": 16, "total_tokens": 56, "reasoning_tokens": 6},
            {"input.text": 40, "output.text": 10, "output.reasoning": 6},
            {},
        ),
        (
            "ciyuan",
            {"input.text": 5, "output.reasoning": 1, "images": 2},
            {"input.text": 5, "output.reasoning": 1},
            None,
        ),
    ],
)
def test_each_vendors_report(format, report, tokens, counts):
    usage = parse_usage(format, report)
    assert usage.tokens == tokens
    if counts is not None:
        assert usage.counts == {"requests": 1, **counts}
    assert usage.unrecognised == ()


def test_gemini_tool_prompts_are_input_too():
    usage = parse_usage("gemini", {"prompt_token_count": 5, "tool_use_prompt_token_count": 7, "total_token_count": 12})
    assert usage.tokens == {"input.text": 12}


def test_rejected_drafts_are_recorded_and_not_billed():
    usage = parse_usage("openai", OPENAI)
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (2_006, 1_920, 290)
    assert usage.total_tokens == OPENAI["total_tokens"]


# -- mistakes that other billing systems are known for ----------------------------------------------------------------


def charged(usage, *, read=0.1, write=1.25):
    """A price list like everybody's, in input tokens: cached reads a tenth, cache writes a quarter more."""
    per_class = {"cache_read": read, "cache_write_5m": write, "cache_write_1h": 2.0}
    return sum(n * per_class.get(c.rpartition(".")[2], 1.0) for c, n in usage.tokens.items() if c.startswith("input."))


def test_cached_tokens_are_not_counted_twice():
    usage = parse_usage(
        "openai", {"prompt_tokens": 10_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 8_180}}
    )
    right, mistake = charged(usage), 10_000 * 1.0 + 8_180 * 0.1  # the whole prompt at full price, and the cache again
    assert right == 1_820 + 818
    assert round(mistake / right, 1) == 4.1
    assert usage.total_tokens == 10_000


def test_cache_writes_are_not_counted_twice():
    report = {
        "prompt_tokens": 10_000,
        "completion_tokens": 0,
        "metadata": {
            "usage_object": {
                "prompt_tokens_details": {"cache_creation_tokens": 8_200},
                "cache_creation_input_tokens": 8_200,
            }
        },
    }
    usage = parse_usage("litellm", report)
    assert usage.tokens == {"input.text": 1_800, "input.text.cache_write_5m": 8_200}
    mistake = 10_000 + 8_200 * 1.25
    assert round(mistake / charged(usage), 2) == 1.68


def test_cached_image_tokens_do_not_overlap():
    report = {
        "prompt_tokens": 1_000,
        "completion_tokens": 0,
        "prompt_tokens_details": {"text_tokens": 100, "image_tokens": 900, "cached_tokens": 720},
    }
    usage = parse_usage("openai", report)
    assert usage.total_tokens == 1_000  # added up as they stand: 100 + 900 + 720 = 1,720, 72% more
    assert usage.cached_input_tokens == 720
    assert usage.assumed


def test_cache_reads_are_not_missed():
    usage = parse_usage("anthropic", {"input_tokens": 100, "cache_read_input_tokens": 85, "output_tokens": 0})
    assert usage.input_tokens == 185
    assert charged(usage) == pytest.approx(108.5)  # without the reads, 8.5% would be missing


def test_an_anthropic_report_taken_for_openai_is_refused_not_misread():
    with pytest.raises(UsageError) as error:
        parse_usage(
            "openai", {"prompt_tokens": 50, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 100}}
        )
    assert error.value.code == "negative_leaf"
    assert error.value.field == "prompt_tokens_details.cached_tokens"
    assert "-50" in error.value.detail


@pytest.mark.parametrize(
    ("format", "report", "code", "field"),
    [
        ("openai", {"prompt_tokens": -1, "completion_tokens": 1}, "negative", "prompt_tokens"),
        ("openai", {"prompt_tokens": 1.5, "completion_tokens": 1}, "not_a_count", "prompt_tokens"),
        ("openai", {"prompt_tokens": "12", "completion_tokens": 1}, "not_a_count", "prompt_tokens"),
        ("openai", {"prompt_tokens": 10**13, "completion_tokens": 1}, "too_large", "prompt_tokens"),
        ("openai", {"completion_tokens": 1}, "missing", "prompt_tokens"),
        ("openai", {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 3}, "total_mismatch", "total_tokens"),
        ("openai", [1], "not_an_object", "usage"),
        ("openai", {"prompt_tokens": 1, "prompt_tokens_details": 3}, "not_an_object", "prompt_tokens_details"),
        (
            "openai",
            {"prompt_tokens": 1, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 6}},
            "negative_leaf",
            "completion_tokens_details.reasoning_tokens",
        ),
        (
            "openai",
            {
                "prompt_tokens": 10,
                "completion_tokens": 0,
                "prompt_tokens_details": {"image_tokens": 4, "text_tokens": 9},
            },
            "total_mismatch",
            "prompt_tokens_details.text_tokens",
        ),
        (
            "anthropic",
            {"input_tokens": 1, "cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 8}},
            "total_mismatch",
            "cache_creation_input_tokens",
        ),
        ("gemini", {"promptTokenCount": 5, "cachedContentTokenCount": 6}, "negative_leaf", "cachedContentTokenCount"),
        ("gemini", {"promptTokenCount": 5, "totalTokenCount": 6}, "total_mismatch", "totalTokenCount"),
        (
            "gemini",
            {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "SMELL", "tokenCount": 5}]},
            "unknown_modality",
            "promptTokensDetails[0].modality",
        ),
        (
            "deepseek",
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 5},
            "total_mismatch",
            "prompt_tokens",
        ),
        (
            "otel",
            {"gen_ai.usage.input_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 6},
            "negative_leaf",
            "gen_ai.usage.cache_read.input_tokens",
        ),
        (
            "litellm",
            {
                "prompt_tokens": 20,
                "metadata": {
                    "usage_object": {
                        "cache_read_input_tokens": 5,
                        "prompt_tokens_details": {"cached_tokens": 6},
                    }
                },
            },
            "total_mismatch",
            "cache_read_input_tokens",
        ),
        ("ciyuan", {"input.txt": 5}, "unknown_class", "input.txt"),
        ("opnai", {}, "unknown_format", "format"),
    ],
)
def test_a_report_that_does_not_add_up_is_refused_by_field(format, report, code, field):
    with pytest.raises(UsageError) as error:
        parse_usage(format, report)
    assert (error.value.code, error.value.field) == (code, field)


def test_numbers_that_are_not_understood_are_named():
    usage = parse_usage(
        "openai",
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2, "smell_tokens": 3}},
    )
    assert usage.unrecognised == ("prompt_tokens_details.smell_tokens",)


small = st.integers(0, 10_000)


@given(small, small, small, small, small, small)
def test_openai_and_anthropic_reports_of_one_request_agree(plain, read, write, hour, visible, thinking):
    anthropic = parse_usage(
        "anthropic",
        {
            "input_tokens": plain,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": write + hour,
            "cache_creation": {"ephemeral_5m_input_tokens": write, "ephemeral_1h_input_tokens": hour},
            "output_tokens": visible + thinking,
        },
    )
    total = plain + read + write + hour
    openai = parse_usage(
        "openai",
        {
            "prompt_tokens": total,
            "completion_tokens": visible + thinking,
            "total_tokens": total + visible + thinking,
            "prompt_tokens_details": {"cached_tokens": read},
            "completion_tokens_details": {"reasoning_tokens": thinking},
        },
    )
    assert openai.total_tokens == anthropic.total_tokens == total + visible + thinking
    arguments = [(u.input_tokens, u.cached_input_tokens, u.output_tokens) for u in (openai, anthropic)]
    assert work(REFERENCE_7B, *arguments[0]) == work(REFERENCE_7B, *arguments[1])


leaves = st.integers(-2, 50) | st.sampled_from([None, True, 1.0, 2.5, float("inf"), "", "12", [], 10**15])
keys = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "image_tokens",
        "text_tokens",
        "reasoning_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "prompt_cache_hit_tokens",
        "prompt_cache_miss_tokens",
        "promptTokenCount",
        "candidatesTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
    ]
)
objects = st.dictionaries(keys, leaves, max_size=6)
reports = st.dictionaries(
    keys | st.sampled_from(["prompt_tokens_details", "completion_tokens_details", "metadata", "cache_creation"]),
    leaves | objects | st.lists(objects, max_size=2),
    max_size=8,
)


@given(st.sampled_from(sorted(FORMATS)), reports)
def test_whatever_is_reported_is_classes_above_zero_or_a_refusal(format, report):
    try:
        usage = parse_usage(format, report)
    except UsageError as error:
        assert error.field and error.detail
    else:
        assert all(n > 0 and c in TOKEN_CLASSES for c, n in usage.tokens.items())
