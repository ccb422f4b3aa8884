"""The independent recomputation: the published cases, and agreement with the exchange's own function."""

import json

import pytest
from ciyuan.cli import main
from ciyuan.verify import check, recompute
from hypothesis import given
from hypothesis import strategies as st

from exchange.domain import sides
from exchange.domain.auction import determine_price
from tests.sdk.endpoint import Endpoint


@pytest.mark.parametrize(
    ("bids", "asks", "reference", "price", "volume", "surplus"),
    [
        ([(202, 200), (201, 200), (200, 300)], [(200, 100), (198, 200), (197, 400)], None, 200, 700, 0),
        ([(202, 400), (201, 200)], [(199, 300), (198, 200)], None, 201, 500, 100),
        ([(202, 300), (201, 200)], [(199, 400), (198, 200)], None, 199, 500, -100),
        ([(None, 100), (199, 100)], [(None, 100), (202, 100)], 199, 199, 100, 100),
        ([(None, 100), (199, 100)], [(None, 100), (202, 100)], 200, 199, 100, 100),
        ([(None, 100), (199, 100)], [(None, 100), (202, 100)], 201, 202, 100, -100),
        ([(None, 100), (199, 100)], [(None, 100), (202, 100)], 202, 202, 100, -100),
        ([(None, 3)], [(None, 5)], 77, 77, 3, -2),
        ([(None, 3)], [(None, 5)], None, None, 0, 0),
        ([(100, 3)], [(101, 5)], 100, None, 0, 0),
        ([(10, 5)], [(9, 5)], None, 10, 5, 0),
        ([], [], 5, None, 0, 0),
    ],
)
def test_worked_cases(bids, asks, reference, price, volume, surplus):
    result = recompute(bids, asks, reference)
    assert (result.price, result.volume, result.surplus) == (price, volume, surplus)


rows = st.lists(st.tuples(st.none() | st.integers(1, 12), st.integers(1, 9)), max_size=12)


@given(rows, rows, st.none() | st.integers(1, 14))
def test_agrees_with_the_exchange_on_any_book(bids, asks, reference):
    ours = recompute(bids, asks, reference)
    theirs = determine_price(sides.bids(bids), sides.asks(asks), reference)
    assert (ours.price, ours.volume, ours.surplus, ours.rule) == (
        theirs.price_tick,
        theirs.volume_lots,
        theirs.surplus_lots,
        theirs.rule.value,
    )


BOOK = {
    "bids": [[202, 400], [201, 200]],
    "asks": [[199, 300], [198, 200]],
    "reference": None,
    "margin": "time",
    "tick_price": "0.00000001",
    "lot_tokens": 1_000,
}
AUCTION = {"id": 5, "market": 7, "price": "0.00000201", "volume": 500_000, "surplus": 100_000, "rule": "bid_surplus"}


def test_a_published_price_that_the_book_does_not_give_is_named():
    assert check(AUCTION, BOOK).differences == ()
    assert check({**AUCTION, "price": "0.00000202"}, BOOK).differences == (
        "price: published 0.00000202, recomputed 0.00000201",
    )


def test_the_command_says_how_and_whether(capsys, monkeypatch):
    with Endpoint() as exchange:
        monkeypatch.setenv("CIYUAN_URL", exchange.url)
        exchange.routes["GET", "/v1/auctions/5"] = (200, AUCTION)
        exchange.routes["GET", "/v1/auctions/5/book"] = (200, BOOK)
        with pytest.raises(SystemExit) as ended:
            main(["verify", "auction", "5"])
        out, _ = capsys.readouterr()
        assert ended.value.code == 0
        assert "highest executable volume: 500 lots, at 4 prices" not in out
        assert "bids are left over at all of them: the highest" in out
        assert (
            "auction 5: ¥0.00000201 a token, 500,000 tokens, rule bid_surplus: the published book gives the same" in out
        )

        exchange.routes["GET", "/v1/auctions/5"] = (200, {**AUCTION, "volume": 400_000})
        with pytest.raises(SystemExit) as ended:
            main(["verify", "auction", "5", "--json"])
        out, err = capsys.readouterr()
        assert ended.value.code == 1
        assert json.loads(out)["differences"] == ["volume: published 400000, recomputed 500000"]
        assert err == "ciyuan: auction 5: volume: published 400000, recomputed 500000\n"
