"""
A real engine for tests: llama.cpp's own server, on a random Llama of three million parameters made on the spot.

Run by the Python of `config.environments.engine_python`; prints its address, and serves until it is ended.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xllamacpp
from gguf import GGUFWriter, TokenType

LAYERS, HEADS, KV_HEADS, WIDTH, HIDDEN, CONTEXT = 6, 4, 2, 256, 512, 4096
WORDS = ("the", "of", "and", "in", "is", "what", "token", "standard", "price", "buyer", "count", "one", "词", "元")
TEMPLATE = (
    "{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def write_model(path: Path) -> None:
    """Write the model: a byte vocabulary with some words, and weights that are the same each time."""
    chance = np.random.default_rng(7)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    for word in (*map(chr, range(33, 127)), "\u2581", *(f"\u2581{word}" for word in WORDS), *WORDS):
        tokens.append(word)
        kinds.append(TokenType.NORMAL)
    file = GGUFWriter(path, "llama")
    file.add_name("random")
    file.add_context_length(CONTEXT)
    file.add_embedding_length(WIDTH)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(HIDDEN)
    file.add_head_count(HEADS)
    file.add_head_count_kv(KV_HEADS)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("llama")
    file.add_token_list(tokens)
    file.add_token_scores([-float(n) for n in range(len(tokens))])
    file.add_token_types(kinds)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)
    file.add_unk_token_id(0)
    file.add_chat_template(TEMPLATE)

    def matrix(name: str, rows: int, columns: int) -> None:
        file.add_tensor(name, chance.normal(0, 0.1, (rows, columns)).astype(np.float32))

    def ones(name: str) -> None:
        file.add_tensor(name, np.ones(WIDTH, dtype=np.float32))

    matrix("token_embd.weight", len(tokens), WIDTH)
    matrix("output.weight", len(tokens), WIDTH)
    ones("output_norm.weight")
    for layer in range(LAYERS):
        keys = WIDTH // HEADS * KV_HEADS
        for name, rows, columns in (
            ("attn_q", WIDTH, WIDTH), ("attn_k", keys, WIDTH), ("attn_v", keys, WIDTH), ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", HIDDEN, WIDTH), ("ffn_up", HIDDEN, WIDTH), ("ffn_down", WIDTH, HIDDEN),
        ):  # fmt: skip
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def main(port: int, alias: str) -> None:
    with tempfile.TemporaryDirectory(prefix="ciyuan-engine-") as folder:
        path = Path(folder, "random.gguf")
        write_model(path)
        given = xllamacpp.CommonParams()
        given.model.path = str(path)
        given.model_alias = {alias}
        given.hostnames, given.port = ["127.0.0.1"], port
        given.n_ctx, given.n_parallel, given.n_predict = CONTEXT * 2, 2, 2_000
        given.cpuparams.n_threads = 1
        given.endpoint_metrics = True
        server = xllamacpp.Server(given)
        print(server.listening_address, flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
