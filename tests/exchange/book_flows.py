"""Builders of commands, and hypothesis flows of them, for the tests of the order book."""

import itertools

from hypothesis import strategies as st

from exchange.domain import orders as o
from exchange.domain.orders import BUY, SELL, Kind, MarketTerms, Phase, Rare

_sequence = itertools.count(1)


def command(kind, order=0, owner=0, price=0, lots=0, side=0, flags=0, rare=None, at=1):
    return (at, next(_sequence), order, owner, price, lots, int(kind), side, flags, rare)


def buy(order, price, lots, flags=0, *, owner=None, kind=Kind.LIMIT, at=1, **rare):
    """A buy order; each order has an owner of its own unless one is given. `display=`, `stop=` and so on are rare."""
    if price is None:
        kind, price = Kind.MARKET, 0
    owner = 1000 + order if owner is None else owner
    return command(kind, order, owner, price, lots, BUY, flags, Rare(**rare) if rare else None, at)


def sell(order, price, lots, flags=0, **more):
    given = list(buy(order, price, lots, flags, **more))
    given[7] = SELL
    return tuple(given)


def cancel(order, owner=0):
    return command(Kind.CANCEL, order, owner)


def replace(order, price=0, lots=0, *, owner=None, **rare):
    return command(Kind.REPLACE, order, 1000 + order if owner is None else owner, price, lots,
                   rare=Rare(**rare) if rare else None)  # fmt: skip


def phase(which):
    return command(Kind.PHASE, lots=int(which))


def uncross(reference=0, fills=None):
    return command(Kind.UNCROSS, price=reference, rare=None if fills is None else Rare(fills=tuple(fills)))


SPECIALS = ("", "", "", "iceberg", "all or none", "minimum", "post only", "auction only", "continuous only")
PREVENTION = (0, 0, 0, o.STP_NEWEST, o.STP_OLDEST, o.STP_BOTH, o.STP_DECREMENT)
MID, SPREAD = 1000, 12


def sound_order(rng, number, now):
    """A sound order of any type: the fields of a command from `order` on."""
    kind = rng.choice([Kind.LIMIT] * 7 + [Kind.MARKET, Kind.STOP, Kind.STOP_LIMIT])
    side, lots = rng.choice((BUY, SELL)), rng.randint(1, 12)
    limited = kind in (Kind.LIMIT, Kind.STOP_LIMIT)
    in_force = rng.choice([o.GTC] * 6 + [o.IOC, o.FOK] + [o.GTD] * limited)
    price = MID + rng.randint(-SPREAD, SPREAD)
    if not limited and rng.random() < 0.6:
        price = 0
    flags, rare = in_force, {}
    if in_force == o.GTD:
        rare["expires_ns"] = now + rng.randint(1, 40)
    special, rests = rng.choice(SPECIALS), limited and in_force in (o.GTC, o.GTD)
    if special == "iceberg" and rests:
        flags, rare["display"] = flags | o.ICEBERG, rng.randint(1, lots)
    elif special == "all or none" and rests:
        flags |= o.ALL_OR_NONE
    elif special == "minimum" and in_force != o.FOK:
        flags, rare["minimum"] = flags | o.MINIMUM, rng.randint(1, lots)
    elif special == "post only" and kind == Kind.LIMIT and rests:
        flags |= o.POST_ONLY
    elif special == "auction only" and kind in (Kind.LIMIT, Kind.MARKET) and in_force in (o.GTC, o.GTD):
        flags |= o.AUCTION_ONLY
    elif special == "continuous only":
        flags |= o.CONTINUOUS_ONLY
    flags |= rng.choice(PREVENTION) | rng.choice((0, 0, 0, o.CANCEL_ON_DISCONNECT))
    if rng.random() < 0.1:
        rare["group"] = rng.randint(1, 2)
    if kind in (Kind.STOP, Kind.STOP_LIMIT):
        rare["stop"] = MID + rng.randint(-SPREAD, SPREAD)
    return number, rng.randint(1, 5), price, lots, int(kind), side, flags, Rare(**rare) if rare else None


def careless_order(rng, number):
    """Whatever a careless client may send."""
    return (rng.randint(1, number), rng.randint(1, 5), rng.randint(-1, 3000), rng.randint(-1, 200),
            rng.choice([1, 1, 2, 3, 4, 9]), rng.randint(-1, 2), rng.randint(0, 2**13), None)  # fmt: skip


def crossed(book):
    """Whether firm orders of the naive book could trade with each other."""
    bids, asks = ([one.price for one in book.resting(side) if not one.conditional] for side in (BUY, SELL))
    return bool(bids and asks) and max(bids) >= min(asks)


def system_entry(rng, book, number):
    """What the exchange does by itself; what the present phase is waiting for is the likeliest."""
    kind = rng.choice([Kind.PHASE, Kind.EXPIRE, Kind.MASS_CANCEL, Kind.LEASE_EXPIRED, Kind.HALT, Kind.REFERENCE])
    if book.halted:
        kind = rng.choice([Kind.RESUME, Kind.RESUME, kind])
    elif book.phase == Phase.CALL:
        kind = rng.choice([Kind.UNCROSS, Kind.UNCROSS, kind])
    elif book.phase == Phase.UNCROSS:
        kind = Kind.PHASE
    price = lots = side = owner = 0
    rare = None
    if kind == Kind.PHASE:
        lots = int(rng.choice([Phase.CALL, Phase.CONTINUOUS, Phase.CONTINUOUS]))
        if book.phase == Phase.UNCROSS and crossed(book):
            lots = int(Phase.CALL)  # fills decided elsewhere may leave a crossed book: nobody opens on one
    elif kind == Kind.UNCROSS:
        price = rng.choice([0, MID + rng.randint(-SPREAD, SPREAD)])
        if rng.random() < 0.3:
            buyers, sellers = ([one for one in book.all if one.side == side] for side in (BUY, SELL))
            pairs = zip(buyers, sellers, strict=False)
            rare = Rare(fills=tuple((one.number, 1) for pair in pairs for one in pair if rng.random() < 0.95))
    elif kind in (Kind.MASS_CANCEL, Kind.LEASE_EXPIRED):
        owner, side = rng.randint(1, 5), rng.choice([-1, BUY, SELL])
    elif kind == Kind.REFERENCE:
        price = MID + rng.randint(-SPREAD, SPREAD)
    return (0, owner, price, lots, int(kind), side, 0, rare)


def random_flow(rng, book, size):
    """
    Yield commands of every kind, most of them sound. `book` is the naive book that they are applied to: by looking at
    it the flow finds open orders to cancel and replace, and phases to go on from.
    """
    now, number = 1, 1
    for sequence in range(1, size + 1):
        now += rng.randint(0, 2)
        dice = rng.random()
        target = rng.choice(book.all) if book.all and rng.random() < 0.9 else None
        target_number, owner = (target.number, target.owner) if target else (rng.randint(1, number + 1), 1)
        waiting = book.halted or book.phase not in (Phase.CONTINUOUS, Phase.CALL)
        if dice < 0.06 or (waiting and dice < 0.5):
            row = system_entry(rng, book, number)
        elif dice < 0.09:
            row = careless_order(rng, number + 1)
        elif dice < 0.20:
            row = (target_number, rng.choice([0, owner, owner, owner + 1]), 0, 0, int(Kind.CANCEL), 0, 0, None)
        elif dice < 0.35:
            price, lots = rng.choice([0, MID + rng.randint(-SPREAD, SPREAD)]), rng.choice([0, rng.randint(1, 14)])
            rare = Rare(stop=MID + rng.randint(-SPREAD, SPREAD)) if rng.random() < 0.2 else None
            row = (target_number, owner, price, lots, int(Kind.REPLACE), 0, 0, rare)
        else:
            row = sound_order(rng, number, now)
            number += 1
        yield (now, sequence, *row)


TERMS = st.builds(
    MarketTerms,
    cap=st.just(2000),
    maximum_lots=st.just(100),
    static_collar=st.sampled_from([0, 0, 8]),
    dynamic_collar=st.sampled_from([0, 0, 5]),
    protection=st.sampled_from([0, 5]),
    pro_rata=st.booleans(),
)
