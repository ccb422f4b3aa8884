"""
A market's journal as 32-byte packed records, and as CSV: published, so that anyone can replay a market.

File: `CYJ1`, the length of a header (u32), the header (JSON: market, tick and lot, the ids behind order and owner
numbers, and what the market admitted), then records of dtype `RECORD`, little-endian. `numpy.frombuffer(body, RECORD)`
reads them.

A command that has rarer fields is followed by one record of kind `MORE`, with the same sequence, which holds them where
an ordinary one has others: time_ns = expires_ns, order = group, owner = display, price = stop, lots = minimum; and by
one of kind `NAMED_FILL` (order, lots) for each fill that an UNCROSS names. Side 255 is "both".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from exchange.domain.orders import Command, Rare

RECORD: Final = np.dtype([
    ("time_ns", "<u8"), ("sequence", "<u4"), ("order", "<u4"), ("owner", "<u4"), ("price", "<i4"), ("lots", "<u4"),
    ("kind", "u1"), ("side", "u1"), ("flags", "<u2"),
])  # fmt: skip
MAGIC: Final = b"CYJ1"
MORE, NAMED_FILL = 254, 255
BOTH_SIDES: Final = 255
COLUMNS: Final = (*(RECORD.names or ()), "stop", "display", "minimum", "expires_ns", "group", "fills")


class BadJournal(ValueError):
    """Bytes or text that are no journal, or a command that does not fit its record; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the numbers in a journal mean. `orders` and `owners` map numbers to public ids."""

    market: str
    tick_nano: int
    lot_tokens: int
    orders: dict[int, str] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    terms: dict[str, int] = field(default_factory=dict)  # what the market admitted, as `MarketTerms` names it


def pack(header: Header, commands: Iterable[Command]) -> bytes:
    """
    Return the journal as bytes.

    :raises BadJournal: if a field does not fit its record.
    """
    rows: list[tuple[int, ...]] = []
    for time_ns, sequence, order, owner, price, lots, kind, side, flags, rare in commands:
        if kind in (MORE, NAMED_FILL) or side == BOTH_SIDES:
            raise BadJournal(f"Entry {sequence} uses a kind or side that is reserved.")
        rows.append((time_ns, sequence, order, owner, price, lots, kind, BOTH_SIDES if side == -1 else side, flags))
        if rare is not None:
            rows.append((rare.expires_ns, sequence, rare.group, rare.display, rare.stop, rare.minimum, MORE, 0, 0))
            rows.extend((0, sequence, number, 0, 0, filled, NAMED_FILL, 0, 0) for number, filled in rare.fills)
    try:
        body = np.array(rows, dtype=RECORD).tobytes()
    except OverflowError as error:
        raise BadJournal("A field of the journal does not fit its record.") from error
    head = json.dumps(asdict(header), ensure_ascii=False, sort_keys=True).encode()
    return MAGIC + len(head).to_bytes(4, "little") + head + body


def unpack(content: bytes) -> tuple[Header, list[Command]]:
    """
    Return what `pack` was given.

    :raises BadJournal: if the bytes are no journal.
    """
    if content[:4] != MAGIC:
        raise BadJournal("This is no journal: it does not begin with CYJ1.")
    start = 8 + int.from_bytes(content[4:8], "little")
    if (len(content) - start) % RECORD.itemsize or start > len(content):
        raise BadJournal("The journal is cut off.")
    given: dict[str, Any] = json.loads(content[8:start])
    numbers = {name: {int(number): id_ for number, id_ in given.pop(name).items()} for name in ("orders", "owners")}
    commands: list[Command] = []
    for row in np.frombuffer(content, RECORD, offset=start).tolist():
        time_ns, sequence, order, owner, price, lots, kind, side, flags = row
        if kind not in (MORE, NAMED_FILL):
            side = -1 if side == BOTH_SIDES else side
            commands.append((time_ns, sequence, order, owner, price, lots, kind, side, flags, None))
            continue
        if not commands or commands[-1][1] != sequence:
            raise BadJournal("A continuation record does not follow its entry.")
        rare = commands[-1][9]
        if kind == MORE:
            rare = Rare(stop=price, display=owner, minimum=lots, expires_ns=time_ns, group=order)
        elif rare is None:
            raise BadJournal("A fill is named before its entry's rarer fields.")
        else:
            rare = rare._replace(fills=(*rare.fills, (order, lots)))
        commands[-1] = (*commands[-1][:9], rare)
    header = Header(given["market"], given["tick_nano"], given["lot_tokens"], numbers["orders"], numbers["owners"],
                    given.get("terms", {}))
    return header, commands


def to_csv(commands: Iterable[Command]) -> str:
    """Return the commands as CSV with a line of column names; rarer fields are empty where a command has none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for *fields, rare in commands:
        fills = "" if rare is None else " ".join(f"{order}:{lots}" for order, lots in rare.fills)
        writer.writerow([*fields, *([""] * 5 if rare is None else rare[:5]), fills])
    return text.getvalue()


def from_csv(text: str) -> list[Command]:
    """
    Return the commands of `to_csv`.

    :raises BadJournal: if the columns or a number are not as they should be.
    """
    rows = csv.reader(io.StringIO(text))
    if tuple(next(rows, ())) != COLUMNS:
        raise BadJournal(f"The first line must be: {','.join(COLUMNS)}")
    commands: list[Command] = []
    try:
        for row in rows:
            a, b, c, d, e, f, g, h, i = map(int, row[:9])
            rare = None
            if row[9]:
                pairs = (pair.split(":") for pair in row[14].split())
                stop, display, minimum, expires_ns, group = map(int, row[9:14])
                fills = tuple((int(order), int(lots)) for order, lots in pairs)
                rare = Rare(stop, display, minimum, expires_ns, group, fills)
            commands.append((a, b, c, d, e, f, g, h, i, rare))
    except (ValueError, IndexError) as error:
        raise BadJournal(f"Line {rows.line_num} is no entry of a journal.") from error
    return commands
