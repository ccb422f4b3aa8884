"""
The journal of a day and its seal: pure, so that anybody with the file and the public key comes to the same answer.

A day's journal is a CSV file of its transfers in the order of their ids. Its hash is SHA-256 over the hash of the day
before (64 hex digits and a line feed; sixty-four zeros before the first day) and then the file's bytes, so that
`(echo PREVIOUS; cat journal.csv) | sha256sum` gives it. The exchange signs `statement(day, hash)` with Ed25519.

On the way through the file the running hash is kept after every `BLOCK_ROWS` rows. A changed, missing or added transfer
is thereby found within a block, not only within a day.
"""

from collections.abc import Iterable, Iterator
from datetime import date
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

GENESIS = "0" * 64
BLOCK_ROWS = 1_000
_BLOCK_BYTES = 16 + 32


class Block(NamedTuple):
    """The running hash after the row with this id."""

    last_id: UUID
    digest: bytes


class DayHash(NamedTuple):
    """What a day's journal hashes to."""

    rows: int
    hash: str
    blocks: tuple[Block, ...]


def hash_day(previous_hash: str, lines: Iterable[bytes]) -> DayHash:
    """Return the hash of a day whose journal has these lines, each a row with its line feed and its id in front."""
    running = sha256(f"{previous_hash}\n".encode())
    blocks: list[Block] = []
    rows, line = 0, b""
    for line in lines:
        running.update(line)
        rows += 1
        if not rows % BLOCK_ROWS:
            blocks.append(Block(_id(line), running.copy().digest()))
    if rows % BLOCK_ROWS:
        blocks.append(Block(_id(line), running.copy().digest()))
    return DayHash(rows, running.hexdigest(), tuple(blocks))


def first_difference(sealed: tuple[Block, ...], found: tuple[Block, ...]) -> str:
    """Say between which transfers the first difference lies; "" for none."""
    before = None
    for number in range(max(len(sealed), len(found))):
        was = sealed[number] if number < len(sealed) else None
        now = found[number] if number < len(found) else None
        if was != now:
            last = (was or now).last_id  # type: ignore[union-attr]
            return f"after transfer {before}, up to {last}" if before else f"up to transfer {last}"
        before = was.last_id if was else None
    return ""


def pack(blocks: Iterable[Block]) -> bytes:
    """Return blocks as they are stored: 16 bytes of id and 32 of hash each."""
    return b"".join(block.last_id.bytes + block.digest for block in blocks)


def unpack(stored: bytes) -> tuple[Block, ...]:
    """Return blocks from their stored form."""
    return tuple(_blocks(stored))


def _blocks(stored: bytes) -> Iterator[Block]:
    for start in range(0, len(stored), _BLOCK_BYTES):
        yield Block(UUID(bytes=stored[start : start + 16]), stored[start + 16 : start + _BLOCK_BYTES])


def _id(line: bytes) -> UUID:
    return UUID(line[:36].decode())


def statement(day: date, hash_: str) -> bytes:
    """Return what is signed for a day: three lines of ASCII, each with its line feed."""
    return f"ciyuan-journal-1\n{day.isoformat()}\n{hash_}\n".encode()
