"""Log-linear laws, against numpy's and scipy's own least squares and numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attacks.statistics.extraction_laws import fit_log_linear


def test_points_on_a_line_give_that_line():
    fit = fit_log_linear([1, 10, 100, 1000], [1, 3, 5, 7], [10, 10, 10, 10])
    assert (fit.slope, fit.intercept, fit.r_squared) == pytest.approx((0.2, 0.1, 1.0))
    assert (fit.low, fit.high) == pytest.approx((0.2, 0.2), abs=1e-7)
    assert (fit.n_points, fit.n_examples, fit.withheld) == (4, 40, "")


def test_by_hand_with_three_points():
    # x = 1, 10, 100 have a = -1, 0, 1 about their mean; shares 0, 0.6, 0.6 have mean 0.4.
    # slope = 0.6 / 2 = 0.3; residuals -0.1, 0.2, -0.1: 0.06 of 0.24, so R2 = 0.75.
    fit = fit_log_linear([1, 10, 100], [0, 6, 6], [10, 10, 10])
    assert (fit.slope, fit.intercept, fit.r_squared) == pytest.approx((0.3, 0.1, 0.75))
    # Standard error sqrt(0.06 / 1 / 2); Student's t with one degree of freedom is Cauchy's.
    reach = math.tan(math.pi * 0.475) * math.sqrt(0.03)
    assert (fit.low, fit.high) == pytest.approx((0.3 - reach, 0.3 + reach))
    assert math.isnan(fit.r_squared_low)


points = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, 20)), min_size=4, max_size=12,
    unique_by=lambda point: point[0],
)  # fmt: skip


@given(points)
def test_equal_weights_are_ordinary_least_squares(rows):
    x, k = (np.array(column) for column in zip(*rows, strict=True))
    fit = fit_log_linear(x, k, np.full(len(x), 20))
    other = stats.linregress(np.log10(x), k / 20)
    assert fit.slope == pytest.approx(other.slope, abs=1e-9)
    assert fit.intercept == pytest.approx(other.intercept, abs=1e-9)
    reach = stats.t.ppf(0.975, len(x) - 2) * other.stderr
    assert fit.high - fit.slope == pytest.approx(reach, rel=1e-6, abs=1e-7)
    if len(set(k)) > 1:
        assert fit.r_squared == pytest.approx(other.rvalue**2, abs=1e-9)


def test_a_point_of_more_trials_weighs_more():
    x, k, n = np.array([1, 5, 25, 125]), np.array([1, 4, 30, 9]), np.array([10, 10, 100, 10])
    fit = fit_log_linear(x, k, n)
    slope, intercept = np.polyfit(np.log10(x), k / n, 1, w=np.sqrt(n))
    assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept))


def test_equal_x_are_taken_together():
    once = fit_log_linear([1, 2, 4], [1, 3, 8], [10, 10, 10])
    apart = fit_log_linear([1, 2, 2, 4], [1, 1, 2, 8], [10, 4, 6, 10])
    assert once == apart


def test_the_interval_of_r_squared_is_fishers():
    x = 10.0 ** np.arange(6)
    fit = fit_log_linear(x, [0, 3, 2, 6, 5, 9], [10] * 6)
    r = math.sqrt(fit.r_squared)
    z = [math.atanh(r) + side * 1.959963984540054 / math.sqrt(3) for side in (-1, 1)]
    low = math.tanh(z[0])
    assert fit.r_squared_low == pytest.approx(max(0, low) ** 2)
    assert fit.r_squared_high == pytest.approx(math.tanh(z[1]) ** 2)
    assert fit.r_squared_low < fit.r_squared < fit.r_squared_high


@pytest.mark.parametrize("x", [[], [4], [4, 4, 4], [1, 2], [1, 2, 2, 1]])
def test_fewer_than_three_x_are_withheld_with_a_reason(x):
    fit = fit_log_linear(np.array(x, float), np.ones(len(x), int), np.full(len(x), 3))
    assert fit.withheld == f"needs 3 different values, got {len(set(x))}"
    assert all(math.isnan(v) for v in (fit.slope, fit.low, fit.high, fit.intercept, fit.r_squared))


def test_an_x_without_trials_is_no_point():
    assert fit_log_linear([1, 2, 4], [1, 0, 1], [3, 0, 3]).n_points == 2


def test_shares_that_do_not_vary_have_a_flat_line_and_no_r_squared():
    fit = fit_log_linear([1, 2, 4], [2, 2, 2], [5, 5, 5])
    assert (fit.slope, fit.low, fit.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert math.isnan(fit.r_squared) or fit.r_squared == 0


@pytest.mark.parametrize(("k", "word"), [(0, "none"), (5, "all")])
def test_no_line_is_fitted_if_all_or_none_succeed(k, word):
    fit = fit_log_linear([1, 2, 4], [k] * 3, [5] * 3)
    assert fit.withheld == f"{word} extracted at every value"
    assert math.isnan(fit.slope)
    assert (fit.n_points, fit.n_examples) == (3, 15)


@pytest.mark.parametrize(
    ("x", "k", "n", "told"),
    [
        ([0, 1, 2], [1, 1, 1], [2, 2, 2], "above 0"),
        ([math.inf, 1, 2], [1, 1, 1], [2, 2, 2], "above 0"),
        ([1, 2, 3], [3, 1, 1], [2, 2, 2], "between 0 and trials"),
        ([1, 2, 3], [1, 1], [2, 2], "the same length"),
    ],
)
def test_invalid_input_is_refused(x, k, n, told):
    with pytest.raises(ValueError, match=told):
        fit_log_linear(x, k, n)
    with pytest.raises(ValueError, match="confidence"):
        fit_log_linear([1, 2, 3], [1, 1, 1], [2, 2, 2], confidence=1)
