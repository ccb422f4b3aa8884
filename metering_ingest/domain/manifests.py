"""
Hourly manifests: what a meter says it has recorded for an hour, to be held against what has arrived.

A manifest counts each event that its meter recorded with a time in the hour, once, by class, whatever was voided later:
so does the exchange when it compares.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct

from metering_ingest.domain.classes import CODES
from metering_ingest.domain.events import MAX_TEXT

HOUR = timedelta(hours=1)
#: The number of events, beside the classes of `domain.classes`.
EVENTS = "events"
#: A gap that is the manifest itself: none came.
MANIFEST = "manifest"
MAX_BODY_BYTES = 65_536

Count = Annotated[int, Meta(ge=0, le=2**62)]
COMPLETE, MISSING, SURPLUS = "complete", "missing", "surplus"


class Manifest(Struct, forbid_unknown_fields=True):
    """
    What one log recorded for one hour. `log` names the spool that it was counted in, so that a meter with several
    senders, or with a new disk, is the sum of its logs. A higher `revision` replaces a lower one: late events change
    an hour.
    """

    source: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
    log: Annotated[str, Meta(min_length=1, max_length=64)]
    hour: Annotated[datetime, Meta(tz=True)]
    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    events: Count
    sums: dict[str, Count]


class Gap(NamedTuple):
    """Of one class: what the manifests say and what has arrived."""

    token_class: str
    expected: int
    received: int


class ManifestUnreadable(ValueError):
    """The body is no manifest. `field` is what is wrong, where one is."""

    def __init__(self, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


_decoder = msgspec.json.Decoder(Manifest)


def decode_manifest(body: bytes) -> Manifest:
    """
    Return the manifest in a JSON body.

    :raises ManifestUnreadable: no manifest, an unknown class, or a time that is no full hour.
    """
    try:
        manifest = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestUnreadable(f"The body is no manifest: {error}.") from None
    if "\0" in manifest.source or "\0" in manifest.log:
        raise ManifestUnreadable("Text may not contain the character U+0000.", "source")
    if manifest.hour.minute or manifest.hour.second or manifest.hour.microsecond:
        raise ManifestUnreadable("hour is the beginning of a full hour in UTC, such as 2026-11-22T08:00:00Z.", "hour")
    if manifest.hour.utcoffset() != timedelta(0):
        raise ManifestUnreadable("hour is given in UTC, such as 2026-11-22T08:00:00Z.", "hour")
    for name in manifest.sums:
        if name not in CODES:
            raise ManifestUnreadable(f"“{name[:64]}” is no class of usage.", f"sums.{name[:64]}")
    return manifest


def totals(manifest: Manifest) -> dict[str, int]:
    """Return the sums of a manifest by class, the number of events among them, without zeros."""
    return {name: count for name, count in {EVENTS: manifest.events, **manifest.sums}.items() if count}


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Add sums by class."""
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def compare(expected: Mapping[str, int], received: Mapping[str, int]) -> tuple[str, list[Gap]]:
    """
    Return the state and the classes of which less has arrived than was recorded.

    More than was recorded is `surplus`: nothing is lost, but somebody else sends in this meter's name.
    """
    gaps = [
        Gap(name, expected[name], received.get(name, 0))
        for name in sorted(expected)
        if received.get(name, 0) < expected[name]
    ]
    if gaps:
        return MISSING, gaps
    return (SURPLUS if any(n > expected.get(name, 0) for name, n in received.items()) else COMPLETE), []
