"""Orders and bulk commands, own trades and positions."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request as HttpRequest
from rest_framework.response import Response

from core.api.once import Answer, check_key, content_hash, once, once_each
from core.api.paging import page
from core.errors import BadRequest, NotFound, Problem
from core.gathering import Gathering
from exchange import frame_queries, order_queries, own_feed
from exchange.actions.accept import Outcome, Refused, accept
from exchange.api import shapes
from exchange.api.bodies import parse_command
from exchange.api.parameters import whole_number
from exchange.domain.requests import CancelRequest, Refusal, Request
from exchange.models import Command, MarketPosition
from identity.api.base import ApiView
from identity.models import Organization

LARGEST_BATCH = 1_000
STATUSES = {
    "invalid": 400,
    "market-not-found": 404,
    "order-not-found": 404,
    "insufficient-funds": 409,
    "insufficient-capacity": 409,
    "market-halted": 409,
    "market-not-open": 409,
    "market-closed": 409,
    "order-ended": 409,
    "trading-stopped": 409,
    "order-of-block": 409,
    "no-lease": 409,
    "limit-order-rate": 429,
}


class CommandRefused(Problem):
    """A command that was refused, with its stable code."""

    def __init__(self, refused: Refused | Refusal) -> None:
        super().__init__(refused.detail, field=refused.field)
        self.status = STATUSES.get(refused.code, 422)  # type: ignore[misc]  # per refusal, not per class
        self.code = refused.code  # type: ignore[misc]
        self.title = HTTPStatus(self.status).phrase  # type: ignore[misc]


class BatchTooLarge(BadRequest):
    """More commands than one request may carry."""

    code = "batch-too-large"


class OrderIn(serializers.Serializer[Any]):
    """What the OpenAPI document shows of an order; `exchange.api.bodies` reads it."""

    market = serializers.IntegerField()
    side = serializers.ChoiceField(choices=["buy", "sell"])
    type = serializers.ChoiceField(choices=["limit", "market", "stop", "stop_limit"], default="limit")
    price = serializers.CharField(required=False, help_text="¥/token; a multiple of the market's tick.")
    stop_price = serializers.CharField(required=False)
    quantity = serializers.IntegerField(help_text="Standard tokens, in lots of 1,000.")
    time_in_force = serializers.ChoiceField(choices=["gtc", "gtd", "ioc", "fok"], default="gtc")
    expires_at = serializers.DateTimeField(required=False)
    session = serializers.ChoiceField(choices=["any", "auction", "continuous"], default="any")
    post_only = serializers.BooleanField(default=False)
    display_quantity = serializers.IntegerField(required=False)
    min_quantity = serializers.IntegerField(required=False)
    all_or_none = serializers.BooleanField(default=False)
    self_trade = serializers.ChoiceField(
        choices=["none", "cancel_newest", "cancel_oldest", "cancel_both", "decrement"], default="cancel_newest"
    )
    cancel_on_disconnect = serializers.BooleanField(default=False)
    client_order_id = serializers.CharField(required=False, max_length=64)
    confirm = serializers.BooleanField(
        default=False, help_text="That a limit over 100 times the reference price is meant; else it is refused."
    )


class BatchIn(serializers.Serializer[Any]):
    orders = serializers.ListField(
        child=serializers.DictField(),
        max_length=LARGEST_BATCH,
        help_text='Orders, or {"action": "cancel" | "replace", "order": …}, or {"action": "cancel_all", "market": …}.',
    )


class ReplaceIn(serializers.Serializer[Any]):
    price = serializers.CharField(required=False)
    quantity = serializers.IntegerField(required=False, help_text="The new total, what is filled included.")


class CommandOut(serializers.Serializer[Any]):
    """One item's answer: accepted with its ids, or refused with the reason."""

    status = serializers.ChoiceField(choices=["accepted", "refused"])
    order = serializers.DictField(required=False)
    code = serializers.CharField(required=False)
    detail = serializers.CharField(required=False)
    field = serializers.CharField(required=False, allow_null=True)


class BatchOut(serializers.Serializer[Any]):
    results = CommandOut(many=True)
    accepted = serializers.IntegerField()
    refused = serializers.IntegerField()


class Orders(ApiView):
    """One's orders."""

    scopes = {"GET": "read", "POST": "trade"}

    @extend_schema(
        responses=shapes.OrderPage,
        parameters=[OpenApiParameter("market", int), OpenApiParameter("status", str)],
        operation_id="orders_list",
    )
    def get(self, request: HttpRequest) -> Response:
        """List orders, the newest first; `status` filters the page after it is read."""
        rows = order_queries.orders_of(self.actor)
        market_id = whole_number(request, "market")
        if market_id is not None:
            rows = rows.filter(market_id=market_id)
        answer: dict[str, Any] = page(request, rows, lambda row: {"row": row})
        states = order_queries.order_states([item["row"] for item in answer["items"]])
        wanted = request.query_params.get("status")
        answer["items"] = [shapes.show_order(state) for state in states if wanted in (None, "", state.status)]
        return Response(answer)

    @extend_schema(request=OrderIn, responses={202: shapes.OrderOut})
    def post(self, request: HttpRequest) -> Response:
        """Place an order. 202: it is accepted and its money or capacity held; the market's worker takes it up next."""
        return self.once(lambda: self._place(request.data), status=202)

    def _place(self, data: Any) -> dict[str, Any]:
        return one_order(self, _parsed(data))


class OrderBatch(ApiView):
    """Many commands in one request."""

    scopes = {"POST": "trade"}

    @extend_schema(request=BatchIn, responses={202: BatchOut})
    def post(self, request: HttpRequest) -> Response:
        """Place, cancel and replace up to 1,000 orders, each answered by itself."""
        data = request.data
        items = data.get("orders") if isinstance(data, dict) else None
        if not isinstance(items, list) or set(data) != {"orders"}:
            raise BadRequest('Send {"orders": [ … ]}.', field="orders")
        if len(items) > LARGEST_BATCH:
            raise BatchTooLarge(f"A request carries up to {LARGEST_BATCH} commands, not {len(items)}.", field="orders")
        key = request.headers.get("Idempotency-Key", "")
        check_key(key)
        batch = _Batch(self.actor.organization, key, [request.method, request.path, data], items, self.now)
        return self.answered(_batches.do(self.actor.organization_id, batch, weight=len(items)))


class _Batch:
    """A request with many commands, read; those of one organization that wait for each other are accepted together."""

    def __init__(self, organization: Organization, key: str, content: Any, items: list[Any], now: datetime) -> None:
        self.organization = organization
        self.key = key
        self.content = content
        self.items = items
        self.now = now
        self.parsed = [_read(item) for item in items]
        self.sound = [command for command in self.parsed if not isinstance(command, Refused)]

    def body(self, outcomes: Iterator[Outcome]) -> dict[str, Any]:
        """Return the answer; `outcomes` are those of the sound commands of this batch and the following ones."""
        results = [
            _result(command if isinstance(command, Refused) else next(outcomes), item)
            for command, item in zip(self.parsed, self.items, strict=True)
        ]
        accepted = sum(result["status"] == "accepted" for result in results)
        return {"results": results, "accepted": accepted, "refused": len(results) - accepted}


def _accept_alone(batch: _Batch) -> Answer:
    return once(
        organization_id=batch.organization.pk,
        key=batch.key,
        content=batch.content,
        perform=lambda: (202, _accept([batch], batch.now)[0]),
        now=batch.now,
    )


def _accept_together(batches: Sequence[_Batch]) -> list[Answer | None]:
    now = max(batch.now for batch in batches)
    return once_each(
        organization_id=batches[0].organization.pk,
        writes=[(batch.key, content_hash(batch.content)) for batch in batches],
        perform=lambda places: _accept([batches[place] for place in places], now),
        status=202,
        now=now,
    )


def _accept(batches: Sequence[_Batch], now: datetime) -> list[dict[str, Any]]:
    """Accept the commands of an organization's batches, one batch after the other, and return their answers."""
    sound = [command for batch in batches for command in batch.sound]
    outcomes = iter(accept(organization=batches[0].organization, requests=sound, now=now) if sound else [])
    return [batch.body(outcomes) for batch in batches]


_batches = Gathering(_accept_together, _accept_alone, most=LARGEST_BATCH)


class OwnFramesOut(serializers.Serializer[Any]):
    """Frames in order, as the private live channel sends them; `more`: ask again after the last one."""

    market = serializers.IntegerField()
    more = serializers.BooleanField()
    frames = serializers.ListField(child=serializers.DictField())


class OrderFrames(ApiView):
    """What a reader of the private live channel missed."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=OwnFramesOut,
        parameters=[
            OpenApiParameter("market", int, required=True),
            OpenApiParameter("after", int, required=True, description="The `seq` that the reader stands at."),
            OpenApiParameter("until", int, description="The last `seq` wanted."),
        ],
        operation_id="order_frames",
    )
    def get(self, request: HttpRequest) -> Response:
        """List what happened to one's own orders in a market after a number, 100 frames at a time."""
        market_id, after = whole_number(request, "market"), whole_number(request, "after")
        if market_id is None or after is None:
            field = "market" if market_id is None else "after"
            raise BadRequest("market and after say where the reader stands.", field=field)
        until = whole_number(request, "until")
        rows = frame_queries.own_frames(self.actor.organization_id, {market_id: after}, until=until, most=101)
        frames = list(own_feed.updates(self.actor, rows[:100]))
        return Response({"market": market_id, "more": len(rows) > 100, "frames": frames})


class OrderDetail(ApiView):
    """One order."""

    scopes = {"GET": "read", "PATCH": "trade", "DELETE": "trade"}

    @extend_schema(responses=shapes.OrderOut)
    def get(self, request: HttpRequest, order_id: UUID) -> Response:
        """Show an order as it is now."""
        row = order_queries.orders_of(self.actor).filter(pk=order_id).first()
        if row is None:
            raise NotFound("There is no such order.")
        return Response(shapes.show_order(order_queries.order_states([row])[0]))

    @extend_schema(request=ReplaceIn, responses={202: shapes.OrderOut})
    def patch(self, request: HttpRequest, order_id: UUID) -> Response:
        """Ask for another limit or total quantity. A smaller quantity at the same price keeps the order's priority."""
        data = request.data if isinstance(request.data, dict) else {}
        return self.once(
            lambda: one_order(self, _parsed({"action": "replace", "order": str(order_id), **data})), status=202
        )

    @extend_schema(responses={202: shapes.OrderOut})
    def delete(self, request: HttpRequest, order_id: UUID) -> Response:
        """Ask to cancel what is left of an order."""
        return self.once(lambda: one_order(self, CancelRequest(order_id=order_id)), status=202)


class Trades(ApiView):
    """One's trades."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=shapes.TradePage, parameters=[OpenApiParameter("market", int)], operation_id="trades_list"
    )
    def get(self, request: HttpRequest) -> Response:
        """List one's trades, the newest market's first."""
        mine = self.actor.organization_id
        market_id = whole_number(request, "market")
        rows = order_queries.trades_of(mine, None if market_id is None else [market_id])
        return Response(page(request, rows, lambda row: shapes.show_trade(row, mine)))


class Positions(ApiView):
    """One's positions."""

    scopes = {"GET": "read"}

    @extend_schema(
        responses=shapes.PositionPage, parameters=[OpenApiParameter("market", int)], operation_id="positions_list"
    )
    def get(self, request: HttpRequest) -> Response:
        """List what one holds and may sell in each market."""
        rows = MarketPosition.objects.filter(organization_id=self.actor.organization_id)
        market_id = whole_number(request, "market")
        if market_id is not None:
            rows = rows.filter(market_id=market_id)
        return Response(page(request, rows, shapes.show_position))


def one_order(view: ApiView, command: Request) -> dict[str, Any]:
    """
    Accept one command and return its order as it is then.

    :raises CommandRefused: with the reason.
    """
    [outcome] = accept(organization=view.actor.organization, requests=[command], now=view.now)
    if isinstance(outcome, Refused):
        raise CommandRefused(outcome)
    return shapes.show_order(order_queries.order_states(Command.objects.filter(pk=outcome.order_id))[0])


def _parsed(data: Any) -> Request:
    try:
        return parse_command(data)
    except Refusal as refusal:
        raise CommandRefused(refusal) from None


def _read(item: Any) -> Request | Refused:
    try:
        return parse_command(item)
    except Refusal as refusal:
        return Refused(refusal.code, refusal.detail, refusal.field)


def _result(outcome: Outcome, item: Any) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        return {"status": "refused", "code": outcome.code, "detail": outcome.detail, "field": outcome.field}
    order = {"id": outcome.order_id, "market": outcome.market_id, "status": "pending"}
    if outcome.kind < Command.Kind.CANCEL:
        order |= {
            "side": item["side"],
            "type": item.get("type", "limit"),
            "price": item.get("price"),
            "quantity": item["quantity"],
            "filled": 0,
            "remaining": item["quantity"],
            "client_order_id": item.get("client_order_id"),
        }
    return {"status": "accepted", "order": order}

