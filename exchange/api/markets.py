"""Markets, their public trades and books, and auctions."""

from datetime import datetime
from typing import Any

import msgspec
import zstandard
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paging import page
from core.api.serializers import PriceField, StrictSerializer
from core.errors import BadRequest, Conflict, NotFound
from core.periods import Period
from exchange import contract_queries, order_queries, queries, wire
from exchange.actions import markets
from exchange.api import shapes
from exchange.api.parameters import whole_number
from exchange.models import AuctionBook, AuctionResult, Market
from identity.api.base import ApiView
from providers.api.catalogue import SlugOrIdField
from providers.queries import grade as grade_by


class WindowIn(StrictSerializer):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()


class MarketIn(StrictSerializer):
    grade = SlugOrIdField()
    window = WindowIn()
    window_kind = serializers.RegexField(r"^[a-z0-9_]{1,20}$", default="custom")
    call_opens_at = serializers.DateTimeField()
    call_closes_at = serializers.DateTimeField()
    gate_closes_at = serializers.DateTimeField()
    cap_price = PriceField(required=False, allow_null=True, default=None)
    reference_price = PriceField(required=False, allow_null=True, default=None)


class AuctionBookOut(serializers.Serializer[Any]):
    """The anonymised book: rows of [price in ticks or null, lots], in order of priority, and what else decided."""

    bids = serializers.ListField(child=serializers.ListField())
    asks = serializers.ListField(child=serializers.ListField())
    reference = serializers.IntegerField(allow_null=True)
    margin = serializers.CharField()
    tick_price = serializers.CharField()
    lot_tokens = serializers.IntegerField()


class Markets(ApiView):
    """Markets: read by everybody, made by the schedule or the operator."""

    scopes = {"POST": "operate"}
    public = True

    @extend_schema(
        responses=shapes.MarketPage,
        parameters=[OpenApiParameter("grade", str), OpenApiParameter("phase", str)],
        operation_id="markets_list",
    )
    def get(self, request: Request) -> Response:
        """List markets, the newest first; `grade` is a slug or id."""
        rows = Market.objects.select_related("grade", "call")
        grade, phase = request.query_params.get("grade"), request.query_params.get("phase")
        if grade:
            rows = rows.filter(grade_id=int(grade)) if grade.isdigit() and len(grade) < 10 else rows.filter(
                grade__slug=grade
            )
        if phase:
            if phase not in Market.Phase.values:
                raise BadRequest(f"phase is one of {', '.join(Market.Phase.values)}.", field="phase")
            rows = rows.filter(phase=phase)
        return Response(page(request, rows, shapes.show_market))

    @extend_schema(request=MarketIn, responses={201: shapes.MarketOut})
    def post(self, request: Request) -> Response:
        """Create a market with times of its own (operator)."""
        fields = self.parse(MarketIn)
        window = fields.pop("window")
        if window["end"] <= window["start"]:
            raise BadRequest("The window ends before it starts.", field="window")
        grade = grade_by(fields.pop("grade"))

        def create() -> dict[str, Any]:
            return shapes.show_market(
                markets.create_market(
                    grade=grade,
                    window=Period(window["start"], window["end"]),
                    window_kind=fields["window_kind"],
                    call_opens_at=fields["call_opens_at"],
                    call_closes_at=fields["call_closes_at"],
                    gate_closes_at=fields["gate_closes_at"],
                    cap_price_nano=fields["cap_price"],
                    reference_price_nano=fields["reference_price"],
                    now=self.now,
                )
            )

        return self.once(create)


class MarketDetail(ApiView):
    """One market."""

    public = True

    @extend_schema(responses=shapes.MarketDetailOut)
    def get(self, request: Request, market_id: int) -> Response:
        """Show a market, and how much exclusions kept from being placed at its gate."""
        market = market_or_404(market_id)
        return Response(shapes.show_market(market) | {"unplaced": contract_queries.unplaced_tokens(market_id)})


class MarketCalls(ApiView):
    """The calls that a market had and has."""

    public = True

    @extend_schema(responses=shapes.CallPage, operation_id="market_calls_list")
    def get(self, request: Request, market_id: int) -> Response:
        """List a market's calls, the latest first: hashes of their seeds, and the seeds of those that have ended."""
        market = market_or_404(market_id)
        return Response(page(request, queries.calls_of(market), lambda row: shapes.show_call(row) or {}))


class MarketTrades(ApiView):
    """A market's trades, without names."""

    public = True

    @extend_schema(responses=shapes.PublicTradePage, operation_id="market_trades_list")
    def get(self, request: Request, market_id: int) -> Response:
        """List a market's trades, the newest first."""
        market_or_404(market_id)
        return Response(page(request, order_queries.trades_in(market_id), shapes.show_public_trade))


class Auctions(ApiView):
    """Results of auctions."""

    public = True

    @extend_schema(
        responses=shapes.AuctionPage, parameters=[OpenApiParameter("market", int)], operation_id="auctions_list"
    )
    def get(self, request: Request) -> Response:
        """List auctions, the newest first."""
        rows = AuctionResult.objects.select_related("call", "annulment")
        market_id = whole_number(request, "market")
        if market_id is not None:
            rows = rows.filter(market_id=market_id)
        return Response(page(request, rows, shapes.show_auction))


class AuctionDetail(ApiView):
    """One auction."""

    public = True

    @extend_schema(responses=shapes.AuctionOut)
    def get(self, request: Request, auction_id: int) -> Response:
        """Show an auction's price, the rule that decided it, and the figures."""
        row = AuctionResult.objects.select_related("call", "annulment").filter(pk=auction_id).first()
        if row is None:
            raise NotFound("There is no such auction.")
        return Response(shapes.show_auction(row))


class AuctionBookDetail(ApiView):
    """The book of an auction, so that anybody can compute its price again."""

    public = True

    @extend_schema(responses=AuctionBookOut)
    def get(self, request: Request, auction_id: int) -> Response:
        """Show the anonymised book; `manage.py clear_book` and `ciyuan verify auction` read it."""
        row = AuctionBook.objects.select_related("auction__market").filter(pk=auction_id).first()
        if row is None:
            raise NotFound("There is no such auction.")
        unsealed(row.auction.market, self.now)
        book: dict[str, Any] = msgspec.json.decode(zstandard.decompress(bytes(row.content)))
        tick = shapes.price(row.auction.market.tick_nano)
        return Response(book | {"tick_price": tick, "lot_tokens": 1_000})


class BookSealed(Conflict):
    """The bids of a sealed auction are not shown before gate closure."""

    code = "book-sealed"
    title = "The book is sealed"


def unsealed(market: Market, now: datetime) -> Market:
    """
    Return the market, if its book may be shown.

    :raises BookSealed: not yet.
    """
    if wire.is_sealed(market, now):
        raise BookSealed(
            f"The bids of this auction are sealed until gate closure at {wire.time_text(market.gate_closes_at)}.",
            field="market",
        )
    return market


def market_or_404(market_id: int) -> Market:
    """
    Return a market.

    :raises NotFound: there is none of that id.
    """
    row = Market.objects.select_related("grade", "call").filter(pk=market_id).first()
    if row is None:
        raise NotFound("There is no such market.")
    return row
