"""
Who trades in the simulated market, and the market that they make together.

- **Takers** come in bursts: each makes more of them likelier for a while, a short one and a long one (a Hawkes process
  with two exponential kernels). They work off large orders in small parts, so that buys follow buys for long: the sizes
  of the large ones have a power-law tail (Lillo, Mike and Farmer 2005).
- **Providers** place limit orders near the best price and far behind it, more often and on the side that is being taken
  from when there is much trading, further away after large moves, and cancel them after a while.

Times are seconds, prices whole ticks, quantities whole lots. The same seed gives the same flow.
"""

import math
import random
from dataclasses import dataclass, field
from heapq import heappop, heappush

from exchange.domain.book import Book
from exchange.domain.orders import BUY, IOC, SELL, Command, Event, Kind, MarketTerms, Phase

LIMIT, CANCEL, MARKET = int(Kind.LIMIT), int(Kind.CANCEL), int(Kind.MARKET)
FILL = int(Event.FILL)
MID, LEVELS_AT_FIRST = 10_000, 40


@dataclass(frozen=True, slots=True)
class Setting:
    """How the agents behave. Rates are per second."""

    seconds: float = 8_000
    base_rate: float = 0.1  # takers that come of themselves
    short_share: float = 0.3  # takers that each one brings within a second
    long_share: float = 0.65  # and within minutes
    short_decay: float = 2.0
    long_decay: float = 0.03
    large_orders: int = 4  # worked off at a time
    tail: float = 1.5  # exponent of their sizes
    quote_rate: float = 5.0  # limit orders in quiet times
    quotes_per_taker: float = 0.3  # and more of them with trading
    lifetime: float = 60.0  # mean seconds until a limit order is cancelled
    lean: float = 0.25  # how far providers go with the side that is taken from
    caution: float = 2.0  # how much further behind they stand for each tick that prices have moved lately
    memory: float = 0.05  # how fast that is learnt and forgotten, a taker
    largest_part: float = 1.2  # of what stands at the best price, that one taker takes
    sample_seconds: float = 1.0


@dataclass(slots=True)
class Recorded:
    """What was seen: each taker's time and sign (+1 bought); the middle price and the spread each sample."""

    taker_times: list[float] = field(default_factory=list)
    signs: list[int] = field(default_factory=list)
    middles: list[float] = field(default_factory=list)
    spreads: list[int] = field(default_factory=list)
    depth_by_distance: list[float] = field(default_factory=lambda: [0.0] * 50)
    messages: int = 0
    trades: int = 0


class Bursts:
    """The intensity of takers: what there is always, and what earlier ones left."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.short = self.long = 0.0
        self.at = 0.0

    def rate(self, now: float) -> float:
        passed, self.at = now - self.at, now
        self.short *= math.exp(-self.setting.short_decay * passed)
        self.long *= math.exp(-self.setting.long_decay * passed)
        return self.setting.base_rate + self.short + self.long

    def came(self) -> None:
        self.short += self.setting.short_share * self.setting.short_decay
        self.long += self.setting.long_share * self.setting.long_decay


class LargeOrders:
    """Orders too large to be sent at once: (sign, parts left) of each; one of them at random sends its next part."""

    def __init__(self, setting: Setting, dice: random.Random) -> None:
        self.setting, self.dice = setting, dice
        self.working = [self._new() for _ in range(setting.large_orders)]

    def _new(self) -> list[int]:
        return [self.dice.choice((1, -1)), min(2_000, int(self.dice.paretovariate(self.setting.tail)))]

    def next_sign(self) -> int:
        place = self.dice.randrange(len(self.working))
        one = self.working[place]
        one[1] -= 1
        if not one[1]:
            self.working[place] = self._new()
        return one[0]


class Market:
    """The book, and everybody who sends to it."""

    def __init__(self, setting: Setting, seed: int) -> None:
        self.setting = setting
        self.dice = random.Random(seed)
        self.book = Book(MarketTerms(cap=10 * MID, protection=1), Phase.CONTINUOUS)
        self.bursts = Bursts(setting)
        self.large = LargeOrders(setting, self.dice)
        self.seen = Recorded()
        self.ends: list[tuple[float, int]] = []  # when a limit order is cancelled
        self.number = 0
        self.flow = 0.0  # how one-sided trading has been lately, from -1 to 1
        self.unrest = 0.0  # how far prices have moved lately, in ticks
        self.middle = float(MID)

    def send(self, now: float, number: int, price: int, lots: int, kind: int, side: int, flags: int = 0) -> int:
        """Send a command; return the lots traded."""
        self.seen.messages += 1
        owner = number % 500 + 1
        command: Command = (
            int(now * 1e9), self.seen.messages, number, owner, price, lots, kind, side, flags, None)
        traded = 0
        for event in self.book.apply(command):
            if event[0] == FILL:
                traded += event[4]
                self.seen.trades += 1
        return traded

    def quote(self, now: float, side: int, distance: int) -> None:
        """Place a limit order so many ticks behind the other side's best, to be cancelled after a while."""
        self.number += 1
        other = self.book.best_ask if side == BUY else self.book.best_bid
        if not other:
            other = round(self.middle) + (1 if side == BUY else -1)
        price = max(1, other - distance if side == BUY else other + distance)
        self.send(now, self.number, price, 1 + int(self.dice.expovariate(0.2)), LIMIT, side)
        heappush(self.ends, (now + self.dice.expovariate(1 / self.setting.lifetime), self.number))

    def provide(self, now: float) -> None:
        """Place a limit order: near the best price mostly, further behind it the more restless the market is."""
        dice = self.dice
        side = SELL if dice.random() < 0.5 + self.setting.lean * self.flow else BUY
        behind = (1 + self.setting.caution * self.unrest) * (dice.paretovariate(1.3) - 1)
        self.quote(now, side, 1 + min(400, int(behind)))

    def take(self, now: float) -> None:
        """Send the next part of a large order: a part of what stands at the best price, at times more than that."""
        dice, seen = self.dice, self.seen
        sign = self.large.next_sign()
        side = BUY if sign > 0 else SELL
        best = self.book.depth(1)[1 if side == BUY else 0]
        if best:
            self.number += 1
            lots = max(1, int(best[0][1] * min(self.setting.largest_part, 0.35 * dice.paretovariate(1.4))))
            self.send(now, self.number, 0, lots, MARKET, side, IOC)
            seen.taker_times.append(now)
            seen.signs.append(sign)
        self.flow += 0.1 * (sign - self.flow)
        self.bursts.came()
        self.look()

    def look(self) -> None:
        """Take note of the middle price."""
        bid, ask = self.book.best_bid, self.book.best_ask
        if bid and ask:
            middle = (bid + ask) / 2
            self.unrest += self.setting.memory * (abs(middle - self.middle) - self.unrest)
            self.middle = middle

    def sample(self) -> None:
        self.look()
        bid, ask = self.book.best_bid, self.book.best_ask
        self.seen.middles.append(self.middle)
        if bid and ask:
            self.seen.spreads.append(ask - bid)
            if len(self.seen.middles) % 20 == 0:
                for price, lots, _ in self.book.depth(30)[0]:
                    if (away := bid - price) < len(self.seen.depth_by_distance):
                        self.seen.depth_by_distance[away] += lots

    def run(self) -> Recorded:
        """Let time pass, event by event."""
        setting, dice, now, next_sample = self.setting, self.dice, 0.0, 0.0
        for distance in range(LEVELS_AT_FIRST):
            for side in (BUY, SELL):
                self.quote(now, side, 1 + distance)
        while now < setting.seconds:
            takers = self.bursts.rate(now)  # it only falls until the next event, so it bounds the rate
            quotes = setting.quote_rate + setting.quotes_per_taker * takers
            now += dice.expovariate(takers + quotes)
            while self.ends and self.ends[0][0] <= now:
                at, number = heappop(self.ends)
                if number in self.book.orders:
                    self.send(at, number, 0, 0, CANCEL, 0)
            while next_sample <= now:
                self.sample()
                next_sample += setting.sample_seconds
            if dice.random() * (takers + quotes) >= takers:
                self.provide(now)
            elif dice.random() * takers < self.bursts.rate(now):
                self.take(now)
        return self.seen


def simulate(setting: Setting = Setting(), seed: int = 20261122) -> Recorded:
    """Return what a simulated market showed."""
    return Market(setting, seed).run()
