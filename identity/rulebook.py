"""The rulebook in its published versions: files in `identity/data`, never changed once they are in force."""

import hashlib
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path

from core.periods import SHANGHAI

FOLDER = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True, slots=True)
class Section:
    """One rule, in both languages."""

    title: str
    title_zh: str
    paragraphs: tuple[str, ...]
    paragraphs_zh: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A version: its name, from which day in Shanghai it is in force, its text, and the SHA-256 of its file."""

    version: str
    in_force_from: date
    sections: tuple[Section, ...]
    digest: bytes


@cache
def versions() -> tuple[Rulebook, ...]:
    """Return all published versions, the oldest first."""
    found = [_read(path) for path in FOLDER.glob("rulebook-*.toml")]
    return tuple(sorted(found, key=lambda one: one.in_force_from))


def in_force(now: datetime) -> Rulebook:
    """Return the version in force at `now`; before the first one, that one."""
    today = now.astimezone(SHANGHAI).date()
    return [one for one in versions() if one.in_force_from <= today or one is versions()[0]][-1]


def ahead(now: datetime) -> Rulebook | None:
    """Return the version that is published and will be in force next, or None."""
    today = now.astimezone(SHANGHAI).date()
    return next((one for one in versions() if one.in_force_from > today and one is not in_force(now)), None)


def version(name: str) -> Rulebook | None:
    """Return a version by its name, or None."""
    return next((one for one in versions() if one.version == name), None)


def _read(path: Path) -> Rulebook:
    content = path.read_bytes()
    read = tomllib.loads(content.decode())
    sections = tuple(
        Section(one["title"], one["title_zh"], tuple(one["paragraphs"]), tuple(one["paragraphs_zh"]))
        for one in read["section"]
    )
    return Rulebook(read["version"], read["in_force_from"], sections, hashlib.sha256(content).digest())
