"""An auction's fills give the same facts and the same orders, settled as columns or one by one."""

import random
from datetime import UTC, datetime

import pytest

from exchange.domain import facts as fact_types
from exchange.domain import settling
from exchange.domain.commands import QueuedCommand
from exchange.domain.orders import BUY, SELL, Event, Maker
from exchange.domain.settling import Settling

TICK_NANO, PRICE, AT = 1_300, 2_000, datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


def given_auction(seed, scale=1):
    """Live orders of both sides, some filled and covered in part, and an auction's events for them."""
    dice = random.Random(seed)
    live, fills, left = [], [], {BUY: [], SELL: []}
    for number in range(1, 121):
        side = number % 2
        lots, price = dice.randint(1, 40) * scale, PRICE + dice.randint(0, 99) * (-1 if side == SELL else 1)
        covered = dice.choice((0, 0, dice.randint(0, lots) * 1_000)) if side == SELL else 0
        hold = (number // dice.choice((1, 1, 4)) * 4 + side).to_bytes(16, "big")
        command = QueuedCommand(
            number.to_bytes(16, "big"), 1, number % 7 + 1, side, price, lots, hold_id=hold,
            hold_price_nano=price * TICK_NANO,
            covered_tokens=covered, bond_thousandths=dice.choice((0, 137, 200)))  # fmt: skip
        live.append((number, command))
        left[side].append([number, lots])
    buys, sells = left[BUY], left[SELL]
    while buys and sells:
        lots = min(buys[0][1], sells[0][1])
        fills.append((int(Event.FILL), buys[0][0], sells[0][0], PRICE, lots, int(Maker.NEITHER)))
        if dice.random() < 0.05:
            fills.append((int(Event.REFRESHED), buys[0][0], 1, PRICE, 1, 0))
        for queue in (buys, sells):
            queue[0][1] -= lots
            if not queue[0][1]:
                queue.pop(0)
    rest = (buys or sells)[-1]
    uncrossed = (int(Event.UNCROSSED), 0, 0, PRICE, 1, 0)
    # Before the fills self-trade prevention takes a lot out of an order; after them a market order's rest ends.
    return live, [
        uncrossed, (int(Event.REDUCED), rest[0], 1, PRICE, 1, 44), *fills,
        (int(Event.CANCELLED), rest[0], 1, PRICE, rest[1] - 1, 43),
    ]  # fmt: skip


def settled(monkeypatch, live, events, *, enough):
    monkeypatch.setattr(settling, "ENOUGH_FOR_COLUMNS", enough)
    monkeypatch.setattr(fact_types, "ENOUGH_FOR_COLUMNS", enough)
    state = Settling(market_id=7, tick_nano=TICK_NANO)
    state.at(AT)
    for number, command in live:
        state.enter(number, command)
    state.settle(events, 500)
    facts = state.take_facts()
    postings = [*facts.postings, *(posting for bulk in facts.bulks for posting in bulk.postings())]
    return state, facts, sorted(posting._replace(id=str(posting.id)) for posting in postings)


@pytest.mark.parametrize("seed", range(20))
def test_columns_settle_as_one_by_one(monkeypatch, seed):
    live, events = given_auction(seed)
    one_by_one, expected, expected_postings = settled(monkeypatch, live, events, enough=10**9)
    columns, facts, postings = settled(monkeypatch, live, events, enough=1)
    assert facts.auctions and facts.bulks and not expected.auctions
    assert facts.trades == expected.trades and len(facts.trades) > 60
    assert facts.order_events == expected.order_events
    assert postings == expected_postings
    assert dict(facts.positions) == dict(expected.positions)
    assert columns.snapshot() == one_by_one.snapshot()


def test_what_could_leave_64_bits_is_settled_one_by_one(monkeypatch):
    live, events = given_auction(1, scale=10**8)
    _, expected, expected_postings = settled(monkeypatch, live, events, enough=10**9)
    _, facts, postings = settled(monkeypatch, live, events, enough=1)
    assert not facts.auctions
    assert (facts.trades, postings) == (expected.trades, expected_postings)
