import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import money


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(0, 2, 0), (1, 2, 1), (3, 2, 2), (-1, 2, -1), (-3, 2, -2), (4, 10, 0), (5, 10, 1), (-4, 10, 0), (7, 1, 7)],
)
def test_rounds_half_up_and_mirrors_negatives(numerator, denominator, rounded):
    assert money.round_half_up(numerator, denominator) == rounded


def test_a_lot_is_exact_at_every_price():
    assert money.cost_micro(tokens=1_000, price_nano=1) == 1
    assert money.cost_micro(tokens=1_500_000_000, price_nano=1_900) == 2_850_000_000


def test_prices_read_and_write_in_yuan_per_token():
    assert money.parse_price_nano("0.003") == 3_000_000
    assert money.format_price(1_820) == "0.00000182"
    assert money.format_price_per_million(1_820) == "1.82"
    assert money.format_price_per_million(3_000_000) == "3000.00"
    assert money.format_yuan(12_340_000) == "12.34"
    assert money.format_yuan(-1) == "-0.000001"


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_what_is_written_reads_back(value):
    assert money.parse_price_nano(money.format_price(value)) == value
    assert money.parse_yuan_micro(money.format_yuan(value)) == value


@pytest.mark.parametrize("text", ["", "abc", "NaN", "inf", "1e400", "0.0000000001", "1,000", "9" * 30, "１２.３４5x"])
def test_refuses_what_is_no_price(text):
    with pytest.raises(money.BadAmount):
        money.parse_price_nano(text)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30), st.integers(0, 10**12))
def test_largest_remainder_adds_up_and_stays_within_one(weights, total):
    if sum(weights) == 0:
        return
    parts = money.largest_remainder(weights, total)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - weight * total) < sum(weights)


@given(st.lists(st.integers(-(10**12), 10**12), max_size=30))
def test_printed_fen_lines_add_up_to_the_rounded_sum(amounts):
    lines = money.fen_lines(amounts)
    assert sum(lines) == money.fen_round(sum(amounts))
    assert all(line % money.MICRO_PER_FEN == 0 for line in lines)
    assert all(abs(line - amount) <= money.MICRO_PER_FEN for line, amount in zip(lines, amounts, strict=True))


@given(st.integers(-(10**10), 10**10), st.integers(0, 500))
def test_net_and_tax_make_the_gross(fen, rate):
    split = money.vat_of_gross(fen * money.MICRO_PER_FEN, rate)
    assert split.net_micro + split.tax_micro == split.gross_micro
    assert split.tax_micro % money.MICRO_PER_FEN == 0


def test_vat_of_six_percent():
    assert money.vat_of_gross(106_000_000, 60) == money.TaxSplit(106_000_000, 100_000_000, 6_000_000)
