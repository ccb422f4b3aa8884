"""
Hourly manifests: which events a guard has reported of an hour, their sums by class, and what it refused and why.

A manifest is signed with the meter's key, so that afterwards neither side can say that there were more or fewer. What
it is made of lies beside it, a line per event (id, counts; no text), written before the event goes to the spool, and
lines with the same id count once. An event that comes after its hour was closed makes the next revision.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HOUR_MS = 3_600_000
#: An hour is closed when it has been over for so long: the last answers have ended and are on the disk.
CLOSE_AFTER_MS = 180_000
KEPT_HOURS = 24 * 40
VERSION = "ciyuan.manifest/1"


class Manifests:
    """
    :param folder: `<hour>.ndjson` and, for each closed hour, `<hour>.json`. :param source: the meter's log.
    :param key: signs; without one manifests have no signature.
    """

    def __init__(self, folder: Path, *, source: str, deployment: int, key: Ed25519PrivateKey | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._source, self._deployment, self._key = folder, source, deployment, key
        self._lock = threading.Lock()
        for lines in folder.glob("*.ndjson"):
            with lines.open("rb+") as file:  # a line that a kill cut short must not take the next one with it
                if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                    file.write(b"\n")

    def add(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Note events as they are about to be reported; `time` in milliseconds."""
        by_hour: dict[int, list[dict[str, Any]]] = {}
        for event in events:
            data = event["data"]
            row = {"id": event["id"], "in": data["input_tokens"], "cached": data["cached_input_tokens"],
                   "out": data["output_tokens"], "reasoning": data.get("reasoning_tokens", 0)}  # fmt: skip
            by_hour.setdefault(event["time"] // HOUR_MS, []).append(row)
        for hour, rows in by_hour.items():
            self._append(hour, rows)

    def refused(self, reasons: Mapping[str, int], now_ms: int) -> None:
        """Note how often something was refused since the last time, by code."""
        if reasons:
            self._append(now_ms // HOUR_MS, [{"refused": dict(reasons)}])

    def _append(self, hour: int, rows: Iterable[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)
        with self._lock, self._lines(hour).open("ab") as file:
            file.write(data)

    def close_due(self, now_ms: int) -> list[Path]:
        """Write the manifests of hours that are over and have new lines; returns their files."""
        written = []
        for lines in sorted(self._folder.glob("*.ndjson")):
            hour = _hour_of(lines)
            if hour is None or (hour + 1) * HOUR_MS + CLOSE_AFTER_MS > now_ms:
                continue
            with self._lock:
                size = lines.stat().st_size
                manifest = self._folder / f"{lines.stem}.json"
                before = _read(manifest)
                if before and before["lines_bytes"] == size:
                    if hour < now_ms // HOUR_MS - KEPT_HOURS:
                        lines.unlink()
                    continue
                content = self._content(hour, lines, revision=before["revision"] + 1 if before else 0, size=size)
                self._write(manifest, content)
            written.append(manifest)
        return written

    def _content(self, hour: int, lines: Path, *, revision: int, size: int) -> dict[str, Any]:
        sums, refused, seen = Counter[str](), Counter[str](), set[str]()
        with lines.open("rb") as file:
            for row in _rows(file):
                refused.update(row.get("refused", {}))
                if "id" not in row or row["id"] in seen:
                    continue
                seen.add(row["id"])
                sums["requests"] += 1
                sums["input.text"] += row["in"] - row["cached"]
                sums["input.text.cache_read"] += row["cached"]
                sums["output.text"] += row["out"] - row["reasoning"]
                sums["output.reasoning"] += row["reasoning"]
        return {
            "version": VERSION, "source": self._source, "deployment": self._deployment, "hour": _name(hour),
            "revision": revision, "events": sums.pop("requests", 0),
            "events_sha256": hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest(),
            "classes": {name: sums[name] for name in sorted(sums) if sums[name]},
            "refused": dict(sorted(refused.items())),
            "lines_bytes": size,
        }  # fmt: skip

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        whole = {"manifest": content, "signature": sign(self._key, canonical(content)) if self._key else None}
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            json.dump(whole, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def _lines(self, hour: int) -> Path:
        return self._folder / f"{_name(hour)}.ndjson"


def canonical(content: Mapping[str, Any]) -> bytes:
    """The bytes that a manifest's signature is over: JSON with sorted keys and without spaces, UTF-8."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def sign(key: Ed25519PrivateKey, content: bytes) -> str:
    """`ed25519=<base64>`, as the exchange reads signatures."""
    return "ed25519=" + base64.b64encode(key.sign(content)).decode()


def _rows(file: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in file:
        with contextlib.suppress(ValueError):  # a line that a kill cut short: its event was not taken over
            yield json.loads(line)


def _read(manifest: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(manifest.read_text())["manifest"]
    except (OSError, ValueError, KeyError):
        return None
    return content


def _name(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_MS / 1000, UTC).strftime("%Y-%m-%dT%HZ")


def _hour_of(lines: Path) -> int | None:
    try:
        moment = datetime.strptime(lines.stem, "%Y-%m-%dT%HZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp() * 1000) // HOUR_MS
