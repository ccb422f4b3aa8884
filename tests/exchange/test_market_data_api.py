"""Market data over REST: books at every level, frames that fill gaps, candles, phases, histories, indices."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.money import format_price, format_price_per_million
from core.periods import Period
from exchange import candle_queries, frame_queries
from exchange.actions.positions import add_capacity
from exchange.domain import candles
from exchange.domain.candles import Candle, floor
from exchange.domain.numbering import entry_id
from exchange.domain.spot_index import Pair, spot_index
from exchange.models import AuctionResult, Market, MarketFrame, Trade
from providers.actions.prices import set_list_price
from tests.exchange.test_public_book import kraken_checksum
from tests.given import (
    NOW,
    Api,
    advanced,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def at(monkeypatch):
    """Set what the clock shows to the API."""
    return lambda moment: monkeypatch.setattr("core.clock.now", lambda: moment)


def get(path, code=200):
    answer = Api().get(f"/v1/{path}")
    assert answer.status_code == code, answer.content
    return answer.json()


@pytest.fixture
def open_market(at):
    """A continuous market with some orders on either side."""
    market = given_market(given_grade(mode="exchange"))
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    market = advanced(market, market.call_closes_at)
    at(market.call_closes_at)
    given_orders(
        seller, *({"market": market, "side": "sell", "lots": lots, "price": price}
                  for lots, price in ((5, 31), (2, 32), (3, 31))), now=market.call_closes_at)  # fmt: skip
    given_orders(buyer, {"market": market, "side": "buy", "lots": 4, "price": 30}, now=market.call_closes_at)
    market.cast = (buyer, seller)
    return trading(market)


def trading(market, *orders):
    """The market after more orders, given as (member, side, lots, price), and a drain."""
    for member, side, lots, price in orders:
        given_orders(member, {"market": market, "side": side, "lots": lots, "price": price}, now=market.call_closes_at)
    cast = market.cast
    market = advanced(market, market.call_closes_at)
    market.cast = cast
    return market


def test_the_book_at_each_level(open_market):
    best = get(f"markets/{open_market.pk}/book?level=1")
    assert best["quote"] == {"bid": ["0.0030", 4000], "ask": ["0.0031", 8000], "last": None}
    by_level = get(f"markets/{open_market.pk}/book")
    assert (by_level["bids"], by_level["asks"]) == (
        [["0.0030", 4000, 1]], [["0.0031", 8000, 2], ["0.0032", 2000, 1]])  # fmt: skip
    assert by_level["seq"] == open_market.last_sequence and by_level["phase"] == "continuous"
    assert by_level["checksum"] == kraken_checksum(
        [("0.0031", "8000"), ("0.0032", "2000")], [("0.0030", "4000")])  # fmt: skip
    by_order = get(f"markets/{open_market.pk}/book?level=3&depth=1")
    assert [row[1:] for row in by_order["orders"]] == [
        ["buy", "0.0030", 4000], ["sell", "0.0031", 5000], ["sell", "0.0031", 3000]]  # fmt: skip
    assert by_order["checksum"] == by_level["checksum"]


def test_frames_lead_from_one_book_to_the_next(open_market):
    buyer, seller = open_market.cast
    before = get(f"markets/{open_market.pk}/book")
    trading(open_market, (buyer, "buy", 6, 31))
    trading(open_market, (seller, "sell", 1, 30), (buyer, "buy", 1, 29))
    answer = get(f"markets/{open_market.pk}/frames?after={before['seq']}")
    levels = {name: {row[0]: row for row in before[name]} for name in ("bids", "asks")}
    stand = before["seq"]
    for frame in answer["frames"]:
        assert frame["prev_seq"] == stand < frame["seq"]
        stand = frame["seq"]
        for name, side in levels.items():
            for row in frame["book"][name]:
                side[row[0]] = row
                if not row[1]:
                    del side[row[0]]
    after = get(f"markets/{open_market.pk}/book")
    assert stand == after["seq"] == answer["seq"] and not answer["more"] and len(answer["frames"]) == 2
    assert sorted(levels["bids"].values(), reverse=True) == after["bids"]
    assert sorted(levels["asks"].values()) == after["asks"]
    assert answer["frames"][-1]["book"]["checksum"] == after["checksum"]
    assert [trade["quantity"] for frame in answer["frames"] for trade in frame["trades"]] == [5000, 1000, 1000]
    assert get(f"markets/{open_market.pk}/frames?after={before['seq']}&until={stand - 2}")["frames"] == (
        answer["frames"][:1])  # fmt: skip
    assert get(f"markets/{open_market.pk}/frames?after={stand - 1}", 409)["code"] == "sequence-inside-frame"
    assert get(f"markets/{open_market.pk}/frames", 400)["field"] == "after"
    statistics = get(f"markets/{open_market.pk}/statistics")
    assert (statistics["open"], statistics["low"], statistics["last"], statistics["volume"]) == (
        "0.0031", "0.0030", "0.0030", 7000)  # fmt: skip
    assert statistics["amount"] == "21.60"


def test_reading_from_the_last_whole_book_gives_the_same(open_market, monkeypatch):
    monkeypatch.setattr("exchange.actions.frames.BOOK_EVERY_ROWS", 0)
    monkeypatch.setattr("exchange.actions.frames.BOOK_EVERY_SHARE", 0)
    buyer, seller = open_market.cast
    for step in range(4):
        trading(open_market, (buyer, "buy", 1 + step, 30 + step % 2), (seller, "sell", 1, 33))
    assert MarketFrame.objects.filter(book__isnull=False).count() == 4
    shown = get(f"markets/{open_market.pk}/book?level=3")
    MarketFrame.objects.filter(book__isnull=False).update(book=None)
    frame_queries.forget_public_markets()
    assert get(f"markets/{open_market.pk}/book?level=3") == shown


def test_a_market_older_than_its_frames_begins_with_a_whole_book(open_market):
    buyer, _ = open_market.cast
    trading(open_market, (buyer, "buy", 2, 31))
    shown = get(f"markets/{open_market.pk}/book")
    MarketFrame.objects.all().delete()
    from exchange.actions.market_state import forget_books

    forget_books()
    frame_queries.forget_public_markets()
    market = trading(open_market, (buyer, "buy", 1, 20))
    again = get(f"markets/{open_market.pk}/book")
    assert (again["asks"], again["bids"]) == (shown["asks"], [*shown["bids"], ["0.0020", 1000, 1]])
    assert get(f"markets/{market.pk}/statistics")["volume"] == 2000


def test_a_sealed_auction_shows_what_it_would_give_and_no_bids(at):
    market = given_market(call_closes_at=NOW + timedelta(minutes=10), gate_closes_at=NOW + timedelta(minutes=20))
    seller, buyer = given_seller(market), given_money(given_organization("buyer"))
    given_orders(seller, {"market": market, "side": "sell", "lots": 5, "price": 20})
    advanced(market, NOW)
    at(NOW)
    quote = get(f"markets/{market.pk}/book?level=1")
    assert quote["sealed"] and quote["quote"]["ask"] is None
    assert quote["indicative"] == {
        "price": None, "volume": 0, "surplus": 0, "best_bid": None, "best_ask": "0.0020"}  # fmt: skip
    given_orders(buyer, {"market": market, "side": "buy", "lots": 3, "price": 25})
    advanced(market, NOW)
    assert get(f"markets/{market.pk}/indicative")["indicative"]["volume"] == 3000
    for level in (2, 3):
        assert get(f"markets/{market.pk}/book?level={level}", 409)["code"] == "book-sealed"
    assert "book" not in get(f"markets/{market.pk}/frames?after=0")["frames"][0]

    advanced(market, market.call_closes_at)
    auction = AuctionResult.objects.get()
    at(market.call_closes_at)
    for path in ("curves", "history", "book"):
        assert get(f"auctions/{auction.pk}/{path}", 409)["code"] == "book-sealed"

    advanced(market)
    at(market.gate_closes_at)
    book = get(f"markets/{market.pk}/book?level=3")
    assert [row[1:] for row in book["orders"]] == [["buy", "0.0025", 3000], ["sell", "0.0020", 5000]]
    assert get(f"auctions/{auction.pk}/curves")["curve"] == [["0.002", 3000, 5000], ["0.0025", 3000, 5000]]
    history = get(f"auctions/{auction.pk}/history")["frames"]
    assert [row[1:] for frame in history[:-1] for row in frame["orders"]["rows"]] == [
        ["sell", "0.0020", 5000], ["buy", "0.0025", 3000]]  # fmt: skip
    assert history[0]["prev_seq"] == 0 and history[-1]["phase"]["auction"]["volume"] == 3000
    phases = get(f"markets/{market.pk}/phases")["phases"]
    assert [one["phase"] for one in phases] == ["call", "closed"]


def test_candles_have_no_holes(open_market, at):
    buyer, _ = open_market.cast
    trading(open_market, (buyer, "buy", 6, 31))
    at(open_market.call_closes_at + timedelta(seconds=3))
    rows = get(f"markets/{open_market.pk}/candles?interval=1s")["candles"]
    assert [(row["open"], row["close"], row["volume"], row["amount"]) for row in rows] == [
        ("0.0031", "0.0031", 6000, "18.60"), *[("0.0031", "0.0031", 0, "0.00")] * 3]  # fmt: skip
    assert rows[1]["time"] == "2026-11-20T04:10:01Z"
    assert get(f"markets/{open_market.pk}/candles?interval=2s", 400)["field"] == "interval"
    assert get(f"markets/{open_market.pk}/candles?since=yesterday", 400)["field"] == "since"


def naive_candles(trades, interval, since, until):
    """Every interval by itself, looking at every trade."""
    found, start = [], floor(since, interval)
    while start < until:
        inside = [trade for trade in trades if start <= trade[0] < start + interval]
        before = [trade for trade in trades if trade[0] < start]
        prices = [price for _, price, _ in inside] or [price for _, price, _ in before][-1:]
        if prices:
            found.append(
                Candle(
                    start, prices[0], max(prices), min(prices), prices[-1],
                    sum(tokens for _, _, tokens in inside), sum(price * tokens for _, price, tokens in inside),
                    len(inside),
                )
            )  # fmt: skip
        start += interval
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 9), st.integers(1, 9)), max_size=30),
    st.sampled_from(["1s", "5s", "15s", "1m"]), st.integers(0, 300), st.integers(1, 120),
)  # fmt: skip
def test_candles_agree_with_a_naive_aggregation(db, gaps, name, begin, length):
    interval, moment, trades = candles.INTERVALS[name], NOW, []
    for gap, price, lots in gaps:
        moment += timedelta(milliseconds=gap * 37)
        trades.append((moment, price * 100, lots * 1_000))
    market = Market(pk=1_000_000, last_trade=len(trades), call_opens_at=NOW)
    since = NOW + timedelta(milliseconds=begin * 41)
    until = since + timedelta(milliseconds=length * 101)
    with transaction.atomic():
        Trade.objects.bulk_create(
            Trade(
                id=entry_id(market.pk, number), sequence=number, buyer_id=1, seller_id=2, buy_order_id=uuid4(),
                sell_order_id=uuid4(), quantity_tokens=tokens, price_nano=price, bond_micro=0, aggressor=1,
                occurred_at=at,
            )
            for number, (at, price, tokens) in enumerate(trades, 1)
        )  # fmt: skip
        found = candle_queries.candles(market, interval=interval, since=since, until=until)
        transaction.set_rollback(True)
    assert found == naive_candles(trades, interval, since, until)


def index_market(grade, number):
    """A market of the grade with an auction of its own, one window after another."""
    return given_market(
        grade,
        window=Period(NOW + timedelta(hours=1 + number), NOW + timedelta(hours=2 + number)),
    )


def auctioned(grade, number, sellers, buyers, price=30):
    """An auction in which each seller offers, and each buyer takes, so many lots."""
    market = index_market(grade, number)
    for member, lots in sellers.items():
        with transaction.atomic():
            add_capacity(market_id=market.pk, organization_id=member.pk, tokens=lots * 1_000)
        given_orders(member, {"market": market, "side": "sell", "lots": lots, "price": 10})
    for member, lots in buyers.items():
        given_orders(member, {"market": market, "side": "buy", "lots": lots, "price": price})
    return advanced(market)


def test_the_index_is_of_trades_among_enough_members(at):
    grade = given_grade()
    sellers = [given_money(given_organization("provider")) for _ in range(3)]
    buyers = [given_money(given_organization("buyer")) for _ in range(3)]
    at(NOW + timedelta(hours=1))
    assert get(f"grades/{grade.slug}/index")["reason"] == "too-few-sellers"
    auctioned(grade, 0, dict.fromkeys(sellers[:1], 50), dict.fromkeys(buyers, 10))  # thin: feeds no index
    assert get(f"grades/{grade.slug}/index")["trades"] == 0
    auctioned(grade, 1, dict.fromkeys(sellers, 10), dict.fromkeys(buyers, 10))
    price = AuctionResult.objects.get(thin=False).price_nano
    shown = get(f"grades/{grade.slug}/index")
    assert (shown["reason"], shown["volume"], shown["sellers"], shown["buyers"]) == (None, 30_000, 3, 3)
    assert shown["price"] == format_price(price) and shown["price_per_million"] == format_price_per_million(price)
    assert shown["days"][0]["price"] == shown["price"] and shown["days"][0]["day"] == "2026-11-20"
    auctioned(grade, 2, {sellers[0]: 30, sellers[1]: 30}, {buyers[0]: 40, buyers[1]: 20}, price=20)
    assert get(f"grades/{grade.slug}/index")["reason"] == "buyer-concentrated"  # 50 of 90


def test_members_of_one_group_count_once_in_the_index():
    pairs = [Pair(buyer, seller, 1_000, 1_000 * 2_000, 1) for buyer in (1, 2, 3) for seller in (4, 5, 6)]
    assert spot_index(pairs, {}).price_nano == 2_000
    assert spot_index(pairs, {5: -4, 6: -4}).reason == "too-few-sellers"
    assert spot_index([*pairs, Pair(7, 8, 9_000, 1, 1)], {7: -1, 1: -1}).reason == "buyer-concentrated"
    assert spot_index([*pairs, Pair(9, 8, 12_000, 1, 1)], {}).reason == "seller-concentrated"


def test_the_off_peak_discount_is_against_a_list_price_that_stood(at):
    grade = given_grade()
    sellers = [given_money(given_organization("provider")) for _ in range(2)]
    buyers = [given_money(given_organization("buyer")) for _ in range(2)]
    market = auctioned(grade, 0, dict.fromkeys(sellers, 10), dict.fromkeys(buyers, 10))
    price = AuctionResult.objects.get().price_nano
    at(market.gate_closes_at)
    assert get(f"grades/{grade.slug}/index")["off_peak"] == {
        "price": format_price(price), "list_price": None, "discount_thousandths": None, "auctions": 1}  # fmt: skip
    for days, list_price in ((9, 4_000_000), (3, 2_000_000)):  # the lower one has not stood for seven days
        deployment = given_deployment(grade=grade)
        with transaction.atomic():
            set_list_price(deployment_id=deployment.pk, price_nano=list_price, now=NOW - timedelta(days=days))
    shown = get(f"grades/{grade.slug}/index")["off_peak"]
    assert shown["list_price"] == "0.004"
    assert shown["discount_thousandths"] == (4_000_000 - price) * 1_000 // 4_000_000
    at(NOW + timedelta(days=4))
    assert get(f"grades/{grade.slug}/index")["off_peak"]["auctions"] == 0
