"""
Model cards from a published Hugging Face `config.json`, with the derivation shown weight by weight.

The card counts what one token uses: every matrix it is multiplied with, at the precision it was published in. The
input embedding is a lookup of one row, not a multiplication, and is left out (a tied table counts once, as the head);
of the routed experts only the chosen ones count. Additional prediction layers (MTP) are drafts and are left out.
The derivation also adds up all weights, which is to be compared with the published parameter count.

Understood are dense models (llama, mistral, qwen2, qwen3, gemma), mixtures of experts (mixtral, qwen3_moe, glm4_moe,
gpt_oss, deepseek and its descendants, with shared experts and leading dense layers), grouped-query and latent
attention, and sliding windows. A model with layers that ST-2026.1 has no formula for is refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from ciyuan.standard_token import AttentionGroup, ModelCard

#: Bytes of a weight that is not quantized.
_DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "bf16": 2, "fp16": 2, "float8_e4m3fn": 1}


class UnknownArchitecture(ValueError):
    """A config that no card can be made of. `field` names the entry of the config."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


@dataclass(frozen=True)
class Weight:
    """`copies` matrices of rows × columns, of which one token uses `used`, each stored in `stored_bytes`."""

    name: str
    rows: int
    columns: int
    copies: int
    used: int
    precision: str
    stored_bytes: int

    @property
    def params(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class Derivation:
    card: ModelCard
    weights: tuple[Weight, ...]
    attention_notes: tuple[str, ...]
    total_params: int

    def to_text(self) -> str:
        rows = [
            (
                w.name,
                f"{w.rows:,} × {w.columns:,}",
                w.precision,
                f"{w.used:,} of {w.copies:,}",
                f"{w.used * w.params:,}",
                f"{w.used * w.stored_bytes:,}",
            )
            for w in self.weights
        ]
        head = ("weight", "shape", "precision", "used", "active parameters", "active bytes")
        foot = ("sum", "", "", "", f"{self.card.active_params:,}", f"{self.card.active_weight_bytes:,}")
        table = [head, *rows, foot]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        out = [f"{self.card.name or 'model'}: {self.total_params:,} parameters in all"]
        out += [
            "  ".join(
                c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        ]
        return "\n".join([*out, *self.attention_notes])


def card_from_config(config: Mapping[str, Any], *, name: str = "") -> ModelCard:
    """:raises UnknownArchitecture: for a config that ST-2026.1 has no formula for."""
    return derive(config, name=name).card


def derive(config: Mapping[str, Any], *, name: str = "") -> Derivation:
    """
    Make a card of a published config and show how.

    :raises UnknownArchitecture: for a config that ST-2026.1 has no formula for, or that lacks an entry.
    """
    reader = _Config(config)
    weights = tuple(reader.weights())
    groups, notes = reader.attention()
    card = ModelCard(
        name=name or str(config.get("_name_or_path") or ""),
        active_params=sum(w.used * w.params for w in weights),
        active_weight_bytes=sum(w.used * w.stored_bytes for w in weights),
        attention=groups,
    )
    return Derivation(card, weights, notes, total_params=sum(w.copies * w.params for w in weights))


class _Config:
    """Reads the entries of a config under the names that model families give them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        text = config.get("text_config")
        #: A multimodal config keeps its language model under text_config; quantization may stand beside it.
        self.raw: dict[str, Any] = {**config, **text} if isinstance(text, Mapping) else dict(config)
        for key in (
            "linear_num_key_heads",
            "ssm_state_size",
            "mamba_d_state",
            "index_topk",
            "conv_L_cache",
            "attn_layer_period",
        ):
            if self.raw.get(key):
                raise UnknownArchitecture(key, f"the config has {key}: ST-2026.1 has no formula for such layers")
        self.model_type = str(self.raw.get("model_type", ""))
        self.hidden = self.whole("hidden_size")
        self.layers = self.whole("num_hidden_layers")
        self.heads = self.whole("num_attention_heads")
        self.kv_heads = self.whole("num_key_value_heads", default=self.heads)
        self.head_dim = self.whole("head_dim", default=self.hidden // self.heads)
        self.latent = self.whole("kv_lora_rank", default=0)
        self.quantization: Mapping[str, Any] = self.raw.get("quantization_config") or {}
        self.dtype = str(self.raw.get("torch_dtype") or self.raw.get("dtype") or "bfloat16")
        if self.dtype not in _DTYPE_BYTES:
            raise UnknownArchitecture("torch_dtype", f"torch_dtype {self.dtype!r} is not known")

    def whole(self, *keys: str, default: int | None = None) -> int:
        for key in keys:
            value = self.raw.get(key)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise UnknownArchitecture(key, f"{key} must be a whole number, not {value!r}")
                return value
        if default is None:
            raise UnknownArchitecture(keys[0], f"the config lacks {' / '.join(keys)}")
        return default

    # -- weights ------------------------------------------------------------------------------------------------------

    def weights(self) -> Iterator[Weight]:
        vocabulary = self.whole("vocab_size")
        tied = bool(self.raw.get("tie_word_embeddings", self.model_type.startswith("gemma")))
        if not tied:
            yield self.weight("embedding", vocabulary, self.hidden, copies=1, used=0, kind="plain")
        yield self.weight("head (tied)" if tied else "head", vocabulary, self.hidden, copies=1, kind="plain")
        yield from self.latent_attention() if self.latent else self.grouped_attention()
        yield from self.feed_forward()
        norms = 4 if self.model_type.startswith(("gemma2", "gemma3")) else 2
        yield self.weight("layer norms", norms, self.hidden, copies=self.layers, kind="plain")
        yield self.weight("final norm", 1, self.hidden, copies=1, kind="plain")

    def grouped_attention(self) -> Iterator[Weight]:
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield self.weight("q projection", q, self.hidden, copies=self.layers)
        yield self.weight("k, v projections", kv, self.hidden, copies=2 * self.layers)
        yield self.weight("o projection", self.hidden, q, copies=self.layers)
        qkv_bias = self.model_type.startswith("qwen2") or bool(self.raw.get("attention_bias"))
        if qkv_bias:
            yield self.weight("q, k, v biases", 1, q + 2 * kv, copies=self.layers, kind="plain")
        if self.model_type == "gpt_oss":
            yield self.weight("o bias and sinks", 1, self.hidden + self.heads, copies=self.layers, kind="plain")
        if self.model_type.startswith(("qwen3", "gemma3")) or self.raw.get("use_qk_norm"):
            yield self.weight("q, k norms", 2, self.head_dim, copies=self.layers, kind="plain")

    def latent_attention(self) -> Iterator[Weight]:
        nope, rope, value = self.whole("qk_nope_head_dim"), self.whole("qk_rope_head_dim"), self.whole("v_head_dim")
        query_rank = self.whole("q_lora_rank", default=0)
        if query_rank:
            yield self.weight("q down", query_rank, self.hidden, copies=self.layers)
            yield self.weight("q norm", 1, query_rank, copies=self.layers, kind="plain")
        yield self.weight("q up", self.heads * (nope + rope), query_rank or self.hidden, copies=self.layers)
        yield self.weight("kv down", self.latent + rope, self.hidden, copies=self.layers)
        yield self.weight("kv norm", 1, self.latent, copies=self.layers, kind="plain")
        yield self.weight("kv up", self.heads * (nope + value), self.latent, copies=self.layers)
        yield self.weight("o projection", self.hidden, self.heads * value, copies=self.layers)

    def feed_forward(self) -> Iterator[Weight]:
        experts = self.whole("n_routed_experts", "num_experts", "num_local_experts", default=0)
        if not experts:
            yield self.weight("gate, up", self.whole("intermediate_size"), self.hidden, copies=2 * self.layers)
            yield self.weight("down", self.hidden, self.whole("intermediate_size"), copies=self.layers)
            return
        chosen = self.whole("num_experts_per_tok", "moe_topk")
        width = self.whole("moe_intermediate_size", "intermediate_size")
        dense = self.dense_layers()
        sparse = self.layers - dense
        if dense:
            yield self.weight("dense gate, up", self.whole("intermediate_size"), self.hidden, copies=2 * dense)
            yield self.weight("dense down", self.hidden, self.whole("intermediate_size"), copies=dense)
        yield self.weight("router", experts, self.hidden, copies=sparse, kind="plain")
        if self.raw.get("topk_method") == "noaux_tc" or self.model_type == "glm4_moe":
            yield self.weight("router correction", 1, experts, copies=sparse, kind="float32")
        yield self.weight(
            "expert gate, up", width, self.hidden, copies=2 * sparse * experts, used=2 * sparse * chosen, kind="expert"
        )
        yield self.weight(
            "expert down", self.hidden, width, copies=sparse * experts, used=sparse * chosen, kind="expert"
        )
        if self.model_type == "gpt_oss":
            yield self.weight("router bias", 1, experts, copies=sparse, kind="plain")
            yield self.weight(
                "expert biases", 1, 2 * width + self.hidden, copies=sparse * experts, used=sparse * chosen, kind="plain"
            )
        shared = self.whole(
            "shared_expert_intermediate_size", default=self.whole("n_shared_experts", default=0) * width
        )
        if shared:
            yield self.weight("shared gate, up", shared, self.hidden, copies=2 * sparse)
            yield self.weight("shared down", self.hidden, shared, copies=sparse)
        if self.model_type == "qwen2_moe":
            yield self.weight("shared expert gate", 1, self.hidden, copies=sparse, kind="plain")

    def dense_layers(self) -> int:
        if only := self.raw.get("mlp_only_layers"):
            return len(only)
        if self.whole("decoder_sparse_step", "moe_layer_freq", default=1) != 1:
            raise UnknownArchitecture("decoder_sparse_step", "experts in only every n-th layer are not understood")
        return self.whole("first_k_dense_replace", default=0)

    def weight(
        self, name: str, rows: int, columns: int, *, copies: int, used: int | None = None, kind: str = "linear"
    ) -> Weight:
        precision, stored = self.stored(rows, columns, kind)
        return Weight(name, rows, columns, copies, copies if used is None else used, precision, stored)

    def stored(self, rows: int, columns: int, kind: str) -> tuple[str, int]:
        """Precision and bytes of a matrix as published, its scales included."""
        params = rows * columns
        method = str(self.quantization.get("quant_method", ""))
        if kind == "float32":
            return "float32", 4 * params
        if not method or kind == "plain":
            return self.dtype, _DTYPE_BYTES[self.dtype] * params
        if method == "fp8":
            block = self.quantization.get("weight_block_size")
            scales = ceil(rows / block[0]) * ceil(columns / block[1]) if block else 1
            return "fp8", params + 4 * scales
        if method == "mxfp4":
            if kind != "expert":
                return self.dtype, _DTYPE_BYTES[self.dtype] * params
            return "mxfp4", rows * ceil(columns / 32) * 17  # 32 weights of 4 bits and their 8-bit scale
        if method in ("gptq", "awq"):
            bits = self.whole_of(self.quantization, "bits")
            group = self.whole_of(self.quantization, "group_size")
            return f"{method} {bits} bit", ceil(params * bits / 8) + rows * ceil(columns / group) * 2
        raise UnknownArchitecture(
            "quantization_config", f"quantization {method!r} is not known; known are fp8, mxfp4, gptq and awq"
        )

    @staticmethod
    def whole_of(entries: Mapping[str, Any], key: str) -> int:
        value = entries.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UnknownArchitecture(
                f"quantization_config.{key}", f"quantization_config.{key} must be a whole number above 0, not {value!r}"
            )
        return value

    # -- attention ----------------------------------------------------------------------------------------------------

    def attention(self) -> tuple[tuple[AttentionGroup, ...], tuple[str, ...]]:
        kept = _DTYPE_BYTES[self.dtype] if _DTYPE_BYTES[self.dtype] <= 2 else 2
        if self.latent:
            nope, rope, value = self.whole("qk_nope_head_dim"), self.whole("qk_rope_head_dim"), self.whole("v_head_dim")
            width, odd = divmod(self.heads * (nope + rope + value), 2)
            if odd:
                raise UnknownArchitecture("v_head_dim", "heads × (qk + v) is odd")
            kv_bytes = (self.latent + rope) * kept
            how = (
                f"latent attention: width = {self.heads} heads × (({nope} + {rope}) + {value}) / 2 = {width:,}; "
                f"kv_bytes = ({self.latent} + {rope}) × {kept} = {kv_bytes:,}"
            )
        else:
            width = self.heads * self.head_dim
            kv_bytes = 2 * self.kv_heads * self.head_dim * kept
            how = (
                f"attention: width = {self.heads} heads × {self.head_dim} = {width:,}; "
                f"kv_bytes = 2 × {self.kv_heads} KV heads × {self.head_dim} × {kept} = {kv_bytes:,}"
            )
        windows = self.windows()
        groups = tuple(
            AttentionGroup(layers=windows.count(span), width=width, kv_bytes=kv_bytes, span=span)
            for span in sorted(set(windows), key=lambda span: (span is not None, span or 0))
        )
        notes = tuple(
            f"{g.layers} layers read " + ("every position" if g.span is None else f"the last {g.span:,} positions")
            for g in groups
        )
        return groups, (how, *notes)

    def windows(self) -> list[int | None]:
        """The span of each layer."""
        span = self.raw.get("sliding_window")
        types = self.raw.get("layer_types")
        if types is not None:
            if len(types) != self.layers:
                raise UnknownArchitecture("layer_types", f"layer_types names {len(types)} of {self.layers} layers")
            for kind in types:
                if kind not in ("full_attention", "sliding_attention"):
                    raise UnknownArchitecture("layer_types", f"ST-2026.1 has no formula for layers of type {kind!r}")
            if "sliding_attention" in types:
                span = self.whole("sliding_window")
            return [span if kind == "sliding_attention" else None for kind in types]
        if not span or self.raw.get("use_sliding_window") is False:
            return [None] * self.layers
        span = self.whole("sliding_window")
        if self.model_type.startswith("qwen2"):
            first = self.whole("max_window_layers", default=0)
            return [span if layer >= first else None for layer in range(self.layers)]
        if self.model_type.startswith("gemma"):
            # One layer in `pattern` sees everything: every second of gemma 2, every sixth of gemma 3.
            pattern = self.whole("sliding_window_pattern", default=2 if self.model_type.startswith("gemma2") else 6)
            return [None if (layer + 1) % pattern == 0 else span for layer in range(self.layers)]
        if self.model_type == "gpt_oss":
            return [span if layer % 2 == 0 else None for layer in range(self.layers)]
        return [span] * self.layers
