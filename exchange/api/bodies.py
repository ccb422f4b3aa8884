"""
Orders and other commands as they come over HTTP: parsed item by item, so that one bad item is refused alone.

msgspec instead of a serializer, because a batch carries a thousand: it checks an item in a microsecond.
"""

import re
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from core.money import BadAmount, parse_price_nano
from exchange.domain.requests import (
    LONGEST_CLIENT_ID,
    CancelAllRequest,
    CancelRequest,
    OrderRequest,
    Refusal,
    ReplaceRequest,
    Request,
)

INVALID = "invalid"
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


class OrderBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An order; prices in ¥/token as text, quantities in standard tokens."""

    market: int
    side: Literal["buy", "sell"]
    quantity: int
    action: Literal["order"] = "order"
    type: Literal["limit", "market", "stop", "stop_limit"] = "limit"
    price: str | None = None
    stop_price: str | None = None
    time_in_force: Literal["gtc", "gtd", "ioc", "fok"] = "gtc"
    expires_at: datetime | None = None
    session: Literal["any", "auction", "continuous"] = "any"
    post_only: bool = False
    display_quantity: int | None = None
    min_quantity: int | None = None
    all_or_none: bool = False
    self_trade: Literal["none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"] = "cancel_newest"
    cancel_on_disconnect: bool = False
    client_order_id: str | None = None
    confirm: bool = False


class CancelBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Cancel an order."""

    action: Literal["cancel"]
    order: UUID


class CancelAllBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Cancel all one's orders in a market, or those on one side."""

    action: Literal["cancel_all"]
    market: int
    side: Literal["buy", "sell"] | None = None


class ReplaceBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Change an order's limit or total quantity."""

    action: Literal["replace"]
    order: UUID
    price: str | None = None
    quantity: int | None = None


_BODIES: dict[str, type[Any]] = {
    "order": OrderBody, "cancel": CancelBody, "cancel_all": CancelAllBody, "replace": ReplaceBody,
}


def parse_command(data: Any) -> Request:
    """
    Return the command that a JSON object asks for; without `action` it is an order.

    :raises Refusal: `invalid`, with the field and what it should be.
    """
    action = data.get("action", "order") if isinstance(data, dict) else "order"
    kind = _BODIES.get(action) if isinstance(action, str) else None
    if kind is None:
        raise Refusal(INVALID, f"action is one of {', '.join(_BODIES)}.", "action")
    try:
        body = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from None
    if isinstance(body, OrderBody):
        return _order(body)
    if isinstance(body, CancelBody):
        return CancelRequest(order_id=body.order)
    if isinstance(body, CancelAllBody):
        return CancelAllRequest(market_id=_id(body.market, "market"), side=body.side)
    assert isinstance(body, ReplaceBody)
    return ReplaceRequest(
        order_id=body.order,
        price_nano=_price(body.price, "price"),
        quantity_tokens=_quantity(body.quantity, "quantity"),
    )


def _order(body: OrderBody) -> OrderRequest:
    if body.client_order_id is not None and (
        not 0 < len(body.client_order_id) <= LONGEST_CLIENT_ID or not body.client_order_id.isprintable()
    ):
        raise Refusal(INVALID, f"client_order_id is 1 to {LONGEST_CLIENT_ID} printable characters.", "client_order_id")
    expires = body.expires_at
    if expires is not None and expires.tzinfo is None:
        raise Refusal(INVALID, "expires_at needs a time zone, such as 2026-11-21T00:00:00Z.", "expires_at")
    return OrderRequest(
        market_id=_id(body.market, "market"),
        side=body.side,
        quantity_tokens=_quantity(body.quantity, "quantity") or 0,
        type=body.type,
        price_nano=_price(body.price, "price"),
        stop_price_nano=_price(body.stop_price, "stop_price"),
        time_in_force=body.time_in_force,
        expires_at=expires.astimezone(UTC) if expires is not None else None,
        session=body.session,
        post_only=body.post_only,
        display_tokens=_quantity(body.display_quantity, "display_quantity"),
        min_quantity_tokens=_quantity(body.min_quantity, "min_quantity"),
        all_or_none=body.all_or_none,
        self_trade=body.self_trade,
        cancel_on_disconnect=body.cancel_on_disconnect,
        client_order_id=body.client_order_id,
        confirmed=body.confirm,
    )


def _price(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    try:
        price_nano = parse_price_nano(text)
    except BadAmount as error:
        raise Refusal(INVALID, str(error), field) from None
    if price_nano <= 0:
        raise Refusal(INVALID, "A price is above zero.", field)
    return price_nano


def _quantity(tokens: int | None, field: str) -> int | None:
    if tokens is not None and not 0 < tokens < 2**63:
        raise Refusal(INVALID, "A quantity is a whole number of tokens above zero.", field)
    return tokens


def _id(number: int, field: str) -> int:
    if not 0 < number < 2**31:
        raise Refusal("market-not-found", f"There is no market {number}.", field)
    return number


def _refusal(message: str) -> Refusal:
    where = _WHERE.search(message)
    unknown = _UNKNOWN.search(message)
    field = unknown.group(1) if unknown else (where.group(1) if where else None)
    missing = re.search(r"missing required field `([^`]*)`", message)
    if missing:
        field = missing.group(1)
    return Refusal(INVALID, _WHERE.sub("", message).replace("`", "“", 1).replace("`", "”", 1) + ".", field or None)
