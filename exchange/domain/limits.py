"""
Pre-trade limits: what an organization's orders may be at most, whatever money it has. Pure.

They stop slips of the finger (quantity, value, distance of the price), programs that run away (orders a minute) and
positions larger than agreed. Cancelling is never limited.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from core.money import cost_micro, format_price, format_yuan
from exchange.domain.requests import Refusal

MILLIONTHS = 1_000_000
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one organization; None is no limit."""

    order_tokens: int | None = None
    order_value_micro: int | None = None
    price_distance_thousandths: int | None = None
    orders_per_minute: int | None = None
    position_tokens: int | None = None


NO_LIMITS = Limits()


@dataclass(slots=True)
class Exposure:
    """What a member holds in a market and what its open orders could make of it."""

    position_tokens: int
    open_buy_tokens: int
    open_sell_tokens: int


def check_size(limits: Limits, *, quantity_tokens: int, price_nano: int) -> None:
    """
    Pass an order of at most the largest quantity and value. `price_nano` is its limit, or the cap where it has none.

    :raises Refusal: `limit-quantity` or `limit-value`.
    """
    most = limits.order_tokens
    if most is not None and quantity_tokens > most:
        raise Refusal("limit-quantity", f"Your limit for one order is {most:,} tokens.", "quantity")
    value = limits.order_value_micro
    if value is not None and cost_micro(tokens=quantity_tokens, price_nano=price_nano) > value:
        raise Refusal("limit-value", f"Your limit for the value of one order is ¥{format_yuan(value)}.", "quantity")


def check_distance(limits: Limits, *, buying: bool, price_nano: int, reference_nano: int | None) -> None:
    """
    Pass a price that is not absurdly far on the side that would cost its sender. Without a reference all pass.

    :raises Refusal: `limit-price-distance`.
    """
    thousandths = limits.price_distance_thousandths
    if thousandths is None or not reference_nano:
        return
    distance = reference_nano * thousandths // 1_000
    if price_nano > reference_nano + distance if buying else price_nano < reference_nano - distance:
        bound = reference_nano + distance if buying else reference_nano - distance
        raise Refusal(
            "limit-price-distance",
            f"Your limit for the distance from the reference price {format_price(reference_nano)} allows "
            f"{'at most' if buying else 'at least'} {format_price(max(bound, 0))} ¥/token.",
            "price",
        )


def check_position(limits: Limits, exposure: Exposure, *, buying: bool, quantity_tokens: int) -> None:
    """
    Pass an order that keeps the position within its limit though all open orders of its side were filled.

    :raises Refusal: `limit-position`.
    """
    most = limits.position_tokens
    if most is None:
        return
    if buying:
        reached = exposure.position_tokens + exposure.open_buy_tokens + quantity_tokens
    else:
        reached = exposure.open_sell_tokens + quantity_tokens - exposure.position_tokens
    if reached > most:
        raise Refusal(
            "limit-position",
            f"Your limit for the position in one market is {most:,} tokens; with your open orders this makes "
            f"{reached:,}.",
            "quantity",
        )


def refilled(level_millionths: int | None, *, since: datetime | None, now: datetime, per_minute: int) -> int:
    """Return the level of a bucket of orders: full at first, then refilled evenly, a minute's worth at most."""
    full = per_minute * MILLIONTHS
    if level_millionths is None or since is None:
        return full
    elapsed = max(0, (now - since) // MICROSECOND)
    return min(full, level_millionths + elapsed * per_minute // 60)


def check_rate(limits: Limits, level_millionths: int) -> None:
    """
    Pass while the bucket holds an order.

    :raises Refusal: `limit-order-rate`.
    """
    if limits.orders_per_minute is not None and level_millionths < MILLIONTHS:
        raise Refusal("limit-order-rate", f"Your limit is {limits.orders_per_minute:,} orders a minute; send fewer.")
