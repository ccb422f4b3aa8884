"""
The spot token index: what a standard token of a grade costs, from trades alone.

Method: the volume-weighted average price of all trades of the grade in a stretch of time, those of thin auctions apart.
It has a value only if at least three sellers and three buyers took part and none of them has more than half of the
volume; members of one control group count as one. Otherwise it has none, and says why: it is never estimated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.money import round_half_up

LEAST_MEMBERS, MOST_THOUSANDTHS = 3, 500
METHOD = (
    "Volume-weighted average price of the grade's trades, those of thin auctions apart; at least three sellers and "
    "three buyers, none of them above half of the volume, control groups counted as one."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """What one buyer bought from one seller: tokens, tokens × nano-yuan, trades."""

    buyer: int
    seller: int
    tokens: int
    amount: int
    trades: int


@dataclass(frozen=True, slots=True)
class SpotIndex:
    """An index value, or why there is none: `too-few-sellers`, `too-few-buyers`, `seller-…` or `buyer-concentrated`."""

    price_nano: int | None
    reason: str | None
    volume_tokens: int
    trades: int
    sellers: int
    buyers: int
    largest_seller_thousandths: int
    largest_buyer_thousandths: int


def spot_index(pairs: Iterable[Pair], groups: Mapping[int, int]) -> SpotIndex:
    """
    Return the index over trades.

    :param groups: the number of a member's control group, for those who are in one.
    """
    sold: dict[int, int] = {}
    bought: dict[int, int] = {}
    tokens = amount = trades = 0
    for pair in pairs:
        for volumes, member in ((sold, pair.seller), (bought, pair.buyer)):
            group = groups.get(member, member)
            volumes[group] = volumes.get(group, 0) + pair.tokens
        tokens, amount, trades = tokens + pair.tokens, amount + pair.amount, trades + pair.trades
    largest_sold, largest_bought = max(sold.values(), default=0), max(bought.values(), default=0)
    reason = None
    if len(sold) < LEAST_MEMBERS:
        reason = "too-few-sellers"
    elif len(bought) < LEAST_MEMBERS:
        reason = "too-few-buyers"
    elif largest_sold * 1_000 > tokens * MOST_THOUSANDTHS:
        reason = "seller-concentrated"
    elif largest_bought * 1_000 > tokens * MOST_THOUSANDTHS:
        reason = "buyer-concentrated"
    return SpotIndex(
        price_nano=None if reason else round_half_up(amount, tokens),
        reason=reason,
        volume_tokens=tokens,
        trades=trades,
        sellers=len(sold),
        buyers=len(bought),
        largest_seller_thousandths=largest_sold * 1_000 // tokens if tokens else 0,
        largest_buyer_thousandths=largest_bought * 1_000 // tokens if tokens else 0,
    )
