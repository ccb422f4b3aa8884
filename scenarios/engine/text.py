"""Tokens of a simulated engine: four bytes of input are one, answers follow from weights and prompt alone."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

BYTES_PER_TOKEN = 4
BLOCK_TOKENS = 64  # what the prefix cache keeps or misses as a whole
_WORDS = (
    " token", " price", " market", " lot", " window", " night", " work", " model", " seller", " buyer", " yuan",
    " meter", " hour", " auction", " the", " of", " and", " a", " in", " is", " one", " two", " more", " less",
    ".", ",", " 词元", " 价格", " 市场", " 交割", " 计量", " 算力",
)  # fmt: skip


def prompt_bytes(request: dict[str, Any]) -> bytes:
    """Everything of a request that the model reads, in its order."""
    if "messages" in request:
        parts = [json.dumps(request["tools"], ensure_ascii=False)] if request.get("tools") else []
        for message in request["messages"]:
            content = message.get("content")
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            calls = json.dumps(message["tool_calls"], ensure_ascii=False) if message.get("tool_calls") else ""
            parts.append(f"<{message.get('role', '')}>{text}{calls}")
        return "".join(parts).encode("utf-8", "surrogatepass")
    given = request.get("prompt", request.get("input", ""))
    return (given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)).encode("utf-8", "surrogatepass")


def count(prompt: bytes) -> int:
    return max(1, -(-len(prompt) // BYTES_PER_TOKEN))


def words(weights: str, prompt: bytes, choice: int = 0) -> Iterator[str]:
    """The tokens of the answer, for ever."""
    state = blake2b(f"{weights}\0{choice}\0".encode() + prompt, digest_size=32).digest()
    while True:
        for byte in state:
            yield _WORDS[byte % len(_WORDS)]
        state = blake2b(state, digest_size=32).digest()


class PrefixCache:
    """Which beginnings of prompts are known, by block; the ones not used for longest go first."""

    def __init__(self, tokens: int) -> None:
        self._most = tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def take(self, prompt: bytes) -> int:
        """How many tokens of the prompt are known already; from now on all of its whole blocks are."""
        if not self._most:
            return 0
        size, known, so_far = BLOCK_TOKENS * BYTES_PER_TOKEN, 0, blake2b(digest_size=16)
        unbroken = True
        # The last token is always computed, so that there is something to go on from.
        for at in range(0, len(prompt) - size, size):
            so_far.update(prompt[at : at + size])
            block = so_far.digest()
            unbroken = unbroken and block in self._blocks
            known += unbroken
            self._blocks[block] = None
            self._blocks.move_to_end(block)
            if len(self._blocks) > self._most:
                self._blocks.popitem(last=False)
        return known * BLOCK_TOKENS
