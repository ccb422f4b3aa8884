"""Writing accepted commands, and reading them back as the book takes them: the two directions of one mapping."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from core.money import LOT_TOKENS
from exchange.actions.copying import NULL, copy_text, escape
from exchange.domain.commands import QueuedCommand, rare_of
from exchange.domain.orders import NO_RARE
from exchange.domain.requests import MarketTerms
from exchange.domain.times import to_ns
from exchange.models import Command

COLUMNS = (
    "id, market_id, organization_id, group_id, queue_id, kind, side, flags, price_nano, stop_price_nano,"
    " quantity_tokens, display_tokens, min_quantity_tokens, target, expires_at, hold_micro, hold_price_nano,"
    " covered_tokens, bond_thousandths, capacity_id, client_order_id, accepted_at"
)


class Row(NamedTuple):
    """A command and what only its row carries."""

    terms: MarketTerms
    command: QueuedCommand
    group_id: int
    client_order_id: str | None
    capacity_id: int | None
    expires_at: datetime | None


def store(rows: Iterable[Row], *, queue_ids: Mapping[int, int], accepted_at: datetime) -> None:
    """Insert commands; `queue_ids` gives each market's queue row."""
    copy_text("exchange_command", COLUMNS, _lines(rows, queue_ids, accepted_at.isoformat()))


def _lines(rows: Iterable[Row], queue_ids: Mapping[int, int], accepted_at: str) -> Iterable[str]:
    for terms, c, group_id, client_order_id, capacity_id, expires_at in rows:
        tick = terms.tick_nano
        rare = c.rare or NO_RARE
        yield (
            f"{c.id.hex()}\t{terms.market_id}\t{c.organization_id}\t{group_id}\t{queue_ids[terms.market_id]}\t{c.kind:d}\t"
            f"{c.side}\t{c.flags}\t{c.price * tick}\t{rare.stop * tick}\t{c.lots * LOT_TOKENS}\t"
            f"{rare.display * LOT_TOKENS}\t{rare.minimum * LOT_TOKENS}\t{c.target.hex() or NULL}\t"
            f"{expires_at.isoformat() if expires_at else NULL}\t{c.hold_micro}\t{c.hold_price_nano}\t"
            f"{c.covered_tokens + c.reserved_tokens}\t{c.bond_thousandths}\t"
            f"{NULL if capacity_id is None else capacity_id}\t"
            f"{escape(client_order_id) if client_order_id else ''}\t{accepted_at}"
        )


def queued_command(row: Command, tick_nano: int) -> QueuedCommand:
    """Return a stored command as its queue row carried it."""
    is_order = row.kind in Command.ORDER_KINDS
    rare = rare_of(
        stop=row.stop_price_nano // tick_nano,
        display=row.display_tokens // LOT_TOKENS,
        minimum=row.min_quantity_tokens // LOT_TOKENS,
        expires_ns=to_ns(row.expires_at) if row.expires_at else 0,
        group=row.group_id,
    )
    return QueuedCommand(
        id=row.id.bytes,
        kind=row.kind,
        organization_id=row.organization_id,
        side=row.side,
        price=row.price_nano // tick_nano,
        lots=row.quantity_tokens // LOT_TOKENS,
        flags=row.flags,
        rare=rare if is_order else None,
        target=row.target.bytes if isinstance(row.target, UUID) else b"",
        hold_micro=row.hold_micro,
        hold_price_nano=row.hold_price_nano,
        covered_tokens=row.covered_tokens if is_order else 0,
        bond_thousandths=row.bond_thousandths,
        reserved_tokens=0 if is_order else row.covered_tokens,
    )
