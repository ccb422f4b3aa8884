"""A member's drop copy: what became of its own orders, its fills, and what it has free and held, frame by frame."""

import sys
from array import array
from collections.abc import Iterator
from typing import Any

from billing.queries import balance
from core.money import format_yuan
from exchange import frame_queries, order_queries, wire
from exchange.api import shapes
from exchange.domain.numbering import entry_id
from exchange.models import Command, MarketPosition, OwnFrame, Trade
from identity.access import Actor

ORDERS_AT_ONCE = 500


def account(organization_id: int) -> dict[str, Any]:
    """Return what an organization has free and what its orders hold, in ¥."""
    now = balance(organization_id)
    return {"available": format_yuan(now.available_micro), "held": format_yuan(now.held_micro)}


def snapshot(actor: Actor) -> tuple[dict[str, Any], dict[int, int]]:
    """Return the message that a drop copy begins with, and where it stands in each live market."""
    own = actor.organization_id
    positions = frame_queries.own_positions(own)
    live = frame_queries.live_markets()
    orders = Command.objects.filter(organization_id=own, kind__in=Command.ORDER_KINDS, market_id__in=live)
    states = order_queries.order_states(orders.order_by("-pk")[: 2 * ORDERS_AT_ONCE])
    rows = MarketPosition.objects.filter(organization_id=own, market_id__in=live).order_by("market_id")
    message = {
        "type": "snapshot",
        "organization": own,
        "seqs": {str(market): sequence for market, sequence in positions.items()},
        "orders": [shapes.show_order(state) for state in states if not state.ended],
        "positions": [shapes.show_position(row) for row in rows],
        "account": account(own),
    }
    return message, positions


def updates(actor: Actor, frames: list[OwnFrame]) -> Iterator[dict[str, Any]]:
    """
    Yield the messages of a member's frames. Orders are shown as they are now, fills as they were made.

    A frame of very many orders comes in several messages; all but the last say `more`.
    """
    prev: dict[int, int] = {}
    for frame in frames:
        market_id = frame.market_id
        before = prev[market_id] if market_id in prev else frame_queries.prev_own_sequence(frame)
        prev[market_id] = frame.sequence
        message = {
            "type": "update",
            "market": market_id,
            "prev_seq": before,
            "seq": frame.sequence,
            "at": wire.time_text(frame.at),
        }
        numbers = _numbers(frame)
        parts = [numbers[at : at + ORDERS_AT_ONCE] for at in range(0, len(numbers), ORDERS_AT_ONCE)] or [[]]
        for part in parts[:-1]:
            yield message | {"more": True, "orders": _orders(actor, market_id, part), "fills": []}
        yield message | {
            "orders": _orders(actor, market_id, parts[-1]),
            "fills": _fills(actor.organization_id, frame),
            "account": account(actor.organization_id),
        }


def _numbers(frame: OwnFrame) -> list[int]:
    numbers = array("I")
    numbers.frombytes(bytes(frame.numbers))
    assert sys.byteorder == "little"  # as they were written: on the same kind of machine
    return numbers.tolist()


def _orders(actor: Actor, market_id: int, numbers: list[int]) -> list[dict[str, Any]]:
    ids = frame_queries.order_ids(market_id, numbers)
    rows = Command.objects.filter(pk__in=ids, organization_id=actor.organization_id, kind__in=Command.ORDER_KINDS)
    return [shapes.show_order(state) for state in order_queries.order_states(rows.order_by("pk"))]


def _fills(own: int, frame: OwnFrame) -> list[dict[str, Any]]:
    """Return the member's trades of a frame, from either side."""
    first, last = entry_id(frame.market_id, frame.first_trade), entry_id(frame.market_id, frame.last_trade)
    rows = Trade.objects.filter(id__gte=first, id__lte=last).order_by("id")
    return [shapes.show_trade(row, own) for row in rows if own in (row.buyer_id, row.seller_id)]
