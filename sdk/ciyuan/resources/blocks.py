"""Blocks over the markets of one call, and reservations of a rate, which are such blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ciyuan import records as r
from ciyuan.calls import Call, Mode, Page, Resource, endpoint, page_of, paged, read, write
from ciyuan.resources.values import Money, Side, decimal_text, given, time_text

Placed = list[r.Block]


class Blocks(Resource[Mode]):
    @paged
    def list(self) -> Call[Page[r.Block]]:
        """One's blocks, the newest first, with what became of them."""
        return read("/v1/blocks", page_of(r.Block))

    @endpoint
    def get(self, block: str) -> Call[r.Block]:
        return read(f"/v1/blocks/{block}", r.Block)

    @endpoint
    def place(self, blocks: Iterable[Mapping[str, Any]], *, idempotency_key: str | None = None) -> Call[Placed]:
        """Place blocks, all of them or none; `block_body` makes one from typed arguments."""
        body = {"blocks": [dict(block) for block in blocks]}
        return write("POST", "/v1/blocks", _placed, body, idempotency_key=idempotency_key)

    @endpoint
    def withdraw(self, block: str, *, idempotency_key: str | None = None) -> Call[r.Block]:
        """Take a block back before its call is cleared."""
        return write("DELETE", f"/v1/blocks/{block}", r.Block, idempotency_key=idempotency_key)


class Reservations(Resource[Mode]):
    @endpoint
    def place(
        self,
        *,
        grade: int | str,
        start: datetime | str,
        end: datetime | str,
        tokens_per_minute: int,
        limit: Money,
        client_block_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[Placed]:
        """Reserve a rate from `start` to `end`, which are those of markets of one call: all of it or nothing."""
        body = given(
            grade=grade,
            start=time_text("start", start),
            end=time_text("end", end),
            tokens_per_minute=tokens_per_minute,
            limit=decimal_text("limit", limit),
            client_block_id=client_block_id,
        )
        return write("POST", "/v1/reservations", _placed, body, idempotency_key=idempotency_key)


def block_body(
    *,
    side: Side,
    limit: Money,
    legs: Iterable[tuple[int, int]],
    min_quantity: int | None = None,
    min_ratio: Money | None = None,
    ref: str | None = None,
    exclusive_group: str | None = None,
    linked_to: str | None = None,
    client_block_id: str | None = None,
) -> dict[str, Any]:
    """
    One block as the API takes it.

    :param legs: (market, standard tokens) of each.
    :param limit: ¥ per standard token, on average over the legs.
    :param min_quantity: the least of all legs together; without it and `min_ratio` all or none.
    """
    return given(
        side=side,
        limit=decimal_text("limit", limit),
        legs=[{"market": market, "quantity": quantity} for market, quantity in legs],
        min_quantity=min_quantity,
        min_ratio=decimal_text("min_ratio", min_ratio),
        ref=ref,
        exclusive_group=exclusive_group,
        linked_to=linked_to,
        client_block_id=client_block_id,
    )


def _placed(body: Any) -> Placed:
    return [r.Block(row) for row in body["blocks"]]
