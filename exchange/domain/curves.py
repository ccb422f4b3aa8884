"""Supply and demand as step functions of price: what a page draws and a table lists."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

Order = tuple[int | None, int]  # price in nano-yuan, None for a market order; quantity in tokens


@dataclass(frozen=True, slots=True)
class Level:
    """At `price_nano`: what buyers would take and sellers would give, all told, in tokens."""

    price_nano: int
    demand_tokens: int
    supply_tokens: int


def curves(bids: Iterable[Order], asks: Iterable[Order]) -> list[Level]:
    """
    Return demand and supply at each limit in the book, by rising price.

    Market orders count at every price. The highest level shows the demand at exactly that price; above it only
    market orders remain.
    """
    bid_at, market_bid = _by_price(bids)
    ask_at, market_ask = _by_price(asks)
    prices = sorted(bid_at.keys() | ask_at.keys())
    supply = accumulate((ask_at.get(price, 0) for price in prices), initial=market_ask)
    next(supply)
    demand = list(accumulate((bid_at.get(price, 0) for price in reversed(prices)), initial=market_bid))[1:]
    return [
        Level(price, wanted, offered) for price, wanted, offered in zip(prices, reversed(demand), supply, strict=True)
    ]


def _by_price(orders: Iterable[Order]) -> tuple[dict[int, int], int]:
    at: dict[int, int] = {}
    market = 0
    for price_nano, tokens in orders:
        if price_nano is None:
            market += tokens
        else:
            at[price_nano] = at.get(price_nano, 0) + tokens
    return at, market
