"""
Commands as they wait for their market's worker: packed, many in one queue row.

This is the one place that knows the packing, and how what a member asked becomes what the book is told. `Command` rows
hold the same facts for people and for replay.
"""

from collections.abc import Sequence

import msgspec

from core.money import LOT_TOKENS
from exchange.domain import orders
from exchange.domain.orders import BUY, SELL, Kind, Rare
from exchange.domain.requests import OrderRequest
from exchange.domain.times import to_ns

KINDS = {name: int(Kind[name.upper()]) for name in ("limit", "market", "stop", "stop_limit")}
IN_FORCE = {"gtc": orders.GTC, "gtd": orders.GTD, "ioc": orders.IOC, "fok": orders.FOK}
SESSION_FLAGS = {"any": 0, "auction": orders.AUCTION_ONLY, "continuous": orders.CONTINUOUS_ONLY}
SELF_TRADE_FLAGS = {
    "none": 0,
    "cancel_newest": orders.STP_NEWEST,
    "cancel_oldest": orders.STP_OLDEST,
    "cancel_both": orders.STP_BOTH,
    "decrement": orders.STP_DECREMENT,
}
TYPE_NAMES = {kind: name for name, kind in KINDS.items()}
IN_FORCE_NAMES = {flag: name for name, flag in IN_FORCE.items()}
SELF_TRADE_NAMES = {flag: name for name, flag in SELF_TRADE_FLAGS.items()}
SIDE_NAMES = {BUY: "buy", SELL: "sell"}


class QueuedCommand(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    One accepted command: what the book is told (prices in ticks, quantities in lots) and what it holds.

    Ids are the 16 bytes of UUIDs, which are quicker to read than the objects, and empty where there is none.
    The commands of one request on one side of a market share a hold; `hold_micro` is this one's part of it.
    Of a replace, `hold_micro` is what it holds beyond its order's hold and
    `reserved_tokens` what it reserved to sell beyond what its order had.
    """

    id: bytes
    kind: int
    organization_id: int
    side: int = -1
    price: int = 0
    lots: int = 0
    flags: int = 0
    rare: Rare | None = None
    target: bytes = b""
    hold_id: bytes = b""
    hold_micro: int = 0
    hold_price_nano: int = 0
    covered_tokens: int = 0
    bond_thousandths: int = 0
    reserved_tokens: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[QueuedCommand])


def pack(commands: Sequence[QueuedCommand]) -> bytes:
    """Return the content of a queue row."""
    return _encoder.encode(commands)


def unpack(content: bytes) -> list[QueuedCommand]:
    """Return the commands of a queue row, in their order."""
    return _decoder.decode(content)


def flags_of(request: OrderRequest) -> int:
    """Return the book's flags of an order."""
    flags = IN_FORCE[request.time_in_force] | SESSION_FLAGS[request.session] | SELF_TRADE_FLAGS[request.self_trade]
    if request.post_only:
        flags |= orders.POST_ONLY
    if request.all_or_none:
        flags |= orders.ALL_OR_NONE
    if request.display_tokens:
        flags |= orders.ICEBERG
    if request.min_quantity_tokens:
        flags |= orders.MINIMUM
    if request.cancel_on_disconnect:
        flags |= orders.CANCEL_ON_DISCONNECT
    return flags


def session_name(flags: int) -> str:
    """Return in which sessions an order takes part: any, auction or continuous."""
    if flags & orders.AUCTION_ONLY:
        return "auction"
    return "continuous" if flags & orders.CONTINUOUS_ONLY else "any"


def rare_of(request: OrderRequest, tick_nano: int, group: int) -> Rare | None:
    """Return the book's rarer fields of an order, or None where all are left out."""
    stop, display, least, expires = (
        request.stop_price_nano, request.display_tokens, request.min_quantity_tokens, request.expires_at,
    )  # fmt: skip
    if not (group or stop or display or least or expires):
        return None
    return Rare(
        (stop or 0) // tick_nano,
        (display or 0) // LOT_TOKENS,
        (least or 0) // LOT_TOKENS,
        to_ns(expires) if expires else 0,
        group,
    )
