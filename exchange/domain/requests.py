"""
What a member may ask of a market, and which asks are refused at the door.

Each refusal has a stable code, a sentence that says what would be right, and the field it is about. What only the book
can tell (a post-only order that would take, a fill-or-kill without enough on offer) is refused when it is drained.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from core.money import LOT_TOKENS, format_price

ACCEPTING_PHASES = frozenset({"call", "continuous"})
SIDES = ("buy", "sell")
TYPES = ("limit", "market", "stop", "stop_limit")
TIMES_IN_FORCE = ("gtc", "gtd", "ioc", "fok")
SESSIONS = ("any", "auction", "continuous")
SELF_TRADE_MODES = ("cancel_newest", "cancel_oldest", "cancel_both", "decrement", "none")
LONGEST_CLIENT_ID = 64
LARGEST_ORDER_TOKENS = 10**15
FAR = 100


def is_far(price_nano: int | None, reference_nano: int | None) -> bool:
    """Whether a price is over a hundred times the reference: likely a slip, and asked about again."""
    return bool(price_nano and reference_nano and price_nano > reference_nano * FAR)


def in_lots(tokens: int) -> int:
    """Return tokens rounded up to whole lots."""
    return -(-tokens // LOT_TOKENS) * LOT_TOKENS


def at_rate(tokens_per_minute: int, seconds: int) -> int:
    """Return the tokens of a rate over a time, rounded up to whole lots."""
    return in_lots(-(-tokens_per_minute * seconds // 60))


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An order as its sender wants it; prices in nano-yuan, quantities in tokens."""

    market_id: int
    side: str
    quantity_tokens: int
    type: str = "limit"
    price_nano: int | None = None
    stop_price_nano: int | None = None
    time_in_force: str = "gtc"
    expires_at: datetime | None = None
    session: str = "any"
    post_only: bool = False
    display_tokens: int | None = None
    min_quantity_tokens: int | None = None
    all_or_none: bool = False
    cancel_on_disconnect: bool = False
    self_trade: str = "cancel_newest"
    client_order_id: str | None = None
    capacity_id: int | None = None
    hold_price_nano: int | None = None  # of a block's leg: what it holds for, instead of its price
    confirmed: bool = True  # a limit over a hundred times the reference price is meant; programs have to say so


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Take back what is left of an order; `of_block` for the leg of a block that is withdrawn whole."""

    order_id: UUID
    of_block: bool = False


class CancelAllRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Take back what is left of all one's orders in a market, or of those on one side."""

    market_id: int
    side: str | None = None


class ReplaceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    Change an order's limit or its total quantity (filled part included). Only a smaller quantity keeps its priority.
    """

    order_id: UUID
    price_nano: int | None = None
    quantity_tokens: int | None = None


Request = OrderRequest | CancelRequest | CancelAllRequest | ReplaceRequest


class MarketTerms(msgspec.Struct, frozen=True):
    """What a market asks of an order."""

    market_id: int
    phase: str
    mode: str
    halted: bool
    tick_nano: int
    min_order_tokens: int
    cap_price_nano: int
    reference_price_nano: int | None
    call_closes_at: datetime
    gate_closes_at: datetime
    last_trade: int = 0
    call_id: int | None = None


class Refusal(Exception):
    """A request that the door refuses; it changes nothing."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field


def check_order(order: OrderRequest, terms: MarketTerms, now: datetime) -> None:
    """
    Pass an order that the market may take.

    :raises Refusal: with the first thing that is wrong.
    """
    check_open(terms, now)
    _check_quantity(order.quantity_tokens, terms, "quantity")
    if order.type == "limit" and order.stop_price_nano is None and order.price_nano is not None:
        check_price(order.price_nano, terms, "price")
    else:
        _check_prices(order, terms)
    if not order.confirmed and is_far(order.price_nano, terms.reference_price_nano):
        raise Refusal(
            "price-needs-confirmation",
            f"This price is over {FAR} times the reference price. If it is meant, send the order with confirm: true.",
            "price",
        )
    if order.time_in_force != "gtc" or order.expires_at is not None:
        _check_time_in_force(order, terms, now)
    if order.session != "any":
        _check_session(order, terms)
    if order.post_only and (order.type == "market" or order.time_in_force in ("ioc", "fok")):
        raise Refusal("contradictory-flags", "A post-only order rests: it is no market, ioc or fok order.", "post_only")
    if order.display_tokens is not None or order.min_quantity_tokens is not None or order.all_or_none:
        _check_quantities_shown(order)


def check_open(terms: MarketTerms, now: datetime) -> None:
    """
    Pass a market that takes commands now.

    :raises Refusal: for a halted one, or a phase that takes none.
    """
    if terms.halted:
        raise Refusal("market-halted", "Trading in this market is halted; send orders when it resumes.", "market")
    check_trading(terms, now)


def check_trading(terms: MarketTerms, now: datetime) -> None:
    """
    Pass a market whose call or continuous trading is on, halted or not: what is needed to take orders back.

    :raises Refusal: in any other phase.
    """
    if terms.phase == "scheduled":
        raise Refusal("market-not-open", "This market's call has not opened yet.", "market")
    closes_at = terms.call_closes_at if terms.mode == "auction" else terms.gate_closes_at
    if terms.phase not in ACCEPTING_PHASES or now >= closes_at:
        raise Refusal("market-closed", "This market has closed; orders go to one in call or continuous.", "market")


def check_price(price_nano: int, terms: MarketTerms, field: str) -> None:
    """
    Pass a price that is on the market's tick and not above its cap.

    :raises Refusal: otherwise.
    """
    if price_nano % terms.tick_nano or price_nano <= 0:
        tick = format_price(terms.tick_nano)
        raise Refusal("price-off-tick", f"Prices here are multiples of {tick} ¥/token, the market's tick.", field)
    if price_nano > terms.cap_price_nano:
        cap = format_price(terms.cap_price_nano)
        raise Refusal("price-above-cap", f"No price here may be above the market's cap, {cap} ¥/token.", field)


def _check_quantity(tokens: int, terms: MarketTerms, field: str) -> None:
    if tokens <= 0 or tokens % LOT_TOKENS:
        raise Refusal("quantity-off-lot", f"Quantities are whole lots: multiples of {LOT_TOKENS} tokens.", field)
    if tokens < terms.min_order_tokens:
        raise Refusal(
            "quantity-below-minimum", f"The smallest order here is {terms.min_order_tokens} tokens.", field
        )
    if tokens > LARGEST_ORDER_TOKENS:
        raise Refusal("quantity-too-large", f"The largest order is {LARGEST_ORDER_TOKENS} tokens.", field)


def _check_prices(order: OrderRequest, terms: MarketTerms) -> None:
    limited = order.type in ("limit", "stop_limit")
    stopped = order.type in ("stop", "stop_limit")
    if limited and order.price_nano is None:
        raise Refusal("price-missing", f"A {order.type} order needs a price.", "price")
    if not limited and order.price_nano is not None:
        raise Refusal("price-not-allowed", f"A {order.type} order has no price of its own.", "price")
    if stopped and order.stop_price_nano is None:
        raise Refusal("stop-price-missing", f"A {order.type} order needs a stop_price.", "stop_price")
    if not stopped and order.stop_price_nano is not None:
        raise Refusal("stop-price-not-allowed", f"A {order.type} order has no stop_price.", "stop_price")
    if order.price_nano is not None:
        check_price(order.price_nano, terms, "price")
    if order.stop_price_nano is not None:
        check_price(order.stop_price_nano, terms, "stop_price")
    if stopped and terms.mode == "auction":
        raise Refusal("type-not-allowed", "Stops need a continuous book; this market has one auction.", "type")
    if order.type == "market" and terms.phase == "call" and terms.reference_price_nano is None:
        raise Refusal(
            "no-reference-price", "This market has no reference price, so its auction takes limit orders only.", "type"
        )


def _check_time_in_force(order: OrderRequest, terms: MarketTerms, now: datetime) -> None:
    if order.time_in_force == "gtd":
        if order.expires_at is None:
            raise Refusal("expiry-missing", "A gtd order needs expires_at.", "expires_at")
        if not now < order.expires_at <= terms.gate_closes_at:
            raise Refusal(
                "expiry-out-of-range", "expires_at lies after now and at latest at gate closure.", "expires_at"
            )
    elif order.expires_at is not None:
        raise Refusal("contradictory-flags", "Only a gtd order has expires_at.", "expires_at")
    if order.time_in_force in ("ioc", "fok"):
        if order.type not in ("limit", "market"):
            raise Refusal("contradictory-flags", "An ioc or fok order is a limit or market order.", "time_in_force")
        if terms.phase == "call":
            raise Refusal(
                "time-in-force-not-allowed",
                "ioc and fok orders need a continuous book; now is the call.",
                "time_in_force",
            )


def _check_session(order: OrderRequest, terms: MarketTerms) -> None:
    if order.session == "continuous" and terms.mode == "auction":
        raise Refusal("contradictory-flags", "This market has no continuous session.", "session")
    if order.session == "auction" and (order.time_in_force in ("ioc", "fok") or order.type.startswith("stop")):
        raise Refusal("contradictory-flags", "An auction-only order is a limit or market order that rests.", "session")


def _check_quantities_shown(order: OrderRequest) -> None:
    display, least = order.display_tokens, order.min_quantity_tokens
    if display is not None:
        if display <= 0 or display % LOT_TOKENS:
            raise Refusal("quantity-off-lot", f"Quantities are multiples of {LOT_TOKENS} tokens.", "display_quantity")
        if display > order.quantity_tokens:
            raise Refusal("display-above-quantity", "An iceberg shows at most its own size.", "display_quantity")
        if order.type == "market" or order.time_in_force in ("ioc", "fok") or order.all_or_none:
            raise Refusal(
                "contradictory-flags", "An iceberg is an order that rests and may fill in parts.", "display_quantity"
            )
    if least is not None:
        if least <= 0 or least % LOT_TOKENS:
            raise Refusal("quantity-off-lot", f"Quantities are multiples of {LOT_TOKENS} tokens.", "min_quantity")
        if least > order.quantity_tokens:
            raise Refusal("minimum-above-quantity", "The minimum fill is at most the order's own size.", "min_quantity")
    if (least is not None or order.all_or_none) and order.post_only:
        raise Refusal("contradictory-flags", "A post-only order has no minimum fill.", "post_only")


def check_replacement(
    *, price_nano: int | None, quantity_tokens: int | None, has_price: bool, terms: MarketTerms, now: datetime
) -> None:
    """
    Pass a replacement's new limit and total quantity.

    :raises Refusal: for one that changes nothing, or to what the market does not take.
    """
    check_open(terms, now)
    if price_nano is None and quantity_tokens is None:
        raise Refusal("nothing-to-replace", "Give a new price, a new quantity, or both.")
    if price_nano is not None:
        if not has_price:
            raise Refusal("price-not-allowed", "This order has no price that could be replaced.", "price")
        check_price(price_nano, terms, "price")
    if quantity_tokens is not None:
        _check_quantity(quantity_tokens, terms, "quantity")
