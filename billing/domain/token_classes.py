"""
How documents and exports name what was counted. Charges carry the disjoint classes of the published usage formats
(`input.text`, `input.text.cache_read`, `output.text` …) and counts that are no tokens (`requests`, `search_calls` …).
"""

from collections.abc import Mapping

#: The classes that have a column of their own, by the name of the column.
SHORT = {
    "input.text": "input",
    "input.text.cache_read": "cached_input",
    "output.text": "output",
    "output.reasoning": "reasoning",
}
#: In the order of a request.
ORDER = ("input", "cached_input", "output", "reasoning")
NOT_TOKENS = frozenset({
    "requests", "search_calls", "images", "audio_ms", "video_ms", "cache_storage_token_hours", "output.rejected_draft",
})  # fmt: skip


def shown(tokens: Mapping[str, int]) -> dict[str, int]:
    """Return counts by the names that documents use, in the order of a request, without zeros."""
    named: dict[str, int] = {}
    for name, count in tokens.items():
        if count:
            short = SHORT.get(name, name)
            named[short] = named.get(short, 0) + count
    return dict(sorted(named.items(), key=lambda item: _place(item[0])))


def raw_tokens(tokens: Mapping[str, int]) -> int:
    """Return how many raw tokens were billed; the classes are disjoint."""
    return sum(count for name, count in tokens.items() if name not in NOT_TOKENS)


def _place(name: str) -> tuple[int, bool, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name in NOT_TOKENS, name)
