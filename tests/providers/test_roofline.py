"""What an accelerator could at most do."""

import pytest
from ciyuan.standard_token import REFERENCE_7B
from hypothesis import given
from hypothesis import strategies as st

from providers.domain.roofline import (
    BITS,
    DoesNotFit,
    Hardware,
    NoArithmetic,
    rate_limit,
    roofline,
    work_units_per_byte_tenths,
)

H100 = Hardware({"bf16": 989_000, "fp8": 1_979_000}, 80 * 2**30, 3_350 * 10**9)
H20 = Hardware({"bf16": 148_000, "fp8": 296_000}, 96 * 2**30, 4_000 * 10**9)
HANGUANG = Hardware({"int8": 825_000}, 192 * 2**20, None)


def bound(hardware, *, count=1, precision="bf16", card=REFERENCE_7B, total_params=7_000_000_000):
    return roofline(card, total_params=total_params, hardware=hardware, count=count, precision=precision)


def test_the_reference_accelerator_has_the_ratio_of_the_standard():
    assert work_units_per_byte_tenths(H100) == 1_181
    assert work_units_per_byte_tenths(H20) == 148
    assert work_units_per_byte_tenths(HANGUANG) is None


def test_output_is_bound_by_memory_at_the_batch_that_fits():
    """By hand: 80 GiB less 14 GB of weights hold 267 contexts of 268 MB; 14 GB / 267 + 268 MB take 96 µs to load."""
    found = bound(H100)
    assert (found.batch, found.bound) == (267, "memory")
    assert found.output_tokens_per_minute == pytest.approx(60 * 3_350e9 / (14e9 / 267 + 268_435_456), rel=1e-6)
    assert found.tokens_per_minute == pytest.approx(found.output_tokens_per_minute, rel=1e-6)


def test_an_accelerator_with_much_arithmetic_is_bound_by_its_input():
    """Input is arithmetic alone: work units are FLOP, so any model's input gives FLOP/s ÷ work units of a token."""
    much = Hardware({"bf16": 10_000_000}, 80 * 2**30, 1_000 * 10**9)
    found = bound(much)
    assert found.bound == "prefill"
    assert found.tokens_per_minute == 60 * 10_000_000 * 10**9 // 98_374_125_632


def test_less_arithmetic_for_the_same_bandwidth_still_generates():
    """The H20 has a seventh of the H100's arithmetic and a fifth more bandwidth."""
    assert bound(H20).output_tokens_per_minute == 60 * 148_000 * 10**9 // (2 * 7_000_000_000 + 32 * 2_048 * 4 * 4_096)
    assert bound(H20).bound == "compute"


def test_weights_must_fit_into_memory():
    with pytest.raises(DoesNotFit) as refused:
        bound(HANGUANG, precision="int8", count=30)
    assert refused.value.accelerators_needed == 35
    assert bound(HANGUANG, precision="int8", count=35).tokens_per_minute > 0


def test_narrow_arithmetic_cannot_serve_wide_weights():
    with pytest.raises(NoArithmetic):
        bound(HANGUANG, precision="bf16", count=100)


@given(st.integers(1, 64), st.sampled_from(sorted(BITS)), st.sampled_from([H100, H20]))
def test_more_accelerators_never_do_less(count, precision, hardware):
    if precision == "fp32":
        hardware = Hardware(
            {**hardware.gflops, "fp32": 67_000}, hardware.memory_bytes, hardware.bandwidth_bytes_per_second
        )
    one, more = bound(hardware, count=count, precision=precision), bound(hardware, count=count + 1, precision=precision)
    assert more.tokens_per_minute >= one.tokens_per_minute > 0


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_certificate_counts_before_rating_and_roofline(rated, certified, roof):
    assert rate_limit(rated=rated, certified=certified, bound=roof) == certified * 9 // 10
    assert rate_limit(rated=rated, certified=None, bound=roof) == min(rated, roof)
