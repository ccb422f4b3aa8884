"""The classes that a token can fall into, and what is wrong with a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODALITIES = ("text", "image", "audio", "video")
CACHES = ("none", "cache_read", "cache_write_5m", "cache_write_1h")
INPUT_CLASSES = tuple(
    f"input.{modality}" + ("" if cache == "none" else f".{cache}") for modality in MODALITIES for cache in CACHES
)
VISIBLE_CLASSES = tuple(f"output.{modality}" for modality in MODALITIES)
REASONING = "output.reasoning"
REJECTED_DRAFT = "output.rejected_draft"
TOKEN_CLASSES = (*INPUT_CLASSES, *VISIBLE_CLASSES, REASONING, REJECTED_DRAFT)
COUNTS = ("requests", "search_calls", "images", "audio_ms", "video_ms", "cache_storage_token_hours")

MAX_COUNT = 10**12


class UsageError(ValueError):
    """A usage report that no request can have made. `field` is the path in the report, `code` is stable."""

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.field = field
        self.detail = detail


@dataclass(frozen=True)
class Usage:
    """
    One request's usage.

    :param tokens: count by class of `TOKEN_CLASSES`, without zeros.
    :param counts: count by name of `COUNTS`, without zeros.
    :param assumed: what the report left open and how it was taken.
    :param unrecognised: paths of numbers in the report that are in no class.
    """

    tokens: Mapping[str, int]
    counts: Mapping[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    unrecognised: tuple[str, ...] = ()

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached ones and cache writes among them."""
        return sum(n for name, n in self.tokens.items() if name.startswith("input."))

    @property
    def cached_input_tokens(self) -> int:
        """Input tokens read from a cache: the `cached_input_tokens` of the standard token."""
        return sum(n for name, n in self.tokens.items() if name.endswith(".cache_read"))

    @property
    def output_tokens(self) -> int:
        """Visible and reasoning tokens, without rejected drafts: the `output_tokens` of the standard token."""
        return sum(n for name, n in self.tokens.items() if name.startswith("output.") and name != REJECTED_DRAFT)

    @property
    def total_tokens(self) -> int:
        return sum(self.tokens.values())
