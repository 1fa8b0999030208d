"""Exposure: by hand, by brute force, by simulation, and far into the tail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from attacks.statistics.exposure import (
    LEAST_CONTROLS,
    SkewNormal,
    expected_exposure,
    exposure,
    exposure_by_extrapolation,
    exposure_by_interpolation,
    fit_skew_normal,
    ranks_among_all,
)

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


def slow_rank(own: float, others: list[float]) -> int:
    """1, and one more for every other that is as likely or likelier."""
    rank = 1
    for other in others:
        if other >= own:
            rank += 1
    return rank


def law(shape, location=0.0, scale=1.0):
    return SkewNormal(shape, location, scale, 0, 0.0, 1.0)


# ------------------------------------------------------------------------------------ by rank
def test_exposure_is_the_bits_between_rank_and_space():
    # 10^6 / 1 -> 19.93 bits; 10^6 / 10^6 -> 0; each doubling of the rank takes one bit.
    bits = exposure([1, 2, 4, 10**6], 10**6)
    assert bits.tolist() == pytest.approx([19.931568569324174, 18.93156856932417, 17.93156856, 0.0])


def test_a_space_larger_than_64_bits_is_supported():
    assert exposure([1], 2**122).tolist() == [122.0]
    assert exposure([3], 10**400)[0] == pytest.approx(400 * math.log2(10) - math.log2(3))


@pytest.mark.parametrize("rank", [[0], [11], [-1]])
def test_a_rank_outside_the_space_is_refused(rank):
    with pytest.raises(ValueError, match=r"rank must lie between 1 and n_candidates \(10\)"):
        exposure(rank, 10)


def test_a_rank_is_a_whole_number():
    with pytest.raises(ValueError, match="whole numbers"):
        exposure([1.5], 10)


@given(SCORES)
def test_ranks_equal_counting_one_by_one(scores):
    slow = [slow_rank(own, scores[:i] + scores[i + 1 :]) for i, own in enumerate(scores)]
    assert ranks_among_all(scores).tolist() == slow


def test_equals_share_the_worst_rank_so_a_blind_model_exposes_nothing():
    assert exposure(ranks_among_all([-7.0] * 64), 64).tolist() == [0.0] * 64


# ---------------------------------------------------------------------------- among controls
@given(SCORES, SCORES)
def test_interpolation_equals_counting_one_by_one(own, controls):
    slow = [math.log2(len(controls) + 1) - math.log2(slow_rank(x, controls)) for x in own]
    assert exposure_by_interpolation(own, controls) == pytest.approx(slow)


@given(SCORES)
def test_interpolation_among_the_whole_space_is_exact(scores):
    exact = exposure(ranks_among_all(scores), len(scores))
    for i, own in enumerate(scores):
        others = scores[:i] + scores[i + 1 :]
        if others:
            assert exposure_by_interpolation([own], others) == pytest.approx(exact[[i]])


@given(SCORES, st.integers(-5, 5))
def test_a_likelier_secret_is_never_less_exposed(controls, score):
    low, high = exposure_by_interpolation([score, score + 1], controls)
    assert low <= high


def test_an_impossible_secret_has_no_exposure():
    assert exposure_by_interpolation([-math.inf], [-1.0, -2.0]).tolist() == [0.0]


def test_no_control_and_no_number_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        exposure_by_interpolation([-1.0], [])
    with pytest.raises(ValueError, match="no NaN"):
        exposure_by_interpolation([math.nan], [-1.0])
    with pytest.raises(ValueError, match="no NaN"):
        ranks_among_all([math.nan, 1.0])


# ------------------------------------------------------------------------------------- theory
@pytest.mark.parametrize("n", [1, 2, 3, 10, 999, 1000, 1001, 5000])
def test_expected_exposure_is_the_mean_over_all_ranks(n):
    mean = math.fsum(math.log2(n / rank) for rank in range(1, n + 1)) / n
    assert expected_exposure(n) == pytest.approx(mean, abs=1e-12)


def test_expected_exposure_rises_to_the_bits_of_e():
    assert expected_exposure(2**122) == pytest.approx(math.log2(math.e), abs=1e-12)
    with pytest.raises(ValueError, match="1 or more"):
        expected_exposure(0)


def test_secrets_never_trained_on_have_the_exposure_of_theory():
    """By both approximations, whatever the model makes of them; its own error told by 4 sigma."""
    rng = np.random.default_rng(3)
    scores = stats.skewnorm.rvs(2, -60, 9, size=(40, 500), random_state=rng)
    fresh = stats.skewnorm.rvs(2, -60, 9, size=(40, 50), random_state=rng)
    ranked = [exposure_by_interpolation(f, s) for f, s in zip(fresh, scores, strict=True)]
    fitted = [exposure_by_extrapolation(f, s).exposure for f, s in zip(fresh, scores, strict=True)]
    # An exponential of mean log2(e) bits: as much is its standard deviation.
    sigma = math.log2(math.e) / math.sqrt(fresh.size)
    assert np.mean(ranked) == pytest.approx(expected_exposure(501), abs=4 * sigma)
    assert np.mean(fitted) == pytest.approx(math.log2(math.e), abs=4 * sigma)


# ------------------------------------------------------------------------------ extrapolation
@pytest.mark.parametrize("shape", [-8.0, -1.0, 0.0, 0.5, 3.0, 40.0])
def test_far_out_the_law_equals_its_own_integral(shape):
    for z in (-0.5, -2.0, -5.0, -12.0, -30.0):
        height = stats.skewnorm.logpdf(z, shape)
        if not np.isfinite(height):
            continue

        def relative(t, z=z, height=height):
            return math.exp(stats.skewnorm.logpdf(z - t, shape) - height)

        integral, _ = integrate.quad(relative, 0, 40, points=[1e-3, 0.01, 0.1, 1], epsabs=0)
        assert law(shape).log_cdf(z) == pytest.approx(height + math.log(integral), rel=1e-7)


@pytest.mark.parametrize("z", [-3.0, -10.0, -50.0, -1000.0])
def test_without_skew_the_law_is_the_normal_one(z):
    assert law(0.0).log_cdf(z) == pytest.approx(stats.norm.logcdf(z), rel=1e-12)
    assert law(0.0, 5.0, 2.0).log_cdf(5 + 2 * z) == pytest.approx(stats.norm.logcdf(z), rel=1e-12)


@pytest.mark.parametrize("shape", [-3.0, 0.0, 3.0, 30.0])
def test_the_law_rises_without_a_step_where_its_two_forms_meet(shape):
    value = law(shape).log_cdf(np.linspace(-9, 9, 4001))
    assert (np.diff(value) >= -1e-9).all()
    assert value[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_fit_finds_the_law_it_was_drawn_from():
    sample = stats.skewnorm.rvs(4, 50, 6, size=20_000, random_state=np.random.default_rng(0))
    found = fit_skew_normal(sample)
    assert (found.shape, found.location, found.scale) == pytest.approx((4, 50, 6), rel=0.1)
    assert found.n == 20_000
    assert found.ks_p > 0.01


def test_a_bad_fit_has_a_small_p_value():
    two_heaps = np.concatenate([np.linspace(0, 1, 200), np.linspace(50, 51, 200)])
    found = fit_skew_normal(two_heaps)
    assert found.ks_p < 1e-6
    ordered = np.sort(two_heaps)
    cdf = np.exp(found.log_cdf(ordered))
    steps = np.arange(401) / 400
    gap = max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max())
    assert found.ks_statistic == pytest.approx(gap, abs=1e-9)


def test_extrapolation_exceeds_the_controls_and_is_bounded_by_the_space():
    controls = stats.norm.rvs(-80, 5, size=4000, random_state=np.random.default_rng(1))
    free = exposure_by_extrapolation([-30.0, -80.0], controls)
    # 10 deviations out: far past the 12 bits that 4,000 controls can show; the median has 1 bit.
    assert free.exposure[0] > 50
    assert free.exposure[1] == pytest.approx(1.0, abs=0.1)
    bound = exposure_by_extrapolation([-30.0, -80.0], controls, n_candidates=10**6)
    assert bound.exposure[0] == math.log2(10**6)
    assert bound.exposure[1] == free.exposure[1]


def test_within_the_controls_both_approximations_agree():
    controls = stats.skewnorm.rvs(-3, -80, 9, size=5000, random_state=np.random.default_rng(2))
    own = np.quantile(controls, [0.1, 0.5, 0.9, 0.99])
    ranked = exposure_by_interpolation(own, controls)
    assert exposure_by_extrapolation(own, controls).exposure == pytest.approx(ranked, abs=0.25)


def test_an_impossible_secret_is_at_the_end_of_the_law():
    controls = np.linspace(-90, -70, 50)
    assert exposure_by_extrapolation([-math.inf], controls).exposure.tolist() == [0.0]


def test_too_few_or_equal_controls_are_refused():
    with pytest.raises(ValueError, match="20 values or more; got 19"):
        exposure_by_extrapolation([-1.0], np.arange(LEAST_CONTROLS - 1.0))
    with pytest.raises(ValueError, match="that differ"):
        exposure_by_extrapolation([-1.0], np.full(50, -3.0))
    with pytest.raises(ValueError, match="finite"):
        exposure_by_extrapolation([-1.0], np.append(np.arange(50.0), -np.inf))
