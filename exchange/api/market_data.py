"""Market data over REST: books, frames to fill a gap, candles, statistics, phases, histories of auctions, indices."""

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.errors import BadRequest, Conflict, NotFound
from core.money import LOT_TOKENS, format_price, format_yuan
from exchange import candle_queries, frame_queries, index_queries, page_queries, wire
from exchange.api import shapes
from exchange.api.markets import market_or_404, unsealed
from exchange.api.parameters import moment, whole_number
from exchange.domain import candles, spot_index
from exchange.domain.curves import curves
from exchange.domain.frames import PublicMarket
from exchange.domain.spot_index import SpotIndex
from exchange.domain.times import from_ns
from exchange.models import AuctionResult, Market
from identity.api.base import ApiView
from providers.queries import grade as grade_by

FRAMES_AT_ONCE, CANDLES_AT_ONCE = 500, 1_000


class SequenceInsideFrame(Conflict):
    """A number that no frame begins at: a reader of frames never stands there."""

    code = "sequence-inside-frame"


class BookOut(serializers.Serializer[Any]):
    """A book. `bids` and `asks` are rows of [price, quantity, orders]; level 3 has `orders` instead: rows of
    [order, side, price, quantity], best price first and at a price by priority."""

    market = serializers.IntegerField()
    seq = serializers.IntegerField(help_text="The journal entry up to which this holds.")
    at = serializers.CharField(allow_null=True)
    phase = serializers.CharField()
    sealed = serializers.BooleanField()
    bids = serializers.ListField(required=False)
    asks = serializers.ListField(required=False)
    market_bids = serializers.IntegerField(required=False, help_text="Tokens bid for at any price, in a call.")
    market_asks = serializers.IntegerField(required=False)
    orders = serializers.ListField(required=False)
    quote = serializers.DictField(required=False, help_text="Level 1: bid, ask and last.")
    indicative = serializers.DictField(required=False, allow_null=True)
    checksum = serializers.IntegerField(required=False)


class FramesOut(serializers.Serializer[Any]):
    """Frames in order; `seq` is how far they go now, `more` whether to ask again after the last one."""

    market = serializers.IntegerField()
    seq = serializers.IntegerField()
    more = serializers.BooleanField()
    frames = serializers.ListField(child=serializers.DictField())


class StatisticsOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    seq = serializers.IntegerField()
    open = serializers.CharField(allow_null=True)
    high = serializers.CharField(allow_null=True)
    low = serializers.CharField(allow_null=True)
    last = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField()
    amount = serializers.CharField()
    vwap = serializers.CharField(allow_null=True)
    trades = serializers.IntegerField()


class IndicativeOut(serializers.Serializer[Any]):
    """What the call's auction would give now; `indicative` is null outside a call."""

    market = serializers.IntegerField()
    seq = serializers.IntegerField()
    phase = serializers.CharField()
    indicative = serializers.DictField(allow_null=True)


class PhaseChangeOut(serializers.Serializer[Any]):
    phase = serializers.CharField()
    at = serializers.DateTimeField()
    seq = serializers.IntegerField(allow_null=True)
    cause = serializers.CharField()


class PhasesOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    halted = serializers.BooleanField()
    phases = PhaseChangeOut(many=True)


class CandleOut(serializers.Serializer[Any]):
    time = serializers.DateTimeField()
    open = serializers.CharField()
    high = serializers.CharField()
    low = serializers.CharField()
    close = serializers.CharField()
    volume = serializers.IntegerField(help_text="Standard tokens.")
    amount = serializers.CharField(help_text="¥.")
    trades = serializers.IntegerField()


class CandlesOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    interval = serializers.CharField()
    candles = CandleOut(many=True)


class CurvesOut(serializers.Serializer[Any]):
    """Rows of [price, demand, supply] by rising price, in tokens; at a price, market orders count too."""

    auction = serializers.IntegerField()
    price = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField()
    curve = serializers.ListField()


class IndexOut(serializers.Serializer[Any]):
    """A value, or null with the reason: too-few-sellers, too-few-buyers, seller- or buyer-concentrated."""

    price = serializers.CharField(allow_null=True)
    price_per_million = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField()
    trades = serializers.IntegerField()
    sellers = serializers.IntegerField()
    buyers = serializers.IntegerField()
    largest_seller_thousandths = serializers.IntegerField()
    largest_buyer_thousandths = serializers.IntegerField()


class DayIndexOut(IndexOut):
    day = serializers.DateField()


class OffPeakOut(serializers.Serializer[Any]):
    price = serializers.CharField(allow_null=True)
    list_price = serializers.CharField(allow_null=True)
    discount_thousandths = serializers.IntegerField(allow_null=True)
    auctions = serializers.IntegerField()


class GradeIndexOut(IndexOut):
    grade = serializers.IntegerField()
    grade_slug = serializers.CharField()
    at = serializers.DateTimeField()
    method = serializers.CharField()
    off_peak = OffPeakOut()
    days = DayIndexOut(many=True)


class MarketBook(ApiView):
    """A market's book: L1, L2 or L3."""

    public = True

    @extend_schema(
        responses=BookOut,
        parameters=[
            OpenApiParameter("level", {"type": "integer", "enum": [1, 2, 3], "default": 2}),
            OpenApiParameter("depth", int, description="Prices a side; all by default."),
        ],
        operation_id="market_book",
    )
    def get(self, request: Request, market_id: int) -> Response:
        """
        Show the book as of `seq`: the best prices (1), by level (2), order by order without names (3).

        In a sealed auction, level 1 has what it would give now, and the others are shown after gate closure, as the
        book was before the last auction.
        """
        market = market_or_404(market_id)
        level = whole_number(request, "level")
        level, depth = 2 if level is None else level, whole_number(request, "depth")
        if level not in (1, 2, 3):
            raise BadRequest("level is 1, 2 or 3.", field="level")
        units, sealed = wire.Units.of(market), wire.is_sealed(market, self.now)
        if level > 1:
            unsealed(market, self.now)
            if market.mode == Market.Mode.AUCTION and (was := _before_auction(market)) is not None:
                return Response(_shown(units, was, level, depth))
        with frame_queries.Reading(market_id) as now:
            shown = _shown(units, now, level, depth)
        if sealed:
            shown["quote"] |= {"bid": None, "ask": None}
        return Response(shown | {"sealed": sealed})


def _before_auction(market: Market) -> PublicMarket | None:
    """Return an auction-mode market as its last auction found it."""
    last = market.auctions.order_by("-sequence").values_list("sequence", flat=True).first()
    return None if last is None else frame_queries.public_market(market.pk, before=last)


def _shown(units: wire.Units, market: PublicMarket, level: int, depth: int | None) -> dict[str, Any]:
    shown = {
        "market": market.market_id,
        "seq": market.sequence,
        "at": wire.time_text(from_ns(market.at_ns)) if market.at_ns else None,
        "phase": frame_queries.PHASE_NAMES[market.phase],
        "sealed": False,
    }
    if level == 1:
        return shown | {"quote": units.quote(market), "indicative": units.indicative(market.indicative)}
    if level == 2:
        return shown | units.book(market, depth)
    orders = units.orders(market, depth)
    return shown | {"orders": orders["rows"], "checksum": orders["checksum"]}


class MarketFrames(ApiView):
    """What a reader of the live channel missed."""

    public = True

    @extend_schema(
        responses=FramesOut,
        parameters=[
            OpenApiParameter("after", int, required=True, description="The `seq` that the reader stands at."),
            OpenApiParameter("until", int, description="The last `seq` wanted."),
            OpenApiParameter("level", {"type": "integer", "enum": [2, 3], "default": 2}),
        ],
        operation_id="market_frames",
    )
    def get(self, request: Request, market_id: int) -> Response:
        """List the frames after a number, as the live channel sends them, to fill a gap; 500 at a time."""
        market = market_or_404(market_id)
        after, until = whole_number(request, "after"), whole_number(request, "until")
        level = whole_number(request, "level")
        if after is None:
            raise BadRequest("after is the seq that you stand at.", field="after")
        if level not in (None, 2, 3):
            raise BadRequest("level is 2 or 3.", field="level")
        channels = {"trades", "phase", "indicative", "statistics"}
        if not wire.is_sealed(market, self.now):
            channels.add("orders" if level == 3 else "book")
        return Response(frames_between(market, after, until, channels))


def frames_between(market: Market, after: int, until: int | None, channels: set[str]) -> dict[str, Any]:
    """
    Return up to 500 frames after a number.

    :raises SequenceInsideFrame: no frame begins there.
    """
    units = wire.Units.of(market)
    state = frame_queries.public_market(market.pk, until=after)
    if state.sequence != min(after, frame_queries.last_sequence(market.pk)):
        raise SequenceInsideFrame(
            f"No frame begins after {after}; the one before ends at {state.sequence}. Take a snapshot of the book.",
            field="after",
        )
    shown: list[dict[str, Any]] = []
    for frame in frame_queries.frames_after(market.pk, after, until=until, most=FRAMES_AT_ONCE + 1):
        if len(shown) == FRAMES_AT_ONCE:
            return {"market": market.pk, "seq": state.sequence, "more": True, "frames": shown}
        update = wire.Update(state.sequence)
        update.add(state, frame)
        shown.append(update.shown(units, state, channels))
    return {"market": market.pk, "seq": state.sequence, "more": False, "frames": shown}


class MarketStatistics(ApiView):
    """A market's trading so far."""

    public = True

    @extend_schema(responses=StatisticsOut, operation_id="market_statistics")
    def get(self, request: Request, market_id: int) -> Response:
        """Show first, highest, lowest and last price, volume in tokens and amount in ¥."""
        market = market_or_404(market_id)
        with frame_queries.Reading(market_id) as now:
            shown = wire.Units.of(market).statistics(now.statistics)
            return Response({"market": market_id, "seq": now.sequence} | shown)


class MarketIndicative(ApiView):
    """What a call would give now."""

    public = True

    @extend_schema(responses=IndicativeOut, operation_id="market_indicative")
    def get(self, request: Request, market_id: int) -> Response:
        """Show the call's indicative price, volume and surplus."""
        market = market_or_404(market_id)
        with frame_queries.Reading(market_id) as now:
            shown = wire.Units.of(market).indicative(now.indicative)
            phase = frame_queries.PHASE_NAMES[now.phase]
            return Response({"market": market_id, "seq": now.sequence, "phase": phase, "indicative": shown})


class MarketPhases(ApiView):
    """The phases that a market has been through."""

    public = True

    @extend_schema(responses=PhasesOut, operation_id="market_phases")
    def get(self, request: Request, market_id: int) -> Response:
        """List a market's changes of phase, the first first."""
        market = market_or_404(market_id)
        changes = [
            {"phase": one.phase, "at": one.at, "seq": one.sequence or None, "cause": one.cause}
            for one in frame_queries.phase_changes(market)
        ]
        return Response({"market": market_id, "halted": market.halted, "phases": changes})


class MarketCandles(ApiView):
    """A market's candles."""

    public = True

    @extend_schema(
        responses=CandlesOut,
        parameters=[
            OpenApiParameter("interval", {"type": "string", "enum": list(candles.INTERVALS), "default": "1m"}),
            OpenApiParameter("since", {"type": "string", "format": "date-time"}),
            OpenApiParameter("until", {"type": "string", "format": "date-time"}, description="Now by default."),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": CANDLES_AT_ONCE, "default": 100}),
        ],
        operation_id="market_candles",
    )
    def get(self, request: Request, market_id: int) -> Response:
        """
        List candles by time. Without `since`, the last `limit` before `until`.

        An interval without trades is flat at the price before, with volume 0; none comes before the first trade.
        """
        market = market_or_404(market_id)
        name = request.query_params.get("interval", "1m")
        interval = candles.INTERVALS.get(name)
        if interval is None:
            raise BadRequest(f"interval is one of {', '.join(candles.INTERVALS)}.", field="interval")
        limit = whole_number(request, "limit") or 100
        if limit > CANDLES_AT_ONCE:
            raise BadRequest(f"limit is a whole number from 1 to {CANDLES_AT_ONCE}.", field="limit")
        over = min(self.now, market.gate_closes_at) + timedelta(microseconds=1)
        since, until = moment(request, "since"), min(moment(request, "until") or over, over)
        if since is None:
            since = candles.floor(until - timedelta(microseconds=1), interval) - (limit - 1) * interval
        since = max(candles.floor(since, interval), candles.floor(market.call_opens_at, interval))
        until = min(until, since + limit * interval)
        found = candle_queries.candles(market, interval=interval, since=since, until=until) if since < until else []
        return Response({"market": market_id, "interval": name, "candles": [_candle(one) for one in found]})


def _candle(one: candles.Candle) -> dict[str, Any]:
    return {
        "time": one.start,
        "open": format_price(one.open),
        "high": format_price(one.high),
        "low": format_price(one.low),
        "close": format_price(one.close),
        "volume": one.volume,
        "amount": format_yuan(one.amount // 1_000),
        "trades": one.trades,
    }


def auction_or_404(auction_id: int) -> AuctionResult:
    """
    Return an auction with its market.

    :raises NotFound: there is none of that id.
    """
    row = AuctionResult.objects.select_related("market").filter(pk=auction_id).first()
    if row is None:
        raise NotFound("There is no such auction.")
    return row


class AuctionCurves(ApiView):
    """Demand and supply of an auction."""

    public = True

    @extend_schema(responses=CurvesOut, operation_id="auction_curves")
    def get(self, request: Request, auction_id: int) -> Response:
        """Show demand and supply at each limit of the book; of a sealed auction after gate closure."""
        row = auction_or_404(auction_id)
        market = unsealed(row.market, self.now)
        book = page_queries.book_of_auction(row) or {"bids": [], "asks": []}
        tick = market.tick_nano
        sides = [
            [(None if price is None else price * tick, lots * LOT_TOKENS) for price, lots in book[side]]
            for side in ("bids", "asks")
        ]
        curve = [
            [format_price(one.price_nano), one.demand_tokens, one.supply_tokens] for one in curves(sides[0], sides[1])
        ]
        price = shapes.price(row.price_nano)
        return Response({"auction": row.pk, "price": price, "volume": row.volume_tokens, "curve": curve})


class AuctionHistory(ApiView):
    """How the book of a past auction came to be."""

    public = True

    @extend_schema(
        responses=FramesOut,
        parameters=[OpenApiParameter("after", int, description="The `seq` of the last frame seen.")],
        operation_id="auction_history",
    )
    def get(self, request: Request, auction_id: int) -> Response:
        """List the frames of the call that the auction ended, order by order; of a sealed one after gate closure."""
        row = auction_or_404(auction_id)
        market = unsealed(row.market, self.now)
        after = whole_number(request, "after")
        if after is None:
            after = frame_queries.begin_of_call(market.pk, row.sequence)
        until = frame_queries.end_of_frame(market.pk, row.sequence)
        return Response(frames_between(market, after, until, {"orders", "trades", "phase", "indicative"}))


class GradeIndex(ApiView):
    """The spot token index of a grade."""

    public = True

    @extend_schema(
        responses=GradeIndexOut,
        parameters=[OpenApiParameter("days", {"type": "integer", "minimum": 0, "maximum": 366, "default": 30})],
        operation_id="grade_index",
    )
    def get(self, request: Request, slug_or_id: str) -> Response:
        """
        Show the index over the last 24 hours, the discount of off-peak auctions, and the index of each day of Shanghai.
        """
        grade = grade_by(slug_or_id)
        days = whole_number(request, "days")
        days = 30 if days is None else days
        if days > 366:
            raise BadRequest("days is a whole number up to 366.", field="days")
        midnight = candles.floor(self.now, candles.INTERVALS["1d"])
        past = index_queries.index_by_day(
            grade.pk, since=midnight - timedelta(days=days - 1), until=self.now
        ) if days else []  # fmt: skip
        discount = index_queries.off_peak_discount(grade.pk, self.now)
        return Response({
            "grade": grade.pk,
            "grade_slug": grade.slug,
            "at": self.now,
            "method": spot_index.METHOD,
            **_index(index_queries.index_at(grade.pk, self.now)),
            "off_peak": {
                "price": shapes.price(discount.price_nano),
                "list_price": shapes.price(discount.list_price_nano),
                "discount_thousandths": discount.discount_thousandths,
                "auctions": discount.auctions,
            },
            "days": [{"day": day, **_index(found)} for day, found in past],
        })  # fmt: skip


def _index(found: SpotIndex) -> dict[str, Any]:
    return {
        "price": shapes.price(found.price_nano),
        "price_per_million": shapes.per_million(found.price_nano),
        "reason": found.reason,
        "volume": found.volume_tokens,
        "trades": found.trades,
        "sellers": found.sellers,
        "buyers": found.buyers,
        "largest_seller_thousandths": found.largest_seller_thousandths,
        "largest_buyer_thousandths": found.largest_buyer_thousandths,
    }
