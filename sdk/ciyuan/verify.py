"""
Recomputes a published auction from its anonymised book: a second, slow and simple reading of the rules, for anyone.

It shares no code with the exchange. Prices are in ticks, quantities in lots; null is a market order.

1. Candidates are the limits in the book; market orders count at every price.
2. Keep the candidates with the highest executable volume, the smaller of what would be bought and what would be sold.
3. Of those keep the smallest surplus, |bids − asks|.
4. If all that are left have a surplus of bids, the highest; if all have a surplus of asks, the lowest.
5. If they are mixed, take the highest with a surplus of bids and the lowest with a surplus of asks (where nothing is
   left over, the lowest and the highest): the one nearest to the reference price, the higher if that lies exactly
   between. Without a reference price, the middle of the two, rounded up.
6. Where there are only market orders, the reference price.
7. Where nothing is executable there is no price.

A thin auction (fewer than two buyers or sellers) trades at no less than the lowest reserve price of the capacity on
offer. When a call ended is decided by a seed whose SHA-256 was published while it was open; see `check_call`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

Row = Sequence[int | None]


@dataclass(frozen=True)
class Candidate:
    """One price that the book could clear at."""

    price: int
    bought: int
    sold: int

    @property
    def volume(self) -> int:
        return min(self.bought, self.sold)

    @property
    def surplus(self) -> int:
        return self.bought - self.sold


@dataclass(frozen=True)
class Result:
    """
    :param price: in ticks; None where nothing trades. :param volume: lots. :param surplus: lots, bids positive.
    :param steps: how it was found, a sentence a rule.
    """

    price: int | None
    volume: int
    surplus: int
    rule: str
    steps: tuple[str, ...]


def recompute(
    bids: Sequence[Row], asks: Sequence[Row], reference: int | None, also: Sequence[int] = ()
) -> Result:
    """
    The price of a book of [limit in ticks or null, lots] rows, by the seven rules.

    :param also: further candidates: the limits of blocks that lie in this market alone. Accepted blocks stand among the
        rows as market orders.
    """
    limits = sorted({row[0] for row in (*bids, *asks) if row[0] is not None} | set(also))
    steps = [f"{len(bids):,} bids and {len(asks):,} asks with {len(limits):,} different limits"]
    if not limits:
        bought, sold = (sum(_lots(row) for row in side) for side in (bids, asks))
        if reference is not None and bought and sold:
            steps.append(f"only market orders: the reference price {reference}")
            return Result(reference, min(bought, sold), bought - sold, "only_market_orders", tuple(steps))
        return _nothing(steps)

    left = _candidates(bids, asks, limits)
    most = max(candidate.volume for candidate in left)
    if most == 0:
        return _nothing(steps)
    left = [candidate for candidate in left if candidate.volume == most]
    steps.append(f"highest executable volume: {most:,} lots, at {_prices(left)}")
    if len(left) == 1:
        return _at(left[0], "highest_volume", steps)

    least = min(abs(candidate.surplus) for candidate in left)
    left = [candidate for candidate in left if abs(candidate.surplus) == least]
    steps.append(f"smallest surplus: {least:,} lots, at {_prices(left)}")
    if len(left) == 1:
        return _at(left[0], "smallest_surplus", steps)

    of_bids = [candidate for candidate in left if candidate.surplus > 0]
    of_asks = [candidate for candidate in left if candidate.surplus < 0]
    if len(of_bids) == len(left):
        steps.append("bids are left over at all of them: the highest")
        return _at(left[-1], "bid_surplus", steps)
    if len(of_asks) == len(left):
        steps.append("asks are left over at all of them: the lowest")
        return _at(left[0], "ask_surplus", steps)

    low, high = (of_bids[-1], of_asks[0]) if of_bids else (left[0], left[-1])
    if reference is None:
        middle = -((-low.price - high.price) // 2)
        steps.append(f"between {low.price} and {high.price} without a reference price: the middle, {middle}")
        return _at(_candidates(bids, asks, [middle])[0], "middle", steps)
    nearest = low if reference - low.price < high.price - reference else high
    steps.append(f"between {low.price} and {high.price}: the nearest to the reference price {reference}")
    return _at(nearest, "nearest_to_reference", steps)


def _lots(row: Row) -> int:
    assert row[1] is not None
    return row[1]


def _candidates(bids: Sequence[Row], asks: Sequence[Row], prices: Sequence[int]) -> list[Candidate]:
    """What would be bought and sold at each price, from the lowest to the highest."""
    buying = sorted((row[0], _lots(row)) for row in bids if row[0] is not None)
    selling = sorted((row[0], _lots(row)) for row in asks if row[0] is not None)
    bought = sum(_lots(row) for row in bids)
    sold = sum(_lots(row) for row in asks if row[0] is None)
    out, b, a = [], 0, 0
    for price in sorted(prices):
        while b < len(buying) and buying[b][0] < price:  # these would not pay so much
            bought -= buying[b][1]
            b += 1
        while a < len(selling) and selling[a][0] <= price:  # these would sell for it
            sold += selling[a][1]
            a += 1
        out.append(Candidate(price, bought, sold))
    return out


def _at(chosen: Candidate, rule: str, steps: list[str]) -> Result:
    return Result(chosen.price, chosen.volume, chosen.surplus, rule, tuple(steps))


def _nothing(steps: list[str]) -> Result:
    return Result(None, 0, 0, "nothing_executable", (*steps, "nothing is executable: no price"))


def _prices(left: Sequence[Candidate]) -> str:
    if len(left) == 1:
        return str(left[0].price)
    return f"{len(left):,} prices from {left[0].price} to {left[-1].price}"


@dataclass(frozen=True)
class Verdict:
    """What was published beside what the book gives; `differences` is empty where they agree."""

    result: Result
    price: Decimal | None
    volume_tokens: int
    surplus_tokens: int
    differences: tuple[str, ...]


def check(auction: Mapping[str, Any], book: Mapping[str, Any]) -> Verdict:
    """
    Compare a published auction (`GET /v1/auctions/{id}`) with what its published book gives.

    :raises KeyError, ValueError: when either lacks what the rules need.
    """
    result = recompute(book["bids"], book["asks"], book["reference"], book.get("limits", ()))
    reserve = book.get("reserve")
    if auction.get("thin") and reserve is not None and result.price is not None and result.price < reserve:
        why = f"thin: {result.price} is below the lowest reserve price {reserve}, so nothing trades"
        result = Result(None, 0, 0, "thin_below_reserve", (*result.steps, why))
    tick, lot = Decimal(book["tick_price"]), int(book["lot_tokens"])
    price = None if result.price is None else result.price * tick
    volume, surplus = result.volume * lot, result.surplus * lot
    published = None if auction["price"] is None else Decimal(auction["price"])
    pairs = (
        ("price", published, price),
        ("volume", auction["volume"], volume),
        ("surplus", auction["surplus"], surplus),
        ("rule", auction["rule"], result.rule),
    )
    differences = tuple(f"{name}: published {was}, recomputed {found}" for name, was, found in pairs if was != found)
    differences += check_call(auction.get("call")) + check_blocks(book.get("blocks", ()), result.price)
    return Verdict(result, price, volume, surplus, differences)


def check_blocks(blocks: Sequence[Mapping[str, Any]], price: int | None) -> tuple[str, ...]:
    """
    Return what is wrong with the published blocks of a market at its price in ticks: one filled at a loss, or for less
    than its least part; a surplus that it lost and that is published otherwise. Only blocks that lie in this market
    alone can be judged by it.
    """
    found = []
    for number, block in enumerate(blocks):
        if block["of_lots"] != block["lots"]:
            continue
        filled, lots = block["filled"], block["lots"]
        numerator, denominator = block["least"]
        gain = 0 if price is None else (block["limit"] - price) * (1 if block["side"] == "buy" else -1)
        if filled and (price is None or gain < 0):
            found.append(f"block {number}: filled at a loss at {price}, its limit is {block['limit']}")
        if filled and filled * denominator < lots * numerator:
            found.append(f"block {number}: {filled} of {lots} lots are less than its least part")
        lost = max(0, gain) * (lots - filled)
        if price is not None and not filled and lost != block["lost_surplus"]:
            found.append(f"block {number}: lost surplus published {block['lost_surplus']}, recomputed {lost}")
    return tuple(found)


def check_call(call: Mapping[str, Any] | None, *, seen_hash: str | None = None) -> tuple[str, ...]:
    """
    Return what is wrong with the published end of a call; nothing where its seed gives it.

    The call ends after its closing by the first 8 bytes of SHA-256("ciyuan call end" ‖ seed), big-endian, modulo
    (1,000 · random_seconds + 1), in milliseconds; a call that a collar opened, at gate closure at the latest.

    :param seen_hash: the hash that was published while the call was open, for whoever has kept it.
    """
    if call is None or call["seed"] is None:
        return ()
    seed = bytes.fromhex(call["seed"])
    found = []
    hashed = sha256(seed).hexdigest()
    for name, promised in (("published", call["seed_hash"]), ("seen before", seen_hash)):
        if promised is not None and promised != hashed:
            found.append(f"seed: its hash is {hashed}, {name} was {promised}")
    number = int.from_bytes(sha256(b"ciyuan call end" + seed).digest()[:8], "big")
    offset = timedelta(milliseconds=number % (1_000 * int(call["random_seconds"]) + 1))
    closes, ends = (datetime.fromisoformat(call[name].replace("Z", "+00:00")) for name in ("closes_at", "ends_at"))
    at_the_latest = call["cause"] == "schedule" or ends > closes + offset
    if ends != closes + offset and at_the_latest:
        found.append(f"end of the call: published {ends}, the seed gives {closes + offset}")
    return tuple(found)
