"""Blocks in the live path: through the API, over one market and several, with money and capacity at the end."""

from datetime import timedelta

import pytest
from ciyuan.verify import check
from django.db import transaction

from billing.queries import balance
from core import clock
from core.periods import Period
from exchange.actions.markets import create_market
from exchange.models import AuctionResult, Block, BlockResult, Command, Market, MarketPosition, Trade
from tests.exchange.checking import findings
from tests.given import (
    Api,
    advanced,
    given_api,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def books_agree():
    """After every test here the audit, which replays all journals, finds nothing."""
    yield
    assert findings() == []


class World:
    """Two windows, one after the other, whose calls close together; sellers with 20 lots each at 20 and 40."""

    def __init__(self, mode="auction", sells=((20, 20), (20, 40)), windows=2):
        self.now = now = clock.now()
        self.grade = given_grade(mode=mode)
        self.markets = [
            given_market(
                self.grade, now=now, window=Period(now + timedelta(hours=1 + n), now + timedelta(hours=2 + n))
            )
            for n in range(windows)
        ]
        self.sellers = []
        for market, (lots, price) in zip(self.markets, sells, strict=False):
            for part in (lots // 2, lots - lots // 2):
                seller = given_seller(market)
                given_orders(seller, {"market": market, "side": "sell", "lots": part, "price": price}, now=now)
                self.sellers.append(seller)
        self.buyer = given_money(given_organization("buyer"))
        self.api = given_api(self.buyer)

    def block(self, *legs, limit="0.003", **fields):
        return {
            "side": "buy", "limit": limit,
            "legs": [{"market": self.markets[n].pk, "quantity": lots * 1_000} for n, lots in legs], **fields,
        }  # fmt: skip

    def place(self, *blocks):
        answer = self.api.post("/v1/blocks", {"blocks": list(blocks)})
        assert answer.status_code == 202, answer.json()
        return [block["id"] for block in answer.json()["blocks"]]

    def clear(self):
        for market in self.markets:
            advanced(market, market.call_closes_at)
        assert balance(self.buyer.pk).held_micro == 0
        return {row["id"]: row for row in self.api.get("/v1/blocks").json()["items"]}

    def bought(self, n):
        row = MarketPosition.objects.filter(market=self.markets[n], organization=self.buyer).first()
        return row.position_tokens if row else 0


def test_a_block_over_two_windows_is_accepted_at_its_average():
    world = World()
    [yes, no] = world.place(world.block((0, 8), (1, 8)), world.block((0, 2), (1, 2), limit="0.0029"))
    found = world.clear()
    assert (found[yes]["status"], found[yes]["accepted_quantity"], found[yes]["cost"]) == ("accepted", 16_000, "48.00")
    assert (found[no]["status"], found[no]["accepted_quantity"]) == ("rejected", 0)
    assert (world.bought(0), world.bought(1)) == (8_000, 8_000)
    assert balance(world.buyer.pk).available_micro == (1_000_000 - 48) * 1_000_000
    for auction in AuctionResult.objects.order_by("market_id"):
        Market.objects.filter(pk=auction.market_id).update(gate_closes_at=world.now, call_closes_at=world.now)
        shown = Api().get(f"/v1/auctions/{auction.pk}").json()
        book = Api().get(f"/v1/auctions/{auction.pk}/book").json()
        assert check(shown, book).differences == ()
        assert [block["filled"] for block in book["blocks"]] == [8, 0]


def test_it_holds_the_worst_that_each_leg_may_cost():
    world = World()
    [one, _] = world.place(world.block((0, 10), (1, 10)), world.block((0, 10)))
    # a leg may cost up to the cap, ¥0.005, though the whole costs at most ¥0.003 on average; alone it costs its limit
    assert balance(world.buyer.pk).held_micro == (2 * 50 + 30) * 1_000_000
    assert world.api.get(f"/v1/blocks/{one}").json()["status"] == "open"
    poor = given_api(given_money(given_organization("buyer"), 99))
    refused = poor.post("/v1/blocks", {"blocks": [world.block((0, 10), (1, 10))]})
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient-funds")
    assert Block.objects.count() == 2 and Command.objects.filter(side=0).count() == 3
    world.clear()


def test_exclusive_blocks_and_linked_ones():
    world = World()
    group = {"exclusive_group": "g"}
    ids = world.place(
        world.block((0, 5), ref="a", **group), world.block((1, 5), limit="0.0045", **group),
        world.block((0, 3), linked_to="a", ref="b"),
        world.block((0, 3), limit="0.0001", ref="dear"), world.block((0, 2), linked_to="dear"),
    )  # fmt: skip
    found = world.clear()
    status = [found[id_]["status"] for id_ in ids]
    assert status[:2].count("accepted") == 1  # one of the two windows
    assert status[2] == ("accepted" if status[0] == "accepted" else status[2])
    assert status[2] != "accepted" or status[0] == "accepted"
    assert status[3] == "rejected" and status[4] != "accepted"


def test_a_block_rejected_in_the_money_is_published_with_its_lost_surplus():
    world = World(sells=((10, 20),), windows=1)
    other = given_money(given_organization("buyer"))
    given_orders(other, {"market": world.markets[0], "side": "buy", "lots": 5, "price": 30}, now=world.now)
    [block] = world.place(world.block((0, 12), limit="0.0025"))  # 12 lots are not on offer
    found = world.clear()[block]
    assert (found["status"], found["lost_surplus"]) == ("rejected_in_the_money", "6.00")  # 12,000 × ¥0.0005
    auction = AuctionResult.objects.get()
    Market.objects.update(gate_closes_at=world.now, call_closes_at=world.now)
    book = Api().get(f"/v1/auctions/{auction.pk}/book").json()
    assert book["blocks"][0]["lost_surplus"] == 60 and book["limits"] == [25]
    assert check(Api().get(f"/v1/auctions/{auction.pk}").json(), book).differences == ()
    book["blocks"][0]["lost_surplus"] = 0
    assert check(Api().get(f"/v1/auctions/{auction.pk}").json(), book).differences


def test_a_least_part_is_filled_where_the_whole_is_not():
    world = World(sells=((10, 20),), windows=1)
    [ratio, least] = world.place(
        world.block((0, 12), min_ratio="0.5"), world.block((0, 12), limit="0.0028", min_quantity=11_000)
    )
    found = world.clear()
    assert found[ratio]["status"] == "accepted" and 6_000 <= found[ratio]["accepted_quantity"] <= 10_000
    assert found[least]["status"].startswith("rejected")
    assert world.bought(0) == found[ratio]["accepted_quantity"]


def test_a_sell_block_takes_capacity_and_bond():
    world = World(sells=(), windows=1)
    [market] = world.markets
    seller = given_seller(market, lots=10)
    given_orders(world.buyer, {"market": market, "side": "buy", "lots": 10, "price": 40}, now=world.now)
    block = {**world.block((0, 8)), "side": "sell"}
    api = given_api(seller)
    assert api.post("/v1/blocks", {"blocks": [block]}).status_code == 202
    assert balance(seller.pk).held_micro == 4_800_000  # a fifth of 8,000 × ¥0.003
    again = api.post("/v1/blocks", {"blocks": [block]})
    assert again.json()["code"] == "insufficient-capacity"
    world.clear()
    assert balance(seller.pk).held_micro == 0 and balance(seller.pk).bond_micro > 0
    assert BlockResult.objects.get().accepted_tokens == 8_000
    advanced(market)


def test_withdrawing_and_legs_that_are_not_orders_of_ones_own():
    world = World()
    [block] = world.place(world.block((0, 5), (1, 5)))
    leg = world.api.get(f"/v1/blocks/{block}").json()["legs"][0]["order"]
    assert world.api.delete(f"/v1/orders/{leg}").json()["code"] == "order-of-block"
    assert world.api.patch(f"/v1/orders/{leg}", {"quantity": 1_000}).json()["code"] == "order-of-block"
    stranger = given_api(given_organization("buyer"))
    assert stranger.delete(f"/v1/blocks/{block}").status_code == 404
    assert world.api.delete(f"/v1/blocks/{block}").status_code == 202
    found = world.clear()
    assert found[block]["status"] == "withdrawn" and not Trade.objects.exists()
    assert world.api.delete(f"/v1/blocks/{block}").json()["code"] == "block-ended"


def test_what_the_clearing_leaves_does_not_come_back_in_continuous_trading():
    world = World(mode="exchange", sells=((10, 20),), windows=1)
    [block] = world.place(world.block((0, 12)))
    found = world.clear()
    assert found[block]["status"] == "rejected_in_the_money" or found[block]["status"] == "rejected"
    market = Market.objects.get()
    assert market.phase == "continuous"
    assert {row["status"] for row in world.api.get("/v1/orders").json()["items"]} == {"cancelled"}
    advanced(market)


def test_no_block_trades_with_its_own_group():
    world = World(sells=(), windows=1)
    seller = given_seller(world.markets[0])
    given_orders(seller, {"market": world.markets[0], "side": "sell", "lots": 10, "price": 20}, now=world.now)
    assert given_api(seller).post("/v1/blocks", {"blocks": [world.block((0, 5))]}).status_code == 202
    world.clear()
    assert BlockResult.objects.get().outcome == "self_trade" and not Trade.objects.exists()


def test_a_reservation_is_a_block_over_its_windows():
    world = World()
    start, end = world.markets[0].window_start, world.markets[1].window_end
    wanted = {"grade": world.grade.slug, "start": start.isoformat(), "end": end.isoformat(), "tokens_per_minute": 110,
              "limit": "0.0035"}  # fmt: skip
    answer = world.api.post("/v1/reservations", wanted)
    assert answer.status_code == 202, answer.json()
    [block] = answer.json()["blocks"]
    assert [leg["quantity"] for leg in block["legs"]] == [7_000, 7_000]  # 6,600 in whole lots
    assert block["tokens_per_minute"] == 110 and block["min_quantity"] == 14_000
    gap = world.api.post("/v1/reservations", {**wanted, "end": (end + timedelta(hours=1)).isoformat()})
    assert (gap.status_code, gap.json()["field"]) == (400, "start")
    assert world.api.post("/v1/reservations", {**wanted, "end": wanted["start"]}).json()["field"] == "end"
    found = world.clear()[block["id"]]
    assert (found["status"], world.bought(0), world.bought(1)) == ("accepted", 7_000, 7_000)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda w: [w.block((0, 1), ref="a", linked_to="b"), w.block((0, 1), ref="b", linked_to="a")], "linked-cycle"),
        (lambda w: [w.block((0, 1), ref="a", linked_to="a")], "linked-cycle"),
        (lambda w: [w.block((0, 1), linked_to="nobody")], "link-unknown"),
        (lambda w: [w.block((0, 1), ref="a"), w.block((0, 1), ref="a")], "invalid"),
        (lambda w: [w.block((0, 1), (0, 1))], "bad-legs"),
        (lambda w: [w.block((0, 1), limit="0.00301")], "price-off-tick"),
        (lambda w: [w.block((0, 1), limit="0.006")], "price-above-cap"),
        (lambda w: [w.block((0, 1), min_quantity=2_000)], "bad-minimum"),
        (lambda w: [w.block((0, 1), min_quantity=1_000, min_ratio="0.5")], "contradictory-flags"),
        (lambda w: [{**w.block((0, 1)), "legs": [{"market": 999_999, "quantity": 1_000}]}], "market-not-found"),
        (lambda w: [{**w.block((0, 1)), "legs": [{"market": w.markets[0].pk, "quantity": 1_500}]}], "quantity-off-lot"),
        (lambda w: [w.block((0, 1), (2, 1))], "not-one-session"),
        (lambda w: [w.block((0, 1)), w.block((0, 10**9))], "insufficient-funds"),
        (lambda w: [{**w.block((0, 1)), "side": "sell"}], "insufficient-capacity"),
    ],
)
def test_bad_blocks_change_nothing(change, code):
    world = World(sells=())
    later = world.markets[1].window_end
    with transaction.atomic():
        other = create_market(
            grade=world.grade, window=Period(later, later + timedelta(hours=1)), window_kind="x", now=world.now,
            call_opens_at=world.now, call_closes_at=world.now + timedelta(minutes=9),
            gate_closes_at=world.now + timedelta(minutes=20), cap_price_nano=5_000_000,
        )  # fmt: skip
    world.markets.append(advanced(other, world.now))
    answer = world.api.post("/v1/blocks", {"blocks": change(world)})
    assert answer.json()["code"] == code, answer.json()
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert not Block.objects.exists() and not Command.objects.exists()
    assert balance(world.buyer.pk).held_micro == 0


def test_blocks_are_for_calls():
    world = World(mode="exchange", sells=(), windows=1)
    advanced(world.markets[0], world.markets[0].call_closes_at)
    answer = world.api.post("/v1/blocks", {"blocks": [world.block((0, 1))]})
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong-phase")
