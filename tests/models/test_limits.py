"""Intervals of counts, rates and exposures, worked by hand or by brute force."""

import math

import numpy as np
import pytest
from scipy import stats

from attacks.statistics.intervals import (
    count_interval,
    exposure_interval,
    highest_rate,
)


def test_a_count_has_the_interval_of_its_rate_times_the_trials():
    found = count_interval(12, 60)
    # The ends by their definition: each leaves 2.5 % for a count as extreme.
    assert stats.binom.sf(11, 60, found.low / 60) == pytest.approx(0.025)
    assert stats.binom.cdf(12, 60, found.high / 60) == pytest.approx(0.025)
    assert found.value == 12


@pytest.mark.parametrize("n", [0, 7])
def test_of_no_success_the_low_end_is_none(n):
    assert count_interval(0, n).low == 0


def test_one_success_is_past_a_limit_of_none_however_many_trials():
    assert count_interval(1, 100_000).low > 0
    assert count_interval(0, 3).low == 0


def test_the_highest_rate_is_corrected_for_selection():
    alone = highest_rate([9], [10])[1]
    at, among = highest_rate([0, 9, 1, 2], [10, 10, 10, 10])
    assert (at, among.value) == (1, 0.9)
    assert among.low < alone.low
    # At 1 - 0.05 / 4, so 1/160 in each tail.
    assert stats.binom.sf(8, 10, among.low) == pytest.approx(0.05 / 8)


def test_lists_without_candidates_neither_count_nor_are_picked():
    assert highest_rate([0, 9], [0, 10]) == (1, highest_rate([9], [10])[1])
    with pytest.raises(ValueError, match="got none"):
        highest_rate([0], [0])


def test_the_highest_of_many_equal_rates_is_seldom_past_their_true_rate():
    """The error that the picking makes: 20 lists of 100, all of rate 0.2, drawn 400 times."""
    rng = np.random.default_rng(0)
    drawn = rng.binomial(100, 0.2, (400, 20))
    trials = np.full(20, 100)
    past = [highest_rate(row, trials, by_low_end=True)[1].low > 0.2 for row in drawn]
    assert np.mean(past) <= 0.05
    # Without paying for the choice it would happen far more often, so the test can fail.
    naive = [count_interval(int(row.max()), 100).low > 20 for row in drawn]
    assert np.mean(naive) > 0.15


def test_exposure_is_left_open_by_as_much_as_its_share_is():
    low, high = exposure_interval(3, 99, 40.0)
    assert stats.binom.cdf(3, 99, 2**-low) == pytest.approx(0.025)
    assert stats.binom.sf(2, 99, 2**-high) == pytest.approx(0.025)
    assert low < -math.log2(4 / 100) < high


def test_where_no_control_is_as_likely_only_the_space_bounds_exposure():
    low, high = exposure_interval(0, 1000, 20.0)
    assert high == 20.0
    assert 2**-low == pytest.approx(1 - 0.025 ** (1 / 1000))
    assert exposure_interval(7, 7, 20.0)[0] == 0
