"""Cards from published configs: all parameters add up to what the publisher counts, and the active ones are right."""

import pytest
from ciyuan.model_cards import UnknownArchitecture, card_from_config, derive
from ciyuan.named_cards import CONFIGS, PUBLISHED_PARAMS, UnknownModel, card_names, named_card, named_derivation
from ciyuan.standard_token import AttentionGroup


def given_config(**entries):
    return {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 100,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **entries,
    }


@pytest.mark.parametrize("name", PUBLISHED_PARAMS)
def test_all_parameters_add_up_to_the_published_count(name):
    assert named_derivation(name).total_params == PUBLISHED_PARAMS[name]


@pytest.mark.parametrize(
    ("name", "billions"),
    [("DeepSeek-V3", 37), ("Kimi-K2", 32), ("GLM-4.5", 33), ("Qwen3-30B-A3B", 3), ("gpt-oss-120b", 5.1)],
)
def test_active_parameters_are_those_the_publishers_name(name, billions):
    assert named_card(name).active_params / 1e9 == pytest.approx(billions, rel=0.03)


def test_a_dense_card_weight_by_weight():
    derivation = derive(given_config())
    layer = 64 * 64 + 2 * 16 * 64 + 64 * 64 + 3 * 128 * 64 + 2 * 64
    assert derivation.card.active_params == 4 * layer + 100 * 64 + 64  # the embedding is looked up, not multiplied
    assert derivation.card.active_weight_bytes == 2 * derivation.card.active_params
    assert derivation.total_params == derivation.card.active_params + 100 * 64
    assert derivation.card.attention == (AttentionGroup(layers=4, width=64, kv_bytes=2 * 2 * 8 * 2, span=None),)
    assert f"{derivation.card.active_params:,}" in derivation.to_text()


def test_a_tied_table_counts_once():
    tied = derive(given_config(tie_word_embeddings=True))
    assert tied.total_params == tied.card.active_params == card_from_config(given_config()).active_params


def test_latent_attention():
    (group,) = named_card("DeepSeek-V3").attention
    assert group == AttentionGroup(layers=61, width=128 * (192 + 128) // 2, kv_bytes=(512 + 64) * 2, span=None)


def test_sliding_windows_make_groups():
    assert named_card("gpt-oss-120b").attention == (
        AttentionGroup(layers=18, width=4_096, kv_bytes=2_048, span=None),
        AttentionGroup(layers=18, width=4_096, kv_bytes=2_048, span=128),
    )
    gemma = card_from_config(given_config(model_type="gemma3_text", num_hidden_layers=12, sliding_window=32))
    assert [(g.layers, g.span) for g in gemma.attention] == [(2, None), (10, 32)]
    listed = card_from_config(given_config(sliding_window=16, layer_types=["sliding_attention", "full_attention"] * 2))
    assert [(g.layers, g.span) for g in listed.attention] == [(2, None), (2, 16)]
    every = card_from_config(given_config(model_type="mistral", sliding_window=16))
    assert [(g.layers, g.span) for g in every.attention] == [(4, 16)]
    off = card_from_config(given_config(model_type="qwen2", sliding_window=16, use_sliding_window=False))
    assert [(g.layers, g.span) for g in off.attention] == [(4, None)]


def test_shared_experts_are_always_active_and_routed_ones_when_chosen():
    moe = {
        "model_type": "qwen2_moe",
        "num_experts": 8,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48,
    }
    one = card_from_config(given_config(**moe, num_experts_per_tok=1))
    two = card_from_config(given_config(**moe, num_experts_per_tok=2))
    assert two.active_params - one.active_params == 4 * 3 * 32 * 64
    without = card_from_config(given_config(**{**moe, "shared_expert_intermediate_size": 0}, num_experts_per_tok=1))
    assert one.active_params - without.active_params == 4 * 3 * 48 * 64


def test_precision_is_that_of_the_published_weights():
    fp8 = named_derivation("DeepSeek-V3")
    by_name = {w.name: w for w in fp8.weights}
    assert by_name["head"].stored_bytes == 2 * by_name["head"].params
    assert by_name["expert down"].stored_bytes == by_name["expert down"].params + 4 * (7_168 // 128) * (2_048 // 128)
    mxfp4 = {w.name: w for w in named_derivation("gpt-oss-120b").weights}
    assert mxfp4["expert down"].stored_bytes * 32 == mxfp4["expert down"].params * 17
    assert mxfp4["q projection"].stored_bytes == 2 * mxfp4["q projection"].params
    gptq = card_from_config(given_config(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 32}))
    assert gptq.active_weight_bytes < card_from_config(given_config()).active_weight_bytes / 2
    full = card_from_config(given_config(torch_dtype="float32"))
    assert full.active_weight_bytes == 4 * full.active_params


def test_a_multimodal_config_keeps_its_language_model_inside():
    inner = given_config()
    assert card_from_config({"model_type": "llava", "text_config": inner}) == card_from_config(inner)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"torch_dtype": "int3"}, "torch_dtype"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quantization_config"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization_config.group_size"),
        ({"linear_num_key_heads": 16}, "linear_num_key_heads"),
        ({"layer_types": ["linear_attention"] * 4}, "layer_types"),
        ({"layer_types": ["full_attention"]}, "layer_types"),
    ],
)
def test_what_has_no_formula_is_refused(change, field):
    with pytest.raises(UnknownArchitecture) as error:
        derive(given_config(**change))
    assert error.value.field == field


def test_names_are_found_however_they_are_written():
    assert named_card(" qwen/qwen3-32b") == named_card("Qwen3-32B")
    assert {named_card(name).name for name in card_names()} == {"reference-7b", *CONFIGS}


def test_a_typo_is_answered_with_suggestions():
    with pytest.raises(UnknownModel) as error:
        named_card("deepseek-v33")
    assert error.value.suggestions[0] == "DeepSeek-V3"
    assert "did you mean DeepSeek-V3" in str(error.value)
