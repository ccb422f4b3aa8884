"""Blocks over the markets of one call, and reservations, which are such blocks."""

from datetime import datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer, TokensField
from core.errors import BadRequest, NotFound
from core.money import format_price, format_yuan
from exchange import queries
from exchange.actions.blocks import MOST_BLOCKS, MOST_LEGS, BlockRefused, BlockRequest, place_blocks, withdraw_block
from exchange.api.shapes import page_of
from exchange.domain.requests import at_rate
from exchange.models import Block, Market
from identity.api.base import ApiView
from providers.api.catalogue import SlugOrIdField
from providers.queries import grade as grade_by

REF = r"^[A-Za-z0-9_.-]{1,36}$"


class LegIn(StrictSerializer):
    market = serializers.IntegerField(min_value=1, max_value=2**31 - 1)
    quantity = TokensField()


class BlockIn(StrictSerializer):
    side = serializers.ChoiceField(choices=["buy", "sell"])
    limit = PriceField(help_text="¥/token, on average over all its legs.")
    legs = serializers.ListField(child=LegIn(), min_length=1, max_length=MOST_LEGS)
    min_quantity = TokensField(required=False, help_text="Of all legs together; without it and min_ratio: all or none.")
    min_ratio = serializers.DecimalField(
        max_digits=4, decimal_places=3, min_value=Decimal("0.001"), max_value=Decimal(1), required=False,
        coerce_to_string=True,
    )  # fmt: skip
    ref = serializers.RegexField(REF, required=False, default="", help_text="Its name within this request.")
    exclusive_group = serializers.RegexField(
        REF, required=False, default="", help_text="Of the request's blocks of one group at most one is accepted."
    )
    linked_to = serializers.RegexField(
        REF, required=False, default="", help_text="A ref of this request or the id of an own block: only with it."
    )
    client_block_id = serializers.CharField(max_length=64, required=False, default="")


class BlocksIn(StrictSerializer):
    blocks = serializers.ListField(child=BlockIn(), min_length=1, max_length=MOST_BLOCKS)


class LegOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    quantity = serializers.IntegerField()
    order = serializers.UUIDField()


class BlockOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    side = serializers.CharField()
    limit = serializers.CharField()
    quantity = serializers.IntegerField()
    min_quantity = serializers.IntegerField()
    legs = LegOut(many=True)
    exclusive_group = serializers.UUIDField(allow_null=True)
    linked_to = serializers.UUIDField(allow_null=True)
    tokens_per_minute = serializers.IntegerField(allow_null=True, help_text="Of a reservation.")
    client_block_id = serializers.CharField()
    status = serializers.ChoiceField(
        choices=["open", "accepted", "rejected", "rejected_in_the_money", "withdrawn", "self_trade"]
    )
    accepted_quantity = serializers.IntegerField()
    cost = serializers.CharField(help_text="What the accepted part costs, or brings.")
    lost_surplus = serializers.CharField(help_text="What it would have gained at the prices by what it was not given.")
    created_at = serializers.DateTimeField()
    cleared_at = serializers.DateTimeField(allow_null=True)


class PlacedOut(serializers.Serializer[Any]):
    blocks = BlockOut(many=True)


class ReservationIn(StrictSerializer):
    grade = SlugOrIdField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    tokens_per_minute = TokensField()
    limit = PriceField(help_text="¥/token, on average over the window.")
    client_block_id = serializers.CharField(max_length=64, required=False, default="")


BlockPage = page_of(BlockOut, "BlockPage")


def show_block(row: Block) -> dict[str, Any]:
    result = getattr(row, "result", None)
    return {
        "id": row.pk,
        "side": "sell" if row.side == Block.Side.SELL else "buy",
        "limit": format_price(row.limit_price_nano),
        "quantity": row.quantity_tokens,
        "min_quantity": row.least_tokens,
        "legs": [
            {"market": leg.market_id, "quantity": leg.quantity_tokens, "order": leg.order_id}
            for leg in sorted(row.legs.all(), key=lambda leg: leg.pk)
        ],
        "exclusive_group": row.exclusive_group,
        "linked_to": row.parent_id,
        "tokens_per_minute": row.tokens_per_minute,
        "client_block_id": row.client_block_id,
        "status": "open" if result is None else result.outcome,
        "accepted_quantity": 0 if result is None else result.accepted_tokens,
        "cost": format_yuan(0 if result is None else result.cost_micro),
        "lost_surplus": format_yuan(0 if result is None else result.lost_surplus_micro),
        "created_at": row.accepted_at,
        "cleared_at": None if result is None else result.cleared_at,
    }


def _request(fields: dict[str, Any], number: int) -> BlockRequest:
    total = sum(leg["quantity"] for leg in fields["legs"])
    least, ratio = fields.get("min_quantity"), fields.get("min_ratio")
    if least is not None and ratio is not None:
        raise BlockRefused(
            "contradictory-flags", "Give min_quantity or min_ratio, not both.", f"blocks.{number}.min_ratio"
        )
    if ratio is not None:
        least = -(-total * int(ratio * 1_000) // 1_000)
    return BlockRequest(
        side=fields["side"],
        limit_price_nano=fields["limit"],
        legs=tuple((leg["market"], leg["quantity"]) for leg in fields["legs"]),
        least_tokens=least,
        ref=fields["ref"],
        exclusive_group=fields["exclusive_group"],
        linked_to=fields["linked_to"],
        client_block_id=fields["client_block_id"],
    )


class Blocks(ApiView):
    """One's blocks."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(responses=BlockPage, operation_id="blocks_list")
    def get(self, request: Request) -> Response:
        """List one's blocks, the newest first."""
        return Response(page(request, queries.blocks_of(self.actor.organization_id), show_block))

    @extend_schema(request=BlocksIn, responses={202: PlacedOut})
    def post(self, request: Request) -> Response:
        """Place blocks over markets of one call; all of them or none."""
        given = self.parse(BlocksIn)["blocks"]
        wanted = [_request(fields, number) for number, fields in enumerate(given)]
        return self.once(lambda: _place(self, wanted), status=202)


class BlockDetail(ApiView):
    """One block."""

    scopes = {"GET": "read", "DELETE": "trade"}

    @extend_schema(responses=BlockOut)
    def get(self, request: Request, block_id: UUID) -> Response:
        """Show a block and what became of it."""
        return Response(show_block(self._block(block_id)))

    @extend_schema(responses={202: BlockOut})
    def delete(self, request: Request, block_id: UUID) -> Response:
        """Withdraw a block before its call is cleared."""

        def withdraw() -> dict[str, Any]:
            withdraw_block(block_id=block_id, organization=self.actor.organization, now=self.now)
            return show_block(self._block(block_id))

        return self.once(withdraw, status=202)

    def _block(self, block_id: UUID) -> Block:
        row = queries.blocks_of(self.actor.organization_id).filter(pk=block_id).first()
        if row is None:
            raise NotFound("There is no such block.")
        return row


class Reservations(ApiView):
    """Standard tokens a minute for a window: an all-or-none buy block over its markets."""

    scopes = {"POST": "trade"}

    @extend_schema(request=ReservationIn, responses={202: PlacedOut})
    def post(self, request: Request) -> Response:
        """Reserve a rate from `start` to `end`, which are those of markets of one call; all of it or nothing."""
        fields = self.parse(ReservationIn)
        grade = grade_by(fields["grade"])

        def reserve() -> dict[str, Any]:
            legs = _legs(grade.pk, fields["start"], fields["end"], fields["tokens_per_minute"])
            wanted = BlockRequest(
                side="buy", limit_price_nano=fields["limit"], legs=legs, client_block_id=fields["client_block_id"],
                tokens_per_minute=fields["tokens_per_minute"],
            )  # fmt: skip
            return _place(self, [wanted])

        return self.once(reserve, status=202)


def _place(view: ApiView, requests: list[BlockRequest]) -> dict[str, Any]:
    try:
        placed = place_blocks(organization=view.actor.organization, requests=requests, now=view.now)
    except BlockRefused as refused:
        refused.status = STATUSES.get(refused.code, 422)  # type: ignore[misc]
        refused.title = HTTPStatus(refused.status).phrase  # type: ignore[misc]
        raise
    rows = {row.pk: row for row in queries.blocks_of(view.actor.organization_id).filter(pk__in=[b.pk for b in placed])}
    return {"blocks": [show_block(rows[block.pk]) for block in placed]}


STATUSES = {
    "invalid": 400, "market-not-found": 404, "wrong-phase": 409, "insufficient-funds": 409,
    "insufficient-capacity": 409, "market-halted": 409, "market-closed": 409, "trading-stopped": 409,
    "limit-order-rate": 429,
}  # fmt: skip


def _legs(grade_id: int, start: datetime, end: datetime, tokens_per_minute: int) -> tuple[tuple[int, int], ...]:
    """Return (market, tokens) of the markets that make up a window, whole lots of each rounded up."""
    if end <= start:
        raise BadRequest("The window ends before it starts.", field="end")
    rows = Market.objects.filter(grade_id=grade_id, window_start__gte=start, window_end__lte=end)
    legs, reached = [], start
    for market_id, begins, ends in rows.order_by("window_start").values_list("id", "window_start", "window_end"):
        if begins != reached:
            break
        legs.append((market_id, at_rate(tokens_per_minute, (ends - begins) // timedelta(seconds=1))))
        reached = ends
    if reached != end:
        raise BadRequest(
            f"The grade has no markets without a gap from start to end; they reach to {reached.isoformat()}.",
            field="start",
        )
    return tuple(legs)
