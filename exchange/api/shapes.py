"""How the rows of the exchange look over HTTP; the serializers are what the OpenAPI document shows."""

from datetime import datetime
from typing import Any

from rest_framework import serializers

from core.money import format_price, format_price_per_million, format_yuan, round_half_up
from exchange.domain.commands import IN_FORCE_NAMES, SELF_TRADE_NAMES, SIDE_NAMES, TYPE_NAMES, session_name
from exchange.domain.orders import ALL_OR_NONE, CANCEL_ON_DISCONNECT, POST_ONLY, STP, TIME_IN_FORCE
from exchange.models import AuctionCall, AuctionResult, DeliveryContract, Market, MarketPosition, Trade
from exchange.order_queries import OrderState


def price(price_nano: int | None) -> str | None:
    """Return a price in ¥/token as text, or None."""
    return None if price_nano is None else format_price(price_nano)


def per_million(price_nano: int | None) -> str | None:
    """Return a price in ¥ per million tokens as text, or None."""
    return None if price_nano is None else format_price_per_million(price_nano)


class CallOut(serializers.Serializer[Any]):
    """The end of a call: between `closes_at` and `random_seconds` later, by a seed that is shown once it has ended."""

    cause = serializers.ChoiceField(choices=["schedule", "volatility", "extension", "resumption"])
    closes_at = serializers.DateTimeField()
    random_seconds = serializers.IntegerField()
    extensions = serializers.IntegerField()
    seed_hash = serializers.CharField(help_text="SHA-256 of the seed, shown from the opening of the call.")
    seed = serializers.CharField(allow_null=True)
    ends_at = serializers.DateTimeField(allow_null=True)


def show_call(row: AuctionCall | None) -> dict[str, Any] | None:
    if row is None:
        return None
    over = row.ended_at is not None
    return {
        "cause": row.cause,
        "closes_at": row.closes_at,
        "random_seconds": row.random_seconds,
        "extensions": row.extensions,
        "seed_hash": row.seed_hash,
        "seed": bytes(row.seed).hex() if over else None,
        "ends_at": row.ends_at if over else None,
    }


class MarketOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    grade = serializers.IntegerField()
    grade_slug = serializers.CharField()
    window_kind = serializers.CharField()
    window_start = serializers.DateTimeField()
    window_end = serializers.DateTimeField()
    mode = serializers.CharField()
    margin = serializers.CharField()
    phase = serializers.CharField()
    halted = serializers.BooleanField()
    call_opens_at = serializers.DateTimeField()
    call_closes_at = serializers.DateTimeField()
    gate_closes_at = serializers.DateTimeField()
    call = CallOut(allow_null=True, help_text="The present call's end.")
    random_end_seconds = serializers.IntegerField()
    static_collar_thousandths = serializers.IntegerField()
    dynamic_collar_thousandths = serializers.IntegerField()
    tick = serializers.CharField()
    min_order = serializers.IntegerField()
    cap_price = serializers.CharField(allow_null=True)
    cap_price_per_million = serializers.CharField(allow_null=True)
    reference_price = serializers.CharField(allow_null=True)
    reference_price_per_million = serializers.CharField(allow_null=True)
    sequence = serializers.IntegerField()
    gate_closed_at = serializers.DateTimeField(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)
    finalized_at = serializers.DateTimeField(allow_null=True, help_text="Since when its settlement is final.")


class MarketDetailOut(MarketOut):
    unplaced = serializers.IntegerField(help_text="Tokens that buyers' exclusions kept from being placed at the gate.")


def show_market(row: Market) -> dict[str, Any]:
    return {
        "id": row.pk,
        "grade": row.grade_id,
        "grade_slug": row.grade.slug,
        "window_kind": row.window_kind,
        "window_start": row.window_start,
        "window_end": row.window_end,
        "mode": row.mode,
        "margin": row.margin,
        "phase": row.phase,
        "halted": row.halted,
        "call_opens_at": row.call_opens_at,
        "call_closes_at": row.call_closes_at,
        "gate_closes_at": row.gate_closes_at,
        "call": show_call(row.call),
        "random_end_seconds": row.random_end_seconds,
        "static_collar_thousandths": row.static_collar_thousandths,
        "dynamic_collar_thousandths": row.dynamic_collar_thousandths,
        "tick": format_price(row.tick_nano),
        "min_order": row.min_order_tokens,
        "cap_price": price(row.cap_price_nano),
        "cap_price_per_million": per_million(row.cap_price_nano),
        "reference_price": price(row.reference_price_nano),
        "reference_price_per_million": per_million(row.reference_price_nano),
        "sequence": row.last_sequence,
        "gate_closed_at": row.gate_closed_at,
        "settled_at": row.settled_at,
        "finalized_at": row.finalized_at,
    }


class OrderOut(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    market = serializers.IntegerField()
    side = serializers.CharField()
    type = serializers.CharField()
    status = serializers.ChoiceField(
        choices=["pending", "open", "waiting", "partly_filled", "filled", "cancelled", "expired", "refused"]
    )
    reason = serializers.CharField(help_text="A stable code, where it ended before it was filled.")
    price = serializers.CharField(allow_null=True)
    price_per_million = serializers.CharField(allow_null=True)
    stop_price = serializers.CharField(allow_null=True)
    quantity = serializers.IntegerField()
    filled = serializers.IntegerField()
    remaining = serializers.IntegerField()
    average = serializers.CharField(allow_null=True)
    cost = serializers.CharField()
    held = serializers.CharField()
    time_in_force = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    session = serializers.CharField()
    post_only = serializers.BooleanField()
    all_or_none = serializers.BooleanField()
    display_quantity = serializers.IntegerField(allow_null=True)
    min_quantity = serializers.IntegerField(allow_null=True)
    self_trade = serializers.CharField()
    cancel_on_disconnect = serializers.BooleanField()
    client_order_id = serializers.CharField(allow_null=True)
    capacity = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


def show_order(state: OrderState) -> dict[str, Any]:
    row = state.command
    average = round_half_up(state.paid_nano, state.filled_tokens) if state.filled_tokens else None
    return {
        "id": row.pk,
        "market": row.market_id,
        "side": SIDE_NAMES[row.side],
        "type": TYPE_NAMES[row.kind],
        "status": state.status,
        "reason": state.reason,
        "price": price(state.price_nano),
        "price_per_million": per_million(state.price_nano),
        "stop_price": price(row.stop_price_nano or None),
        "quantity": state.quantity_tokens,
        "filled": state.filled_tokens,
        "remaining": state.remaining_tokens,
        "average": price(average),
        "cost": format_yuan(state.paid_nano // 1_000),
        "held": format_yuan(state.held_micro),
        "time_in_force": IN_FORCE_NAMES[row.flags & TIME_IN_FORCE],
        "expires_at": row.expires_at,
        "session": session_name(row.flags),
        "post_only": bool(row.flags & POST_ONLY),
        "all_or_none": bool(row.flags & ALL_OR_NONE),
        "display_quantity": row.display_tokens or None,
        "min_quantity": row.min_quantity_tokens or None,
        "self_trade": SELF_TRADE_NAMES[row.flags & STP],
        "cancel_on_disconnect": bool(row.flags & CANCEL_ON_DISCONNECT),
        "client_order_id": row.client_order_id or None,
        "capacity": row.capacity_id,
        "created_at": row.accepted_at,
        "ended_at": state.ended_at,
    }


class PublicTradeOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    market = serializers.IntegerField()
    price = serializers.CharField()
    price_per_million = serializers.CharField()
    quantity = serializers.IntegerField()
    taker_side = serializers.CharField(help_text="buy, sell, auction; annulment: a trade back.")
    created_at = serializers.DateTimeField()


class TradeOut(PublicTradeOut):
    side = serializers.CharField()
    order = serializers.UUIDField()
    cost = serializers.CharField()


def show_public_trade(row: Trade) -> dict[str, Any]:
    return {
        "id": row.pk,
        "market": row.market_id,
        "price": format_price(row.price_nano),
        "price_per_million": format_price_per_million(row.price_nano),
        "quantity": row.quantity_tokens,
        "taker_side": {0: "auction", 1: "buy", 2: "sell", 3: "annulment"}[row.aggressor],
        "created_at": row.occurred_at,
    }


def show_trade(row: Trade, organization_id: int) -> dict[str, Any]:
    bought = row.buyer_id == organization_id
    return show_public_trade(row) | {
        "side": "buy" if bought else "sell",
        "order": row.buy_order_id if bought else row.sell_order_id,
        "cost": format_yuan(row.quantity_tokens * row.price_nano // 1_000),
    }


class PositionOut(serializers.Serializer[Any]):
    market = serializers.IntegerField()
    capacity = serializers.IntegerField()
    position = serializers.IntegerField()
    open_sell = serializers.IntegerField()
    sellable = serializers.IntegerField()


def show_position(row: MarketPosition) -> dict[str, Any]:
    return {
        "market": row.market_id,
        "capacity": row.capacity_tokens,
        "position": row.position_tokens,
        "open_sell": row.open_sell_tokens,
        "sellable": row.sellable_tokens,
    }


class AuctionOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    market = serializers.IntegerField()
    kind = serializers.CharField()
    price = serializers.CharField(allow_null=True)
    price_per_million = serializers.CharField(allow_null=True)
    volume = serializers.IntegerField()
    surplus = serializers.IntegerField()
    rule = serializers.CharField()
    reference_price = serializers.CharField(allow_null=True)
    best_bid = serializers.CharField(allow_null=True)
    best_ask = serializers.CharField(allow_null=True)
    offered = serializers.IntegerField()
    wanted = serializers.IntegerField()
    spill_thousandths = serializers.IntegerField(help_text="Share of what was offered that stayed unsold.")
    buyers = serializers.IntegerField()
    sellers = serializers.IntegerField()
    largest_seller_thousandths = serializers.IntegerField()
    concentrated = serializers.BooleanField()
    thin = serializers.BooleanField()
    annulled = serializers.BooleanField(help_text="Its trades were reversed by mirror entries.")
    reserve_price = serializers.CharField(allow_null=True, help_text="Of a thin auction: it trades at no less.")
    call = CallOut(allow_null=True)
    figures = serializers.JSONField()
    cleared_at = serializers.DateTimeField()


def show_auction(row: AuctionResult) -> dict[str, Any]:
    unsold = row.offered_tokens - row.volume_tokens
    return {
        "id": row.pk,
        "market": row.market_id,
        "kind": row.kind,
        "price": price(row.price_nano),
        "price_per_million": per_million(row.price_nano),
        "volume": row.volume_tokens,
        "surplus": row.surplus_tokens,
        "rule": row.rule,
        "reference_price": price(row.reference_price_nano),
        "best_bid": price(row.best_bid_nano),
        "best_ask": price(row.best_ask_nano),
        "offered": row.offered_tokens,
        "wanted": row.wanted_tokens,
        "spill_thousandths": unsold * 1_000 // row.offered_tokens if row.offered_tokens else 0,
        "buyers": row.buyers,
        "sellers": row.sellers,
        "largest_seller_thousandths": row.largest_seller_thousandths,
        "concentrated": row.largest_seller_thousandths > 400,
        "thin": row.thin,
        "annulled": bool(hasattr(row, "annulment") and row.annulment.sequence),
        "reserve_price": price(row.reserve_price_nano),
        "call": show_call(row.call),
        "figures": row.figures,
        "cleared_at": row.cleared_at,
    }


class LotOut(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    quantity = serializers.IntegerField()
    price = serializers.CharField()
    price_per_million = serializers.CharField()


class ContractOut(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    market = serializers.IntegerField(allow_null=True)
    grade = serializers.IntegerField()
    grade_slug = serializers.CharField()
    model = serializers.CharField()
    buyer = serializers.IntegerField()
    buyer_name = serializers.CharField()
    provider = serializers.IntegerField()
    provider_name = serializers.CharField()
    quantity = serializers.IntegerField()
    tokens_per_minute = serializers.IntegerField()
    window_start = serializers.DateTimeField(allow_null=True)
    window_end = serializers.DateTimeField(allow_null=True)
    status = serializers.CharField()
    lots = LotOut(many=True)
    created_at = serializers.DateTimeField()


def show_contract(row: DeliveryContract, *, as_provider: bool, now: datetime) -> dict[str, Any]:
    """Each side sees its own prices: a buyer what it paid, a provider what it sold at."""
    return {
        "id": row.pk,
        "kind": row.kind,
        "market": row.market_id,
        "grade": row.grade_id,
        "grade_slug": row.grade.slug,
        "model": row.grade.model_card.slug,
        "buyer": row.buyer_id,
        "buyer_name": str(row.buyer),
        "provider": row.provider_id,
        "provider_name": str(row.provider),
        "quantity": row.quantity_tokens,
        "tokens_per_minute": row.rate_tokens_per_minute,
        "window_start": row.window_start,
        "window_end": row.window_end,
        "status": contract_status(row, now),
        "lots": [
            {
                "number": lot.number,
                "quantity": lot.quantity_tokens,
                "price": format_price(nano := lot.seller_price_nano if as_provider else lot.buyer_price_nano),
                "price_per_million": format_price_per_million(nano),
            }
            for lot in row.lots.all()
        ],
        "created_at": row.created_at,
    }


def contract_status(row: DeliveryContract, now: datetime) -> str:
    """Return where a contract stands: standing, upcoming, delivering, ended or settled."""
    if row.window_start is None or row.window_end is None:
        return "standing"
    if row.market is not None and row.market.phase == Market.Phase.SETTLED:
        return "settled"
    if now < row.window_start:
        return "upcoming"
    return "delivering" if now < row.window_end else "ended"


def page_of(item: type[serializers.Serializer[Any]], name: str) -> type[serializers.Serializer[Any]]:
    """Return the serializer of a page of items, for the OpenAPI document."""
    fields: dict[str, Any] = {"items": item(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return type(name, (serializers.Serializer,), fields)


CallPage = page_of(CallOut, "CallPage")
MarketPage = page_of(MarketOut, "MarketPage")
OrderPage = page_of(OrderOut, "OrderPage")
PublicTradePage = page_of(PublicTradeOut, "PublicTradePage")
TradePage = page_of(TradeOut, "TradePage")
PositionPage = page_of(PositionOut, "PositionPage")
AuctionPage = page_of(AuctionOut, "AuctionPage")
ContractPage = page_of(ContractOut, "ContractPage")
