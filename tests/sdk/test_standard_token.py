"""The published formula: its check values, and a loop over every token that keeps the closed form honest."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ciyuan.explain import explain, work_units
from ciyuan.standard_token import (
    FRACTION,
    REFERENCE_7B,
    WORK_UNITS_PER_ST,
    AttentionGroup,
    ModelCard,
    StandardTokenError,
    Work,
    work,
    work_of_many,
)
from ciyuan.standard_token_arrays import work_arrays
from hypothesis import given
from hypothesis import strategies as st

SDK = Path(__file__).parents[2] / "sdk"
DENSE_70B = ModelCard(70_000_000_000, 140_000_000_000, (AttentionGroup(layers=80, width=8_192, kv_bytes=4_096),))


def naive_work(card, input_tokens, cached, output, share=100):
    """Every token by itself, in 1/32,000 of a work unit, exactly as the rule is written."""

    def attention(p, decode):
        total = 0
        for g in card.attention:
            read = p if g.span is None else min(p, g.span)
            total += g.layers * read * (4 * g.width + (118 * g.kv_bytes if decode else 0))
        return total

    def one_input(p):
        return FRACTION * (2 * card.active_params + attention(p, decode=False))

    def one_output(p):
        return FRACTION * (2 * card.active_params + attention(p, decode=True)) + 1_000 * 118 * card.active_weight_bytes

    def to_micro(fractions):
        unit = FRACTION * WORK_UNITS_PER_ST
        whole, rest = divmod(fractions * 1_000_000, unit)
        return whole + (2 * rest >= unit)

    return Work(
        to_micro(sum(one_input(i) for i in range(cached + 1, input_tokens + 1))),
        to_micro(sum(one_input(i) for i in range(1, cached + 1)) * share // 1_000),
        to_micro(sum(one_output(input_tokens + j) for j in range(1, output + 1))),
    )


def test_one_standard_token_is_the_reference_models_output_at_2048():
    assert work(REFERENCE_7B, 2_047, 0, 1).output_micro_st == 1_000_000


@pytest.mark.parametrize(
    ("card", "counts", "expected"),
    [
        (REFERENCE_7B, (4_808, 0, 10), Work(745_858_803, 0, 14_495_340)),
        (REFERENCE_7B, (4_808, 4_096, 10), Work(118_223_031, 62_763_577, 14_495_340)),
        (REFERENCE_7B, (0, 0, 0), Work(0, 0, 0)),
    ],
)
def test_published_check_values(card, counts, expected):
    assert work(card, *counts) == expected


def test_published_check_sums():
    assert work(REFERENCE_7B, 4_808, 0, 10).total_micro_st == 760_354_143
    assert work(DENSE_70B, 1_000, 0, 300).total_micro_st == 3_582_623_695


def test_published_check_values_of_single_tokens():
    at_2048 = work(REFERENCE_7B, 2_048, 0, 0).input_micro_st - work(REFERENCE_7B, 2_047, 0, 0).input_micro_st
    assert round(at_2048 / 1e6, 3) == 0.153
    assert round(work(REFERENCE_7B, 32_767, 0, 1).output_micro_st / 1e6, 2) == 5.99
    assert round(work(DENSE_70B, 2_047, 0, 1).output_micro_st / 1e6, 2) == 7.53


groups = st.builds(
    AttentionGroup,
    layers=st.integers(1, 100),
    width=st.integers(1, 30_000),
    kv_bytes=st.integers(0, 10_000),
    span=st.none() | st.integers(1, 300),
)
cards = st.builds(
    ModelCard,
    active_params=st.integers(1, 10**12),
    active_weight_bytes=st.integers(1, 2 * 10**12),
    attention=st.lists(groups, max_size=4).map(tuple),
)
counts = st.integers(0, 400).flatmap(
    lambda inputs: st.tuples(st.just(inputs), st.integers(0, inputs), st.integers(0, 300))
)


@given(cards, counts, st.integers(0, 1_000))
def test_the_closed_form_agrees_with_the_sum_token_by_token(card, request_counts, share):
    assert work(card, *request_counts, share) == naive_work(card, *request_counts, share)


@given(cards, counts, st.integers(0, 1_000))
def test_the_explanation_adds_up_to_the_same(card, request_counts, share):
    explanation = explain(card, *request_counts, share)
    assert tuple(c.micro_st for c in explanation.classes) == tuple(work(card, *request_counts, share))
    assert explanation.to_dict()["total_micro_st"] == explanation.work.total_micro_st


@given(cards, st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_largest_counts_stay_exact(card, inputs, outputs):
    one, all_of_them = work(card, inputs, 0, outputs), work_of_many(card, [(inputs, 0, outputs)] * 2)
    assert all_of_them == [one, one]
    assert one.output_micro_st >= 0 and all(isinstance(n, int) for n in one)


def test_a_cached_share_of_a_thousand_costs_what_input_costs():
    plain, cached = work(REFERENCE_7B, 500, 0, 0), work(REFERENCE_7B, 500, 500, 0, 1_000)
    assert cached.cached_input_micro_st == plain.input_micro_st
    assert cached.input_micro_st == 0


@pytest.mark.parametrize(
    ("counts", "field"),
    [
        ((-1, 0, 0), "input_tokens"),
        ((0, 0, -5), "output_tokens"),
        ((10, 11, 0), "cached_input_tokens"),
        ((10, -1, 0), "cached_input_tokens"),
        ((1.5, 0, 0), "input_tokens"),
        ((True, 0, 0), "input_tokens"),
        ((10**9 + 1, 0, 0), "input_tokens"),
        ((1, 0, 0, 1_001), "cached_share_thousandths"),
    ],
)
def test_counts_that_no_request_has_are_refused(counts, field):
    with pytest.raises(StandardTokenError) as error:
        work(REFERENCE_7B, *counts)
    assert error.value.field == field


def test_a_card_survives_json():
    assert ModelCard.from_dict(REFERENCE_7B.to_dict()) == REFERENCE_7B


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"active_param": 1}, "active_param", "did you mean 'active_params'"),
        ({"active_params": -1}, "active_params", "between 1 and"),
        ({"active_params": "7B"}, "active_params", "whole number"),
        ({"attention": {}}, "attention", "must be a list"),
        ({"attention": [{"layers": 1, "width": 2}]}, "kv_bytes", "attention[0] lacks 'kv_bytes'"),
        ({"attention": [{"layers": 0, "width": 2, "kv_bytes": 1}]}, "attention[0].layers", "attention[0].layers"),
        ({"attention": [{"layers": 1, "width": 2, "kv_bytes": 1, "spam": 1}]}, "spam", "did you mean 'span'"),
    ],
)
def test_a_wrong_card_is_refused_by_field(change, field, words):
    with pytest.raises(StandardTokenError) as error:
        ModelCard.from_dict({**REFERENCE_7B.to_dict(), **change})
    assert error.value.field == field
    assert words in error.value.detail


def test_fractions_of_a_work_unit_are_shown_exactly():
    assert work_units(32_000) == "1"
    assert work_units(32_000 * 1_234 + 1) == "1,234.00003125"
    assert work_units(16_000) == "0.5"


@given(
    cards | st.sampled_from([REFERENCE_7B, DENSE_70B]),
    st.lists(
        st.integers(0, 200_000).flatmap(
            lambda inputs: st.tuples(st.just(inputs), st.integers(0, inputs), st.integers(0, 50_000))
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(0, 1_000),
)
def test_the_batched_form_gives_the_same_integers(card, requests, share):
    columns = work_arrays(card, *(np.array(column, dtype=np.int64) for column in zip(*requests, strict=True)), share)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == work_of_many(card, requests, share)


def test_the_batched_form_takes_an_empty_batch():
    nothing = np.array([], dtype=np.int64)
    none = np.zeros(1, dtype=np.int64)
    absurd = ModelCard(10**15, 10**15, (AttentionGroup(layers=10**15, width=10**15, kv_bytes=0),))
    assert [int(column[0]) for column in work_arrays(absurd, none, none, none)] == [0, 0, 0]
    assert [len(column) for column in work_arrays(REFERENCE_7B, nothing, nothing, nothing)] == [0, 0, 0]


def test_the_formula_needs_nothing_but_the_standard_library():
    code = (
        f"import sys; sys.path.insert(0, {str(SDK)!r});"
        "import ciyuan.standard_token, ciyuan.explain, ciyuan.named_cards, ciyuan.usage;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('httpx', 'click', 'numpy', 'django')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
