"""Estimates and their exact intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from attacks.statistics.intervals import Estimate, clopper_pearson, effective_trials, proportion

GRID = [(k, n) for n in (1, 2, 7, 30) for k in range(n + 1)]
LARGE = [(0, 10**6), (1, 10**6), (214, 600), (999_999, 10**6)]
CONFIDENCES = (0.5, 0.95, 0.999)


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) of n trials at rate p, summed term by term."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_interval_ends_leave_half_of_alpha_in_each_tail(confidence):
    """The definition: at the low end as many successes, at the high end as few, are so unlikely."""
    lows, highs = clopper_pearson(*zip(*GRID, strict=True), confidence=confidence)
    tail = (1 - confidence) / 2
    for (k, n), low, high in zip(GRID, lows, highs, strict=True):
        if k > 0:
            assert at_least(k, n, low) == pytest.approx(tail, rel=1e-9)
        if k < n:
            assert 1 - at_least(k + 1, n, high) == pytest.approx(tail, rel=1e-9)


@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_intervals_equal_scipys_exact_ones(confidence):
    counts = GRID + LARGE
    lows, highs = clopper_pearson(*zip(*counts, strict=True), confidence=confidence)
    for (k, n), low, high in zip(counts, lows, highs, strict=True):
        theirs = binomtest(k, n).proportion_ci(confidence, method="exact")
        assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=1e-8)


@pytest.mark.parametrize("p", [0.003, 0.1, 0.37, 0.5, 0.92])
def test_intervals_have_their_nominal_coverage(p):
    n, confidence = 25, 0.9
    lows, highs = clopper_pearson(range(n + 1), n, confidence=confidence)
    held = [
        math.comb(n, k) * p**k * (1 - p) ** (n - k)
        for k in range(n + 1)
        if lows[k] <= p <= highs[k]
    ]
    assert math.fsum(held) >= confidence


def test_ends_are_exact_where_nothing_or_everything_succeeded():
    low, high = clopper_pearson([0, 5, 0], [5, 5, 0])
    assert low[0] == 0
    assert high[1] == 1
    assert (low[2], high[2]) == (0, 1)
    # Worked by hand: (1 - high)^5 = 0.025, and low^5 = 0.025.
    assert high[0] == pytest.approx(1 - 0.025**0.2)
    assert low[1] == pytest.approx(0.025**0.2)


def test_failures_mirror_successes():
    k, n = (np.array(column) for column in zip(*GRID, strict=True))
    low, high = clopper_pearson(k, n)
    mirrored_low, mirrored_high = clopper_pearson(n - k, n)
    np.testing.assert_allclose(low, 1 - mirrored_high, atol=1e-12)
    np.testing.assert_allclose(high, 1 - mirrored_low, atol=1e-12)


def test_counts_are_broadcast():
    low, high = clopper_pearson([[1], [2]], [3, 4, 5])
    assert low.shape == high.shape == (2, 3)
    assert low[1, 2] == clopper_pearson(2, 5)[0]


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "message"),
    [
        (3, 2, 0.95, "successes must lie between 0 and trials; got 3 of 2"),
        (-1, 2, 0.95, "successes must lie between 0 and trials; got -1 of 2"),
        ([1, 0], [2, -1], 0.95, "successes must lie between 0 and trials; got 0 of -1"),
        (0.5, 2, 0.95, "successes must be whole numbers; got float64"),
        (1, 2, 1.0, "confidence must lie between 0 and 1; got 1.0"),
        (1, 2, 95, "confidence must lie between 0 and 1; got 95"),
        (1, 2, math.nan, "confidence must lie between 0 and 1; got nan"),
    ],
)
def test_counts_that_cannot_be_are_refused(successes, trials, confidence, message):
    with pytest.raises(ValueError, match=message):
        clopper_pearson(successes, trials, confidence=confidence)


def test_effective_trials_are_the_square_of_all_over_the_squares_of_the_clusters():
    rng = np.random.default_rng(0)
    clusters = rng.integers(-4, 5, 60).tolist()
    found = effective_trials(clusters)
    for k in range(1, 61):
        squares = sum(clusters[:k].count(c) ** 2 for c in set(clusters[:k]))
        assert found[k - 1] == pytest.approx(k * k / squares)
    assert effective_trials([]).tolist() == []


def test_trials_that_come_in_clusters_of_one_size_say_no_more_than_their_clusters():
    """25 clusters of 4, 10 of them successes, are 10 of 25; trials of their own are all of them."""
    worth = effective_trials(np.repeat(np.arange(25), 4))[-1]
    ends = clopper_pearson([40, 0, 100], 100, effective=worth)
    np.testing.assert_allclose(ends, clopper_pearson([10, 0, 25], 25))
    alone = effective_trials(np.arange(7))[-1]
    np.testing.assert_array_equal(
        clopper_pearson(range(8), 7, effective=alone), clopper_pearson(range(8), 7)
    )
    assert str(proportion(4, 4, effective=2.0)).startswith("100.0 % (15.8–100.0")  # 0.025 ** 0.5
    low, high = clopper_pearson(0, 0, effective=0.0)
    assert (float(low), float(high)) == (0, 1)


def test_the_interval_holds_the_rate_of_lists_in_which_successes_repeat_each_other():
    """One text in five is memorized, and stands six times on a list: 6 of 10 entries."""
    rng = np.random.default_rng(7)
    held, naive = [], []
    for _ in range(400):
        found = rng.random(60) < 0.2
        sizes = np.where(found, 6, 1)
        clusters, hits = (np.repeat(v, sizes)[:60] for v in (np.arange(60), found))
        k = int(hits.sum())
        for ends, worth in ((held, effective_trials(clusters)[-1]), (naive, 60.0)):
            low, high = clopper_pearson(k, 60, effective=worth)
            ends.append(low <= 0.6 <= high)
    assert np.mean(held) >= 0.95
    assert np.mean(naive) < 0.85


def test_a_proportion_carries_its_counts_and_its_interval():
    # Worked by hand in the docstring: 0.36 in each tail of 1 of 2.
    made = proportion(1, 2, confidence=0.28)
    assert (made.successes, made.n) == (1, 2)
    assert (made.value, made.low, made.high) == pytest.approx((0.5, 0.2, 0.8))


def test_without_trials_the_interval_is_zero_to_one():
    none = proportion(0, 0)
    assert math.isnan(none.value)
    assert (none.low, none.high) == (0, 1)
    assert str(none) == "no trials"


@pytest.mark.parametrize(
    ("shown", "made"),
    [
        ("35.7 % (31.8–39.6; 214 of 600)", Estimate(214 / 600, 0.31829, 0.39646, 600)),
        ("0.0 % (0.0–0.0037; 0 of 100,000)", Estimate(0.0, 0.0, 3.69e-5, 100_000)),
        ("100.0 % (99.963–100.0; 9 of 9)", Estimate(1.0, 0.99963, 1.0, 9)),
    ],
)
def test_a_proportion_is_shown_in_percent_with_digits_that_count(shown, made):
    assert str(made) == shown
