"""
The disjoint classes of the SDK as small numbers for storage, and the length bands of the rollup. A number is never
used again.

Usage of a request stands in five columns of its event (`COLUMN_CLASSES`) and, for what is rare, in `details`. In the
rollup each class is a row. The work of a group of classes stands on the group's first class: all fresh input on
`input.text`, all cached input on `input.text.cache_read`, all output on `output.text`.
"""

from bisect import bisect_left

from ciyuan.usage import REJECTED_DRAFT, TOKEN_CLASSES

CODES: dict[str, int] = {
    "requests": 1,
    "input.text": 2,
    "input.text.cache_read": 3,
    "output.text": 4,
    "output.reasoning": 5,
    "output.rejected_draft": 6,
    "input.text.cache_write_5m": 7,
    "input.text.cache_write_1h": 8,
    "input.image": 10, "input.image.cache_read": 11, "input.image.cache_write_5m": 12, "input.image.cache_write_1h": 13,
    "input.audio": 14, "input.audio.cache_read": 15, "input.audio.cache_write_5m": 16, "input.audio.cache_write_1h": 17,
    "input.video": 18, "input.video.cache_read": 19, "input.video.cache_write_5m": 20, "input.video.cache_write_1h": 21,
    "output.image": 22, "output.audio": 23, "output.video": 24,
    "search_calls": 30, "images": 31, "audio_ms": 32, "video_ms": 33, "cache_storage_token_hours": 34,
    "input_bytes": 40, "output_bytes": 41,
}  # fmt: skip
NAMES: dict[int, str] = {code: name for name, code in CODES.items()}

REQUESTS, INPUT, CACHED, OUTPUT, REASONING = 1, 2, 3, 4, 5
INPUT_BYTES, OUTPUT_BYTES = 40, 41
COLUMN_CLASSES = ("requests", "input.text", "input.text.cache_read", "output.text", "output.reasoning")

FRESH_INPUT_CLASSES = frozenset(n for n in TOKEN_CLASSES if n.startswith("input.") and not n.endswith(".cache_read"))
CACHED_INPUT_CLASSES = frozenset(n for n in TOKEN_CLASSES if n.endswith(".cache_read"))
BILLED_OUTPUT_CLASSES = frozenset(n for n in TOKEN_CLASSES if n.startswith("output.") and n != REJECTED_DRAFT)

#: A request belongs to the first band whose bound its input tokens do not exceed.
BAND_BOUNDS = (4_096, 32_768, 131_072)


def length_band(input_tokens: int) -> int:
    """Return the band of a request by all its input tokens: 0 up to 4k, 1 up to 32k, 2 up to 128k, 3 beyond."""
    return bisect_left(BAND_BOUNDS, input_tokens)
