"""
A caller's request as the choice needs it: numbers and keyed hashes, no text.

How many tokens a text has is known only afterwards, so it is estimated by the bytes per token that earlier answers had.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ciyuan.gateway.refusals import Refusal
from ciyuan.gateway.routes import RANKS, Ask
from ciyuan.gateway.settings import Caller
from ciyuan.guard.counting import Asked, asked_of

#: A conversation is recognised in pieces of so many bytes.
PIECE_BYTES = 4_096
FIRST_BYTES_PER_TOKEN, FIRST_OUTPUT_TOKENS = 4.0, 200.0
#: The weight of a new observation.
FRESH = 0.05
MOST_TAGS, MOST_TAG_CHARACTERS = 10, 60
#: OpenAI's names of service tiers.
TIERS = {"flex": "batch", "batch": "batch", "priority": "realtime", "realtime": "realtime"}


@dataclass(slots=True)
class Sizes:
    """What answers of one model were like: bytes of text per input token, and output tokens."""

    bytes_per_token: float = FIRST_BYTES_PER_TOKEN
    output_tokens: float = FIRST_OUTPUT_TOKENS

    def learn(self, text_bytes: int, input_tokens: int, output_tokens: int) -> None:
        if input_tokens >= 16:
            self.bytes_per_token += FRESH * (max(0.5, text_bytes / input_tokens) - self.bytes_per_token)
        self.output_tokens += FRESH * (output_tokens - self.output_tokens)


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A request that was read.

    :param path: of OpenAI's API. :param counted: what the meter needs of it. :param text_bytes: of its prompt.
    :param priority: who waits behind whom: 0 batch, 1 unsaid, 2 real-time.
    """

    path: str
    model: str
    content: dict[str, Any]
    counted: Asked
    ask: Ask
    text_bytes: int
    priority: int
    caller: Caller
    tags: Mapping[str, str]


class Reader:
    """Reads requests, and learns their sizes by model."""

    def __init__(self, promises: Mapping[str, tuple[float, float]]) -> None:
        self._promises = promises
        self._sizes: dict[str, Sizes] = {}
        self._key = os.urandom(16)  # hashes of prefixes mean nothing to anybody else, nor to the next process

    def sizes(self, model: str) -> Sizes:
        if model not in self._sizes and len(self._sizes) < 1_000:
            self._sizes[model] = Sizes()
        return self._sizes.get(model) or Sizes()

    def read(self, path: str, body: bytes, headers: Mapping[str, str], caller: Caller) -> Wanted:
        """:raises Refusal: for a request that is none."""
        try:
            content = json.loads(body)
            if not isinstance(content, dict):
                raise ValueError
        except (ValueError, RecursionError):
            raise Refusal(400, "invalid_json", "The body is no JSON object.") from None
        model = content.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal(400, "missing_model", "Name the model: GET /v1/models lists what you have.", param="model")
        try:
            counted = asked_of(content, len(body))
        except ValueError as error:
            raise Refusal(400, "invalid_value", f"A limit or number of choices is wrong: {error}.") from None
        wanted_class = headers.get("Ciyuan-Service-Class") or TIERS.get(str(content.get("service_tier")))
        wanted_class = wanted_class or caller.service_class
        if wanted_class is not None and wanted_class not in RANKS:
            raise Refusal(
                400, "unknown_service_class", f"Ciyuan-Service-Class is one of {', '.join(RANKS)}.",
                param="service_tier",
            )  # fmt: skip
        rank = RANKS[wanted_class] if wanted_class else None
        sizes = self.sizes(model)
        pieces = list(self._pieces(content))
        text_bytes = pieces[-1][1] if pieces else 0
        inputs = int(text_bytes / sizes.bytes_per_token) + 1
        embeds = path.endswith("/embeddings")
        limit = 0 if embeds else counted.most_outputs
        expected = int(sizes.output_tokens) + 1 if limit is None else min(int(sizes.output_tokens) + 1, limit)
        batch = wanted_class == "batch"
        first, each = (None, None) if batch else self._promises.get(wanted_class or "", (None, None))
        ask = Ask(
            model=model, input_tokens=inputs, output_tokens=expected, most_output_tokens=limit or 0, rank=rank,
            first_token_seconds=first, token_seconds=None if embeds else each,
            prefix=tuple((link, min(inputs, int(end / sizes.bytes_per_token))) for link, end in pieces),
        )  # fmt: skip
        priority = 1 if rank is None else 2 * rank
        return Wanted(
            path, model, content, counted, ask, text_bytes, priority, caller, tags_of(headers, content, caller)
        )

    def learn(self, wanted: Wanted, input_tokens: int, output_tokens: int) -> None:
        self.sizes(wanted.model).learn(wanted.text_bytes, input_tokens, output_tokens)

    def _pieces(self, content: Mapping[str, Any]) -> Iterator[tuple[Hashable, int]]:
        """The conversation as a chain of (keyed hash of all up to there, bytes up to there)."""
        link, end = b"", 0
        for text in _texts(content):
            for start in range(0, len(text), PIECE_BYTES):
                piece = text[start : start + PIECE_BYTES]
                link = hashlib.blake2b(link + piece, digest_size=12, key=self._key).digest()
                end += len(piece)
                yield link, end


def _texts(content: Mapping[str, Any]) -> Iterator[bytes]:
    """What the model reads, in its order: tools, then messages, or the prompt, or what is to be embedded."""
    for name in ("tools", "messages", "prompt", "input"):
        given = content.get(name)
        for part in given if isinstance(given, list) else [] if given is None else [given]:
            if isinstance(part, str):
                yield part.encode("utf-8", "surrogatepass")
            else:
                yield json.dumps(part, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def tags_of(headers: Mapping[str, str], content: Mapping[str, Any], caller: Caller) -> dict[str, str]:
    """
    The tags of a request: the caller's, over them OpenAI's `metadata`, over them `Ciyuan-Tags: team=search,app=chat`.

    :raises Refusal: for more or longer ones than usage is tagged with.
    """
    tags = dict(caller.tags)
    metadata = content.get("metadata")
    if isinstance(metadata, dict):
        tags.update({str(name): value for name, value in metadata.items() if isinstance(value, str)})
    for pair in filter(None, (part.strip() for part in headers.get("Ciyuan-Tags", "").split(","))):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Refusal(400, "bad_tags", "Ciyuan-Tags is name=value, several divided by commas.")
        tags[name.strip()] = value.strip()
    if caller.name:
        tags["key"] = caller.name
    if len(tags) > MOST_TAGS or any(len(text) > MOST_TAG_CHARACTERS for pair in tags.items() for text in pair):
        raise Refusal(
            400, "bad_tags", f"A request has at most {MOST_TAGS} tags of {MOST_TAG_CHARACTERS} characters each."
        )
    return tags


def again(wanted: Wanted, **changes: Any) -> Wanted:
    """The same request with another `ask`."""
    return replace(wanted, ask=replace(wanted.ask, **changes))
