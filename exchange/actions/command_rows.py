"""Writing accepted commands, and reading them back as the book takes them: the two directions of one mapping."""

from collections.abc import Sequence
from datetime import datetime
from struct import Struct

from core.money import LOT_TOKENS
from exchange.actions.copying import BINARY_HEADER, BINARY_TRAILER, copy_binary, microseconds
from exchange.domain.commands import QueuedCommand
from exchange.domain.orders import NO_RARE, Rare
from exchange.domain.requests import MarketTerms
from exchange.domain.times import to_ns
from exchange.models import Command

Extra = tuple[str | None, int | None, datetime | None]  # what only the row carries: client's id, capacity, expiry

COLUMNS = (
    "market_id, organization_id, group_id, queue_id, accepted_at, id, kind, side, flags, price_nano, stop_price_nano,"
    " quantity_tokens, display_tokens, min_quantity_tokens, hold_micro, hold_price_nano, covered_tokens,"
    " bond_thousandths, target, expires_at, hold_id, capacity_id, client_order_id"
)
_COUNT = 23
# Each field is its length as int32 (−1 for null), then its bytes. First those that a call's rows have in common.
_COMMON = Struct("!h iq iq iq iq iq")
_FIXED = Struct("!i16s ih ih ii iq iq iq iq iq iq iq iq ih")
_NULL = b"\xff\xff\xff\xff"
_UUID, _BIGINT, _TEXT = Struct("!i16s"), Struct("!iq"), Struct("!i")


def store(
    commands: Sequence[QueuedCommand],
    extras: Sequence[Extra],
    *,
    terms: MarketTerms,
    group_id: int,
    queue_id: int,
    accepted_at: datetime,
) -> None:
    """Insert the commands of one queue row."""
    tick, fixed, uuid = terms.tick_nano, _FIXED.pack, _UUID.pack
    common = _COMMON.pack(
        _COUNT, 8, terms.market_id, 8, commands[0].organization_id, 8, group_id, 8, queue_id, 8,
        microseconds(accepted_at),
    )  # fmt: skip
    plain = _NULL + _NULL  # neither target nor expiry
    parts = [BINARY_HEADER]
    append = parts.append
    for c, (client_order_id, capacity_id, expires_at) in zip(commands, extras, strict=True):
        rare = c.rare or NO_RARE
        append(common)
        append(
            fixed(
                16, c.id, 2, c.kind, 2, c.side, 4, c.flags, 8, c.price * tick, 8, rare.stop * tick,
                8, c.lots * LOT_TOKENS, 8, rare.display * LOT_TOKENS, 8, rare.minimum * LOT_TOKENS,
                8, c.hold_micro, 8, c.hold_price_nano, 8, c.covered_tokens + c.reserved_tokens, 2, c.bond_thousandths,
            )
        )
        if not c.target and expires_at is None:
            append(plain)
        else:
            append(uuid(16, c.target) if c.target else _NULL)
            append(_NULL if expires_at is None else _BIGINT.pack(8, microseconds(expires_at)))
        append(uuid(16, c.hold_id) if c.hold_id else _NULL)
        append(_NULL if capacity_id is None else _BIGINT.pack(8, capacity_id))
        text = client_order_id.encode() if client_order_id else b""
        append(_TEXT.pack(len(text)))
        append(text)
    append(BINARY_TRAILER)
    copy_binary("exchange_command", COLUMNS, b"".join(parts))


def queued_command(row: Command, tick_nano: int) -> QueuedCommand:
    """Return a stored command as its queue row carried it."""
    is_order = row.kind in Command.ORDER_KINDS
    rare = Rare(
        row.stop_price_nano // tick_nano,
        row.display_tokens // LOT_TOKENS,
        row.min_quantity_tokens // LOT_TOKENS,
        to_ns(row.expires_at) if row.expires_at else 0,
        row.group_id,
    )
    return QueuedCommand(
        id=row.id.bytes,
        kind=row.kind,
        organization_id=row.organization_id,
        side=row.side,
        price=row.price_nano // tick_nano,
        lots=row.quantity_tokens // LOT_TOKENS,
        flags=row.flags,
        rare=rare if is_order and rare != NO_RARE else None,
        target=row.target.bytes if row.target else b"",
        hold_id=row.hold_id.bytes if row.hold_id else b"",
        hold_micro=row.hold_micro,
        hold_price_nano=row.hold_price_nano,
        covered_tokens=row.covered_tokens if is_order else 0,
        bond_thousandths=row.bond_thousandths,
        reserved_tokens=0 if is_order else row.covered_tokens,
    )
