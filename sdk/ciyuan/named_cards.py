"""
Cards by name: the reference model, and well-known open models derived from their published configs.

Only the entries of each config that the derivation reads are kept here, as facts, with the repository on
huggingface.co that publishes the file. `PUBLISHED_PARAMS` is what the publisher says the model has in all.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from ciyuan.model_cards import Derivation, derive
from ciyuan.standard_token import REFERENCE_7B, ModelCard

_FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def _dense(
    model_type: str, hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocab: int, **more: Any
) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": ffn,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **more,
    }


_DEEPSEEK_V3 = _dense(
    "deepseek_v3", 7168, 61, 128, 128, 18432, 129280,
    q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
    n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=2048,
    first_k_dense_replace=3, moe_layer_freq=1, topk_method="noaux_tc", quantization_config=_FP8_BLOCKS,
)  # fmt: skip

_QWEN2 = {"use_sliding_window": False}
_QWEN3 = {"head_dim": 128}
_QWEN3_MOE = {**_QWEN3, "num_experts": 128, "num_experts_per_tok": 8, "decoder_sparse_step": 1}
_KIMI_K2 = {
    **_DEEPSEEK_V3, "model_type": "kimi_k2", "num_attention_heads": 64, "num_key_value_heads": 64,
    "n_routed_experts": 384, "first_k_dense_replace": 1, "vocab_size": 163840,
}  # fmt: skip
_GLM_4_5 = _dense(
    "glm4_moe", 5120, 92, 96, 8, 12288, 151552,
    head_dim=128, attention_bias=True, use_qk_norm=True, n_routed_experts=160, n_shared_experts=1,
    num_experts_per_tok=8, moe_intermediate_size=1536, first_k_dense_replace=3,
)  # fmt: skip
_GPT_OSS_120B = _dense(
    "gpt_oss", 2880, 36, 64, 8, 2880, 201088,
    head_dim=64, attention_bias=True, num_local_experts=128, num_experts_per_tok=4, sliding_window=128,
    quantization_config={"quant_method": "mxfp4"},
)  # fmt: skip

#: name → (repository that publishes the config, its entries)
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-3.1-8B": ("meta-llama/Llama-3.1-8B-Instruct", _dense("llama", 4096, 32, 32, 8, 14336, 128256)),
    "Llama-3.1-70B": ("meta-llama/Llama-3.1-70B-Instruct", _dense("llama", 8192, 80, 64, 8, 28672, 128256)),
    "Qwen2.5-7B": ("Qwen/Qwen2.5-7B-Instruct", _dense("qwen2", 3584, 28, 28, 4, 18944, 152064, **_QWEN2)),
    "Qwen2.5-72B": ("Qwen/Qwen2.5-72B-Instruct", _dense("qwen2", 8192, 80, 64, 8, 29568, 152064, **_QWEN2)),
    "Qwen3-8B": ("Qwen/Qwen3-8B", _dense("qwen3", 4096, 36, 32, 8, 12288, 151936, **_QWEN3)),
    "Qwen3-32B": ("Qwen/Qwen3-32B", _dense("qwen3", 5120, 64, 64, 8, 25600, 151936, **_QWEN3)),
    "Qwen3-30B-A3B": (
        "Qwen/Qwen3-30B-A3B",
        _dense("qwen3_moe", 2048, 48, 32, 4, 6144, 151936, moe_intermediate_size=768, **_QWEN3_MOE),
    ),
    "Qwen3-235B-A22B": (
        "Qwen/Qwen3-235B-A22B",
        _dense("qwen3_moe", 4096, 94, 64, 4, 12288, 151936, moe_intermediate_size=1536, **_QWEN3_MOE),
    ),
    "Mixtral-8x7B": (
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        _dense("mixtral", 4096, 32, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2),
    ),
    "DeepSeek-V3": ("deepseek-ai/DeepSeek-V3", _DEEPSEEK_V3),
    "DeepSeek-R1": ("deepseek-ai/DeepSeek-R1", _DEEPSEEK_V3),
    "Kimi-K2": ("moonshotai/Kimi-K2-Instruct", _KIMI_K2),
    "GLM-4.5": ("zai-org/GLM-4.5", _GLM_4_5),
    "gpt-oss-120b": ("openai/gpt-oss-120b", _GPT_OSS_120B),
}

#: Parameters in all, as the publisher's weight files count them, without additional prediction layers (GLM-4.5's file
#: has one of 5,539,962,272) and without quantization scales.
PUBLISHED_PARAMS: dict[str, int] = {
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-70B": 70_553_706_496,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-72B": 72_706_203_648,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-32B": 32_762_123_264,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Qwen3-235B-A22B": 235_093_634_560,
    "Mixtral-8x7B": 46_702_792_704,
    "DeepSeek-V3": 671_026_419_200,
    "DeepSeek-R1": 671_026_419_200,
    "GLM-4.5": 352_797_829_024,
    "gpt-oss-120b": 116_829_156_672,
}


class UnknownModel(ValueError):
    """No card of that name. The message suggests near ones."""

    def __init__(self, name: str) -> None:
        by_folded = {_fold(known): known for known in card_names()}
        near = [by_folded[f] for f in get_close_matches(_fold(name), by_folded, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(card_names())}"
        super().__init__(f"no model card is named {name!r}; {hint}")
        self.name = name
        self.suggestions = tuple(near)


def card_names() -> list[str]:
    return [REFERENCE_7B.name, *CONFIGS]


def named_card(name: str) -> ModelCard:
    """:raises UnknownModel: with suggestions."""
    return REFERENCE_7B if _fold(name) == _fold(REFERENCE_7B.name) else named_derivation(name).card


@lru_cache(maxsize=64)
def named_derivation(name: str) -> Derivation:
    """
    How a named card follows from its published config. Capitals, spaces and an owner (`Qwen/…`) do not matter.

    :raises UnknownModel: with suggestions; the reference model has no config to derive it from.
    """
    wanted = _fold(name)
    for known, (repository, config) in CONFIGS.items():
        if wanted in (_fold(known), _fold(repository)):
            return derive(config, name=known)
    raise UnknownModel(name)


def _fold(name: str) -> str:
    return name.strip().lower().replace(" ", "-").replace("_", "-")
