"""Markets and auctions over HTTP, and the schedule that makes markets."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command

from core import clock
from exchange.actions.markets import schedule_markets
from exchange.models import AuctionResult, Market
from tests.given import (
    NOW,
    Api,
    advanced,
    given_api,
    given_capacity,
    given_deployment,
    given_grade,
    given_market,
    given_money,
    given_orders,
    given_organization,
    given_seller,
)

pytestmark = pytest.mark.django_db


def body(grade, start, /, **fields):
    return {
        "grade": grade.slug,
        "window": {"start": start.isoformat(), "end": (start + timedelta(minutes=5)).isoformat()},
        "call_opens_at": (start - timedelta(minutes=3)).isoformat(),
        "call_closes_at": (start - timedelta(minutes=1)).isoformat(),
        "gate_closes_at": start.isoformat(),
        **fields,
    }


def test_the_operator_makes_a_market_with_its_own_times():
    grade, operator = given_grade(), given_api(given_organization("operator"))
    start = clock.now() + timedelta(minutes=10)
    answer = operator.post("/v1/markets", body(grade, start, cap_price="0.005"), key="m1")
    assert answer.status_code == 201, answer.json()
    assert (answer.json()["phase"], answer.json()["cap_price"]) == ("scheduled", "0.005")
    assert operator.post("/v1/markets", body(grade, start, cap_price="0.005"), key="m1").json() == answer.json()
    assert Market.objects.count() == 1
    overlapping = operator.post("/v1/markets", body(grade, start + timedelta(minutes=2)))
    assert (overlapping.status_code, overlapping.json()["code"]) == (409, "window-taken")
    assert operator.post("/v1/markets", body(grade, start + timedelta(minutes=5))).status_code == 201
    shown = Api().get(f"/v1/markets/{answer.json()['id']}").json()
    assert shown["grade_slug"] == grade.slug


def test_only_the_operator_makes_markets():
    grade = given_grade()
    start = clock.now() + timedelta(minutes=10)
    assert given_api(given_organization("provider")).post("/v1/markets", body(grade, start)).status_code == 403
    assert Api().post("/v1/markets", body(grade, start)).status_code == 401


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"cap_price": "0.00001"}, "price-off-tick"),
        ({"call_closes_at": "2001-01-01T00:00:00Z"}, "bad-market-times"),
        ({"grade": "none-such"}, "grade-unknown"),
        ({"window": {"start": "2030-01-01T01:00:00Z", "end": "2030-01-01T00:00:00Z"}}, "bad-request"),
        ({"surprise": 1}, "invalid"),
    ],
)
def test_refuses_bad_markets(change, code):
    operator = given_api(given_organization("operator"))
    answer = operator.post("/v1/markets", body(given_grade(), clock.now() + timedelta(minutes=10), **change))
    assert answer.json()["code"] == code, answer.json()
    assert not Market.objects.exists()


def test_lists_by_grade_and_phase():
    first = given_market(now=clock.now())
    given_market(now=clock.now(), phase="scheduled")
    ask = Api().get
    assert [row["id"] for row in ask("/v1/markets", {"phase": "call"}).json()["items"]] == [first.pk]
    assert [row["id"] for row in ask("/v1/markets", {"grade": first.grade.slug}).json()["items"]] == [first.pk]
    assert len(ask("/v1/markets", {"limit": 1}).json()["items"]) == 1
    assert ask("/v1/markets", {"phase": "party"}).status_code == 400
    assert ask("/v1/markets/999999").status_code == 404


def test_an_auction_says_why_and_can_be_computed_again(tmp_path, capsys):
    market = given_market()
    for bid, lots in ((40, 4), (39, 2)):
        given_orders(
            given_money(given_organization("buyer")), {"market": market, "side": "buy", "lots": lots, "price": bid}
        )
    for ask, lots in ((37, 3), (36, 2)):
        given_orders(given_seller(market), {"market": market, "side": "sell", "lots": lots, "price": ask})
    advanced(market)
    auction = Api().get("/v1/auctions", {"market": market.pk}).json()["items"][0]
    assert (auction["price"], auction["volume"], auction["surplus"]) == ("0.0039", 5_000, 1_000)
    assert (auction["buyers"], auction["sellers"], auction["thin"]) == (2, 2, False)
    assert auction["spill_thousandths"] == 0 and auction["concentrated"]
    book = Api().get(f"/v1/auctions/{auction['id']}/book").json()
    assert book["bids"] == [[40, 4], [39, 2]] and book["asks"] == [[36, 2], [37, 3]]
    path = tmp_path / "book.json"
    path.write_text(json.dumps({name: book[name] for name in ("bids", "asks", "reference", "margin")}))
    call_command("clear_book", str(path))
    again = json.loads(capsys.readouterr().out)
    assert (again["price"], again["volume"], again["surplus"]) == (39, 5, 1)
    assert Api().get("/v1/auctions/999").status_code == Api().get("/v1/auctions/999/book").status_code == 404


def test_the_schedule_makes_markets_ahead_once():
    grade = given_grade(
        window_schedule={"every_minutes": 30, "kind": "short"},
        call_opens_before_seconds=1_800,
        call_closes_before_seconds=600,
        gate_closes_before_seconds=60,
    )
    made = schedule_markets(now=NOW)
    assert [market.grade_id for market in made] == [grade.pk] * len(made)
    assert [market.window_start for market in made] == [NOW + n * timedelta(minutes=30) for n in (1, 2, 3)]
    assert schedule_markets(now=NOW) == []
    assert len(schedule_markets(now=NOW + timedelta(minutes=31))) == 2


def test_default_windows_follow_the_chinese_calendar():
    given_grade(call_opens_before_seconds=86_400, call_closes_before_seconds=3_600, gate_closes_before_seconds=900)
    kinds = [(market.window_start.isoformat(), market.window_kind) for market in schedule_markets(now=NOW)]
    assert kinds[:3] == [  # NOW is noon on Friday in Shanghai
        ("2026-11-20T10:00:00+00:00", "evening"),
        ("2026-11-20T16:00:00+00:00", "all_day"),
        ("2026-11-21T16:00:00+00:00", "all_day"),
    ]


def test_cap_and_reference_are_fixed_when_the_call_opens():
    grade = given_grade(reference_price_nano=3_000_000)
    market = given_market(grade, phase="scheduled", cap_price_nano=None)
    market = advanced(market, market.call_opens_at)
    assert market.phase == "scheduled"  # no list price is in force, so there is no cap and no call
    given_capacity(given_deployment(grade=grade), market.window)
    market = advanced(market, market.call_opens_at + timedelta(seconds=1))
    assert (market.phase, market.cap_price_nano, market.reference_price_nano) == ("call", 5_000_000, 3_000_000)


def test_the_reference_is_the_last_price_of_the_same_kind_of_window_within_seven_days():
    grade = given_grade(reference_price_nano=3_000_000)
    first = given_market(grade)
    given_orders(given_seller(first), {"market": first, "side": "sell", "price": 20})
    given_orders(given_money(given_organization("buyer")), {"market": first, "side": "buy", "price": 22})
    advanced(first)
    assert AuctionResult.objects.get().price_nano == 2_200_000
    soon = given_market(grade, now=NOW + timedelta(days=1))
    assert soon.reference_price_nano == 2_200_000
    other_kind = given_market(grade, now=NOW + timedelta(days=2), window_kind="night")
    assert other_kind.reference_price_nano == 3_000_000
    late = given_market(grade, now=NOW + timedelta(days=8))
    assert late.reference_price_nano == 3_000_000
