"""
Markets living through everything at once, by chance: whatever happens, money and capacity are right at the end.

Two windows whose calls end together at a random moment, with collars; orders of many kinds, blocks, halts, kill
switches, leases and annulments come in any order. Every market then comes to its contracts: no cash is made or lost, no
hold is left, and the audit, which replays every journal, finds nothing.
"""

import contextlib
import random
from datetime import timedelta

import pytest
from django.db import connection, transaction

from core.errors import Problem
from core.periods import Period
from exchange.actions import annulment, controls, leases
from exchange.actions.accept import accept
from exchange.actions.blocks import BlockRequest, place_blocks, withdraw_block
from exchange.domain.requests import CancelAllRequest, CancelRequest, OrderRequest, ReplaceRequest
from exchange.models import Block, Command, Market
from identity.access import Actor
from identity.actions.keys import create_key
from tests.exchange.checking import findings
from tests.given import (
    NOW,
    advanced,
    given_grade,
    given_market,
    given_money,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
SEEDS = [*range(2), *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(2, 22))]


class Life:
    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        grade = given_grade(
            mode=rng.choice(["auction", "exchange"]), random_end_seconds=rng.choice([0, 60]),
            margin_rule=rng.choice(["time", "pro_rata"]), volatility_call_seconds=30,
            static_collar_thousandths=rng.choice([0, 200]), dynamic_collar_thousandths=rng.choice([0, 50]),
        )  # fmt: skip
        self.markets = [
            given_market(grade, window=Period(NOW + timedelta(hours=1 + n), NOW + timedelta(hours=2 + n)))
            for n in range(2)
        ]
        self.members = [given_seller(market, lots=200) for market in self.markets for _ in range(2)]
        self.members += [given_money(given_organization("buyer", control_group="g")) for _ in range(3)]
        self.cash = self.total()
        house = given_organization("operator")
        with transaction.atomic():
            keys = [create_key(organization=house, name=name, scopes=["operate"], now=NOW).key for name in "ab"]
        self.operators = [Actor(house, frozenset({"operate"}), api_key_id=key.pk) for key in keys]
        self.now = NOW

    def total(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT sum(posted_micro)::bigint FROM billing_account WHERE kind <> 'external'")
            return cursor.fetchone()[0]

    def attempt(self, work):
        with contextlib.suppress(Problem), transaction.atomic():  # refused: nothing has changed
            work()

    def step(self):
        rng, now = self.rng, self.now
        market, member = rng.choice(self.markets), rng.choice(self.members)
        actor, other = rng.sample(self.operators, 2)
        reason = {"reason": "drill", "now": now, "actor": actor}
        what = rng.random()
        if what < 0.55:
            self.attempt(lambda: accept(organization=member, requests=self.requests(market, member), now=now))
        elif what < 0.67:
            self.attempt(lambda: place_blocks(organization=member, requests=self.blocks(), now=now))
        elif what < 0.70:
            block = Block.objects.filter(organization=member).order_by("?").first()
            if block:
                self.attempt(lambda: withdraw_block(block_id=block.pk, organization=member, now=now))
        elif what < 0.76:
            self.attempt(lambda: leases.renew_lease(organization=member, seconds=rng.choice([5, 600]), now=now))
        elif what < 0.79:
            self.attempt(lambda: leases.end_lease(organization_id=member.pk, now=now))
        elif what < 0.83:
            act = rng.choice([controls.halt_market, controls.kill_market])
            self.attempt(lambda: act(market_id=market.pk, **reason))
        elif what < 0.90:
            self.attempt(lambda: controls.resume_market(market_id=market.pk, **reason))
        elif what < 0.92:
            self.attempt(lambda: controls.stop_trading(organization_id=member.pk, market_id=None, **reason))
        elif what < 0.96:
            self.attempt(lambda: controls.allow_trading(organization_id=member.pk, market_id=None, **reason))
        else:
            auction = market.auctions.order_by("?").first()
            if auction:
                self.attempt(lambda: annulment.request_annulment(auction_id=auction.pk, **reason))
                self.attempt(lambda: annulment.confirm_annulment(auction_id=auction.pk, now=now, actor=other))
        if rng.random() < 0.4:
            advanced(market, now)

    def requests(self, market, member):
        rng = self.rng
        mine = list(Command.objects.filter(organization=member, kind__lt=10).values_list("id", flat=True)[:50])
        found = []
        for _ in range(rng.randint(1, 4)):
            what = rng.random()
            lots, price = rng.randint(1, 20) * 1_000, rng.randint(20, 40) * 100_000
            if what < 0.75 or not mine:
                found.append(
                    OrderRequest(
                        market_id=market.pk, side=rng.choice(["buy", "sell"]), quantity_tokens=lots, price_nano=price,
                        display_tokens=rng.choice([None, None, 1_000]), cancel_on_disconnect=rng.random() < 0.2,
                        self_trade=rng.choice(["none", "cancel_newest", "decrement"]),
                        post_only=rng.random() < 0.1,
                    )
                )
            elif what < 0.85:
                found.append(ReplaceRequest(order_id=rng.choice(mine), quantity_tokens=lots, price_nano=price))
            elif what < 0.95:
                found.append(CancelRequest(order_id=rng.choice(mine)))
            else:
                found.append(CancelAllRequest(market_id=market.pk))
        return found

    def blocks(self):
        rng = self.rng
        side, group = rng.choice(["buy", "sell"]), rng.choice(["", "g"])
        found = []
        for number in range(rng.randint(1, 3)):
            legs = tuple((market.pk, rng.randint(1, 10) * 1_000) for market in self.markets if rng.random() < 0.7)
            if not legs:
                continue
            total = sum(tokens for _, tokens in legs)
            found.append(
                BlockRequest(
                    side, rng.randint(20, 40) * 100_000, legs, rng.choice([None, rng.randint(1, total)]), f"b{number}",
                    group, rng.choice(["", f"b{number - 1}"]) if found else "",
                )
            )
        return found

    def live(self):
        end = self.markets[0].gate_closes_at
        while self.now < end - 5 * SECOND:
            self.step()
            self.now += self.rng.randint(1, 25) * SECOND
        for market in self.markets:
            advanced(market)
            advanced(market)


@pytest.mark.parametrize("seed", SEEDS)
def test_money_and_capacity_are_right_whatever_happens(seed):
    life = Life(seed)
    life.live()
    assert findings() == []
    assert life.total() == life.cash
    for market in Market.objects.all():
        assert market.gate_closed_at is not None, market.phase
        assert not market.positions.exclude(open_sell_tokens=0).exists()
    assert not Block.objects.filter(result__isnull=True).exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM billing_account WHERE held_micro <> 0")
        assert cursor.fetchone()[0] == 0
