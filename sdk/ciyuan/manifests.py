"""
Hourly manifests: what a meter has recorded for an hour, so that the exchange can tell what of it never arrived.

Counted from the lines that the spool keeps, each event once by source, id and time, after the exchange has acknowledged
them. An hour that gets late events is counted and sent again with the next revision.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ciyuan.calls import Call
from ciyuan.records import ManifestRecord
from ciyuan.signing import Signer
from ciyuan.spool import SENT, Position, replace_file, segments

#: How long after its end an hour is counted: what is recorded at its last second has arrived by then.
SETTLED = timedelta(minutes=2)
HOUR = timedelta(hours=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COUNTED_TYPES = frozenset({"ciyuan.usage", "ciyuan.usage.amend"})


@dataclass(frozen=True)
class Manifest:
    """What one log recorded for one hour: `events`, and `sums` by disjoint class."""

    source: str
    log: str
    hour: datetime
    revision: int
    events: int
    sums: Mapping[str, int]

    def body(self) -> bytes:
        """What is sent and signed, byte for byte."""
        hour = self.hour.astimezone(UTC).isoformat().replace("+00:00", "Z")
        content = {"source": self.source, "log": self.log, "hour": hour, "revision": self.revision,
                   "events": self.events, "sums": dict(self.sums)}  # fmt: skip
        return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class HourCount:
    """The events of one source and hour, each once."""

    seen: set[tuple[str, int]] = field(default_factory=set)
    sums: dict[str, int] = field(default_factory=dict)

    def add(self, event: Mapping[str, Any]) -> None:
        """Count an event unless it was counted. :raises UsageError: for usage that does not add up."""
        identity = (str(event["id"]), (datetime.fromisoformat(event["time"]) - _EPOCH) // timedelta(milliseconds=1))
        if identity in self.seen:
            return
        found = counts_of(event.get("data") or {})
        self.seen.add(identity)
        for name, count in found.items():
            self.sums[name] = self.sums.get(name, 0) + count


def counts_of(data: Mapping[str, Any]) -> dict[str, int]:
    """
    Return an event's usage by disjoint class, `requests` among them, without zeros.

    :raises UsageError: for usage that does not add up.
    """
    from ciyuan.usage import UsageError, parse_usage

    sizes = {name: int(data.get(name) or 0) for name in ("input_bytes", "output_bytes")}
    if data.get("classes") is not None:
        usage = parse_usage("ciyuan", data["classes"])
    elif data.get("usage") is not None:
        usage = parse_usage(data.get("format") or "openai", data["usage"])
    else:
        inputs, cached, outputs, reasoning = (
            int(data.get(name) or 0)
            for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
        )
        if cached > inputs or reasoning > outputs:
            raise UsageError("negative_leaf", "data", "a part is more than its whole")
        plain = {
            "requests": 1, "input.text": inputs - cached, "input.text.cache_read": cached,
            "output.text": outputs - reasoning, "output.reasoning": reasoning,
        }  # fmt: skip
        return {name: count for name, count in {**plain, **sizes}.items() if count}
    counts = {"requests": 1, **usage.counts}
    return {name: count for name, count in {**usage.tokens, **counts, **sizes}.items() if count}


def hour_of(event: Mapping[str, Any]) -> datetime | None:
    """The hour that an event belongs to; None where it has no readable time."""
    try:
        moment = datetime.fromisoformat(event["time"])
    except (KeyError, TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        return None
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def kept_events(folder: Path, wanted: frozenset[int] | None = None) -> Iterator[tuple[Position, dict[str, Any]]]:
    """
    The events in a spool's folder, sent and waiting, oldest first, each with the position after its line.

    Only reads: another process may have the spool. Lines that are no events are passed over.

    :param wanted: only these segments.
    """
    for path in sorted([*segments(folder / SENT), *segments(folder)], key=lambda path: int(path.stem)):
        number = int(path.stem)
        if wanted is not None and number not in wanted:
            continue
        try:
            file = path.open("rb")
        except FileNotFoundError:  # moved or forgotten meanwhile
            moved = folder / SENT / path.name
            if not moved.exists():
                continue
            file = moved.open("rb")
        with file:
            offset = 0
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield Position(number, offset), event


def manifest_call(manifest: Manifest, signer: Signer | None) -> Call[ManifestRecord]:
    """The call that sends a manifest, with the meter's key."""
    body = manifest.body()
    headers = signer.headers(body) if signer is not None else {}
    return Call("POST", "/v1/manifests", ManifestRecord, content=body, headers=headers, repeatable=True)


class Ledger:
    """
    Which hours of a spool have to be counted and sent. Its file, `manifests.json`, can be lost: all that is kept is
    then counted again, under another `log`.

    :param folder: the spool's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "manifests.json"
        try:
            saved = json.loads(self._path.read_text())
            self.log = str(saved["log"])
            self._scanned = Position(*saved["scanned"])
            self._due = {datetime.fromisoformat(hour) for hour in saved["due"]}
            self._sent = {(source, datetime.fromisoformat(hour)): int(n) for source, hour, n in saved["sent"]}
            self._hours = {int(n): {datetime.fromisoformat(h) for h in hours} for n, hours in saved["hours"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            self.log, self._scanned = secrets.token_hex(8), Position(0, 0)
            self._due, self._sent, self._hours = set(), {}, {}

    def scan(self, done: Position) -> None:
        """Note the hours of what has been acknowledged since the last time."""
        if done <= self._scanned:
            return
        new = frozenset(range(self._scanned.segment, done.segment + 1))
        for position, event in kept_events(self.folder, new):
            if not self._scanned < position <= done or event.get("type", "ciyuan.usage") not in COUNTED_TYPES:
                continue
            hour = hour_of(event)
            if hour is not None:
                self._due.add(hour)
                self._hours.setdefault(position.segment, set()).add(hour)
        self._scanned = done
        self._forget()
        self.save()

    def due(self, now: datetime) -> list[datetime]:
        """The hours that are over and not sent as they stand."""
        return sorted(hour for hour in self._due if hour + HOUR + SETTLED <= now)

    def manifests(self, hour: datetime) -> list[Manifest]:
        """Count an hour, by source. Its revisions are used up: other counts never go under the same one."""
        counts = sorted(count_hour(self.folder, hour, self._segments_of(hour)).items())
        for source, _ in counts:
            self._sent[source, hour] = self._sent.get((source, hour), 0) + 1
        self.save()
        return [
            Manifest(source, self.log, hour, self._sent[source, hour], len(count.seen), count.sums)
            for source, count in counts
        ]

    def finished(self, hour: datetime) -> None:
        """Remember that all of an hour has been sent."""
        self._due.discard(hour)
        self.save()

    def save(self) -> None:
        replace_file(
            self._path,
            json.dumps(
                {
                    "log": self.log,
                    "scanned": [self._scanned.segment, self._scanned.offset],
                    "due": sorted(hour.isoformat() for hour in self._due),
                    "sent": [[source, hour.isoformat(), n] for (source, hour), n in sorted(self._sent.items())],
                    "hours": {str(n): sorted(h.isoformat() for h in hours) for n, hours in self._hours.items()},
                }
            ),
        )

    def _segments_of(self, hour: datetime) -> frozenset[int]:
        return frozenset(number for number, hours in self._hours.items() if hour in hours)

    def _forget(self) -> None:
        """
        Let go of segments that the spool has forgotten. An hour of which a part is gone cannot be counted again: what
        was sent of it stands.
        """
        there = {int(path.stem) for path in (*segments(self.folder / SENT), *segments(self.folder))}
        for number in [number for number in self._hours if number not in there]:
            gone = self._hours.pop(number)
            self._due -= gone
            for key in [key for key in self._sent if key[1] in gone]:
                del self._sent[key]


def count_hour(folder: Path, hour: datetime, wanted: frozenset[int] | None = None) -> dict[str, HourCount]:
    """What a spool's folder holds of an hour, by source. Usage that does not add up is left out."""
    from ciyuan.usage import UsageError

    found: dict[str, HourCount] = {}
    for _, event in kept_events(folder, wanted):
        if event.get("type", "ciyuan.usage") in COUNTED_TYPES and hour_of(event) == hour:
            with contextlib.suppress(UsageError, KeyError, TypeError, ValueError):
                found.setdefault(str(event["source"]), HourCount()).add(event)
    return {source: count for source, count in found.items() if count.seen}
