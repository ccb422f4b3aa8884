"""How calls end and begin: the random end, extensions, collars in continuous trading, thin auctions, resumption."""

from datetime import timedelta

import pytest
from ciyuan.verify import check, check_call
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from core import clock
from exchange import order_queries, queries
from exchange.actions.offers import publish_and_offer
from exchange.domain.call_end import call_end, leaves_collar, seed_hash
from exchange.models import AuctionCall, AuctionResult, Command, JournalEntry, Market, Trade
from providers.actions.prices import set_list_price
from tests.exchange.checking import findings
from tests.given import (
    NOW,
    Api,
    advanced,
    given_api,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

SECOND = timedelta(seconds=1)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 86_400))
def test_the_sdk_finds_the_same_end_with_code_of_its_own(seed, seconds):
    ends = call_end(NOW, seed, seconds)
    assert NOW <= ends <= NOW + timedelta(seconds=seconds)
    shown = {
        "cause": "schedule", "closes_at": NOW.isoformat(), "random_seconds": seconds, "seed": seed.hex(),
        "seed_hash": seed_hash(seed), "ends_at": ends.isoformat().replace("+00:00", "Z"),
    }  # fmt: skip
    assert check_call(shown) == check_call(shown, seen_hash=seed_hash(seed)) == ()
    assert check_call(shown | {"ends_at": (ends + SECOND).isoformat()})
    assert check_call(shown | {"seed": bytes(32).hex()}) or seed == bytes(32)
    assert check_call(shown, seen_hash="00" * 32)


@pytest.mark.parametrize(
    ("price", "reference", "thousandths", "leaves"),
    [(110, 100, 100, False), (111, 100, 100, True), (89, 100, 100, True), (None, 100, 100, False), (500, 0, 100, False),
     (500, 100, 0, False), (4, 3, 100, False), (5, 3, 100, True)],
)  # fmt: skip
def test_what_leaves_a_collar(price, reference, thousandths, leaves):
    assert leaves_collar(price, reference, thousandths) is leaves


class TestInTheMarket:
    pytestmark = pytest.mark.django_db

    @pytest.fixture(autouse=True)
    def books_agree(self, db):
        """After every test here the audit, which replays all journals, finds nothing."""
        yield
        assert findings() == []

    def crossing(self, market, *, sell, buy, lots=10, now=NOW, members=2):
        for _ in range(members):
            seller, buyer = given_seller(market), given_money(given_organization("buyer"))
            given_orders(seller, {"market": market, "side": "sell", "lots": lots, "price": sell}, now=now)
            given_orders(buyer, {"market": market, "side": "buy", "lots": lots, "price": buy}, now=now)

    def test_a_call_without_a_cap_is_due_once_its_grade_has_a_list_price(self):
        grade = given_grade()
        market = given_market(grade, phase="scheduled", cap_price_nano=None)
        deployment = given_deployment(grade=grade)
        of_another_grade = given_deployment()
        assert queries.markets_due(NOW) == []
        with transaction.atomic():
            for each, price in ((deployment, 4_000_000), (of_another_grade, 3_000_000)):
                set_list_price(deployment_id=each.pk, price_nano=price, now=NOW + SECOND)
        assert queries.markets_due(NOW) == [] and queries.markets_due(NOW + SECOND) == [market.pk]
        with transaction.atomic():
            set_list_price(deployment_id=deployment.pk, price_nano=None, now=NOW + 2 * SECOND)
        assert queries.markets_due(NOW + 2 * SECOND) == []
        assert queries.markets_due(market.gate_closes_at) == [market.pk]  # to be closed, unpriced as it is
        assert advanced(market, market.gate_closes_at).phase == "closed"

    def test_a_random_end_is_promised_kept_and_revealed(self):
        now = clock.now()
        grade = given_grade(random_end_seconds=300, call_closes_before_seconds=3_600)
        market = given_market(grade, now=now)
        self.crossing(market, sell=20, buy=30, now=now)
        shown = Api().get(f"/v1/markets/{market.pk}").json()["call"]
        assert (shown["seed"], shown["ends_at"], shown["random_seconds"]) == (None, None, 300)
        call = AuctionCall.objects.get()
        ends = call_end(market.call_closes_at, bytes(call.seed), 300)
        assert call.ends_at == ends and shown["seed_hash"] == seed_hash(bytes(call.seed))
        assert queries.markets_due(ends - SECOND) == [market.pk]  # its commands only
        before = advanced(market, ends - timedelta(milliseconds=1))
        assert before.phase == "call" and queries.markets_due(ends - timedelta(milliseconds=1)) == []
        assert queries.markets_due(ends) == [market.pk]
        after = advanced(market, ends)
        assert after.phase == "closed"
        Market.objects.update(call_closes_at=now, gate_closes_at=now)  # so that the book may be shown
        auction = AuctionResult.objects.get()
        published = Api().get(f"/v1/auctions/{auction.pk}").json()
        book = Api().get(f"/v1/auctions/{auction.pk}/book").json()
        assert published["call"]["seed"] == bytes(call.seed).hex()
        assert check(published, book).differences == ()
        assert check_call(published["call"], seen_hash=shown["seed_hash"]) == ()
        lie = published | {"call": published["call"] | {"ends_at": "2026-01-01T00:00:00Z"}}
        assert check(lie, book).differences
        [listed] = Api().get(f"/v1/markets/{market.pk}/calls").json()["items"]
        assert listed == published["call"]

    def test_orders_are_taken_until_the_secret_end(self):
        now = clock.now()
        grade = given_grade(random_end_seconds=300)
        market = given_market(
            grade, now=now, phase="scheduled", call_opens_at=now - 3 * SECOND, call_closes_at=now - 2 * SECOND
        )
        with transaction.atomic():
            from exchange.actions.advance import advance

            advance(market_id=market.pk, now=now - 3 * SECOND)
        api = given_api(given_money(given_organization("buyer")))
        order = {"market": market.pk, "side": "buy", "price": "0.003", "quantity": 1_000}
        AuctionCall.objects.update(ends_at=now + timedelta(minutes=1))
        assert api.post("/v1/orders", order).status_code == 202
        AuctionCall.objects.update(ends_at=now - SECOND)
        assert api.post("/v1/orders", order).json()["code"] == "market-closed"
        AuctionCall.objects.update(ends_at=call_end(now - 2 * SECOND, bytes(AuctionCall.objects.get().seed), 300))
        advanced(market)

    def test_markets_that_close_together_end_together(self):
        one, other = given_market(given_grade(random_end_seconds=60)), given_market(given_grade(random_end_seconds=60))
        third = given_market(given_grade(random_end_seconds=60), call_closes_at=NOW + timedelta(minutes=9))
        assert one.call_id == other.call_id != third.call_id
        for market in (one, other, third):
            advanced(market)
        assert AuctionCall.objects.filter(ended_at__isnull=False).count() == 2

    def test_a_call_whose_price_leaves_the_static_collar_goes_on(self):
        grade = given_grade(static_collar_thousandths=100, volatility_call_seconds=60)  # 27 to 33
        market = given_market(grade)
        self.crossing(market, sell=36, buy=40)
        extended = advanced(market, market.call_closes_at)
        assert extended.phase == "call" and extended.call.cause == "extension"
        assert extended.call.closes_at == market.call_closes_at + timedelta(seconds=60)
        assert JournalEntry.objects.filter(kind=26).get().content == {"price": 36}
        # an offer within the collar arrives in the time that this gave
        seller = given_seller(market)
        given_orders(seller, {"market": market, "side": "sell", "lots": 40, "price": 33}, now=market.call_closes_at)
        done = advanced(market, extended.call.ends_at)
        assert done.phase == "closed"
        auction = AuctionResult.objects.get()
        assert (auction.price_nano, auction.call.extensions) == (3_300_000, 1)
        assert [call.ended_at is not None for call in AuctionCall.objects.order_by("pk")] == [True, True]

    def test_it_goes_on_twice_at_most_and_never_beyond_the_gate(self):
        market = given_market(given_grade(static_collar_thousandths=100, volatility_call_seconds=60))
        self.crossing(market, sell=36, buy=40)
        for _ in range(2):
            market = advanced(market, market.call.ends_at if market.call else market.call_closes_at)
        assert (market.phase, market.call.extensions) == ("call", 2)
        assert advanced(market, market.call.ends_at).phase == "closed"
        assert AuctionResult.objects.get().price_nano == 3_600_000
        late = given_market(
            given_grade(static_collar_thousandths=100, volatility_call_seconds=3_600),
            gate_closes_at=NOW + timedelta(minutes=11),
        )
        self.crossing(late, sell=36, buy=40)
        late = advanced(late, late.call_closes_at)
        assert late.call.ends_at == late.gate_closes_at
        assert advanced(late).phase == "closed"
        assert AuctionResult.objects.get(market=late).volume_tokens == 20_000

    def test_the_dynamic_collar_is_around_the_last_trade(self):
        market = given_market(given_grade(mode="exchange", dynamic_collar_thousandths=100))
        self.crossing(market, sell=36, buy=40)  # no trade before: nothing to compare with
        market = advanced(market, market.call_closes_at)
        assert market.phase == "continuous" and AuctionResult.objects.get().price_nano == 3_600_000

    def test_a_collar_in_continuous_trading_opens_an_auction_and_rejects_nothing(self):
        grade = given_grade(mode="exchange", dynamic_collar_thousandths=100, volatility_call_seconds=60)
        market = given_market(grade)
        self.crossing(market, sell=30, buy=30)
        market = advanced(market, market.call_closes_at)
        now = market.call_closes_at + SECOND
        seller, buyer = given_seller(market), given_money(given_organization("buyer"))
        given_orders(seller, {"market": market, "side": "sell", "lots": 4, "price": 32}, now=now)
        given_orders(seller, {"market": market, "side": "sell", "lots": 4, "price": 40}, now=now)
        [order] = given_orders(buyer, {"market": market, "side": "buy", "lots": 6, "price": 45}, now=now)
        market = advanced(market, now)
        assert (market.phase, market.call.cause) == ("call", "volatility")
        [state] = order_queries.order_states(Command.objects.filter(pk=order))
        assert (state.status, state.filled_tokens) == ("partly_filled", 4_000)  # at 32; 40 lies beyond 33
        market = advanced(market, market.call.ends_at)
        if market.phase == "call":  # its price leaves the collar too: it goes on
            market = advanced(market, market.call.ends_at)
            market = advanced(market, market.call.ends_at)
        assert market.phase == "continuous"
        last = AuctionResult.objects.order_by("-pk")[0]
        assert (last.kind, last.price_nano, last.volume_tokens) == ("volatility", 4_000_000, 2_000)
        [state] = order_queries.order_states(Command.objects.filter(pk=order))
        assert state.status == "filled"
        advanced(market)

    def test_a_thin_auction_trades_at_no_less_than_the_reserve(self):
        grade = given_grade()
        market = given_market(grade)
        provider = given_money(given_organization("provider"))
        with transaction.atomic():
            publish_and_offer(
                provider=provider, deployment_id=given_deployment(provider, grade).pk, market_id=market.pk, window=None,
                quantity_tokens=20_000, tokens_per_minute=1_000, reserve_price_nano=2_500_000,
                list_price_nano=5_000_000, wait=False, now=NOW,
            )  # fmt: skip
            from exchange.actions.positions import add_capacity

            add_capacity(market_id=market.pk, organization_id=provider.pk, tokens=50_000)
        given_orders(provider, {"market": market, "side": "sell", "lots": 50, "price": 10})
        buyer = given_money(given_organization("buyer"))
        given_orders(buyer, {"market": market, "side": "buy", "lots": 10, "price": 30})
        advanced(market)
        auction = AuctionResult.objects.get()
        assert (auction.thin, auction.rule, auction.price_nano, auction.volume_tokens) == (
            True, "thin_below_reserve", None, 0,
        )  # fmt: skip
        assert not Trade.objects.exists()
        shown = Api().get(f"/v1/auctions/{auction.pk}").json()
        assert (shown["reserve_price"], shown["spill_thousandths"], shown["concentrated"]) == ("0.0025", 1_000, True)
        book = Api().get(f"/v1/auctions/{auction.pk}/book").json()
        assert check(shown, book).differences == ()
        assert check(shown | {"rule": "highest_volume"}, book).differences

    def test_a_thin_auction_inside_the_reserve_clears_and_is_marked(self):
        market = given_market()
        self.crossing(market, sell=20, buy=30, members=1)
        advanced(market)
        auction = AuctionResult.objects.get()
        assert (auction.thin, auction.volume_tokens, auction.reserve_price_nano) == (True, 10_000, None)

    def test_resuming_after_the_end_of_the_call_gives_time(self):
        market = given_market(given_grade(volatility_call_seconds=90))
        self.crossing(market, sell=20, buy=30)
        from exchange.actions.controls import halt_market, resume_market

        with transaction.atomic():
            halt_market(market_id=market.pk, reason="drill", now=NOW + SECOND)
        market = advanced(market, market.call_closes_at + SECOND)
        assert market.phase == "call"
        with transaction.atomic():
            resume_market(market_id=market.pk, reason="over", now=market.call_closes_at + 2 * SECOND)
        market = advanced(market, market.call_closes_at + 2 * SECOND)
        assert (market.phase, market.call.cause) == ("call", "resumption")
        assert market.call.ends_at == market.call_closes_at + 92 * SECOND
        market = advanced(market, market.call.ends_at)
        assert market.phase == "closed" and Trade.objects.count() == 2


@pytest.mark.django_db
def test_grades_say_how_calls_end(client):
    operator = given_api(given_organization("operator"))
    grade = given_grade()
    path = f"/v1/grades/{grade.slug}"
    change = {"random_end_seconds": 60, "static_collar_thousandths": 200, "dynamic_collar_thousandths": 100}
    answer = operator.patch(path, change)
    assert {name: answer.json()[name] for name in change} == change
    grade.refresh_from_db()
    market = given_market(grade)
    assert Market.objects.filter(pk=market.pk, **change).exists()
    for bad in ({"random_end_seconds": 2_701}, {"random_end_seconds": -1}, {"volatility_call_seconds": 0}):
        assert operator.patch(path, bad).json()["code"] == "bad-grade"
